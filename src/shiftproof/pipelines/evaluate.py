"""Evaluate a detector on a labelled test set, clean and under shifts, at its threshold."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftproof.calibration import Calibration, false_alarm_bound
from shiftproof.data import LabelledImage, LabelledSet, iter_images, labelled_images, load_mask
from shiftproof.detector import BATCH, Detector, batched
from shiftproof.drift.statistics import STATISTICS, measure
from shiftproof.errors import DataError, ImageError
from shiftproof.metrics import PixelMetrics, image_metrics, rates_at
from shiftproof.metrics.confounds import Confound, find_confounds
from shiftproof.metrics.robustness import worst_condition
from shiftproof.model_io import write_json_atomic
from shiftproof.pipelines.outputs import Table, clear_outputs
from shiftproof.pipelines.pictures import examples, picture
from shiftproof.report.evaluation import (
    GROUPS,
    MOST_ROWS,
    ConditionScores,
    EvaluationReport,
    Guarantee,
    Picture,
    ScoredImage,
    write_evaluation_report,
)
from shiftproof.report.top_k import TopK
from shiftproof.results import VERDICTS, Evaluation, Inspection
from shiftproof.shifts import Condition, ShiftNotApplicable, parse_conditions

MOST_PICTURES = 8  # worst misses, and as many worst false alarms, in the report
CONFOUNDING = tuple(
    (column, statistic.name)
    for column, statistic in enumerate(STATISTICS)
    if statistic.group in ("light", "contrast", "noise")
)  # what a camera or a lamp changes, and a small defect does not
COLUMNS = ("condition", "path", "defect_type", "label", "status", "score", "p_value", "verdict", "threshold", "error")


@dataclass
class _Condition:
    """What one condition has shown so far: scores, and histograms of pixels."""

    condition: Condition
    defective: array[int] = field(default_factory=lambda: array("B"))  # the truth of each image, 0 or 1
    scores: array[float] = field(default_factory=lambda: array("d"))  # by the detector
    flagged: array[int] = field(default_factory=lambda: array("B"))  # whether it is called defective, 0 or 1
    images: array[int] = field(default_factory=lambda: array("q"))  # which of the test set it is
    statistics: array[float] = field(
        default_factory=lambda: array("d")
    )  # what could confound the labels, a few numbers an image
    conditional: bool = False  # whether a conditional threshold judges
    pixels: PixelMetrics | None = None  # None where the set has no masks
    lost_defects: int = 0  # defects moved wholly out of the frame: still defective images, but without pixels to find
    left_out: int = 0  # images that cannot be had under this condition
    not_applicable: str = ""  # why the first of them cannot

    @property
    def scored(self) -> ConditionScores:
        """All images so far."""
        return ConditionScores(
            np.array(self.defective, dtype=bool),
            np.array(self.scores, dtype=np.float64),
            np.array(self.images, dtype=np.int64),
            np.array(self.flagged, dtype=bool) if self.conditional else None,
        )

    def add(self, index: int, item: LabelledImage, mask: NDArray[np.bool_] | None, result: Inspection) -> None:
        """Add the result of an image."""
        self.images.append(index)
        self.defective.append(item.defective)
        self.scores.append(result.score)
        self.flagged.append(result.defective)
        if self.pixels is not None and mask is not None and (mask.any() or not item.defective):
            self.pixels.update(result.anomaly_map, mask)

    def shifted(
        self, item: LabelledImage, image: NDArray[np.uint8], mask: NDArray[np.bool_] | None, seed: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None] | None:
        """An image and its mask under this condition; None, and counted, where that cannot be."""
        try:
            shifted = self.condition.apply(image, mask, seed=seed, image_name=item.name)
        except ShiftNotApplicable as error:
            self.left_out += 1
            self.not_applicable = self.not_applicable or str(error)
            return None
        self.lost_defects += shifted.lost
        return shifted.image, shifted.mask

    @property
    def lacking(self) -> str:
        """A line on the images that this condition lacks; empty where it has them all."""
        name = self.condition.name
        if not self.scores:
            return f"{name} was left out: {self.not_applicable}"
        readable = self.left_out + len(self.scores)
        return f"{name} lacks {self.left_out} of {readable} images: {self.not_applicable}" if self.left_out else ""

    def confounds(self) -> tuple[Confound, ...]:
        """What tells good from defective images without a detector."""
        names = [name for _, name in CONFOUNDING]
        values = np.array(self.statistics, dtype=np.float64).reshape(-1, len(names))
        return find_confounds(self.scored.defective, values, names) if len(values) else ()

    def metrics(self, calibration: Calibration) -> dict[str, Any]:
        """Return the condition's object in ``metrics.json``."""
        labels, scores = self.scored.defective, self.scored.scores
        threshold, target = calibration.threshold, calibration.target
        rates = rates_at(labels, scores, scores > threshold, target)
        flagged = np.array(self.flagged, dtype=bool)
        none: dict[str, float | None] = dict.fromkeys(("auroc", "ap", "f1_max", "aupro_30", "aupro_05"))
        return {
            "image": image_metrics(labels, scores),
            "pixel": none if self.pixels is None else self.pixels.compute(),
            "threshold": {"value": threshold, **rates},
            **({"conditional": rates_at(labels, scores, flagged, target)} if self.conditional else {}),
            "images": {"good": int((~labels).sum()), "defective": int(labels.sum()), "lost_defects": self.lost_defects},
        }


