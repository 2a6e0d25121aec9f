"""Curves over thresholds, and the areas under them: the arithmetic that image and pixel metrics share.

Counts come threshold by threshold, from the highest score to the lowest, each threshold once: equal scores are
one step of the curve, which is how ties deserve half a point and not a lucky or unlucky order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def count_by_threshold(labels: ArrayLike, scores: ArrayLike) -> tuple[Floats, Floats]:
    """How many good and how many defective items score exactly each distinct value, the highest value first.

    Args:
        labels: bool [N], True is defective.
        scores: float [N], higher is more anomalous; taken as float64, neither rounded nor clamped. May be infinite.

    Returns:
        good and defective, float64 [T] each: counts (whole numbers) at the T distinct scores.

    Raises:
        ValueError: the shapes differ or are not one-dimensional, or a score is NaN.

    >>> good, defective = count_by_threshold([False, True, True], [0.1, 0.1, 0.9])
    >>> good.tolist(), defective.tolist()
    ([0.0, 1.0], [1.0, 1.0])
    """
    labels, scores = np.asarray(labels, dtype=bool), np.asarray(scores, dtype=np.float64)
    if labels.ndim != 1 or labels.shape != scores.shape:
        raise ValueError(f"labels {labels.shape} and scores {scores.shape}: expected one label for each score")
    if np.isnan(scores).any():
        raise ValueError(f"score {int(np.isnan(scores).argmax())} of {scores.size} is NaN: expected numbers")
    values, step = np.unique(scores, return_inverse=True)
    good, defective = (np.bincount(step[selected], minlength=values.size) for selected in (~labels, labels))
    return good[::-1].astype(np.float64), defective[::-1].astype(np.float64)


def climb(counts: Floats) -> Floats:
    """The share of all counts at or above each threshold: float64 [T + 1] from 0 (no threshold yet) to 1."""
    above = counts.cumsum()
    return np.concatenate([[0.0], above / above[-1]])


def area_up_to(limit: float, x: Floats, y: Floats) -> float:
    """The area under the broken line through (x, y), x ascending, from x = 0 to exactly the limit.

    >>> area_up_to(0.5, np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    0.125
    """
    inside = np.searchsorted(x, limit, side="right")
    x, y = np.append(x[:inside], limit), np.append(y[:inside], np.interp(limit, x, y))
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1])) / 2)


def ranking_metrics(good: Floats, defective: Floats) -> dict[str, float | None]:
    """AUROC, average precision and the best F1 from the counts at each threshold.

    Args:
        good: float64 [T], how many good items lie at each threshold, the highest threshold first.
        defective: float64 [T], the same of the defective ones; no threshold without any item.

    Returns:
        ``auroc``, ``ap`` (sum of precision times the step in recall, without interpolation) and ``f1_max`` (over all
        thresholds), each in 0..1; all None where one of the two classes is absent.
    """
    if not good.any() or not defective.any():
        return {"auroc": None, "ap": None, "f1_max": None}
    hits, called, total = defective.cumsum(), (good + defective).cumsum(), defective.sum()
    return {
        # Of all pairs, those where the defective item scores higher, a tie counted half: exact, as all are whole.
        "auroc": float(np.sum(good * (hits - defective / 2)) / (good.sum() * total)),
        "ap": float(np.sum(defective * hits / called) / total),
        "f1_max": float(np.max(2 * hits / (called + total))),
    }


def roc_points(labels: ArrayLike, scores: ArrayLike) -> tuple[Floats, Floats]:
    """The ROC curve: false-positive rate and true-positive rate at every distinct score.

    Args:
        labels: bool [N], True is defective.
        scores: float [N], higher is more anomalous.

    Returns:
        fpr and tpr, float64 [T + 1] each, ascending from (0, 0) to (1, 1).

    Raises:
        ValueError: as :func:`count_by_threshold`, and when good or defective items are absent.

    >>> fpr, tpr = roc_points([False, False, True], [0.1, 0.2, 0.9])
    >>> fpr.tolist(), tpr.tolist()
    ([0.0, 0.0, 0.5, 1.0], [0.0, 1.0, 1.0, 1.0])
    """
    good, defective = count_by_threshold(labels, scores)
    if not good.any() or not defective.any():
        raise ValueError(
            f"{int(good.sum())} good and {int(defective.sum())} defective items: a ROC curve needs some of each"
        )
    return climb(good), climb(defective)
