"""Which backends there are, and which one runs a model: what was exported, and what is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shiftproof.errors import BackendError, unknown

AUTO, TORCH = "auto", "torch"


@dataclass(frozen=True)
class Backend:
    """A runtime for exported graphs, in one precision."""

    package: str  # that must be installed
    export: str  # the value of --to that writes the graph
    int8: bool  # whether weights and activations are quantised
    files: tuple[str, ...]  # of the graph in a model folder; the first is the one that is opened


BACKENDS: Mapping[str, Backend] = {
    "openvino-int8": Backend("openvino", "openvino", True, ("openvino-int8/model.xml", "openvino-int8/model.bin")),
    "onnx-int8": Backend("onnxruntime", "onnx", True, ("model-int8.onnx",)),
    "openvino": Backend("openvino", "openvino", False, ("openvino/model.xml", "openvino/model.bin")),
    "onnx": Backend("onnxruntime", "onnx", False, ("model.onnx",)),
}
"""By name, the fastest first."""


def choose_backend(folder: Path, manifest: Mapping[str, Any], wanted: str = AUTO) -> str:
    """The backend to run a model with.

    Args:
        folder: of the model, for messages.
        manifest: its ``model.json``.
        wanted: a name, or "auto": the fastest that was exported, agreed with the model then, and is installed here;
            else torch.

    Raises:
        UsageError: an unknown name. BackendError: not exported, not installed, or nothing that could run the model.
    """
    if wanted not in (AUTO, TORCH, *BACKENDS):
        raise unknown("backend", wanted, (AUTO, TORCH, *BACKENDS))
    exports: Mapping[str, Any] = manifest.get("exports", {})
    if wanted in BACKENDS:
        backend = BACKENDS[wanted]
        if wanted not in exports:
            there = f"exported so far: {', '.join(exports)}" if exports else "nothing is exported yet"
            raise BackendError(f"{folder} holds no graph for {wanted} ({there}): {_how_to_export(folder, backend)}")
        if not installed(backend.package):
            raise BackendError(
                f"backend {wanted} needs the package {backend.package}, which is not installed: pip install {backend.package}"
            )
        return wanted
    if wanted == AUTO:
        sound = [name for name in BACKENDS if exports.get(name, {}).get("parity", {}).get("passed")]
        for name in sound:
            if installed(BACKENDS[name].package):
                return name
    if installed(TORCH):
        return TORCH
    if wanted == TORCH:
        raise BackendError("backend torch is not installed: pip install 'shiftproof[train]'")
    if exports:
        packages = sorted({BACKENDS[name].package for name in exports if name in BACKENDS})
        raise BackendError(
            f"{folder} is exported for {', '.join(exports)}, but nothing is installed that may run it: "
            f"pip install {packages[0]}, or name an export that did not pass its gate with --backend"
        )
    raise BackendError(
        f"{folder} holds no exported graph, and torch is not installed to run it without: where shiftproof[train,export] "
        f"is installed, {_how_to_export(folder, BACKENDS['onnx'])}"
    )


def _how_to_export(folder: Path, backend: Backend) -> str:
    int8 = " --int8 --data GOOD_IMAGES" if backend.int8 else ""
    return f"shiftproof export {folder} --to {backend.export}{int8}"


def installed(package: str) -> bool:
    """Whether a package can be imported; a folder of that name beside the user's images is none."""
    spec = importlib.util.find_spec(package)
    return spec is not None and spec.origin is not None
