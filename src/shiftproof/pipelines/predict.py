"""Inspecting images whose truth nobody has told: a table, heatmaps, masks and a report."""

from __future__ import annotations

import errno
import hashlib
import os
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shiftproof.data import in_order, write_image
from shiftproof.detector import BATCH, Detector, Inspection
from shiftproof.errors import DataError, ImageError
from shiftproof.pipelines.inputs import PICTURES, Missing, find_inputs, naming
from shiftproof.pipelines.outputs import Table, clear_outputs
from shiftproof.regions import Region, find_regions
from shiftproof.report.foremost import Foremost
from shiftproof.report.heatmap import overlay
from shiftproof.report.page import Picture, thumbnail
from shiftproof.report.prediction import (
    MOST_FAILURES,
    MOST_PICTURES,
    MOST_ROWS,
    PredictionReport,
    write_prediction_report,
)

CONDITIONAL_NOTE = "; unusual images get a threshold for their conditions"
COLUMNS = ("path", "status", "score", "p_value", "verdict", "threshold", "latency_ms", "error")
REGION_COLUMNS = ("path", "x", "y", "width", "height", "area", "peak", "peak_x", "peak_y")
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
MOST_BYTES = 255
"""Of a file's name, on nearly all file systems."""
SHORT_BYTES = 240
"""Of a name that had to be cut."""


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
    """An image whose heatmap and mask are written."""

    path: Path
    seen: Inspection  # without its maps, which are large
    regions: list[Region]
    image: NDArray[np.uint8]  # as small as the report shows it
    heat: NDArray[np.uint8]  # likewise
    size: int  # bytes of the image, its map and its pictures while they were drawn
    failure: str  # why there are no pictures; empty if there are


def predict(
    detector: Detector,
    inputs: Sequence[str | Path],
    out: Path,
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
        detector: with its fixed threshold.
        inputs: image files, folders and Parquet lists, in this order.
        out: folder to write to.
        title: of the report.
        heatmaps: write ``heatmaps/`` and ``masks/``.
        on_progress: is told (images done, images in all).

    Raises:
        DataError: nothing to read, or the folder cannot be written. ShiftproofError: nor the report.
    """
    paths, missing = _find(inputs, out)
    name_of = naming({path.parent for path in paths})
    calibration = detector.calibration
    scores, latency_ms, defective = array("d"), array("d"), 0
    listed: Foremost[dict[str, str]] = Foremost(MOST_ROWS)
    pictures: Foremost[Picture] = Foremost(MOST_PICTURES)
    failed: list[dict[str, str]] = []
    failures: list[str] = []
    picture_failures: list[str] = []
    notes: dict[str, list[Path]] = {}

    def fail(path: Path, message: str) -> None:
        row = {"path": str(path), "status": "error", "error": message}
        table.write(row)
        failures.append(message)
        if len(failed) < MOST_FAILURES:
            failed.append(row)

    def draw(found: tuple[Path, NDArray[np.uint8] | None, Inspection | ImageError]) -> _Drawn | tuple[Path, str]:
        path, image, seen = found
        if image is None or isinstance(seen, ImageError):
            return path, str(seen)
        heat = overlay(image, seen.anomaly_map, calibration.map_low, calibration.map_high)
        failure = write_pictures(out, f"{name_of(path)}.png", heat, seen.mask) if heatmaps else ""
        size = image.nbytes + heat.nbytes + seen.anomaly_map.nbytes + seen.mask.nbytes
        regions = find_regions(seen.anomaly_map, seen.threshold, (image.shape[0], image.shape[1]))
        return _Drawn(path, without_maps(seen), regions, thumbnail(image), thumbnail(heat), size, failure)

    clear_outputs(out, ["report.html", "predictions.csv", "regions.csv"])
    drawings = in_order(draw, detector.stream_files(paths), ahead=BATCH, cost=_drawn_bytes)
    with Table(out / "predictions.csv", COLUMNS) as table, Table(out / "regions.csv", REGION_COLUMNS) as regions:
        for one in missing:
            fail(one.path, one.reason)
        for done, drawn in enumerate(drawings, start=1):
            if isinstance(drawn, _Drawn):
                path, seen = drawn.path, drawn.seen
                row = _row(path, seen)
                table.write(row)
                for region in drawn.regions:
                    regions.write(_region_row(path, region))
                if drawn.failure:
                    picture_failures.append(drawn.failure)
                if seen.note:
                    notes.setdefault(seen.note, []).append(path)
                scores.append(seen.score)
                defective += seen.defective
                latency_ms.append(seen.latency_ms)
                listed.offer(seen.score, partial(dict, row))
                pictures.offer(seen.score, partial(_picture, path, seen, drawn.image, drawn.heat))
            else:
                fail(*drawn)
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
    """Write heatmap and mask, under a shorter name where theirs is too long; the reason where they cannot be written."""
    try:
        for folder, picture in zip(PICTURES, (heat, mask.astype(np.uint8) * 255), strict=True):
            write_image(out / folder / fitting_name(name), picture)
    except DataError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in FULL:
            raise  # nor could rows be written
        return str(error)
    return ""


def fitting_name(name: str) -> str:
    """A picture's posix path, of which each part fits into a file system; a part that is cut keeps a hash of itself.

    >>> fitting_name("a/part.png.png"), len(fitting_name("n" * 252 + ".png.png"))
    ('a/part.png.png', 240)
    """
    return "/".join(part if len(os.fsencode(part)) <= MOST_BYTES else _shortened(part) for part in name.split("/"))


def _shortened(part: str) -> str:
    raw, suffix = os.fsencode(part), Path(part).suffix
    ending = f"-{hashlib.sha256(raw).hexdigest()[:12]}{suffix}"
    kept = raw[: SHORT_BYTES - len(os.fsencode(ending))]
    return kept.decode("utf-8", "ignore") + ending


def without_maps(seen: Inspection) -> Inspection:
    """The verdict alone: maps of large images are not to wait until a row is written."""
    return replace(seen, anomaly_map=np.empty((0, 0), np.float32), mask=np.empty((0, 0), np.bool_))


def _drawn_bytes(drawn: _Drawn | tuple[Path, str]) -> int:
    return drawn.size if isinstance(drawn, _Drawn) else 0


def _region_row(path: Path, region: Region) -> dict[str, str]:
    box, peak = region.box, region.peak
    values: dict[str, object] = {"x": box.x, "y": box.y, "width": box.width, "height": box.height, "area": region.area}
    values |= {"peak": repr(peak.value), "peak_x": peak.x, "peak_y": peak.y}
    return {"path": str(path), **{name: str(value) for name, value in values.items()}}


def _row(path: Path, seen: Inspection) -> dict[str, str]:
    return {
        "path": str(path),
        "status": "ok",
        "score": repr(seen.score),
        "p_value": repr(seen.p_value),
        "verdict": seen.verdict,
        "threshold": repr(seen.threshold),
        "latency_ms": f"{seen.latency_ms:.3f}",
    }


def _picture(path: Path, seen: Inspection, image: NDArray[np.uint8], heat: NDArray[np.uint8]) -> Picture:
    return Picture(str(path), "", seen.score, image, heat, verdict=seen.verdict)
