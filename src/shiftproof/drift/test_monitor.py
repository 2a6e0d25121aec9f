from __future__ import annotations

import json
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shiftproof.drift import DRIFT, STATISTICS, STEADY, WATCH, Monitor, Reference
from shiftproof.drift.evidence import Bag, gather, log_bets, log_mean, normal_score
from shiftproof.errors import DataError, UsageError

NAMES = [statistic.name for statistic in STATISTICS]


def numbers(random, count):
    """Statistics of images that share what is around: correlated by a half, and with heavy tails."""
    return 20 * (random.standard_t(4, (count, len(NAMES))) + random.standard_t(4, (count, 1)))


def reference(random, count=60):
    return Reference(numbers(random, count - 12), numbers(random, 12))


def moved(values, **shifts):
    """The same, some statistics moved by standard deviations of about 28."""
    values = values.copy()
    for name, sigma in shifts.items():
        values[..., NAMES.index(name)] += 40 * sigma
    return values


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=30), st.integers(-6, 6))
def test_a_bag_counts_what_is_larger_and_what_is_equal(content, number):
    bag = Bag(np.array(content[: len(content) // 2], np.int64))
    for each in content[len(content) // 2 :]:
        bag.add(each)
    assert bag.ranks(number) == (sum(each > number for each in content), content.count(number))
    assert Bag.from_json(json.loads(json.dumps(bag.to_json()))).ranks(number) == bag.ranks(number)
    bag.add(number)
    bag.add(number, -1)
    assert bag.ranks(number) == (sum(each > number for each in content), content.count(number))
    assert len(bag) == len(content)


def test_scores_of_exchangeable_numbers_are_independent_and_normal_however_few_and_tied():
    random = np.random.default_rng(0)
    scores = []
    for _ in range(800):
        drawn = random.integers(0, 4, size=13)  # four values only
        bag = Bag(drawn[:5])
        row = []
        for number in drawn[5:].tolist():
            row.append(normal_score(bag, number, random.random()))
            bag.add(number)
        scores.append(row)
    scores = np.array(scores)
    uniform = np.vectorize(NormalDist().cdf)(scores)
    counts, _ = np.histogram(uniform, bins=10, range=(0, 1))
    assert ((counts - 640) ** 2 / 640).sum() < 27.9  # 99.9 % quantile of chi-squared with 9 degrees of freedom
    correlations = np.corrcoef(scores.T)[np.triu_indices(8, 1)]
    assert np.abs(correlations).max() < 4 / np.sqrt(800)


def test_every_bet_is_fair():
    uniforms = (np.arange(200_000) + 0.5) / 200_000
    scores = np.array([NormalDist().inv_cdf(p) for p in uniforms])
    np.testing.assert_allclose(np.exp(log_bets(scores)).mean(axis=0), 1, rtol=0.03)


def test_an_e_detector_is_that_of_shiryaev_and_roberts():
    scores = np.random.default_rng(0).standard_normal((6, 3))
    evidence, plain = np.zeros((3, 10)), np.zeros((3, 10))
    for row in scores:
        evidence, plain = gather(evidence, row), (plain + 1) * np.exp(log_bets(row))
    np.testing.assert_allclose(np.expm1(evidence), plain)
    np.testing.assert_allclose(np.expm1(log_mean(evidence)), plain.mean(axis=1))


def test_false_alerts_are_as_rare_as_is_said():
    """70 monitors with fresh references of 20 images: alerts within t images in t * alpha of the cases at most."""
    alpha, images, runs = 1 / 250, 80, 70
    alerts = 0
    for seed in range(runs):
        random = np.random.default_rng(seed)
        monitor = Monitor(reference(random, 20), alpha, seed=seed)
        alerts += any(monitor.update(values).alert for values in numbers(random, images))
    allowed = runs * images * alpha  # 22 of 70
    assert alerts <= allowed
    assert alerts > 0, "a test that never errs sees nothing either"


def test_what_few_images_show_is_no_drift():
    """3 % of the images are far off, as defects may be."""
    random = np.random.default_rng(3)
    monitor = Monitor(reference(random))
    for values in numbers(random, 1000):
        far = random.random() < 0.03
        assert not monitor.update(moved(values, light=-3, grain=3) if far else values).alert


@pytest.mark.parametrize(
    ("change", "description", "within"),
    [
        ({"light": -3}, "darker", 12),
        ({"light": 1}, "brighter", 60),
        ({"contrast": -3}, "less contrast", 12),
        ({"contrast": -4, "grain": -20, "light": -0.5}, "less contrast", 12),
        ({"crispness": -3, "fine_edges": -1, "grain": -3}, "blurrier", 12),
        ({"grain": 3, "crispness": 3}, "noisier", 12),
        ({"grain": -3}, "smoother", 12),
        ({"red": 3, "blue": -0.5}, "colour moved to red", 12),
        ({"red": -3, "blue": -3}, "colour moved to green", 12),
        ({"falloff": -3, "light": -0.5}, "uneven light: darker in the corners", 12),
        ({"slope_across": 3}, "uneven light: darker at the left", 12),
        ({"direction_2_cos": 3}, "turned", 12),
        ({"place_down": -3}, "moved up", 12),
        ({"size": 3}, "larger or further apart", 12),
    ],
)
def test_each_drift_is_found_and_named(change, description, within):
    random = np.random.default_rng(1)
    monitor = Monitor(reference(random))
    for values in numbers(random, 60):
        assert monitor.update(values).status != DRIFT
    stream = iter(moved(numbers(random, 200), **change))
    delay = next(delay for delay, values in enumerate(stream, start=1) if monitor.update(values).alert)
    assert delay <= within
    for _ in range(12):
        state = monitor.update(next(stream))
    assert not state.alert and state.status == DRIFT
    assert state.findings[0].description == description, state.sentence
    assert abs(state.findings[0].start_index - 61) <= max(6, within // 3)
    assert description in state.sentence


def test_a_shift_up_in_some_images_and_down_in_others_is_found():
    random = np.random.default_rng(1)
    monitor = Monitor(reference(random))
    signs = random.choice([-1, 1], 60)
    states = [monitor.update(moved(v, light=3 * s)) for v, s in zip(numbers(random, 60), signs, strict=True)]
    assert any(state.alert for state in states)
    assert states[-1].findings[0].description == "light varies"


def test_a_drift_ends_and_the_next_is_found():
    random = np.random.default_rng(2)
    monitor = Monitor(reference(random))
    stream = np.concatenate([numbers(random, 100), moved(numbers(random, 80), light=-4), numbers(random, 200)])
    stream = np.concatenate([stream, moved(numbers(random, 30), grain=4)])
    states = [monitor.update(values) for values in stream]
    alerts = [state.images for state in states if state.alert]
    (ended,) = [state.images for state in states if state.ended]
    assert 101 <= alerts[0] <= 112 and 180 < ended <= 290 and 381 <= alerts[1] <= 392 and len(alerts) == 2
    assert states[ended].status in (STEADY, WATCH) and states[ended - 2].status == DRIFT
    assert states[-1].findings[0].description == "noisier"


def test_its_state_goes_through_json_to_the_bit():
    random = np.random.default_rng(4)
    good = reference(random)
    monitor = Monitor(good, 1e-3, seed=7)
    stream = np.concatenate([numbers(random, 60), moved(numbers(random, 60), red=3), numbers(random, 150)])
    for number, values in enumerate(stream):
        if number % 9 == 0:
            copy = Monitor.from_json(json.loads(json.dumps(monitor.to_json())), good)
        state = monitor.update(values, p_value=0.4, defective=False)
        assert copy.update(values, p_value=0.4, defective=False) == state
        assert json.loads(json.dumps(state.to_json()))["images"] == number + 1
    assert len(json.dumps(monitor.to_json())) < 400_000


def test_a_state_of_another_reference_or_a_damaged_one_is_refused():
    random = np.random.default_rng(5)
    content = Monitor(reference(random)).to_json()
    with pytest.raises(DataError, match="another model"):
        Monitor.from_json(content, reference(random))
    good = Reference(numbers(random, 5), numbers(random, 5))
    whole = Monitor(good).to_json()
    for damaged in (
        {},
        {**whole, "evidence": [1]},
        {**whole, "bags": [1]},
        {k: v for k, v in whole.items() if k != "mean"},
    ):
        with pytest.raises(DataError):
            Monitor.from_json(damaged, good)


def test_wrong_use_is_refused():
    good = Reference(np.zeros((3, 18)), np.zeros((2, 18)))
    with pytest.raises(UsageError, match="false-alert rate 0"):
        Monitor(good, 0)
    for values in (np.zeros(17), np.full(18, np.nan)):
        with pytest.raises(DataError, match="expected 18 finite numbers"):
            Monitor(good).update(values)
    with pytest.raises(DataError, match="one image at least"):
        Reference(np.zeros((0, 18)), np.zeros((2, 18)))


@pytest.mark.parametrize(
    ("p_values", "absorbed", "advice"),
    [
        (np.linspace(0.01, 1, 40), True, "correction absorbs it: watch"),
        (np.full(40, 0.02), False, "fix the lamp or the exposure; or recalibrate, if images stay like this"),
        (np.full(40, 0.99), False, "fix the lamp or the exposure; or recalibrate, if images stay like this"),
        ([], None, "verdicts not known: fix the lamp or the exposure"),
    ],
)
def test_what_a_drift_does_to_the_verdicts_decides_the_advice(p_values, absorbed, advice):
    random = np.random.default_rng(6)
    monitor = Monitor(reference(random), corrected=("light",))
    chosen = random.permutation(p_values) if len(p_values) else [None] * 40
    for values, p_value in zip(moved(numbers(random, 40), light=5), chosen, strict=True):
        called = None if p_value is None else bool(p_value < 0.05)
        state = monitor.update(values, p_value=p_value, defective=called)
    assert state.effect.absorbed is absorbed
    assert state.advice == advice
    assert state.sentence.endswith(advice)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32))
def test_no_numbers_however_wild_break_it(seed):
    random = np.random.default_rng(seed)
    monitor = Monitor(Reference(numbers(random, 3), numbers(random, 1)), 0.01)
    for scale in (0.0, 1e-9, 1.0, 1e6, 1e12):
        state = monitor.update(scale * random.standard_cauchy(18))
        assert np.isfinite(state.evidence) and 0 < state.p_value <= 1
