"""Predict on unlabelled images: a table, heatmaps, masks and a report."""

from __future__ import annotations

import errno
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftproof.data import in_order, write_image
from shiftproof.detector import BATCH, Detector
from shiftproof.errors import DataError, ImageError
from shiftproof.pipelines.inputs import PICTURES, Missing, find_inputs, naming
from shiftproof.pipelines.outputs import Table, clear_outputs
from shiftproof.report.heatmap import overlay
from shiftproof.report.page import Picture, thumbnail
from shiftproof.report.prediction import (
    MOST_FAILURES,
    MOST_PICTURES,
    MOST_ROWS,
    PredictionReport,
    write_prediction_report,
)
from shiftproof.report.top_k import TopK
from shiftproof.results import RESULT_FIELDS, FailedInspection, Inspection

CONDITIONAL_NOTE = "; unusual images get a threshold for their conditions"


@dataclass(frozen=True)
class Prediction:
    """What a run found."""

    images: int
    defective: int
    failures: list[str]  # one line for each image that could not be read, or whose heatmap's name would be too long


@dataclass(frozen=True)
class _Drawn:
    """A result whose heatmap and mask are written."""

    result: Inspection
    heat: NDArray[np.uint8]


def predict(
    detector: Detector,
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    title: str = "",
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Prediction:
    """Inspect files and folders; write ``predictions.csv``, ``heatmaps/``, ``masks/`` and ``report.html``.

    Files are decoded and pictures drawn in threads, beside the networks. Rows are written as they come: what was
    inspected before a crash is in the table. An unreadable image is a row with status "error"; the rest is finished. A
    report that is there is removed first, and the heatmaps and masks of ``out`` are never inspected. Memory holds numbers
    for all images, pictures and rows for those that the report shows.

    Args:
        detector: judges the images.
        inputs: image files, folders and Parquet lists, in this order.
        out: folder to write to.
        title: of the report.
        on_progress: receives (images done, images in all).

    Raises:
        DataError: nothing to read, or the folder cannot be written. ShiftproofError: nor the report.
    """
    out = Path(out)
    paths, missing = _find(inputs, out)
    name_of = naming({path.parent for path in paths})
    calibration = detector.calibration
    scores, latency_ms, defective = array("d"), array("d"), 0
    listed: TopK[dict[str, Any]] = TopK(MOST_ROWS)
    pictures: TopK[Picture] = TopK(MOST_PICTURES)
    failed: list[dict[str, Any]] = []
    failures: list[str] = []

    def fail(failure: FailedInspection) -> None:
        row = failure.to_dict()
        table.write(row)
        failures.append(row["error"])
        if len(failed) < MOST_FAILURES:
            failed.append(row)

    def draw(result: Inspection | FailedInspection) -> _Drawn | FailedInspection:
        if isinstance(result, FailedInspection):
            return result
        assert result.path is not None
        assert result.image is not None
        heat = overlay(result.image, result.anomaly_map, *result.map_range)
        reason = write_pictures(out, f"{name_of(result.path)}.png", heat, result.mask)
        return FailedInspection(result.path, ImageError(reason)) if reason else _Drawn(result, heat)

    clear_outputs(out, ["report.html", "predictions.csv"])
    with Table(out / "predictions.csv", RESULT_FIELDS) as table:
        for absent in missing:
            fail(FailedInspection(absent.path, ImageError(absent.reason)))
        for done, drawn in enumerate(in_order(draw, detector.predict(paths), ahead=BATCH), start=1):
            if isinstance(drawn, _Drawn):
                result = drawn.result
                row = result.to_dict()
                table.write(row)
                scores.append(result.score)
                defective += result.defective
                latency_ms.append(result.latency_ms)
                listed.push(result.score, partial(dict, row))
                pictures.push(result.score, partial(_picture, result, drawn.heat))
            else:
                fail(drawn)
            on_progress(done, len(paths))
    count = len(missing) + len(paths)
    report = PredictionReport(
        title=title or f"{count} images, inspected by {detector.manifest['method']}",
        calibration_sentence=calibration.sentence() + ("" if detector.conditional is None else CONDITIONAL_NOTE),
        threshold=calibration.threshold,
        low=calibration.map_low,
        high=calibration.map_high,
        scores=np.array(scores),
        latency_ms=np.array(latency_ms),
        defective=defective,
        rows=listed.items(),
        pictures=pictures.items(),
        failures=failed,
        failed=len(failures),
        manifest=detector.manifest,
    )
    write_prediction_report(out / "report.html", report)
    return Prediction(count, defective=defective, failures=failures)


def _find(inputs: Sequence[str | Path], out: Path) -> tuple[list[Path], list[Missing]]:
    """Every image once, in the order given; an input that is not there fails alone, unless nothing is left."""
    found: dict[Path, None] = {}
    failures: list[Missing] = []
    for images in find_inputs(inputs, out):
        if isinstance(images, Missing):
            failures.append(images)
        else:
            found.update(dict.fromkeys(images))
    return list(found), failures


def write_pictures(out: Path, name: str, heat: NDArray[np.uint8], mask: NDArray[np.bool_]) -> str:
    """Write heatmap and mask; return why not where the name is too long, which is a failure of this image alone."""
    try:
        for folder, picture in zip(PICTURES, (heat, mask.astype(np.uint8) * 255), strict=True):
            write_image(out / folder / name, picture)
    except DataError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.ENAMETOOLONG:
            return str(error)
        raise
    return ""


def _picture(result: Inspection, heat: NDArray[np.uint8]) -> Picture:
    assert result.image is not None
    pictures = thumbnail(result.image), thumbnail(heat)
    return Picture(str(result.path), "", result.score, *pictures, verdict=result.verdict)
