"""Scoring a labelled test set, clean and under shifts, at the fixed threshold."""

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
from shiftproof.data import LabelledImage, iter_images, labelled_images, load_mask, resize_image
from shiftproof.detector import BATCH, Detector, Inspection, batched
from shiftproof.drift.statistics import STATISTICS, measure
from shiftproof.errors import DataError, ImageError
from shiftproof.metrics import PixelMetrics, image_metrics
from shiftproof.metrics.confounds import Confound, find_confounds
from shiftproof.model_io import write_json_atomic
from shiftproof.pipelines.outputs import Table, clear_outputs
from shiftproof.pipelines.pictures import exhibits, picture
from shiftproof.report.evaluation import (
    GROUPS,
    MOST_ROWS,
    ConditionScores,
    EvaluationReport,
    Picture,
    Promise,
    ScoredImage,
    write_evaluation_report,
)
from shiftproof.report.foremost import Foremost
from shiftproof.report.robustness import worst_condition
from shiftproof.shifts import Condition, ShiftNotApplicable, parse_conditions

MOST_PICTURES = 8  # worst misses, and as many worst false alarms, in the report
CONFOUNDING = tuple(
    (column, statistic.name)
    for column, statistic in enumerate(STATISTICS)
    if statistic.group in ("light", "contrast", "noise")
)  # what a camera or a lamp changes, and a small defect does not
COLUMNS = ("condition", "path", "defect_type", "label", "status", "score", "p_value", "verdict", "threshold", "error")