def evaluate(
    detector: Detector,
    data: str | Path,
    out: str | Path | None = None,
    *,
    shifts: str | Sequence[Condition] = "clean",
    layout: str = "auto",
    seed: int = 0,
    title: str = "",
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    warn: Callable[[str], None] = lambda line: None,
) -> Evaluation:
    """Evaluate a detector; with a folder, write ``metrics.json``, ``scores.csv`` and ``report.html`` to it.

    Each image is decoded once for all conditions and shifted at its own size (two are read again, for the report); memory
    does not grow with the number of images but for an array of scores. The results of a former run are removed first, and
    rows are written as they come.

    Args:
        detector: judges the images.
        data: a labelled test set.
        out: folder to write to; None writes nothing.
        shifts: conditions, as ``--shifts`` takes them.
        layout: of ``data``.
        seed: of what is random in the shifts.
        title: of the report.
        on_progress: receives (images done, images in all).
        warn: receives a line for what was left out.

    Raises:
        DataError: no test set there, a mask that is missing, nothing that can be evaluated, or a folder that cannot be
            written, which shows before the first image is read.
    """
    data = Path(data)
    conditions = parse_conditions(shifts) if isinstance(shifts, str) else tuple(shifts)
    run = _Run(detector, labelled_images(data, layout), conditions, seed, on_progress)
    if out is None:
        run.score(lambda row: None)
    else:
        clear_outputs(Path(out), ["report.html", "metrics.json", "scores.csv"])
        with Table(Path(out) / "scores.csv", COLUMNS) as table:
            run.score(table.write)
    evaluation = run.finish(data, warn)
    if out is not None:
        write_json_atomic(Path(out) / "metrics.json", evaluation.metrics)
        name = title or f"{detector.manifest['method']} on {data.resolve().name}"
        write_evaluation_report(Path(out) / "report.html", run.report(evaluation, name))
    return evaluation


