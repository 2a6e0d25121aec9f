"""Inference without torch: an exported graph behind the one method that a detector needs of a backend."""

from __future__ import annotations

from shiftproof.runtime.backend import GRAPH_VERSION, INPUT, OUTPUTS, Backend, check_pixels
from shiftproof.runtime.graph import open_graph
from shiftproof.runtime.processor import has_bfloat16, installed, openvino_core
from shiftproof.runtime.registry import AUTO, BACKENDS, TORCH, BackendSpec, choose_backend

__all__ = [
    "AUTO",
    "BACKENDS",
    "BackendSpec",
    "Backend",
    "GRAPH_VERSION",
    "INPUT",
    "OUTPUTS",
    "TORCH",
    "check_pixels",
    "choose_backend",
    "has_bfloat16",
    "installed",
    "open_graph",
    "openvino_core",
]
