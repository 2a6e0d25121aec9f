"""Predict on unlabelled images: a table, heatmaps, masks and a report."""

from __future__ import annotations

import errno
import hashlib
import os
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
from shiftproof.regions import Region, find_regions
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

REGION_FIELDS = ("path", "x", "y", "width", "height", "area", "peak", "peak_x", "peak_y")
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
MOST_BYTES = 255
"""Of a file's name, on nearly all file systems."""
SHORT_BYTES = 240
"""Of a name that had to be cut."""
CONDITIONAL_NOTE = "; unusual images get a threshold for their conditions"


@dataclass(frozen=True)
class Prediction:
    """What a run found."""

    images: int
    defective: int
    failures: list[str]  # one line for each image that could not be read
    picture_failures: list[str]  # one line for each image that has its verdict, but no pictures
    notes: dict[str, list[Path]]  # how images differ in kind from those trained on, and which do


@dataclass(frozen=True)
class _Drawn:
    """A result whose heatmap and mask are written."""

    result: Inspection  # without its maps, which are large
    regions: list[Region]
    image: NDArray[np.uint8]  # as small as the report shows it
    heat: NDArray[np.uint8]  # likewise
    size: int  # bytes of the image, its map and its pictures while they were drawn
    failure: str  # why there are no pictures; empty if there are


def predict(
    detector: Detector,
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    title: str = "",
    heatmaps: bool = True,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Prediction:
    """Inspect files and folders; write the tables, ``heatmaps/``, ``masks/`` and ``report.html``.

    The tables are ``predictions.csv``, with a row for each image, and ``regions.csv``, with one for each defect.

    Files are decoded and pictures drawn in threads, beside the networks. Rows are written as they come: what was
    inspected before a crash is in the table. An unreadable image is a row with status "error"; the rest is finished. A
    report that is there is removed first, and the heatmaps and masks of ``out`` are never inspected. Memory holds numbers
    for all images, pictures and rows for those that the report shows.

    Args:
        detector: judges the images.
        inputs: image files, folders and Parquet lists, in this order.
        out: folder to write to.
        title: of the report.
        heatmaps: write ``heatmaps/`` and ``masks/``.
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
    picture_failures: list[str] = []
    notes: dict[str, list[Path]] = {}

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
        failure = write_pictures(out, f"{name_of(result.path)}.png", heat, result.mask) if heatmaps else ""
        size = result.image.nbytes + heat.nbytes + result.anomaly_map.nbytes + result.mask.nbytes
        shape = result.anomaly_map.shape[:2]
        regions = find_regions(result.anomaly_map, result.threshold, shape) if result.defective else []
        small = thumbnail(result.image), thumbnail(heat)
        return _Drawn(_without_maps(result), regions, *small, size, failure)

    clear_outputs(out, ["report.html", "predictions.csv", "regions.csv"])
    drawings = in_order(draw, detector.predict(paths), ahead=BATCH, cost=_drawn_bytes)
    with Table(out / "predictions.csv", RESULT_FIELDS) as table, Table(out / "regions.csv", REGION_FIELDS) as regions:
        for absent in missing:
            fail(FailedInspection(absent.path, ImageError(absent.reason)))
        for done, drawn in enumerate(drawings, start=1):
            if isinstance(drawn, _Drawn):
                result = drawn.result
                row = result.to_dict()
                table.write(row)
                for region in drawn.regions:
                    regions.write({"path": str(result.path), **region_row(region)})
                if drawn.failure:
                    picture_failures.append(drawn.failure)
                if result.note and result.path is not None:
                    notes.setdefault(result.note, []).append(result.path)
                scores.append(result.score)
                defective += result.defective
                latency_ms.append(result.latency_ms)
                listed.push(result.score, partial(dict, row))
                pictures.push(result.score, partial(_picture, result, drawn.image, drawn.heat))
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
    return Prediction(count, defective, failures, picture_failures, notes)


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
    """Write heatmap and mask, under a shorter name where theirs is too long; return why they cannot be written.

    Raises:
        DataError: the disk is full or read-only, so that rows could not be written either.
    """
    try:
        for folder, picture in zip(PICTURES, (heat, mask.astype(np.uint8) * 255), strict=True):
            write_image(out / folder / fitting_name(name), picture)
    except DataError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in FULL:
            raise
        return str(error)
    return ""


def fitting_name(name: str) -> str:
    """Return a picture's posix path with parts that fit into a file system; one that is cut keeps a hash of itself.

    >>> fitting_name("a/part.png.png"), len(fitting_name("n" * 252 + ".png.png"))
    ('a/part.png.png', 240)
    """
    return "/".join(part if len(os.fsencode(part)) <= MOST_BYTES else _shortened(part) for part in name.split("/"))


def _shortened(part: str) -> str:
    raw, suffix = os.fsencode(part), Path(part).suffix
    ending = f"-{hashlib.sha256(raw).hexdigest()[:12]}{suffix}"
    kept = raw[: SHORT_BYTES - len(os.fsencode(ending))]
    return kept.decode("utf-8", "ignore") + ending


def region_row(region: Region) -> dict[str, Any]:
    """Return the cells of a row in ``regions.csv``, without the path."""
    box, peak = region.box, region.peak
    cells = {"x": box.x, "y": box.y, "width": box.width, "height": box.height, "area": region.area}
    return {**cells, "peak": peak.value, "peak_x": peak.x, "peak_y": peak.y}


def _without_maps(result: Inspection) -> Inspection:
    """The verdict alone: maps of large images are not to wait until a row is written."""
    return replace(result, anomaly_map=np.empty((0, 0), np.float32), mask=np.empty((0, 0), np.bool_), image=None)


def _drawn_bytes(drawn: _Drawn | FailedInspection) -> int:
    return drawn.size if isinstance(drawn, _Drawn) else 0


def _picture(result: Inspection, image: NDArray[np.uint8], heat: NDArray[np.uint8]) -> Picture:
    return Picture(str(result.path), "", result.score, image, heat, verdict=result.verdict)
