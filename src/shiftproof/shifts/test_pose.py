from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shiftproof.shifts import SEVERITIES, SHIFTS, apply_shift
from shiftproof.shifts.pose import GRAY, move, rotation, scale, translation

MOVES = [shift.name for shift in SHIFTS.values() if shift.moves]
names = pytest.mark.parametrize("name", MOVES)
seeds = st.integers(0, 2**32)
RIGHT_10 = np.array([[1.0, 0, -10], [0, 1, 0]])


def dots(height, width, centres, radius=4):
    """A dark image with bright dots, and their mask."""
    y, x = np.mgrid[:height, :width]
    mask = np.zeros((height, width), bool)
    for row, column in centres:
        mask |= (y - row) ** 2 + (x - column) ** 2 <= radius**2
    return np.where(mask, 255, 20).astype(np.uint8)[..., None].repeat(3, axis=-1), mask


def draws(*numbers):
    """A random generator that gives these."""
    left = list(numbers)

    class Fixed:
        def integers(self, high):
            return left.pop(0)

        def uniform(self, low, high):
            return left.pop(0)

        def random(self):
            return left.pop(0)

    return Fixed()


@names
@given(
    height=st.integers(40, 90),
    width=st.integers(40, 90),
    place=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    severity=st.sampled_from(SEVERITIES),
    seed=seeds,
)
@settings(max_examples=60)
def test_the_mask_moves_with_the_image(name, height, width, place, severity, seed):
    image, mask = dots(height, width, [(place[0] * (height - 1), place[1] * (width - 1))])
    result = apply_shift(name, image, mask, severity, seed)
    bright = result.image[..., 0] > 190 if name == "rotation_gray" else result.image[..., 0] > 128
    assert result.mask.dtype == bool
    assert result.mask.shape == mask.shape
    # A pixel on the rim may fall on either side: the two resamplings differ.
    assert np.count_nonzero(bright ^ result.mask) <= 4 + 0.3 * max(bright.sum(), result.mask.sum())
    assert result.lost == (not result.mask.any())


@names
def test_a_mask_is_not_needed_and_changes_no_pixel(name):
    image, mask = dots(50, 60, [(25, 30)])
    alone = apply_shift(name, image, None, 3, 5)
    assert alone.mask is None
    np.testing.assert_array_equal(alone.image, apply_shift(name, image, mask, 3, 5).image)


@names
@given(severity=st.sampled_from(SEVERITIES), seed=seeds)
@settings(max_examples=40)
def test_a_defect_of_one_pixel_in_the_middle_is_never_lost(name, severity, seed):
    mask = np.zeros((61, 45), bool)
    mask[30, 22] = mask[25, 18] = True
    result = apply_shift(name, np.zeros((61, 45, 3), np.uint8), mask, severity, seed)
    assert result.lost == 0
    assert result.mask.sum() >= 2


def test_defects_moved_out_of_the_frame_are_counted_by_region():
    image, mask = dots(40, 60, [(10, 54), (30, 54), (20, 20)])
    mask[0, 51] = mask[1, 50] = True  # touching at a corner: one region
    result = move(image, mask, RIGHT_10)
    assert result.lost == 3
    np.testing.assert_array_equal(result.mask[:, 10:], mask[:, :-10])


def test_a_defect_partly_in_the_frame_is_not_lost():
    image, mask = dots(40, 60, [(20, 52)])
    assert move(image, mask, RIGHT_10).lost == 0


def test_a_border_is_mirrored_mask_and_all_or_filled():
    image, mask = dots(40, 60, [(20, 6)])
    mirrored = move(image, mask, RIGHT_10)
    np.testing.assert_array_equal(mirrored.image[:, :10], image[:, 10:0:-1])
    np.testing.assert_array_equal(mirrored.mask[:, :10], mask[:, 10:0:-1])
    filled = move(image, mask, RIGHT_10, fill=GRAY)
    assert (filled.image[:, :10] == GRAY).all()
    assert not filled.mask[:, :10].any()


@pytest.mark.parametrize("quarter_turns", range(4))
def test_quarter_turns_are_exact(quarter_turns):
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    mask = image[..., 0] > 200
    result = rotation(image, mask, 30, draws(quarter_turns, 0.0))
    np.testing.assert_array_equal(result.image, np.rot90(image, quarter_turns))
    np.testing.assert_array_equal(result.mask, np.rot90(mask, quarter_turns))


def test_rotation_turns_by_the_angle_about_the_centre():
    image, mask = dots(101, 101, [(50, 80)])
    rows, columns = np.nonzero(rotation(image, mask, 30, draws(0, 1.0)).mask)
    np.testing.assert_allclose((rows.mean(), columns.mean()), (50 - 15, 50 + 30 * np.cos(np.pi / 6)), atol=0.3)


def test_an_oblong_image_turns_by_half_turns():
    image = np.random.default_rng(0).integers(0, 256, (20, 32, 3), dtype=np.uint8)
    for drawn, half_turn in ((0, False), (1, False), (2, True), (3, True)):
        expected = image[::-1, ::-1] if half_turn else image
        np.testing.assert_array_equal(rotation(image, None, 30, draws(drawn, 0.0)).image, expected)


def test_rotation_gray_differs_in_the_corners_alone():
    image = np.full((60, 60, 3), 200, np.uint8)
    mirrored, gray = (apply_shift(name, image, None, 3, 1).image for name in ("rotation", "rotation_gray"))
    assert (mirrored == 200).all()
    assert GRAY == 114
    assert (gray[0, 0] == GRAY).all() or (gray[0, -1] == GRAY).all()
    assert (gray[20:40, 20:40] == 200).all()


def test_translation_moves_by_a_share_of_the_shorter_side():
    image, mask = dots(100, 150, [(50, 70)])
    moved = translation(image, mask, 0.12, draws(0.0))
    np.testing.assert_array_equal(moved.mask[:, :-12], mask[:, 12:])
    np.testing.assert_array_equal(moved.image[:, :-12], image[:, 12:])


@pytest.mark.parametrize(("drawn", "factor"), [(0.0, 1.2), (0.9, 1 / 1.2)])
def test_scale_enlarges_or_shrinks_about_the_centre(drawn, factor):
    image, mask = dots(100, 100, [(49.5, 49.5)], radius=20)
    scaled = scale(image, mask, 0.2, draws(drawn))
    assert scaled.mask.sum() == pytest.approx(factor**2 * mask.sum(), rel=0.02)
    np.testing.assert_allclose([axis.mean() for axis in np.nonzero(scaled.mask)], 49.5, atol=0.1)
