"""Inference without torch: an exported graph behind the one method that a detector needs of an engine."""

from __future__ import annotations

from shiftproof.runtime.backends import AUTO, BACKENDS, TORCH, Backend, choose_backend, installed
from shiftproof.runtime.engine import GRAPH_VERSION, INPUT, OUTPUTS, Engine, check_pixels
from shiftproof.runtime.graph import open_graph, openvino_core

__all__ = [
    "AUTO",
    "BACKENDS",
    "Backend",
    "Engine",
    "GRAPH_VERSION",
    "INPUT",
    "OUTPUTS",
    "TORCH",
    "check_pixels",
    "choose_backend",
    "installed",
    "open_graph",
    "openvino_core",
]