@dataclass
class ConditionResult:
    """What one condition has shown so far: scores, and histograms of pixels."""

    condition: Condition
    defective: array[int] = field(default_factory=lambda: array("B"))  # the truth of each image, 0 or 1
    scores: array[float] = field(default_factory=lambda: array("d"))  # what the detector gave it
    flagged: array[int] = field(default_factory=lambda: array("B"))  # whether it called it defective, 0 or 1
    images: array[int] = field(default_factory=lambda: array("q"))  # which of the test set it is
    statistics: array[float] = field(
        default_factory=lambda: array("d")
    )  # what could confound it, a few numbers an image
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

    def metrics(self, threshold: float) -> dict[str, Any]:
        """The condition's object in ``metrics.json``."""
        labels, scores = self.scored.defective, self.scored.scores
        rates = _rates(labels, scores > threshold)
        none: dict[str, float | None] = dict.fromkeys(("auroc", "ap", "f1_max", "aupro_30", "aupro_05"))
        return {
            "image": image_metrics(labels, scores),
            "pixel": none if self.pixels is None else self.pixels.compute(),
            "threshold": {"value": threshold, **rates},
            **({"conditional": _rates(labels, np.array(self.flagged, dtype=bool))} if self.conditional else {}),
            "images": {"good": int((~labels).sum()), "defective": int(labels.sum()), "lost_defects": self.lost_defects},
        }


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found."""

    metrics: dict[str, Any]  # content of metrics.json
    failures: list[str]  # one line for each image that could not be used


def evaluate(
    detector: Detector,
    data: Path,
    out: Path,
    *,
    shifts: str | Sequence[Condition] = "clean",
    layout: str = "auto",
    seed: int = 0,
    title: str = "",
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    warn: Callable[[str], None] = lambda line: None,
) -> Evaluation:
    """Evaluate a detector and write ``metrics.json``, ``scores.csv`` and ``report.html``.

    Each image is decoded once for all conditions and shifted at its own size (two are read again, for the report); memory
    does not grow with the number of images but for an array of scores. The results of a former run are removed first, and
    rows are written as they come.

    Args:
        detector: with its fixed threshold.
        data: a labelled test set.
        out: folder to write to.
        shifts: conditions, as ``--shifts`` takes them.
        layout: of ``data``.
        seed: of what is random in the shifts.
        title: of the report.
        on_progress: is told (images done, images in all).
        warn: is told of what was left out.

    Raises:
        DataError: no test set there, a mask that is missing, nothing that can be evaluated, or a folder that cannot be
            written, which shows before the first image is read.
    """
    conditions = parse_conditions(shifts) if isinstance(shifts, str) else tuple(shifts)
    test_set = labelled_images(data, layout)
    clear_outputs(out, ["report.html", "metrics.json", "scores.csv"])
    conditional = detector.conditional is not None
    results = {
        c.name: ConditionResult(c, conditional=conditional, pixels=PixelMetrics() if test_set.has_masks else None)
        for c in conditions
    }
    failures: list[str] = []
    listed: Foremost[ScoredImage] = Foremost(MOST_ROWS)
    wrong = {True: Foremost[Picture](MOST_PICTURES), False: Foremost[Picture](MOST_PICTURES)}  # misses, false alarms
    calibration = detector.calibration

    def conditioned() -> Iterator[tuple[ConditionResult, int, NDArray[np.uint8], NDArray[np.bool_] | None]]:
        files = iter_images([item.path for item in test_set.images], ahead=2 * BATCH)
        for index, (item, (_, image)) in enumerate(zip(test_set.images, files, strict=True)):
            try:
                if isinstance(image, ImageError):
                    raise image
                mask = load_mask(item, (image.shape[0], image.shape[1])) if test_set.has_masks else None
            except DataError as error:
                failures.append(str(error))
                table.write(_row("", item, status="error", error=str(error)))
            else:
                for result in results.values():
                    shifted = result.shifted(item, image, mask, seed)
                    if shifted is not None:
                        yield result, index, *shifted
            on_progress(index + 1, len(test_set.images))

    with Table(out / "scores.csv", COLUMNS) as table:
        for held in batched(conditioned(), BATCH):
            inspections = detector.stream((image for *_, image, _ in held), BATCH)
            for (result, index, image, mask), seen in zip(held, inspections, strict=True):
                item, name = test_set.images[index], result.condition.name
                result.images.append(index)
                result.defective.append(item.defective)
                result.scores.append(seen.score)
                result.flagged.append(seen.defective)
                if result.condition == conditions[0]:
                    values = measure(resize_image(image, detector.image_size))
                    result.statistics.extend(values[column] for column, _ in CONFOUNDING)
                table.write(_row(name, item, seen=seen))
                mistake = seen.defective != item.defective
                # Mistakes by how far they lie beyond the threshold, then the rest from the highest score down.
                rank = (mistake, abs(seen.score - seen.threshold) if mistake else seen.score)
                listed.offer(rank, partial(_scored, item, seen, name))
                if result.pixels is not None and mask is not None and (mask.any() or not item.defective):
                    result.pixels.update(seen.anomaly_map, mask)
                if mistake and result.condition == conditions[0]:
                    wrong[item.defective].offer(rank, partial(picture, item, image, seen, mask, calibration))

    if not any(result.scores for result in results.values()):
        reasons = [*failures, *(result.not_applicable for result in results.values()), "no condition to evaluate under"]
        raise DataError(f"nothing of {data} could be evaluated; the first failure: {reasons[0]}")
    left_out = [line for result in results.values() if (line := result.lacking)]
    for line in left_out:
        warn(line)
    results = {name: result for name, result in results.items() if result.scores}
    first = next(iter(results.values()))
    confounds = first.confounds()
    if confounds:
        warn(_confounded(first.condition.name, confounds))
    metrics: dict[str, Any] = {name: result.metrics(calibration.threshold) for name, result in results.items()}
    metrics |= _over_shifts({name: metrics[name] for name, result in results.items() if result.condition.shift})
    write_json_atomic(out / "metrics.json", metrics)
    scores = {name: result.scored for name, result in results.items()}
    write_evaluation_report(
        out / "report.html",
        EvaluationReport(
            title=title or f"{detector.manifest['method']} on {data.resolve().name}",
            manifest=detector.manifest,
            calibration_sentence=calibration.sentence(),
            promise=_promise(calibration, scores),
            conditions=metrics,
            scores=scores,
            table=listed.items(),
            misses=wrong[True].items(),
            false_alarms=wrong[False].items(),
            low=calibration.map_low,
            high=calibration.map_high,
            failures=failures,
            left_out=left_out,
            confounds=confounds,
            exhibits=exhibits(detector, test_set, scores, [result.condition for result in results.values()], seed),
        ),
    )
    return Evaluation(metrics, failures)


def _confounded(condition: str, confounds: Sequence[Confound]) -> str:
    """A line on what an image AUROC may be owed to besides the defects."""
    told = ", ".join(f"{confound.name} (AUROC {confound.auroc:.3f})" for confound in confounds)
    return (
        f"{condition}: statistics of whole images tell good from defective without any detector, by {told}: unless defects "
        "are as large as the images, the two kinds were taken under different light, and the image AUROC may be owed to it"
    )


def _scored(item: LabelledImage, seen: Inspection, condition: str) -> ScoredImage:
    return ScoredImage(item.name, item.defect_type, item.defective, seen.score, seen.p_value, seen.verdict, condition)


def _row(
    condition: str, item: LabelledImage, *, seen: Inspection | None = None, status: str = "ok", error: str = ""
) -> dict[str, Any]:
    row = {
        "condition": condition,
        "path": item.name,
        "defect_type": item.defect_type,
        "label": "defective" if item.defective else "good",
        "status": status,
        "error": error,
    }
    if seen is not None:
        row |= {
            "score": repr(seen.score),
            "p_value": repr(seen.p_value),
            "verdict": seen.verdict,
            "threshold": repr(seen.threshold),
        }
    return row


def _rates(labels: NDArray[np.bool_], flagged: NDArray[np.bool_]) -> dict[str, float | None]:
    """Which shares of good and of defective images are called defective; None where there are none."""
    return {
        "false_alarm_rate": float(flagged[~labels].mean()) if (~labels).any() else None,
        "detection_rate": float(flagged[labels].mean()) if labels.any() else None,
    }


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
            name = worst_condition(metrics, group, key)
            values = [entry[group][key] for entry in metrics.values()]
            mean[group][key] = None if name is None else float(np.mean(values))
            worst[group][key] = None if name is None else metrics[name][group][key]
    return {"mean_shift": mean, "worst_shift": worst}


def _promise(calibration: Calibration, scores: Mapping[str, ConditionScores]) -> Promise:
    """What the threshold promises, and the conditions in which more good images lie above it than that can explain.

    Refuted is a rate that the lower limit of Clopper and Pearson exceeds, which is the upper one of the images let through.
    """
    rate = max(calibration.target, calibration.bound)
    broken = []
    for name, held in scores.items():
        good, _ = held.split()
        let_through = int((good <= calibration.threshold).sum())
        if good.size and 1 - false_alarm_bound(good.size, let_through, calibration.confidence) > rate:
            broken.append(name)
    return Promise(rate, calibration.confidence, frozenset(broken))
