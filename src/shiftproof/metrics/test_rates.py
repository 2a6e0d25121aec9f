"""Rates, their intervals against scipy, and the bound over all thresholds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shiftproof.metrics import best_detection_rate, clopper_pearson, rates_at


@given(st.integers(1, 300).flatmap(lambda of: st.tuples(st.integers(0, of), st.just(of))))
def test_intervals_are_those_of_scipy(counts: tuple[int, int]) -> None:
    from scipy.stats import binomtest

    expected = binomtest(*counts).proportion_ci(0.95, "exact")
    assert clopper_pearson(*counts) == pytest.approx((expected.low, expected.high), abs=1e-9)


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=60),
    st.lists(st.integers(0, 30), min_size=1, max_size=60),
    st.floats(0.01, 0.9),
)
def test_no_threshold_within_the_rate_finds_more(good: list[int], bad: list[int], target: float) -> None:
    labels = np.array([False] * len(good) + [True] * len(bad))
    scores = np.array([*good, *bad], dtype=float)
    thresholds = [-1.0, *scores]
    found = [(scores[labels] > t).mean() for t in thresholds if (scores[~labels] > t).mean() <= target + 1e-12]
    assert best_detection_rate(labels, scores, target) == max(found)


def test_rates_of_sets_with_one_kind_of_label() -> None:
    rates = rates_at([False, False], [1.0, 2.0], [False, True], 0.05)
    assert rates["false_alarm_rate"] == 0.5
    assert rates["detection_rate"] is rates["detection_interval"] is rates["detection_rate_best"] is None
    rates = rates_at([True, True], [1.0, 2.0], [True, True], 0.05)
    assert rates["detection_rate"] == 1.0
    assert rates["false_alarm_rate"] is rates["false_alarm_interval"] is None
