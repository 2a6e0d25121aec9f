"""Bounds against scipy, guarantees against simulation."""

from __future__ import annotations

import json
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shiftproof.calibration import (
    RULES,
    Calibration,
    false_alarm_bound,
    images_expected,
    images_needed,
    outlying,
    split_calibration,
)
from shiftproof.errors import DataError, ModelError, UsageError

counts = st.integers(1, 3000).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n - 1)))
confidences = st.floats(0.01, 0.999)
finite = st.floats(-1e6, 1e6)
score_lists = st.lists(finite, min_size=1, max_size=200)


@given(counts, confidences)
def test_the_bound_is_that_of_clopper_and_pearson(count: tuple[int, int], confidence: float) -> None:
    from scipy import stats

    n, above = count
    bound = false_alarm_bound(n, above, confidence)
    assert bound == pytest.approx(stats.beta.ppf(confidence, above + 1, n - above), rel=1e-8)
    assert stats.binom.cdf(above, n, bound) == pytest.approx(1 - confidence, rel=1e-6)


@pytest.mark.parametrize(
    ("n", "above", "expected"), [(59, 0, 0.04951), (60, 0, 0.04870), (299, 0, 0.00997), (10, 10, 1)]
)
def test_known_bounds(n: int, above: int, expected: float) -> None:
    assert false_alarm_bound(n, above) == pytest.approx(expected, abs=5e-6)


def test_a_bound_of_very_many_scores() -> None:
    from scipy import stats

    assert false_alarm_bound(1_000_000, 49_000) == pytest.approx(stats.beta.ppf(0.95, 49_001, 951_000), rel=1e-8)


@given(counts, confidences)
def test_the_bound_falls_with_more_scores_and_grows_with_more_above(count: tuple[int, int], confidence: float) -> None:
    n, above = count
    bound = false_alarm_bound(n, above, confidence)
    assert false_alarm_bound(n + 1, above, confidence) < bound
    assert bound < false_alarm_bound(n, above + 1, confidence)


@given(counts, st.floats(0.01, 0.9))
def test_more_confidence_costs_a_higher_bound(count: tuple[int, int], confidence: float) -> None:
    assert false_alarm_bound(*count, confidence) < false_alarm_bound(*count, confidence + 0.05)


@pytest.mark.parametrize(("n", "above"), [(0, 0), (-1, 0), (5, -1), (5, 6)])
def test_counts_that_cannot_be_are_refused(n: int, above: int) -> None:
    with pytest.raises(DataError, match="expected"):
        false_alarm_bound(n, above)


@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, 5, math.nan])
def test_fractions_outside_zero_to_one_are_refused(value: float) -> None:
    with pytest.raises(UsageError, match="confidence"):
        false_alarm_bound(10, 1, value)
    with pytest.raises(UsageError, match="target"):
        images_needed(value)
    with pytest.raises(UsageError, match="target"):
        Calibration.from_scores([1.0], target=value, map_low=0.0)
    with pytest.raises(UsageError, match="fraction"):
        split_calibration(10, 0, fraction=value)


@given(st.floats(0.001, 0.9), confidences)
def test_images_needed_is_the_fewest_that_certify(target: float, confidence: float) -> None:
    n = images_needed(target, confidence)
    assert false_alarm_bound(n, 0, confidence) <= target
    assert n == 1 or false_alarm_bound(n - 1, 0, confidence) > target


@given(score_lists, st.floats(0.01, 0.5), st.floats(0.5, 0.99))
def test_the_threshold_is_the_smallest_score_that_certifies_the_target(
    scores: list[float], target: float, confidence: float
) -> None:
    calibration = Calibration.from_scores(scores, target=target, confidence=confidence, rule="certified", map_low=-2e6)
    ordered = sorted(scores)
    bounds = [false_alarm_bound(len(scores), len(scores) - 1 - i, confidence) for i in range(len(scores))]
    first = next((i for i, bound in enumerate(bounds) if bound <= target), len(scores) - 1)
    assert calibration.threshold == ordered[first]
    assert calibration.bound == bounds[first]
    assert calibration.scores == tuple(ordered)
    assert (calibration.bound <= target) == (len(scores) >= images_needed(target, confidence))
    assert calibration.map_high == pytest.approx(2 * calibration.threshold + 2e6)


@given(score_lists, finite)
def test_p_values_count_the_scores_reached(scores: list[float], score: float) -> None:
    calibration = Calibration.from_scores(scores, map_low=-2e6)
    p = calibration.p_value(score)
    assert p == (1 + sum(other >= score for other in scores)) / (len(scores) + 1)
    assert calibration.p_value(np.array([[score, calibration.threshold]]))[0, 0] == p
    assert calibration.is_defective(score) is (score > calibration.threshold)
    assert calibration.p_value(max(scores) + 1) == 1 / (len(scores) + 1)
    assert calibration.p_value(min(scores)) == 1


