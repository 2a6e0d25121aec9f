"""What one run takes: train, evaluate, and write its rows; whatever executor calls it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shiftproof.benchmark.oracle import Oracle
from shiftproof.benchmark.runs import Run
from shiftproof.data import labelled_images
from shiftproof.errors import ModelError
from shiftproof.loading import CALIBRATION_WITHOUT_CORRECTION, load
from shiftproof.metrics.robustness import SUMMARIES
from shiftproof.model_io import MANIFEST, TRAINING, environment, load_manifest
from shiftproof.pipelines import evaluate
from shiftproof.pipelines.train import train
from shiftproof.report.benchmark_results import LABELS, WITHOUT_CORRECTION, row
from shiftproof.reporter import Reporter
from shiftproof.runtime import TORCH
from shiftproof.training import load_checkpoint

SEED_OF_SHIFTS = 0  # the same for every run: seeds differ in what was trained, not in what it is tested on


def compute(run: Run, reporter: Reporter, *, reevaluate: bool = False, drop_model: bool = False) -> None:
    """Bring a run to its end, from wherever a former run has left it; one that is finished stays as it is.

    The caller holds the run's lock.

    Args:
        run: which.
        reporter: is told how it goes.
        reevaluate: evaluate a finished run anew, with the model that it has kept.
        drop_model: remove the model at the end.

    Raises:
        ShiftproofError: what training and evaluation raise; what has been done so far is kept.
    """
    if run.result() is not None and not reevaluate:
        return
    labelled_images(run.data, run.settings["layout"])  # before an hour of training, not after it
    model, looks = _trained(run, reporter)
    manifest = load_manifest(model)
    rows, failures = _evaluated(run, model, CALIBRATION_WITHOUT_CORRECTION in manifest, reporter)
    run.finish(
        {
            "method": run.method,
            "category": run.category,
            "seed": run.seed,
            "rows": [row(run.method + suffix, run.category, run.seed, name, metrics) for suffix, name, metrics in rows],
            "training": manifest["training"],
            "data": manifest["data"],
            "teacher": manifest["teacher"],
            "oracle": looks,
            "unreadable": sorted({*manifest["data"]["unreadable"], *failures}),
            "environment": environment(),
        }
    )
    if drop_model:
        shutil.rmtree(run.model)


def _trained(run: Run, reporter: Reporter) -> tuple[Path, list[dict[str, Any]] | None]:
    """The run's model, trained or trained on if need be, and what the oracle saw."""
    settings = run.settings
    schedule = settings["schedule"]
    oracle: Oracle | None = None
    final = run.model / "final"
    if settings["protocol"] == "oracle":
        in_epochs = schedule["epochs"] is not None
        oracle = Oracle(run.model, run.data, settings["layout"], settings["oracle_every"], in_epochs)
    if not (final / MANIFEST).is_file():
        resume = _has_checkpoint(final, reporter)
        train(
            run.data,
            final,
            method=settings["method"],
            backbone=settings["backbone"],
            weights=run.weights,
            layout=settings["layout"],
            resume=resume,
            overwrite=not resume,
            textures=run.textures,
            reporter=Reporter(
                warning=lambda line: reporter.warning(f"{run.title}: {line}"), progress=reporter.progress
            ),
            on_snapshot=oracle or (lambda snapshot: None),
            **settings["options"],
            **_length(schedule),
        )
    return (oracle.best, oracle.looks) if oracle else (final, None)


def _length(schedule: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schedule that counts either steps or epochs."""
    return {name: value for name, value in schedule.items() if name != "steps" or schedule["epochs"] is None}


def _has_checkpoint(model: Path, reporter: Reporter) -> bool:
    try:
        return load_checkpoint(model / TRAINING) is not None
    except ModelError as error:
        reporter.warning(f"{error.args[0].split(':')[0]}: the training starts again")
        return False


def _evaluated(
    run: Run, model: Path, has_correction: bool, reporter: Reporter
) -> tuple[list[tuple[str, str, Mapping[str, Any]]], list[str]]:
    """(suffix of the method, condition, metrics) for each row, and a line for each image that could not be used."""
    rows: list[tuple[str, str, Mapping[str, Any]]] = []
    failures: list[str] = []
    for correction in (True, False) if has_correction and run.settings["without_correction"] else (None,):
        suffix = WITHOUT_CORRECTION if correction is False else ""
        found = evaluate(
            load(model, TORCH, correction=correction),
            run.data,
            run.folder / "without_correction" if suffix else run.folder,
            shifts=",".join(run.settings["conditions"]),
            layout=run.settings["layout"],
            seed=SEED_OF_SHIFTS,
            title=f"{run.title}{suffix} ({LABELS[run.settings['protocol']]})",
            on_progress=lambda done, total: reporter.progress("evaluating", done, total, ""),
            warn=lambda line: reporter.warning(f"{run.title}: {line}"),
        )
        rows += [(suffix, name, metrics) for name, metrics in found.metrics.items() if name not in SUMMARIES]
        failures += found.failures
    return rows, failures
