"""Many models: benchmark tables of methods, categories and seeds, on this machine or on a Ray cluster."""

from shiftproof.scale.benchmark import Benchmark, benchmark
from shiftproof.scale.plan import Request

__all__ = ["Benchmark", "Request", "benchmark"]