def test_the_bound_holds_as_often_as_it_says() -> None:
    """True rates of many calibrations: uniform scores, so the rate of a threshold t is 1 - t."""
    generator = np.random.default_rng(5)
    for n in (59, 130):
        draws = [Calibration.from_scores(generator.random(n), map_low=-1.0) for _ in range(500)]
        held = np.mean([1 - draw.threshold <= draw.bound for draw in draws])
        assert abs(held - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 500)


@pytest.mark.parametrize("tied", [False, True])
def test_p_values_of_good_images_are_super_uniform(tied: bool) -> None:
    generator = np.random.default_rng(6)

    def draw(count: int) -> np.ndarray:
        values = generator.normal(size=count)
        return np.round(values, 1) if tied else values

    def calibration() -> Calibration:  # put together by hand: where the threshold lies does not matter here
        return Calibration(tuple(np.sort(draw(59))), 0.05, 0.95, threshold=0.0, bound=1.0, map_low=0.0, map_high=1.0)

    p = np.concatenate([calibration().p_value(draw(1)) for _ in range(10_000)])
    for level in (1 / 60, 0.05, 0.1, 0.25, 0.5, 0.9):
        rate = np.mean(p <= level)
        assert rate <= level + 4 * math.sqrt(level * (1 - level) / p.size)
        if not tied:  # and no more cautious than 60 ranks must be
            exact = math.floor(level * 60 + 1e-9) / 60
            assert abs(rate - exact) <= 4 * math.sqrt(exact * (1 - exact) / p.size)


@pytest.mark.parametrize("scores", [[], [1.0, math.nan], [math.inf], [-math.inf, 0.0]])
def test_scores_that_place_no_threshold_are_refused(scores: list[float]) -> None:
    with pytest.raises(DataError, match="expected"):
        Calibration.from_scores(scores, map_low=0.0)


def test_nan_is_no_verdict() -> None:
    calibration = Calibration.from_scores([1.0, 2.0], map_low=0.0)
    for judge in (calibration.p_value, calibration.is_defective):
        with pytest.raises(DataError, match="nan"):
            judge(math.nan)
        with pytest.raises(DataError, match="nan"):
            judge(np.array([1.0, math.nan]))
    assert calibration.is_defective(math.inf)


def test_the_color_scale_always_has_an_extent() -> None:
    assert Calibration.from_scores([3.0] * 9, map_low=1.0).map_high == 5.0
    assert Calibration.from_scores([3.0] * 9, map_low=3.0).map_high > 3.0
    assert Calibration.from_scores([3.0], map_low=0.0, map_high=9.0).map_high == 9.0
    for low, high in ((1.0, 1.0), (2.0, 1.0), (math.nan, 1.0), (0.0, math.inf)):
        with pytest.raises(DataError, match="color scale"):
            Calibration.from_scores([3.0], map_low=low, map_high=high)


def numbers(sentence: str) -> list[float]:
    return [float(number) for number in re.findall(r"[0-9.]+(?= %)|(?<=takes )[0-9]+", sentence)]


@pytest.mark.parametrize(
    ("n", "rule", "target", "expected"),
    [
        (60, "certified", 0.05, [1.7, 95, 4.9]),
        (58, "certified", 0.05, [1.7, 95, 5.1, 5, 59]),
        (299, "certified", 0.01, [0.34, 95, 1]),
        (1, "certified", 0.05, [50, 95, 95, 5, 59]),
        (19, "expected", 0.05, [5, 95, 15]),
        (18, "expected", 0.05, [5.3, 95, 16, 5, 19]),
        (1, "expected", 0.01, [50, 95, 95, 1, 99]),
    ],
)
def test_the_sentence_holds_both_guarantees_and_what_the_target_takes(
    n: int, rule: str, target: float, expected: list[float]
) -> None:
    calibration = Calibration.from_scores(np.arange(n), target=target, rule=rule, map_low=-1.0)
    assert numbers(calibration.sentence()) == expected


@given(st.integers(1, 5000), st.sampled_from(RULES))
def test_printed_guarantees_are_never_below_the_guarantees(n: int, rule: str) -> None:
    calibration = Calibration.from_scores(np.arange(n), target=1e-9, rule=rule, map_low=-1.0)
    expected, _, bound, *_ = numbers(calibration.sentence())
    for printed, true in ((expected, calibration.expected), (bound, calibration.bound)):
        assert 100 * true <= printed * (1 + 1e-9)
        assert printed <= 110 * true


