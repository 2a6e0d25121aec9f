"""Image metrics: do defective images score higher than good ones?"""

from __future__ import annotations

from numpy.typing import ArrayLike

from shiftproof.metrics.curves import count_by_threshold, ranking_metrics


def image_metrics(labels: ArrayLike, scores: ArrayLike) -> dict[str, float | None]:
    """AUROC, average precision and the best F1 over all thresholds, exactly.

    Args:
        labels: bool [N], True is defective.
        scores: float [N], higher is more anomalous; used as they are, in float64. No sigmoid, no rounding: a metric
            that squashes scores ties those that it can no longer tell apart.

    Returns:
        ``auroc``, ``ap`` and ``f1_max``, float in 0..1 each; None where good or defective images are absent.

    Raises:
        ValueError: the shapes differ or are not one-dimensional, or a score is NaN.

    >>> image_metrics([False, False, True, True], [0.1, 0.4, 0.35, 0.8])["auroc"]
    0.75
    >>> image_metrics([False, False], [0.1, 0.4])["auroc"] is None
    True
    """
    return ranking_metrics(*count_by_threshold(labels, scores))