class _Run:
    """An evaluation at work: scores every image under every condition, and keeps what the report shows.

    Args:
        detector: judges the images.
        test_set: labelled images.
        conditions: to evaluate under.
        seed: of what is random in the shifts.
        on_progress: receives (images done, images in all).
    """

    def __init__(
        self,
        detector: Detector,
        test_set: LabelledSet,
        conditions: Sequence[Condition],
        seed: int,
        on_progress: Callable[[int, int], None],
    ):
        self._detector, self._test_set, self._seed, self._on_progress = detector, test_set, seed, on_progress
        self._first = conditions[0]
        self._conditions = {condition.name: self._begin(condition) for condition in conditions}
        self._failures: list[str] = []
        self._left_out: list[str] = []
        self._confounds: tuple[Confound, ...] = ()
        self._listed: TopK[ScoredImage] = TopK(MOST_ROWS)
        self._misses: TopK[Picture] = TopK(MOST_PICTURES)
        self._false_alarms: TopK[Picture] = TopK(MOST_PICTURES)

    def score(self, write: Callable[[dict[str, Any]], None]) -> None:
        """Score the test set; ``write`` receives a row for each image and condition."""
        for batch in batched(self._shifted(write), BATCH):
            results = self._detector.stream((image for *_, image, _ in batch), BATCH)
            for (condition, index, image, mask), result in zip(batch, results, strict=True):
                write(_row(condition.condition.name, self._test_set.images[index], result))
                self._record(condition, index, image, mask, result)

    def finish(self, data: Path, warn: Callable[[str], None]) -> Evaluation:
        """Return the metrics of all conditions that have images.

        Raises:
            DataError: there is none.
        """
        if not any(condition.scores for condition in self._conditions.values()):
            reasons = (condition.not_applicable for condition in self._conditions.values())
            first = next(iter([*self._failures, *reasons, "no condition to evaluate under"]))
            raise DataError(f"nothing of {data} could be evaluated; the first failure: {first}")
        self._left_out = [line for condition in self._conditions.values() if (line := condition.lacking)]
        for line in self._left_out:
            warn(line)
        self._conditions = {name: condition for name, condition in self._conditions.items() if condition.scores}
        first_condition = next(iter(self._conditions.values()))
        self._confounds = first_condition.confounds()
        if self._confounds:
            warn(_confounded(first_condition.condition.name, self._confounds))
        calibration = self._detector.calibration
        metrics: dict[str, Any] = {name: condition.metrics(calibration) for name, condition in self._conditions.items()}
        shifted = {name: metrics[name] for name, condition in self._conditions.items() if condition.condition.shift}
        return Evaluation(metrics | _over_shifts(shifted), self._failures)

    def report(self, evaluation: Evaluation, title: str) -> EvaluationReport:
        """Return all that the page shows."""
        calibration = self._detector.calibration
        scores = {name: condition.scored for name, condition in self._conditions.items()}
        conditions = [condition.condition for condition in self._conditions.values()]
        return EvaluationReport(
            title=title,
            manifest=self._detector.manifest,
            calibration_sentence=calibration.sentence(),
            guarantee=_guarantee(calibration, scores),
            conditions=evaluation.metrics,
            scores=scores,
            table=self._listed.items(),
            misses=self._misses.items(),
            false_alarms=self._false_alarms.items(),
            low=calibration.map_low,
            high=calibration.map_high,
            failures=evaluation.failures,
            left_out=self._left_out,
            confounds=self._confounds,
            examples=examples(self._detector, self._test_set, scores, conditions, self._seed),
        )

    def _begin(self, condition: Condition) -> _Condition:
        pixels = PixelMetrics() if self._test_set.has_masks else None
        return _Condition(condition, conditional=self._detector.conditional is not None, pixels=pixels)

    def _shifted(
        self, write: Callable[[dict[str, Any]], None]
    ) -> Iterator[tuple[_Condition, int, NDArray[np.uint8], NDArray[np.bool_] | None]]:
        """Yield every readable image under every condition that can be applied to it."""
        items = self._test_set.images
        files = iter_images([item.path for item in items], ahead=2 * BATCH, bits=self._detector.bits)
        for index, (item, (_, image)) in enumerate(zip(items, files, strict=True)):
            try:
                if isinstance(image, ImageError):
                    raise image
                mask = load_mask(item, (image.shape[0], image.shape[1])) if self._test_set.has_masks else None
            except DataError as error:
                self._failures.append(str(error))
                write(_row("", item, error=error))
            else:
                for condition in self._conditions.values():
                    shifted = condition.shifted(item, image, mask, self._seed)
                    if shifted is not None:
                        yield condition, index, *shifted
            self._on_progress(index + 1, len(items))

    def _record(
        self,
        condition: _Condition,
        index: int,
        image: NDArray[np.uint8],
        mask: NDArray[np.bool_] | None,
        result: Inspection,
    ) -> None:
        item = self._test_set.images[index]
        condition.add(index, item, mask, result)
        mistake = result.defective != item.defective
        # Mistakes by how far they lie beyond the threshold, then the rest from the highest score down.
        rank = (mistake, abs(result.score - result.threshold) if mistake else result.score)
        self._listed.push(rank, partial(_scored, item, result, condition.condition.name))
        if condition.condition != self._first:
            return
        values = measure(result.pixels)
        condition.statistics.extend(values[column] for column, _ in CONFOUNDING)
        if mistake:
            pictures = self._misses if item.defective else self._false_alarms
            pictures.push(rank, partial(picture, item, image, result, mask, self._detector.calibration))


