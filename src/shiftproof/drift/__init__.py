"""Drift: does what the camera sees still look like the good images; if not, what changed, does it matter, and what to do."""

from __future__ import annotations

from shiftproof.drift.descriptions import Effect, Finding
from shiftproof.drift.monitor import ALPHA, DRIFT, STEADY, WATCH, WINDOW, DriftState, Monitor
from shiftproof.drift.reference import (
    MOST,
    REFERENCE,
    Reference,
    corrected_groups,
    load_reference,
    make_reference,
    reference_of_files,
    write_reference,
)
from shiftproof.drift.statistics import GROUPS, STATISTICS, measure

__all__ = [
    "ALPHA",
    "DRIFT",
    "DriftState",
    "Effect",
    "Finding",
    "GROUPS",
    "MOST",
    "Monitor",
    "REFERENCE",
    "Reference",
    "STATISTICS",
    "STEADY",
    "WATCH",
    "WINDOW",
    "load_reference",
    "make_reference",
    "corrected_groups",
    "measure",
    "reference_of_files",
    "write_reference",
]
