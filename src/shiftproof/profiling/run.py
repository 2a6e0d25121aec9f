"""What ``shiftproof profile`` does: a process for every backend and number of threads, one after the other."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from shiftproof.data import find_images, read_image, synthetic_images, write_image
from shiftproof.errors import ShiftproofError, UsageError
from shiftproof.model_io import environment, load_manifest
from shiftproof.runtime import BACKENDS, TORCH, choose_backend, installed

SYNTHETIC = 16  # images where none are given


def profile(
    model: str | Path,
    *,
    backends: Sequence[str] = (),
    threads: Sequence[int] = (),
    data: str | Path | None = None,
    seconds: float = 3.0,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Measure a model on this machine.

    Args:
        model: its folder.
        backends: names; by default all that the model is exported for and that are installed, and torch if it is.
        threads: numbers of processor threads; by default 1 and all there are.
        data: an image, or a folder of them; by default synthetic PNG images of the model's size.
        seconds: that each of the four measurements of a process takes, at least.
        on_progress: is told (processes done, processes in all).

    Returns:
        JSON values: ``model``, ``method``, ``image_size``, ``images`` (what they are), ``machine``, ``environment``, and
        ``results``, a list of what :func:`~shiftproof.profiling.measure.measure` gives, each with ``backend`` and ``threads``.

    Raises:
        ShiftproofError: a model, backend, number or image that cannot be used, or a process that failed.
    """
    folder = Path(model)
    manifest = load_manifest(folder)
    names = [choose_backend(folder, manifest, name) for name in backends] or _runnable(manifest)
    if not names:
        choose_backend(folder, manifest)  # says what is missing
    counts = list(threads) or sorted({1, _processors()})
    for count in counts:
        if not 1 <= count <= _processors():
            raise UsageError(
                f"{count} threads: expected 1 to {_processors()}, the processors that this process may use"
            )
    if not seconds > 0:
        raise UsageError(f"{seconds} seconds: expected a time above 0, such as 3")
    height, width = manifest["config"]["image_size"]
    plan = [(name, count) for count in counts for name in names]
    with tempfile.TemporaryDirectory() as scratch:
        paths = _images(data, (height, width), Path(scratch))
        results: list[dict[str, Any]] = []
        for name, count in plan:
            on_progress(len(results), len(plan))
            results.append({"backend": name, "threads": count, **_measure(folder, name, count, paths, seconds)})
        on_progress(len(plan), len(plan))
    return {
        "model": folder.resolve().name,
        "method": manifest["method"],
        "image_size": [height, width],
        "images": f"{len(paths)} images of {Path(data).resolve().name}"
        if data is not None
        else f"{len(paths)} synthetic PNG images of {height}x{width}",
        "machine": {"processor": _processor(), "processors": _processors(), "platform": platform.platform()},
        "environment": environment(),
        "results": results,
    }


def _measure(folder: Path, name: str, threads: int, paths: Sequence[Path], seconds: float) -> dict[str, Any]:
    task = {
        "model": str(folder),
        "backend": name,
        "threads": threads,
        "images": [str(path) for path in paths],
        "seconds": seconds,
        "asked": time.monotonic(),
    }
    command = [sys.executable, "-m", "shiftproof.profiling.measure", json.dumps(task)]
    limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **limits}, check=False)  # noqa: S603
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise ShiftproofError(f"{name} with {threads} threads could not be measured: {last[:200]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _runnable(manifest: dict[str, Any]) -> list[str]:
    exported = [name for name in BACKENDS if name in manifest.get("exports", {})]
    return [name for name in exported if BACKENDS[name].runs_here()] + [TORCH] * installed(TORCH)


def _images(data: str | Path | None, size: tuple[int, int], scratch: Path) -> list[Path]:
    """Files that can be read, each looked at once: a profile must not measure errors."""
    if data is None:
        paths = [scratch / f"{number:02}.png" for number in range(SYNTHETIC)]
        for path, image in zip(paths, synthetic_images(size, SYNTHETIC), strict=True):
            write_image(path, image)
        return paths
    paths = find_images(Path(data))
    for path in paths:
        read_image(path)
    return paths


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    """The processor's name, as well as the system tells it."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as file:
            return next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
