"""Benchmarks: methods x categories x seeds, each run once, and tables of what is finished."""

from __future__ import annotations

from shiftproof.benchmark.benchmark import BenchmarkResult, run_benchmark
from shiftproof.benchmark.plan import BenchmarkRequest

__all__ = ["BenchmarkRequest", "BenchmarkResult", "run_benchmark"]
