"""Shifts of camera, light and pose: the conditions under which a detector is tested. docs/shifts.md defines them."""

from __future__ import annotations

from shiftproof.shifts.base import SEVERITIES, Shift, Shifted, ShiftNotApplicable
from shiftproof.shifts.conditions import CLEAN, PAPER_SHIFTS, Condition, parse_conditions
from shiftproof.shifts.registry import SHIFTS, apply_shift, image_seed

__all__ = [
    "CLEAN",
    "Condition",
    "PAPER_SHIFTS",
    "SEVERITIES",
    "SHIFTS",
    "Shift",
    "ShiftNotApplicable",
    "Shifted",
    "apply_shift",
    "image_seed",
    "parse_conditions",
]
