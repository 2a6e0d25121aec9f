"""How quick a model is here, and what it takes: by backend and number of threads, each in a process of its own."""

from __future__ import annotations

from shiftproof.profiling.run import profile

__all__ = ["profile"]
