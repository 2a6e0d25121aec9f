"""How well scores and maps find defects: image and pixel metrics, in NumPy alone but for the labelling of regions."""

from __future__ import annotations

from shiftproof.metrics.curves import roc_points
from shiftproof.metrics.image import image_metrics
from shiftproof.metrics.pixel import PixelMetrics
from shiftproof.metrics.rates import best_detection_rate, clopper_pearson, rates_at

__all__ = ["PixelMetrics", "best_detection_rate", "clopper_pearson", "image_metrics", "rates_at", "roc_points"]
