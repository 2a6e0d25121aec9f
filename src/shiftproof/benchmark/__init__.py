"""Many models, and many images: benchmark tables and bulk inspection, on this machine or on a Ray cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shiftproof.distributed.predict import predict_with_ray
    from shiftproof.distributed.cluster import Cluster
    from shiftproof.benchmark.plan import Request
    from shiftproof.distributed.ray_executor import RayEngine
    from shiftproof.benchmark.benchmark import Benchmark, benchmark

__all__ = ["Benchmark", "Cluster", "RayEngine", "Request", "benchmark", "predict_with_ray"]

_WHERE = {
    "Benchmark": "run",
    "Cluster": "cluster",
    "RayEngine": "ray_engine",
    "Request": "plan",
    "benchmark": "run",
    "predict_with_ray": "bulk",
}


def __getattr__(name: str) -> Any:
    """A worker that inspects with an exported graph imports no torch."""
    if name not in _WHERE:
        raise AttributeError(f"module 'shiftproof.scale' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"shiftproof.scale.{_WHERE[name]}"), name)