def _confounded(condition: str, confounds: Sequence[Confound]) -> str:
    """A line on what an image AUROC may be owed to besides the defects."""
    names = ", ".join(f"{confound.name} (AUROC {confound.auroc:.3f})" for confound in confounds)
    return (
        f"{condition}: statistics of whole images tell good from defective without any detector, by {names}: unless defects "
        "are as large as the images, the two kinds were taken under different light, and the image AUROC may be owed to it"
    )


def _scored(item: LabelledImage, result: Inspection, condition: str) -> ScoredImage:
    values = result.score, result.p_value, result.verdict, condition
    return ScoredImage(item.name, item.defect_type, item.defective, *values)


def _row(
    condition: str, item: LabelledImage, result: Inspection | None = None, error: DataError | None = None
) -> dict[str, Any]:
    """Return a row of scores.csv: an image under a condition, or one that could not be used."""
    row = {
        "condition": condition,
        "path": item.name,
        "defect_type": item.defect_type,
        "label": VERDICTS[item.defective],
        "status": "ok" if error is None else "error",
        "error": "" if error is None else str(error),
    }
    if result is not None:
        row |= {key: value for key, value in result.to_dict().items() if key in COLUMNS and key not in row}
    return row


def _over_shifts(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Number by number the mean over the shifted conditions, and the worst; None where one of them has none.

    Args:
        metrics: of the shifted conditions alone; nothing where there are none.
    """
    if not metrics:
        return {}
    mean: dict[str, dict[str, float | None]] = {}
    worst: dict[str, dict[str, float | None]] = {}
    for group in [group for group in GROUPS if group in next(iter(metrics.values()))]:
        mean[group], worst[group] = {}, {}
        for key in next(iter(metrics.values()))[group]:
            if key.endswith("_interval"):
                continue  # of one test set, not of a mean
            name = worst_condition(metrics, group, key)
            values = [entry[group][key] for entry in metrics.values()]
            mean[group][key] = None if name is None else float(np.mean(values))
            worst[group][key] = None if name is None else metrics[name][group][key]
    return {"mean_shift": mean, "worst_shift": worst}


def _guarantee(calibration: Calibration, scores: Mapping[str, ConditionScores]) -> Guarantee:
    """What the threshold guarantees, and the conditions in which more good images lie above it than that can explain.

    Refuted is a rate that the lower limit of Clopper and Pearson exceeds, which is the upper one of the images let through.
    """
    rate = max(calibration.target, calibration.bound)
    violated = []
    for name, held in scores.items():
        good, _ = held.split()
        let_through = int((good <= calibration.threshold).sum())
        if good.size and 1 - false_alarm_bound(good.size, let_through, calibration.confidence) > rate:
            violated.append(name)
    return Guarantee(rate, calibration.confidence, frozenset(violated))
