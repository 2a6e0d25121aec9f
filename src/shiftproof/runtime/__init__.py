"""Inference without torch: an exported graph behind the one method that a detector needs of an engine."""

from __future__ import annotations

from shiftproof.runtime.backends import AUTO, BACKENDS, TORCH, Backend, choose_backend
from shiftproof.runtime.engine import GRAPH_VERSION, INPUT, OUTPUTS, Engine, check_pixels
from shiftproof.runtime.graph import open_graph
from shiftproof.runtime.processor import has_bfloat16, installed, openvino_core

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
    "has_bfloat16",
    "installed",
    "open_graph",
    "openvino_core",
]
