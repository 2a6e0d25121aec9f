"""From calibration scores to a threshold, with a bound on its false alarms that holds for a finite sample."""

from shiftproof.calibration.conformal import Calibration, false_alarm_bound, images_needed, split_calibration

__all__ = ["Calibration", "false_alarm_bound", "images_needed", "split_calibration"]
