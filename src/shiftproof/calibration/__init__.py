"""Thresholds from scores of good calibration images, with guarantees that hold for a finite sample."""

from shiftproof.calibration.conformal import (
    RULES,
    Calibration,
    false_alarm_bound,
    images_expected,
    images_needed,
    outlying,
    split_calibration,
)

__all__ = [
    "RULES",
    "Calibration",
    "false_alarm_bound",
    "images_expected",
    "images_needed",
    "outlying",
    "split_calibration",
]