@given(score_lists, st.floats(0.01, 0.9))
def test_the_expected_rule_takes_the_conformal_order_statistic(scores: list[float], target: float) -> None:
    calibration = Calibration.from_scores(scores, target=target, map_low=-2e6)
    rank = math.ceil((len(scores) + 1) * (1 - target) - 1e-9)
    assert calibration.threshold == sorted(scores)[min(max(rank, 1), len(scores)) - 1]
    assert calibration.expected <= target + 1e-9 or len(scores) < images_expected(target)


@pytest.mark.parametrize(("n", "rate"), [(19, 0.05), (30, 0.05), (59, 0.05), (130, 0.1)])
def test_the_expected_rule_keeps_its_rate_in_the_mean(n: int, rate: float) -> None:
    """Uniform scores: the true rate of a threshold t is 1 - t."""
    generator = np.random.default_rng(7)
    draws = [Calibration.from_scores(generator.random(n), target=rate, map_low=-1.0) for _ in range(2000)]
    rates = np.array([1 - draw.threshold for draw in draws])
    error = rates.std() / math.sqrt(len(rates))
    assert draws[0].expected <= rate + 1e-12
    assert abs(rates.mean() - draws[0].expected) < 4 * error


def test_a_moved_threshold_keeps_the_scores_and_says_what_it_is_worth() -> None:
    calibration = Calibration.from_scores(range(1, 301), map_low=0.0)
    assert calibration.moved(rule="certified") == Calibration.from_scores(range(1, 301), rule="certified", map_low=0.0)
    assert calibration.moved(target=0.1) == Calibration.from_scores(range(1, 301), target=0.1, map_low=0.0)
    high = calibration.moved(value=500.0)
    assert (high.rule, high.threshold, high.scores) == ("value", 500.0, calibration.scores)
    assert high.expected == 1 / 301
    assert high.bound == false_alarm_bound(300, 0)
    assert high.moved(rule="expected") == calibration
    assert calibration.with_scores([301.0, 302.0]) == Calibration.from_scores(range(1, 303), map_low=0.0)
    assert high.with_scores([600.0]).expected == 2 / 302
    for wrong in (
        {"value": math.nan},
        {"value": 1.0, "target": 0.1},
        {"value": 1.0, "rule": "expected"},
        {"rule": "x"},
    ):
        with pytest.raises(UsageError):
            calibration.moved(**wrong)  # type: ignore[arg-type]


def test_scores_far_above_the_others_are_found_highest_first() -> None:
    generator = np.random.default_rng(3)
    scores = np.exp(generator.normal(0, 0.2, 60))
    assert outlying(scores.tolist()) == []
    scores[[7, 30]] = (9.0, 20.0)
    assert outlying(scores.tolist()) == [30, 7]
    assert outlying([1.0, 9.0]) == []
    assert outlying([1.0] * 20) == []


@given(score_lists, st.floats(-2e6, -1.5e6))
def test_json_gives_back_an_equal_calibration(scores: list[float], low: float) -> None:
    calibration = Calibration.from_scores(scores, map_low=low)
    assert Calibration.from_json(json.loads(json.dumps(calibration.to_json()))) == calibration


@pytest.mark.parametrize("change", [{"bound": None}, {"bound": "x"}, {"scores": 3}, {"scores": [None]}])
def test_json_that_is_no_calibration_is_refused(change: dict[str, object]) -> None:
    content = Calibration.from_scores([1.0], map_low=0.0).to_json()
    with pytest.raises(ModelError, match="train the model again"):
        Calibration.from_json(content | change)
    with pytest.raises(ModelError, match="map_low"):
        Calibration.from_json({name: value for name, value in content.items() if name != "map_low"})


@settings(max_examples=200)
@given(st.integers(2, 3000), st.integers(0, 2**32 - 1))
def test_a_split_shares_out_every_image(n: int, seed: int) -> None:
    train, held_out = split_calibration(n, seed)
    assert sorted([*train, *held_out]) == list(range(n))
    assert len(train) >= 1
    assert len(held_out) == min(max(round(max(0.2 * n, min(59, 0.3 * n))), 1), n - 1)
    assert (np.diff(train) > 0).all()
    assert (np.diff(held_out) > 0).all()
    np.testing.assert_array_equal(held_out, split_calibration(n, seed)[1])


@pytest.mark.parametrize(("n", "expected"), [(2, 1), (3, 1), (10, 3), (100, 30), (197, 59), (295, 59), (320, 64)])
def test_split_sizes(n: int, expected: int) -> None:
    assert len(split_calibration(n, 0)[1]) == expected


def test_another_seed_splits_otherwise_and_one_image_cannot_be_split() -> None:
    assert split_calibration(100, 0)[1].tolist() != split_calibration(100, 1)[1].tolist()
    for n in (0, 1):
        with pytest.raises(DataError, match="2 at least"):
            split_calibration(n, 0)
