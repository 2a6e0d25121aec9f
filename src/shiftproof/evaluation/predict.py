"""Inspecting images whose truth nobody has told: a table, heatmaps, masks and a report."""

from __future__ import annotations

import csv
import heapq
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shiftproof.data import find_images, write_png
from shiftproof.detector import Detector
from shiftproof.errors import DataError, ImageError
from shiftproof.report.heatmap import overlay
from shiftproof.report.prediction import MOST_PICTURES, Picture, PredictionSummary, write_prediction_report

COLUMNS = ("path", "status", "score", "p_value", "verdict", "threshold", "milliseconds", "error")


@dataclass(frozen=True)
class Prediction:
    """What a run found."""

    images: int
    defective: int
    failures: list[str]  # one line for each image that could not be read


def predict(
    detector: Detector,
    inputs: Sequence[str | Path],
    out: Path,
    *,
    title: str = "",
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Prediction:
    """Inspect files and folders; write ``predictions.csv``, ``heatmaps/``, ``masks/`` and ``report.html``.

    Rows are written as they come: what was inspected before a crash is in the table. An unreadable image is a row with
    status "error"; the rest is finished.

    Args:
        detector: with its frozen threshold.
        inputs: image files and folders, in this order.
        out: folder to write to.
        title: of the report.
        on_progress: is told (images done, images in all).

    Raises:
        DataError: nothing to read, or the folder cannot be written.
    """
    paths, failures = _find(inputs)
    names = _names(paths)
    calibration = detector.calibration
    rows: list[dict[str, Any]] = [_error_row(path, message) for path, message in failures]
    shown: list[tuple[float, int, Picture]] = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        with (out / "predictions.csv").open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            for done, (path, image, seen) in enumerate(detector.stream_files(paths), start=1):
                if isinstance(seen, ImageError) or image is None:
                    row = _error_row(path, str(seen))
                else:
                    heat = overlay(image, seen.anomaly_map, calibration.map_low, calibration.map_high)
                    write_png(out / "heatmaps" / f"{names[path]}.png", heat)
                    write_png(out / "masks" / f"{names[path]}.png", seen.mask.astype(np.uint8) * 255)
                    row = {
                        "path": str(path),
                        "status": "ok",
                        "score": repr(seen.score),
                        "p_value": repr(seen.p_value),
                        "verdict": seen.verdict,
                        "threshold": repr(seen.threshold),
                        "milliseconds": f"{seen.milliseconds:.3f}",
                        "error": "",
                    }
                    # Pictures for the report: the most anomalous only, so that memory stays as it is over many images.
                    entry = (seen.score, -done, Picture(str(path), "", seen.score, image, heat))
                    (heapq.heappush if len(shown) < MOST_PICTURES else heapq.heappushpop)(shown, entry)
                writer.writerow(row)
                rows.append(row)
                on_progress(done, len(paths))
    except OSError as error:
        raise DataError(f"{out} cannot be written ({error.strerror}): free space, or choose another --out") from error
    summary = PredictionSummary(
        title=title or f"{len(rows)} images, inspected by {detector.manifest['method']}",
        calibration_sentence=calibration.sentence(),
        threshold=calibration.threshold,
        low=calibration.map_low,
        high=calibration.map_high,
        manifest=detector.manifest,
    )
    write_prediction_report(out / "report.html", rows, (picture for *_, picture in shown), summary)
    return Prediction(
        images=len(rows),
        defective=sum(row["verdict"] == "defective" for row in rows),
        failures=[row["error"] for row in rows if row["status"] == "error"],
    )


def _find(inputs: Sequence[str | Path]) -> tuple[list[Path], list[tuple[Path, str]]]:
    """Every image once, in the order given; an input that is not there fails alone, unless nothing is left."""
    found: dict[Path, None] = {}
    failures: list[tuple[Path, str]] = []
    for given in inputs:
        try:
            found |= dict.fromkeys(find_images(Path(given)))
        except DataError as error:
            failures.append((Path(given), str(error)))
    if not found:
        raise DataError(failures[0][1] if failures else "no image given: name files or folders")
    return list(found), failures


def _names(paths: Sequence[Path]) -> dict[Path, str]:
    """Names for outputs: the path below what all have in common, with its ending, so that no two collide."""
    # Without "..", which would lead out of the folder; links stay, as two of them may lead to one file.
    places = {path: Path(os.path.abspath(path)) for path in paths}  # noqa: PTH100
    common = os.path.commonpath([place.parent for place in places.values()])
    return {path: place.relative_to(common).as_posix() for path, place in places.items()}


def _error_row(path: Path, message: str) -> dict[str, Any]:
    return {**dict.fromkeys(COLUMNS, ""), "path": str(path), "status": "error", "error": message}
