"""Scoring a labelled test set, clean and under shifts, at the frozen threshold."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftproof.artefact import write_json_atomic
from shiftproof.data import TestImage, iter_images, labelled_images, load_mask
from shiftproof.detector import BATCH, Detector, Inspection, batched
from shiftproof.errors import DataError, ImageError
from shiftproof.evaluation.outputs import Table, clear_outputs
from shiftproof.metrics import PixelMetrics, image_metrics
from shiftproof.report.evaluation import (
    MOST_ROWS,
    ConditionScores,
    EvaluationReport,
    Picture,
    ScoredImage,
    write_evaluation_report,
)
from shiftproof.report.foremost import Foremost
from shiftproof.report.heatmap import overlay
from shiftproof.report.page import thumbnail
from shiftproof.shifts import Condition, ShiftNotApplicable, parse_conditions

MOST_PICTURES = 8  # worst misses, and as many worst false alarms, in the report
COLUMNS = ("condition", "path", "kind", "label", "status", "score", "p_value", "verdict", "threshold", "error")


@dataclass
class ConditionResult:
    """What one condition has shown so far: scores, and histograms of pixels."""

    condition: Condition
    defective: array[int] = field(default_factory=lambda: array("B"))  # the truth of each image, 0 or 1
    scores: array[float] = field(default_factory=lambda: array("d"))  # what the detector gave it
    pixels: PixelMetrics | None = None  # None where the set has no masks
    lost_defects: int = 0  # defects moved wholly out of the frame: still defective images, but without pixels to find
    left_out: int = 0  # images that cannot be had under this condition
    not_applicable: str = ""  # why the first of them cannot

    @property
    def scored(self) -> ConditionScores:
        """All images so far."""
        return ConditionScores(np.array(self.defective, dtype=bool), np.array(self.scores, dtype=np.float64))

    def shifted(
        self, item: TestImage, image: NDArray[np.uint8], mask: NDArray[np.bool_] | None, seed: int
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

    def metrics(self, threshold: float) -> dict[str, Any]:
        """The condition's object in ``metrics.json``."""
        labels, scores = self.scored.defective, self.scored.scores
        flagged = scores > threshold
        none: dict[str, float | None] = dict.fromkeys(("auroc", "ap", "f1_max", "aupro_30", "aupro_05"))
        return {
            "image": image_metrics(labels, scores),
            "pixel": none if self.pixels is None else self.pixels.compute(),
            "threshold": {
                "value": threshold,
                "false_alarm_rate": float(flagged[~labels].mean()) if (~labels).any() else None,
                "detection_rate": float(flagged[labels].mean()) if labels.any() else None,
            },
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

    Each image is decoded once for all conditions and shifted at its own size; memory does not grow with the number of
    images but for an array of scores. The results of a former run are removed first, and rows are written as they come.

    Args:
        detector: with its frozen threshold.
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
    results = {c.name: ConditionResult(c, pixels=PixelMetrics() if test_set.has_masks else None) for c in conditions}
    failures: list[str] = []
    listed: Foremost[ScoredImage] = Foremost(MOST_ROWS)
    wrong = {True: Foremost[Picture](MOST_PICTURES), False: Foremost[Picture](MOST_PICTURES)}  # misses, false alarms
    calibration = detector.calibration

    def conditioned() -> Iterator[tuple[ConditionResult, TestImage, NDArray[np.uint8], NDArray[np.bool_] | None]]:
        files = iter_images([item.path for item in test_set.images], ahead=2 * BATCH)
        for done, (item, (_, image)) in enumerate(zip(test_set.images, files, strict=True), start=1):
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
                        yield result, item, *shifted
            on_progress(done, len(test_set.images))

    with Table(out / "scores.csv", COLUMNS) as table:
        for held in batched(conditioned(), BATCH):
            inspections = detector.stream((image for *_, image, _ in held), BATCH)
            for (result, item, image, mask), seen in zip(held, inspections, strict=True):
                name = result.condition.name
                result.defective.append(item.defective)
                result.scores.append(seen.score)
                table.write(_row(name, item, seen=seen))
                mistake = seen.defective != item.defective
                # Mistakes by how far they lie beyond the threshold, then the rest from the highest score down.
                rank = (mistake, abs(seen.score - seen.threshold) if mistake else seen.score)
                listed.offer(rank, partial(_scored, item, seen, name))
                if result.pixels is not None and mask is not None and (mask.any() or not item.defective):
                    result.pixels.update(seen.anomaly_map, mask)
                if mistake and result.condition == conditions[0]:
                    picture = partial(_picture, item, image, seen, mask, calibration.map_low, calibration.map_high)
                    wrong[item.defective].offer(rank, picture)

    if not any(result.scores for result in results.values()):
        reasons = [*failures, *(result.not_applicable for result in results.values()), "no condition to evaluate under"]
        raise DataError(f"nothing of {data} could be evaluated; the first failure: {reasons[0]}")
    for name, result in list(results.items()):
        if not result.scores:
            warn(f"{name} was left out: {result.not_applicable}")
            del results[name]
        elif result.left_out:
            readable = result.left_out + len(result.scores)
            warn(f"{name} lacks {result.left_out} of {readable} images: {result.not_applicable}")
    metrics: dict[str, Any] = {name: result.metrics(calibration.threshold) for name, result in results.items()}
    shifted_metrics = [metrics[name] for name, result in results.items() if result.condition.shift is not None]
    if shifted_metrics:
        metrics["mean_shift"] = _combine(shifted_metrics, worst=False)
        metrics["worst_shift"] = _combine(shifted_metrics, worst=True)
    write_json_atomic(out / "metrics.json", metrics)
    write_evaluation_report(
        out / "report.html",
        EvaluationReport(
            title=title or f"{detector.manifest['method']} on {data.resolve().name}",
            manifest=detector.manifest,
            calibration_sentence=calibration.sentence(),
            conditions=metrics,
            scores={name: result.scored for name, result in results.items()},
            table=listed.items(),
            misses=wrong[True].items(),
            false_alarms=wrong[False].items(),
            low=calibration.map_low,
            high=calibration.map_high,
            failures=failures,
        ),
    )
    return Evaluation(metrics, failures)


def _picture(
    item: TestImage,
    image: NDArray[np.uint8],
    seen: Inspection,
    mask: NDArray[np.bool_] | None,
    low: float,
    high: float,
) -> Picture:
    heat = overlay(image, seen.anomaly_map, low, high, mask)
    share = None if mask is None else float(mask.mean())
    return Picture(item.name, item.kind, seen.score, thumbnail(image), thumbnail(heat), share)


def _scored(item: TestImage, seen: Inspection, condition: str) -> ScoredImage:
    return ScoredImage(item.name, item.kind, item.defective, seen.score, seen.p_value, seen.verdict, condition)


def _row(
    condition: str, item: TestImage, *, seen: Inspection | None = None, status: str = "ok", error: str = ""
) -> dict[str, Any]:
    row = {
        "condition": condition,
        "path": item.name,
        "kind": item.kind,
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


def _combine(metrics: Sequence[dict[str, Any]], *, worst: bool) -> dict[str, Any]:
    """Number by number the mean of several conditions, or the worst; None where one of them has none."""
    combined: dict[str, Any] = {}
    for group in ("image", "pixel", "threshold"):
        combined[group] = {}
        for key in metrics[0][group]:
            values = [entry[group][key] for entry in metrics]
            if None in values:
                combined[group][key] = None
            elif worst:
                combined[group][key] = max(values) if key == "false_alarm_rate" else min(values)
            else:
                combined[group][key] = float(np.mean(values))
    return combined
