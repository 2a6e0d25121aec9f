"""Loading a model folder: from a path and options to a detector."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shiftproof.calibration import Calibration
from shiftproof.detector import Detector
from shiftproof.errors import BackendError, ModelError, UsageError, unknown
from shiftproof.model_io import load_manifest
from shiftproof.runtime import AUTO, TORCH, Backend, choose_backend, open_graph

CALIBRATION = "calibration"  # key of model.json
CALIBRATION_WITHOUT_CORRECTION = "calibration_without_correction"  # the same, where the model has shift correction
FIXED, CONDITIONAL = "fixed", "conditional"
THRESHOLD_MODES = (FIXED, CONDITIONAL)
CPU = "cpu"


@dataclass(frozen=True)
class LoadOptions:
    """How to load a model.

    Raises:
        UsageError: a value that no model can be loaded with.
    """

    backend: str = AUTO
    """"torch", "auto" or a name of :data:`~shiftproof.runtime.BACKENDS`; auto is the fastest that the model is exported
    for and that is installed, else torch."""
    correction: bool | None = None
    """False leaves out the model's shift correction (in torch), with the threshold of calibration images without it; True
    requires it; None is as the model was trained."""
    threads: int | None = None
    """Processor threads for this model; None for the backend's own choice."""
    threshold_mode: str = FIXED
    """"fixed", or "conditional": unusual images get a threshold for their conditions."""
    threshold: float | None = None
    """Score above which an image is defective; None for the model's."""
    device: str | None = None
    """Of torch, such as "cpu", "cuda" or "cuda:1"; None for the first GPU, or the processor where there is none."""

    def __post_init__(self) -> None:
        if self.threshold_mode not in THRESHOLD_MODES:
            raise unknown("threshold mode", self.threshold_mode, THRESHOLD_MODES)
        if self.threads is not None and self.threads < 1:
            raise UsageError(f"threads {self.threads}; expected at least 1")
        if self.threshold is None:
            return
        if not math.isfinite(self.threshold):
            raise UsageError(f"threshold {self.threshold}; expected a finite number, such as 0.5")
        if self.threshold_mode == CONDITIONAL:
            raise UsageError(f"threshold {self.threshold} and threshold mode conditional: give one of them")

    @property
    def leaves_out_correction(self) -> bool:
        """Whether shift correction is to be left out."""
        return self.correction is False


def load(
    model: str | Path,
    backend: str = AUTO,
    *,
    correction: bool | None = None,
    threads: int | None = None,
    threshold_mode: str = FIXED,
    threshold: float | None = None,
    device: str | None = None,
) -> Detector:
    """Load a model folder; every file is checked against its hash first.

    Args:
        model: the folder.
        backend: the options are those of :class:`LoadOptions`.
        correction: see there.
        threads: see there.
        threshold_mode: see there.
        threshold: see there.
        device: see there.

    Raises:
        ModelError: missing, damaged, written by a newer version, or without what the options need.
        BackendError: not exported, not installed, or not able to do what the options ask for. UsageError: a wrong option.
    """
    return open_detector(model, LoadOptions(backend, correction, threads, threshold_mode, threshold, device))


def open_detector(model: str | Path, options: LoadOptions) -> Detector:
    """Load a model folder; see :func:`load`."""
    folder = Path(model)
    manifest = load_manifest(folder)
    name = resolve_backend(folder, manifest, options)
    try:
        calibration = _calibration(folder, manifest, options)
        conditional = None
        if options.threshold_mode == CONDITIONAL:
            from shiftproof.calibration.conditional import load_conditional

            conditional = load_conditional(folder, manifest, calibration)
        return Detector(_open_backend(name, folder, manifest, options), calibration, manifest, conditional)
    except (KeyError, TypeError, RuntimeError) as error:
        raise ModelError(
            f"{folder} does not fit this version of shiftproof ({type(error).__name__}: {str(error).splitlines()[0][:100]}); "
            f"it was written by {manifest.get('shiftproof')}: install that version, or train again"
        ) from error


def resolve_backend(folder: Path, manifest: Mapping[str, Any], options: LoadOptions) -> str:
    """Return the name of the backend that these options choose; errors are those of :func:`load`."""
    has_correction = CALIBRATION_WITHOUT_CORRECTION in manifest
    if options.correction and not has_correction:
        raise ModelError(
            f"{folder} was trained without shift correction and has no statistics for it: train it with --correction both"
        )
    leave_out = has_correction and options.leaves_out_correction
    if leave_out and options.backend not in (AUTO, TORCH):
        raise BackendError(f"shift correction is inside {options.backend}'s graph: leave it out with --backend torch")
    needs_torch = leave_out or options.device not in (None, CPU)
    if options.device not in (None, CPU) and options.backend not in (AUTO, TORCH):
        raise BackendError(
            f"backend {options.backend} runs on the processor, not on {options.device}: take backend torch"
        )
    return choose_backend(folder, manifest, TORCH if needs_torch else options.backend)


def _calibration(folder: Path, manifest: Mapping[str, Any], options: LoadOptions) -> Calibration:
    leave_out = options.leaves_out_correction and CALIBRATION_WITHOUT_CORRECTION in manifest
    if leave_out and options.threshold_mode == CONDITIONAL:
        raise ModelError(
            f"{folder} has a shift-conditional threshold for images with shift correction, and correction is left out: "
            "take the fixed threshold, or train with --correction none --conditional blind"
        )
    calibration = Calibration.from_json(manifest[CALIBRATION_WITHOUT_CORRECTION if leave_out else CALIBRATION])
    return calibration if options.threshold is None else calibration.moved(value=options.threshold)


def _open_backend(name: str, folder: Path, manifest: Mapping[str, Any], options: LoadOptions) -> Backend:
    if name != TORCH:
        return open_graph(name, folder, manifest, options.threads)
    from shiftproof.torch_backend import open_torch

    backend = open_torch(folder, manifest, options.threads, options.device)
    if options.leaves_out_correction and CALIBRATION_WITHOUT_CORRECTION in manifest:
        backend.method.use_correction(False)
    return backend
