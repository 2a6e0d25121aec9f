from __future__ import annotations

import numpy as np
import pytest

from shiftproof.metrics.robustness import (
    FEWEST_FOR_A_RISE,
    ConditionScores,
    Guarantee,
    families,
    rises,
    shift_and_severity,
    worst_condition,
)


def entry(alarms: float | None = 0.0, detected: float | None = 1.0, auroc: float | None = 0.9) -> dict:
    return {"image": {"auroc": auroc}, "threshold": {"false_alarm_rate": alarms, "detection_rate": detected}}


def held(defective: np.ndarray, scores: np.ndarray, images: np.ndarray | None = None) -> ConditionScores:
    return ConditionScores(defective, scores, np.arange(scores.size) if images is None else images)


@pytest.mark.parametrize("name", ["clean", "mean_shift", "rotation_gray", "a-b", "a-"])
def test_a_name_without_a_severity_is_no_shift(name: str) -> None:
    assert shift_and_severity(name) == (name, 0)


def test_severities_stand_in_order_behind_clean_and_sums_are_no_conditions() -> None:
    conditions = {name: entry() for name in ("jpeg-5", "clean", "scale-2", "jpeg-1", "mean_shift", "worst_shift")}
    found = families(conditions, Guarantee(0.05, 0.95))
    assert [family.name for family in found] == ["jpeg", "scale"]
    assert [point.condition for point in found[0].points] == ["clean", "jpeg-1", "jpeg-5"]
    assert [point.severity for point in found[0].shifted] == [1, 5]


def test_a_shift_breaks_the_promise_from_its_lowest_severity_that_does() -> None:
    conditions = {
        "clean": entry(),
        "jpeg-1": entry(0.06),
        "jpeg-2": entry(0.4),
        "jpeg-3": entry(0.9),
        "scale-3": entry(0.1),
    }
    jpeg, scale = families(conditions, Guarantee(0.05, 0.95, frozenset({"jpeg-2", "jpeg-3"})))
    assert (jpeg.raises_false_alarms, jpeg.above, jpeg.highest_rate) == (2, True, 0.9)
    assert (scale.raises_false_alarms, scale.above) == (None, True)  # more than promised, be it by chance
    assert not families({"clean": entry(), "jpeg-1": entry(0.05)}, Guarantee(0.05, 0.95))[0].above


def test_blind_is_less_than_half_of_what_is_detected_clean() -> None:
    conditions = {"clean": entry(detected=0.8), "jpeg-1": entry(detected=0.4), "jpeg-2": entry(detected=0.39)}
    assert families(conditions, Guarantee(0.05, 0.95))[0].causes_misses == 2
    assert families(conditions | {"clean": entry(detected=0.0)}, Guarantee(0.05, 0.95))[0].causes_misses is None
    without = {name: metrics for name, metrics in conditions.items() if name != "clean"}
    assert families(without, Guarantee(0.05, 0.95))[0].causes_misses is None  # nothing to compare with


def test_the_worst_is_the_highest_of_false_alarms_the_lowest_of_all_else_and_never_clean() -> None:
    conditions = {
        "clean": entry(1.0, 0.0, 0.0),
        "jpeg-3": entry(0.2, 0.3, 0.9),
        "scale-3": entry(0.1, 0.4, 0.8),
        "mean_shift": entry(1.0, 0.0, 0.0),
    }
    assert worst_condition(conditions, "threshold", "false_alarm_rate") == "jpeg-3"
    assert worst_condition(conditions, "threshold", "detection_rate") == "jpeg-3"
    assert worst_condition(conditions, "image", "auroc") == "scale-3"
    assert worst_condition(conditions | {"scale-3": entry(0.1, 0.4, None)}, "image", "auroc") is None
    assert worst_condition(conditions, "pixel", "auroc") is None
    assert worst_condition({"clean": entry()}, "image", "auroc") is None


def test_a_rise_beyond_chance_is_named_and_one_within_it_is_not() -> None:
    random = np.random.default_rng(0)
    defective = np.arange(200) < 100
    clean = random.normal(0, 1, 200) + defective
    scores = {
        "clean": held(defective, clean),
        "brightness-3": held(defective, clean + 2.0 * defective),  # lit differently: a confound
        "jpeg-3": held(defective, clean + random.normal(0, 0.1, 200)),
        "contrast-3": held(defective, random.normal(0, 1, 200)),  # falls
    }
    (rise,) = rises(scores)
    assert rise.condition == "brightness-3"
    assert 0.5 < rise.clean < rise.shifted < 1
    assert rises({name: scores[name] for name in ("brightness-3", "jpeg-3")}) == []  # no clean to rise from


def test_chance_alone_is_hardly_ever_named() -> None:
    """Thirteen conditions that change nothing but noise, in 100 runs: about five may name one."""
    random = np.random.default_rng(1)
    defective = np.arange(60) < 30
    named = 0
    for _ in range(100):
        part = random.normal(0, 1, 60) + defective
        names = ("clean", *(f"jpeg-{number}" for number in range(1, 14)))
        named += bool(rises({name: held(defective, part + random.normal(0, 1, 60)) for name in names}))
    assert named <= 12


def test_images_are_compared_with_themselves_whichever_a_shift_lacks() -> None:
    random = np.random.default_rng(2)
    defective = np.arange(80) % 2 == 0
    clean = random.normal(0, 1, 80) + defective
    kept = np.arange(80) >= 20
    better = clean + 3.0 * defective
    scores = {"clean": held(defective, clean), "jpeg-3": held(defective[kept], better[kept], np.arange(80)[kept])}
    (rise,) = rises(scores)
    assert (
        rise.clean
        == rises({"clean": held(defective[kept], clean[kept]), "jpeg-3": held(defective[kept], better[kept])})[0].clean
    )


@pytest.mark.parametrize(("each", "said"), [(FEWEST_FOR_A_RISE, 1), (FEWEST_FOR_A_RISE - 1, 0)])
def test_few_images_tell_nothing(each: int, said: int) -> None:
    defective = np.arange(2 * each) < each
    upside_down = np.where(defective, 0.0, 1.0) + np.linspace(0, 0.5, 2 * each)
    right = defective + np.linspace(0, 0.5, 2 * each)
    assert len(rises({"clean": held(defective, upside_down), "jpeg-3": held(defective, right)})) == said
