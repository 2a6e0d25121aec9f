from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from shiftproof.errors import UsageError
from shiftproof.shifts import SEVERITIES, SHIFTS, ShiftNotApplicable, apply_shift, image_seed
from shiftproof.shifts.base import is_gray

names = pytest.mark.parametrize("name", SHIFTS)
severities = st.sampled_from(SEVERITIES)
seeds = st.integers(0, 2**64 - 1)
images = arrays.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3)))


def part(height=96, width=96):
    """A coloured part on a coloured ground, with fine texture: something that every shift changes."""
    y, x = np.mgrid[:height, :width]
    texture = np.random.default_rng(5).normal(scale=8, size=(height, width, 1))
    ground = np.array([150, 130, 110]) + 0.3 * (x + y)[..., None] + texture
    ground[(x - width / 3) ** 2 + (y - height / 2) ** 2 < (height / 5) ** 2] -= 60
    return np.clip(ground, 0, 255).astype(np.uint8)


def shifted_pixels(name, image, severity, seed):
    try:
        return apply_shift(name, image, None, severity, seed).image
    except ShiftNotApplicable:
        assert is_gray(image)
        return image


@names
@given(image=images, severity=severities, seed=seeds)
@settings(max_examples=30)
def test_any_image_keeps_its_shape_and_dtype_and_is_left_alone(name, image, severity, seed):
    before = image.copy()
    with np.errstate(all="raise", under="ignore"):  # a division by zero is what makes NaN
        after = shifted_pixels(name, image, severity, seed)
    assert after.shape == image.shape
    assert after.dtype == np.uint8
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(after, shifted_pixels(name, image, severity, seed))


@names
def test_every_severity_changes_the_image(name):
    results = [apply_shift(name, part(), None, severity, 3).image for severity in SEVERITIES]
    for index, result in enumerate([part(), *results]):
        assert not any(np.array_equal(result, other) for other in results[index:] if other is not result)


@pytest.mark.parametrize("name", [shift.name for shift in SHIFTS.values() if not shift.moves])
@given(seed=seeds)
@settings(max_examples=10)
def test_a_higher_severity_lies_further_from_the_original(name, seed):
    image = part()
    results = [apply_shift(name, image, None, severity, seed).image.astype(float) for severity in SEVERITIES]
    distances = [np.abs(result - image).mean() for result in results]
    assert distances == sorted(distances)
    assert distances[0] > 0


@pytest.mark.parametrize("name", ["gaussian_noise", "rotation", "rotation_gray", "motion_blur", "translation", "scale"])
def test_what_is_drawn_depends_on_the_seed(name):
    draws = {apply_shift(name, part(), None, 4, seed).image.tobytes() for seed in range(8)}
    assert len(draws) >= (2 if name == "scale" else 8)


@pytest.mark.parametrize("name", sorted(set(SHIFTS) - {"gaussian_noise", "colour_temperature"}))
@pytest.mark.parametrize("severity", SEVERITIES)
def test_a_gray_image_stays_gray(name, severity):
    image = np.repeat(part()[..., :1], 3, axis=-1)
    assert is_gray(apply_shift(name, image, None, severity, 1).image)


@names
@pytest.mark.parametrize("level", [0, 1, 128, 255])
def test_a_constant_image_stays_finite_and_near_constant(name, level):
    image = np.full((30, 20, 3), [level, level, max(level - 1, 0)], np.uint8)
    after = shifted_pixels(name, image, 5, 0)
    assert after.shape == image.shape
    if name not in {"gaussian_noise", "vignetting", "rotation_gray"}:
        assert (after == after[0, 0]).all()


@pytest.mark.parametrize("name", [shift.name for shift in SHIFTS.values() if not shift.moves])
def test_a_mask_stays_where_nothing_moves(name):
    mask = np.eye(96, dtype=bool)
    result = apply_shift(name, part(), mask, 3, 0)
    np.testing.assert_array_equal(result.mask, mask)
    assert result.lost == 0


def test_a_colour_shift_of_a_gray_image_is_refused_in_one_line():
    with pytest.raises(ShiftNotApplicable, match=r"^colour_temperature needs a colour image.*leave that shift out$"):
        apply_shift("colour_temperature", np.full((4, 4, 3), 90, np.uint8), None, 3, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "brightnes"}, "did you mean brightness"),
        ({"severity": 0}, r"severity 0 of shift 'brightness' is out of range: give 1 to 5"),
        ({"severity": 6}, r"severity 6 of shift"),
        ({"severity": 2.5}, r"severity 2.5 of shift"),
        ({"seed": -1}, "seed -1"),
        ({"image": np.zeros((4, 4, 3))}, r"got float64 \[4, 4, 3\]"),
        ({"image": np.zeros((4, 4), np.uint8)}, r"got uint8 \[4, 4\]"),
        ({"image": np.zeros((0, 4, 3), np.uint8)}, r"got uint8 \[0, 4, 3\]"),
        ({"mask": np.zeros((4, 5), bool)}, r"mask bool \[4, 4\], got bool \[4, 5\]"),
        ({"mask": np.zeros((4, 4), np.uint8)}, "got uint8"),
    ],
)
def test_wrong_use_is_named(change, message):
    good = {"name": "brightness", "image": np.zeros((4, 4, 3), np.uint8), "mask": None, "severity": 3, "seed": 0}
    with pytest.raises(UsageError, match=message) as raised:
        apply_shift(**{**good, **change})
    assert "\n" not in str(raised.value)


def test_noise_is_the_same_on_every_machine():
    noisy = apply_shift("gaussian_noise", np.full((64, 64, 3), 128, np.uint8), None, 3, 2024).image
    assert hashlib.sha256(noisy.tobytes()).hexdigest()[:16] == "0879f525b86ed1f4"


def test_each_image_has_a_seed_of_its_own():
    triples = [(seed, name, image) for seed in (0, 1) for name in ("a-1", "a-2") for image in ("x", "y")]
    drawn = {image_seed(*triple) for triple in triples}
    assert len(drawn) == len(triples)
    assert all(0 <= seed < 2**64 for seed in drawn)
    assert image_seed(1, "1", "x") != image_seed(11, "", "x")
    assert image_seed(0, "a-1", "test/\udcff.png") >= 0  # a file name that is not UTF-8


def test_the_page_of_definitions_names_every_parameter():
    page = (Path(__file__).parents[3] / "docs" / "shifts.md").read_text()
    for shift in SHIFTS.values():
        (row,) = (line for line in page.splitlines() if line.startswith(f"| `{shift.name}` |"))
        parameters = "; ".join(str(value).strip("()") for value in shift.parameters)
        assert f"| {parameters} |" in row


def test_severities_are_the_published_ones():
    """ImageNet-C's, and GNL's angle at severity 3: code and page may not drift away from them together."""
    published = {
        "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),
        "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),
        "defocus_blur": ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
        "gaussian_noise": (0.08, 0.12, 0.18, 0.26, 0.38),
        "jpeg": (25, 18, 15, 10, 7),
    }
    assert {name: SHIFTS[name].parameters for name in published} == published
    assert SHIFTS["rotation"].parameters[2] == SHIFTS["rotation_gray"].parameters[2] == 30
