"""What one cell takes: train, evaluate, and write its rows; whatever engine calls it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shiftproof.data import labelled_images
from shiftproof.detector import CALIBRATION_WITHOUT_CORRECTION, load
from shiftproof.errors import ModelError
from shiftproof.model_io import MANIFEST, TRAINING, environment, load_manifest
from shiftproof.pipelines import evaluate
from shiftproof.pipelines.train import train
from shiftproof.report.benchmark_results import LABELS, WITHOUT_CORRECTION, row
from shiftproof.report.robustness import SUMMARIES
from shiftproof.reporter import ProgressFunction, Reporter
from shiftproof.runtime import TORCH
from shiftproof.scale.cells import Cell
from shiftproof.scale.oracle import Oracle
from shiftproof.training import load_checkpoint

SEED_OF_SHIFTS = 0  # the same for every cell: seeds differ in what was trained, not in what it is tested on


@dataclass(frozen=True)
class Telling:
    """Who wants to hear how a cell goes."""

    warn: Callable[[str], None] = lambda line: None
    progress: ProgressFunction = lambda phase, done, total, note="": None


def compute(cell: Cell, telling: Telling, *, again: bool = False, drop_model: bool = False) -> None:
    """Bring a cell to its end, from wherever a former run has left it; one that is finished stays as it is.

    The caller holds the cell's lock.

    Args:
        cell: which.
        telling: is told how it goes.
        again: evaluate a finished cell anew, with the model that it has kept.
        drop_model: remove the model at the end.

    Raises:
        ShiftproofError: what training and evaluation raise; what has been done so far is kept.
    """
    if cell.result() is not None and not again:
        return
    labelled_images(cell.data, cell.settings["layout"])  # before an hour of training, not after it
    model, looks = _trained(cell, telling)
    manifest = load_manifest(model)
    rows, failures = _evaluated(cell, model, CALIBRATION_WITHOUT_CORRECTION in manifest, telling)
    cell.finish(
        {
            "method": cell.method,
            "category": cell.category,
            "seed": cell.seed,
            "rows": [
                row(cell.method + suffix, cell.category, cell.seed, name, metrics) for suffix, name, metrics in rows
            ],
            "training": manifest["training"],
            "data": manifest["data"],
            "teacher": manifest["teacher"],
            "oracle": looks,
            "unreadable": sorted({*manifest["data"]["unreadable"], *failures}),
            "environment": environment(),
        }
    )
    if drop_model:
        shutil.rmtree(cell.model)


def _trained(cell: Cell, telling: Telling) -> tuple[Path, list[dict[str, Any]] | None]:
    """The cell's model, trained or trained on if need be, and what the oracle saw."""
    settings = cell.settings
    schedule = settings["schedule"]
    oracle: Oracle | None = None
    final = cell.model / "final"
    if settings["protocol"] == "oracle":
        in_epochs = schedule["epochs"] is not None
        oracle = Oracle(cell.model, cell.data, settings["layout"], settings["oracle_every"], in_epochs)
    if not (final / MANIFEST).is_file():
        resume = _has_checkpoint(final, telling)
        train(
            cell.data,
            final,
            method=settings["method"],
            backbone=settings["backbone"],
            weights=cell.weights,
            layout=settings["layout"],
            resume=resume,
            overwrite=not resume,
            textures=cell.textures,
            reporter=Reporter(warning=lambda line: telling.warn(f"{cell.title}: {line}"), progress=telling.progress),
            on_snapshot=oracle or (lambda snapshot: None),
            **settings["options"],
            **_length(schedule),
        )
    return (oracle.best, oracle.looks) if oracle else (final, None)


def _length(schedule: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schedule that counts either steps or epochs."""
    return {name: value for name, value in schedule.items() if name != "steps" or schedule["epochs"] is None}


def _has_checkpoint(model: Path, telling: Telling) -> bool:
    try:
        return load_checkpoint(model / TRAINING) is not None
    except ModelError as error:
        telling.warn(f"{error.args[0].split(':')[0]}: the training starts again")
        return False


def _evaluated(
    cell: Cell, model: Path, has_correction: bool, telling: Telling
) -> tuple[list[tuple[str, str, Mapping[str, Any]]], list[str]]:
    """(suffix of the method, condition, metrics) for each row, and a line for each image that could not be used."""
    rows: list[tuple[str, str, Mapping[str, Any]]] = []
    failures: list[str] = []
    for correction in (True, False) if has_correction and cell.settings["without_correction"] else (None,):
        suffix = WITHOUT_CORRECTION if correction is False else ""
        found = evaluate(
            load(model, TORCH, correction=correction),
            cell.data,
            cell.folder / "without_correction" if suffix else cell.folder,
            shifts=",".join(cell.settings["conditions"]),
            layout=cell.settings["layout"],
            seed=SEED_OF_SHIFTS,
            title=f"{cell.title}{suffix} ({LABELS[cell.settings['protocol']]})",
            on_progress=lambda done, total: telling.progress("evaluating", done, total, ""),
            warn=lambda line: telling.warn(f"{cell.title}: {line}"),
        )
        rows += [(suffix, name, metrics) for name, metrics in found.metrics.items() if name not in SUMMARIES]
        failures += found.failures
    return rows, failures
