"""Measure images in the order in which they were taken, to see whether what the camera sees has drifted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftproof.data import find_images, in_order, read_image, resize_image
from shiftproof.detector import Detector
from shiftproof.drift import DRIFT, GROUPS, WINDOW, DriftState, Monitor, measure
from shiftproof.errors import DataError, ImageError, UsageError
from shiftproof.model_io import write_json_atomic
from shiftproof.pipelines.outputs import Table, clear_outputs
from shiftproof.report.drift import DriftReport, write_drift_report
from shiftproof.results import FailedInspection

COLUMNS = (
    *("path", "status", "distance", "p_value", "evidence", "drift", "alert"),
    *GROUPS,
    *("score", "score_p_value", "verdict", "error"),
)
ORDERS = {"name": "by name, numbers as numbers", "time": "by the time of the files' last change"}


@dataclass(frozen=True)
class Episode:
    """One drift, from its alert to its end."""

    start_index: int  # number of the image (from 1) with which it probably began
    alert_index: int  # of the image that raised the alert
    end_index: int | None  # of the image at which images had been like the good ones for a while; None: it lasts
    path: str  # of the image that raised the alert
    state: DriftState  # up to `WINDOW` images after the alert, which is when it knows most of what came

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        state = self.state.to_json()
        kept = ("sentence", "findings", "effect", "advice")
        places = {
            "start_index": self.start_index,
            "alert_index": self.alert_index,
            "end_index": self.end_index,
            "path": self.path,
        }
        return {**places, **{key: state[key] for key in kept}}

    def line(self) -> str:
        """In one line."""
        end = f", over by image {self.end_index}" if self.end_index else ""
        return f"drift found at image {self.alert_index}{end}: {self.state.sentence}"


@dataclass(frozen=True, eq=False)  # arrays have no single truth value
class DriftResult:
    """The drifts in a folder of images."""

    images: int  # in all
    failures: list[str]  # one line for each image that could not be read
    episodes: list[Episode]
    last: DriftState  # after the last image that could be read
    deviations: NDArray[np.float64]  # [N, 8], of each readable image and group, in sigma
    evidence: NDArray[np.float64]  # [N], powers of ten
    order: str  # how the images were sorted, in words

    def lines(self) -> list[str]:
        """The verdict, in lines: one for each drift, or one that there was none."""
        if not self.episodes:
            return [f"no drift in {self.last.images} images: {self.last.advice}"]
        return [episode.line() for episode in self.episodes]


def sort_files(folder: Path, order: str) -> list[Path]:
    """The images below a folder, "name" or "time" by order.

    Raises:
        UsageError: another order. DataError: no images.
    """
    if order not in ORDERS:
        raise UsageError(f"order {order!r}; expected one of: {', '.join(ORDERS)}")
    paths = find_images(folder)
    return paths if order == "name" else sorted(paths, key=lambda path: path.stat().st_mtime_ns)


def detect_drift(
    monitor: Monitor,
    folder: Path,
    *,
    size: tuple[int, int],
    detector: Detector | None = None,
    order: str = "name",
    out: Path | None = None,
    title: str = "",
    manifest: Mapping[str, Any] | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> DriftResult:
    """Give a folder's images to a monitor, one by one; write ``drift.csv``, ``drift.json`` and ``drift.html``.

    Args:
        monitor: at its beginning.
        folder: of images.
        size: (height, width) of the model.
        detector: inspects the images too, so that it can be said what a drift does to the verdicts; None saves its time.
        order: of the images, "name" or "time".
        out: folder to write to; None writes nothing.
        title: of the page.
        manifest: of the model, for the page's model card.
        on_progress: receives (images done, images in all).

    Raises:
        DataError: nothing to read, or the folder cannot be written.
    """
    paths = sort_files(folder, order)
    if out is not None:
        clear_outputs(out, ["drift.csv", "drift.json", "drift.html"])
    failures: list[str] = []
    episodes: list[Episode] = []
    evidence: list[float] = []
    deviations: list[list[float]] = []
    state: DriftState | None = None
    seen = _inspected(detector, paths) if detector is not None else _measured(paths, size)
    with nullcontext() if out is None else Table(out / "drift.csv", COLUMNS) as table:
        for done, (path, found, verdict) in enumerate(seen, start=1):
            if isinstance(found, ImageError):
                failures.append(str(found))
                row = {"path": str(path), "status": "error", "error": str(found)}
            else:
                state = monitor.update(found, p_value=verdict.get("score_p_value"), defective=verdict.get("defective"))
                _note(episodes, state, path)
                evidence.append(state.evidence)
                deviations.append([state.levels[group] for group in GROUPS])
                row = _row(path, state, verdict)
            if table is not None:
                table.write(row)
            on_progress(done, len(paths))
    if state is None:
        raise DataError(f"none of the {len(paths)} images in {folder} can be read, e.g. {failures[0]}")
    result = DriftResult(len(paths), failures, episodes, state, np.array(deviations), np.array(evidence), ORDERS[order])
    if out is not None:
        _write(out, result, monitor, title or f"Drift in {len(paths)} images", manifest or {})
    return result


def _inspected(
    detector: Detector, paths: list[Path]
) -> Iterator[tuple[Path, NDArray[Any] | ImageError, dict[str, Any]]]:
    for result in detector.predict(paths):
        assert result.path is not None
        if isinstance(result, FailedInspection):
            yield result.path, result.error, {}
        else:
            verdict = {"score": result.score, "score_p_value": result.p_value, "verdict": result.verdict}
            yield result.path, result.pixels, {**verdict, "defective": result.defective}


def _measured(
    paths: list[Path], size: tuple[int, int]
) -> Iterator[tuple[Path, NDArray[Any] | ImageError, dict[str, Any]]]:
    def read(path: Path) -> tuple[Path, NDArray[Any] | ImageError, dict[str, Any]]:
        try:
            return path, measure(resize_image(read_image(path), size)), {}
        except ImageError as error:
            return path, error, {}

    yield from in_order(read, paths, ahead=32)


def _note(episodes: list[Episode], state: DriftState, path: Path) -> None:
    """Begin, carry on or end an episode."""
    if state.alert:
        episodes.append(Episode(state.start_index or state.images, state.images, None, str(path), state))
    elif episodes and episodes[-1].end_index is None:
        last = episodes[-1]
        if state.ended:
            episodes[-1] = Episode(last.start_index, last.alert_index, state.images, last.path, last.state)
        elif state.status == DRIFT and state.images < last.alert_index + WINDOW:
            episodes[-1] = Episode(last.start_index, last.alert_index, None, last.path, state)


def _row(path: Path, state: DriftState, verdict: Mapping[str, Any]) -> dict[str, str]:
    numbers = {"distance": state.distance, "p_value": state.p_value, "evidence": state.evidence, **state.levels}
    scores = {key: verdict[key] for key in ("score", "score_p_value") if key in verdict}
    return {
        "path": str(path),
        "status": "ok",
        "drift": state.status,
        "alert": "yes" if state.alert else "",
        "verdict": verdict.get("verdict", ""),
        **{key: repr(value) for key, value in {**numbers, **scores}.items()},
    }


def _write(out: Path, result: DriftResult, monitor: Monitor, title: str, manifest: Mapping[str, Any]) -> None:
    reference = monitor.reference
    good = len(reference.trained) + len(reference.calibration)
    facts = {
        "images": result.images,
        "unreadable": len(result.failures),
        "order": result.order,
        "alpha": monitor.alpha,
        "reference_images": good,
        "episodes": [episode.to_json() for episode in result.episodes],
        "last": result.last.to_json(),
    }
    write_json_atomic(out / "drift.json", facts)
    report = DriftReport(
        title=title,
        lines=result.lines(),
        episodes=[episode.to_json() for episode in result.episodes],
        status=result.last.status,
        advice=result.last.advice,
        evidence=result.evidence,
        alert_at=-math.log10(monitor.alpha),
        alpha=monitor.alpha,
        groups=GROUPS,
        deviations=result.deviations,
        good=good,
        order=result.order,
        failures=result.failures,
        manifest=manifest,
    )
    write_drift_report(out / "drift.html", report)
