"""Which backends there are, and which one runs a model: what was exported, and what is installed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shiftproof.errors import BackendError, unknown
from shiftproof.runtime.processor import has_bfloat16, installed

AUTO, TORCH = "auto", "torch"


@dataclass(frozen=True)
class BackendSpec:
    """A runtime for exported graphs, in one precision."""

    package: str  # that must be installed
    export: str  # the value of --to that writes the graph
    files: tuple[str, ...]  # of the graph in a model folder; the first is the one that is opened
    int8: bool = False  # whether weights and activations are quantised
    bf16: bool = False  # whether what is not in 8 bits is computed in bfloat16, where the processor has that

    @property
    def precision(self) -> str:
        """In words, such as "int8"."""
        rest = "bfloat16" if self.bf16 else "float32"
        return f"int8 and {rest}" if self.int8 else rest

    def runs_here(self) -> bool:
        """Whether its package is installed, and the processor computes what it needs."""
        return installed(self.package) and (not self.bf16 or has_bfloat16())


def _openvino(name: str, **precision: bool) -> BackendSpec:
    return BackendSpec("openvino", "openvino", (f"{name}/model.xml", f"{name}/model.bin"), **precision)


BACKENDS: Mapping[str, BackendSpec] = {
    "openvino-int8-bf16": _openvino("openvino-int8-bf16", int8=True, bf16=True),
    "openvino-int8": _openvino("openvino-int8", int8=True),
    "openvino-bf16": _openvino("openvino-bf16", bf16=True),
    "openvino": _openvino("openvino"),
    "onnx": BackendSpec("onnxruntime", "onnx", ("model.onnx",)),
    "onnx-int8": BackendSpec("onnxruntime", "onnx", ("model-int8.onnx",), int8=True),
}
"""By name, the fastest first, as measured (docs/results/speed.md)."""


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
        if not backend.runs_here():
            raise BackendError(
                f"backend {wanted} needs a processor that computes in bfloat16, which this one does not: take "
                f"{wanted.removesuffix('-bf16')}"
            )
        return wanted
    if wanted == AUTO:
        sound = [name for name in BACKENDS if exports.get(name, {}).get("parity", {}).get("passed")]
        for name in sound:
            if BACKENDS[name].runs_here():
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


def _how_to_export(folder: Path, backend: BackendSpec) -> str:
    options = (" --int8 --data GOOD_IMAGES" if backend.int8 else "") + (" --bf16" if backend.bf16 else "")
    return f"shiftproof export {folder} --to {backend.export}{options}"
