from __future__ import annotations

import numpy as np
import pytest

from shiftproof.errors import UsageError
from shiftproof.shifts import CLEAN, SHIFTS, Condition, apply_shift, image_seed, parse_conditions
from shiftproof.shifts.conditions import PAPER_SHIFTS


def names(text, **options):
    return [condition.name for condition in parse_conditions(text, **options)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("clean", ["clean"]),
        ("brightness", ["brightness-3"]),
        ("brightness:5", ["brightness-5"]),
        ("brightness-5", ["brightness-5"]),
        ("defocus_blur:2-4", ["defocus_blur-2", "defocus_blur-3", "defocus_blur-4"]),
        (" jpeg:1 , clean,jpeg:1-2", ["jpeg-1", "clean", "jpeg-2"]),
        ("paper", ["clean", "brightness-3", "contrast-3", "defocus_blur-3", "gaussian_noise-3", "rotation-3"]),
        ("all", ["clean", *(f"{shift}-3" for shift in SHIFTS)]),
        ("scale,paper", ["scale-3", *names("paper")]),
        ("all:2", ["clean", *(f"{shift}-2" for shift in SHIFTS)]),
        ("paper:4-5", ["clean", *(f"{shift}-{level}" for shift in PAPER_SHIFTS for level in (4, 5))]),
    ],
)
def test_conditions_are_read_in_order_and_once(text, expected):
    assert names(text) == expected


def test_a_default_severity_is_for_what_names_none_but_the_papers_stay_at_3():
    assert names("jpeg,scale:1", default_severity=5) == ["jpeg-5", "scale-1"]
    assert names("all", default_severity=2)[1] == "brightness-2"
    assert names("paper", default_severity=2) == names("paper")


def test_every_conditions_name_reads_back():
    everything = parse_conditions(",".join(f"{shift}:1-5" for shift in SHIFTS))
    assert parse_conditions(",".join(condition.name for condition in everything)) == everything


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("brigthness", "unknown shift 'brigthness'; did you mean brightness"),
        ("fog", "unknown shift 'fog'; expected one of: all, brightness, clean"),
        ("defocus-blur", "did you mean defocus_blur"),
        ("", "unknown shift ''"),
        ("clean,,jpeg", "unknown shift ''"),
        ("jpeg:0", "severity 0 of shift 'jpeg' is out of range: give 1 to 5"),
        ("jpeg:1-6", "severity 6 of shift 'jpeg'"),
        ("jpeg:-1", "severity -1 of shift 'jpeg'"),
        ("jpeg:", "severity '' of shift 'jpeg' is not a number: write jpeg:3 or jpeg:1-5"),
        ("jpeg:hard", "severity 'hard'"),
        ("jpeg:4-2", "'4-2' of shift 'jpeg' run backwards: write jpeg:2-4"),
        ("all:6", "severity 6 of shift 'brightness' is out of range"),
        ("clean-3", "clean takes no severity, got 'clean-3': write clean alone"),
    ],
)
def test_wrong_conditions_are_named_in_one_line(text, message):
    with pytest.raises(UsageError) as raised:
        parse_conditions(text)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_wrong_default_severity_is_named():
    with pytest.raises(UsageError, match="severity 9 of shift 'jpeg'"):
        parse_conditions("jpeg", default_severity=9)
    with pytest.raises(UsageError, match="severity 9"):
        parse_conditions("all", default_severity=9)


def test_a_condition_that_cannot_be_is_not_made():
    with pytest.raises(UsageError, match="unknown shift"):
        Condition("fog", 3)
    with pytest.raises(UsageError, match="severity 0"):
        Condition("jpeg", 0)


def test_a_condition_draws_by_seed_condition_and_image_name():
    image = np.full((8, 8, 3), 100, np.uint8)
    condition = Condition("gaussian_noise", 2)
    result = condition.apply(image, None, seed=4, image_name="test/good/1.png").image
    seed = image_seed(4, "gaussian_noise-2", "test/good/1.png")
    np.testing.assert_array_equal(result, apply_shift("gaussian_noise", image, None, 2, seed).image)
    assert not np.array_equal(result, condition.apply(image, None, seed=4, image_name="test/good/2.png").image)


def test_clean_gives_back_what_came_in():
    image, mask = np.ones((3, 4, 3), np.uint8), np.ones((3, 4), bool)
    result = CLEAN.apply(image, mask, seed=0, image_name="x")
    assert result.image is image
    assert result.mask is mask
    assert (CLEAN.name, result.lost) == ("clean", 0)
