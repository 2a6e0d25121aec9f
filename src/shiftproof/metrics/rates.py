"""The figure of merit: the share of defects found at the false-alarm rate that was asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from shiftproof.calibration.conformal import false_alarm_bound


def clopper_pearson(count: int, of: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the exact two-sided confidence interval of a rate (Clopper and Pearson, 1934).

    Args:
        count: how often it happened, 0 ... of.
        of: in how many cases, at least 1.
        confidence: probability that the interval contains the rate.

    >>> [round(limit, 3) for limit in clopper_pearson(8, 10)]
    [0.444, 0.975]
    """
    each_side = (1 + confidence) / 2
    low = 0.0 if count == 0 else 1 - false_alarm_bound(of, of - count, each_side)
    return low, false_alarm_bound(of, count, each_side)


def best_detection_rate(labels: ArrayLike, scores: ArrayLike, target: float) -> float | None:
    """Return the share of defects that the best threshold for a false-alarm rate finds on this very test set.

    No threshold is known before the test; the difference to what was found is what the threshold lost, and the rest what
    the order of the scores lost.

    Args:
        labels: bool [N], True is defective.
        scores: float [N].
        target: the false-alarm rate that may not be exceeded.

    Returns:
        a rate in 0..1; None where good or defective images are absent.

    >>> best_detection_rate([False] * 20 + [True] * 2, [*range(20), 18.5, 30], target=0.05)
    1.0
    """
    defective, values = np.asarray(labels, dtype=bool), np.asarray(scores, dtype=np.float64)
    good = np.sort(values[~defective])
    if not len(good) or not defective.any():
        return None
    allowed = int(np.floor(target * len(good) + 1e-9))
    return float((values[defective] > good[len(good) - 1 - allowed]).mean()) if allowed < len(good) else 1.0


def rates_at(labels: ArrayLike, scores: ArrayLike, flagged: ArrayLike, target: float) -> dict[str, Any]:
    """Return how many good and defective images are called defective, with 95 % intervals.

    Args:
        labels: bool [N], True is defective.
        scores: float [N].
        flagged: bool [N], the verdicts.
        target: the false-alarm rate that was asked for.

    Returns:
        ``false_alarm_rate``, ``detection_rate``, each with ``..._interval`` [low, high], and ``detection_rate_best``;
        None where there are no such images.
    """
    defective, called = np.asarray(labels, dtype=bool), np.asarray(flagged, dtype=bool)
    rates: dict[str, Any] = {}
    for name, among in (("false_alarm", ~defective), ("detection", defective)):
        count, of = int(called[among].sum()), int(among.sum())
        rates[f"{name}_rate"] = count / of if of else None
        rates[f"{name}_interval"] = list(clopper_pearson(count, of)) if of else None
    return {**rates, "detection_rate_best": best_detection_rate(labels, scores, target)}
