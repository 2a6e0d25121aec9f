"""Scoring a labelled test set, clean and under shifts, at the frozen threshold."""

from __future__ import annotations

import csv
import heapq
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftproof.artefact import write_json_atomic, write_text_atomic
from shiftproof.data import TestImage, iter_images, load_mask, test_images
from shiftproof.detector import BATCH, Detector, Inspection, batched
from shiftproof.errors import DataError, ImageError
from shiftproof.metrics import PixelMetrics, image_metrics
from shiftproof.report.evaluation import EvaluationReport, Picture, ScoredImage, write_evaluation_report
from shiftproof.report.heatmap import overlay
from shiftproof.shifts import Condition, ShiftNotApplicable, apply_shift, image_seed, parse_conditions

MOST_PICTURES = 8  # worst misses, and as many worst false alarms, in the report
COLUMNS = ("condition", "path", "kind", "label", "status", "score", "p_value", "verdict", "threshold", "error")


@dataclass
class ConditionResult:
    """What one condition has shown so far: scores, and histograms of pixels."""

    condition: Condition
    scored: list[ScoredImage] = field(default_factory=list)
    pixels: PixelMetrics | None = None  # None where the set has no masks
    lost_defects: int = 0  # defects moved wholly out of the frame: still defective images, but without pixels to find
    not_applicable: str = ""  # why this condition cannot be had on these images

    def metrics(self, threshold: float) -> dict[str, Any]:
        """The condition's object in ``metrics.json``."""
        labels = np.array([item.defective for item in self.scored], dtype=bool)
        scores = np.array([item.score for item in self.scored], dtype=np.float64)
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
    images but for a list of scores.

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
        DataError: no test set there, or a mask that is missing.
    """
    conditions = parse_conditions(shifts) if isinstance(shifts, str) else tuple(shifts)
    test_set = test_images(data, layout)
    results = {c.name: ConditionResult(c, pixels=PixelMetrics() if test_set.has_masks else None) for c in conditions}
    failures: list[str] = []
    rows: list[dict[str, Any]] = []
    worst = {True: Worst(), False: Worst()}  # of the first condition: misses, false alarms
    threshold = detector.calibration.threshold

    def conditioned() -> Iterator[tuple[ConditionResult, TestImage, NDArray[np.uint8], NDArray[np.bool_] | None]]:
        files = iter_images([item.path for item in test_set.images], ahead=2 * BATCH)
        for done, (item, (_, image)) in enumerate(zip(test_set.images, files, strict=True), start=1):
            try:
                if isinstance(image, ImageError):
                    raise image
                mask = load_mask(item, (image.shape[0], image.shape[1])) if test_set.has_masks else None
            except DataError as error:
                failures.append(str(error))
                rows.append(_row("", item, status="error", error=str(error)))
                continue
            for result in results.values():
                shifted = _shift(result, item, image, mask, seed)
                if shifted is not None:
                    yield result, item, *shifted
            on_progress(done, len(test_set.images))

    for held in batched(conditioned(), BATCH):
        inspections = detector.stream((image for *_, image, _ in held), BATCH)
        for (result, item, image, mask), seen in zip(held, inspections, strict=True):
            result.scored.append(_scored(item, seen, result.condition.name))
            rows.append(_row(result.condition.name, item, seen=seen))
            if result.pixels is not None and mask is not None and (mask.any() or not item.defective):
                result.pixels.update(seen.anomaly_map, mask)
            if result.condition == conditions[0] and seen.defective != item.defective:
                worst[item.defective].offer(seen.score * (-1 if item.defective else 1), item, image, seen, mask)

    for name in [name for name, result in results.items() if not result.scored]:
        warn(f"{name} was left out: {results.pop(name).not_applicable or 'no image could be read'}")
    if not results:
        raise DataError(
            f"nothing of {data} could be evaluated; the first failure: {(failures or ['no condition applies'])[0]}"
        )
    metrics: dict[str, Any] = {name: result.metrics(threshold) for name, result in results.items()}
    shifted_metrics = [metrics[name] for name, result in results.items() if result.condition.shift is not None]
    if shifted_metrics:
        metrics["mean_shift"] = _combine(shifted_metrics, worst=False)
        metrics["worst_shift"] = _combine(shifted_metrics, worst=True)
    write_json_atomic(out / "metrics.json", metrics)
    write_text_atomic(out / "scores.csv", _csv(rows))
    calibration = detector.calibration
    write_evaluation_report(
        out / "report.html",
        EvaluationReport(
            title=title or f"{detector.manifest['method']} on {data.resolve().name}",
            manifest=detector.manifest,
            calibration_sentence=calibration.sentence(),
            conditions=metrics,
            scores=[item for result in results.values() for item in result.scored],
            misses=worst[True].pictures(calibration.map_low, calibration.map_high),
            false_alarms=worst[False].pictures(calibration.map_low, calibration.map_high),
            low=calibration.map_low,
            high=calibration.map_high,
        ),
    )
    return Evaluation(metrics, failures)


class Worst:
    """The few images that the detector is most wrong about."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Any]] = []
        self._seen = 0

    def offer(self, badness: float, item: TestImage, image: Any, seen: Inspection, mask: Any) -> None:
        """Keep this image if it is among the worst."""
        self._seen += 1
        entry = (badness, -self._seen, (item, image, seen, mask))
        if len(self._heap) < MOST_PICTURES:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heappushpop(self._heap, entry)

    def pictures(self, low: float, high: float) -> list[Picture]:
        """The worst first, with heatmaps on the given scale."""
        return [
            Picture(item.name, item.kind, seen.score, image, overlay(image, seen.anomaly_map, low, high, mask), mask)
            for _, _, (item, image, seen, mask) in sorted(self._heap, key=lambda entry: entry[:2], reverse=True)
        ]


def _shift(
    result: ConditionResult, item: TestImage, image: NDArray[np.uint8], mask: NDArray[np.bool_] | None, seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None] | None:
    """The image under the result's condition; None where that cannot be."""
    condition = result.condition
    if condition.shift is None:
        return image, mask
    try:
        drawn = image_seed(seed, condition.name, item.name)
        shifted = apply_shift(condition.shift, image, mask, condition.severity, drawn)
    except ShiftNotApplicable as error:
        result.not_applicable = str(error)
        return None
    result.lost_defects += shifted.lost
    return shifted.image, shifted.mask


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


def _csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


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
