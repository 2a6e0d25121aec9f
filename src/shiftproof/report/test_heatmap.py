from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from shiftproof.report.heatmap import PALETTE, colourise, overlay

MAPS = arrays.arrays(np.float32, (5, 7), elements=st.floats(-1e6, 1e6, width=32))


def luminance(colours: np.ndarray) -> np.ndarray:
    return colours @ np.array([0.2126, 0.7152, 0.0722])


def test_the_palette_grows_brighter_all_the_way() -> None:
    assert PALETTE.shape == (256, 3)
    assert (np.diff(luminance(PALETTE.astype(float))) > -0.5).all()  # half a step of rounding
    assert luminance(PALETTE[-1].astype(float)) > 200 > 5 > luminance(PALETTE[0].astype(float))


@given(MAPS)
def test_a_colour_depends_on_its_value_alone(anomaly_map: np.ndarray) -> None:
    whole = colourise(anomaly_map, -10, 10)
    assert whole.shape == (5, 7, 3)
    assert whole.dtype == np.uint8
    for row, colours in zip(anomaly_map, whole, strict=True):
        np.testing.assert_array_equal(colourise(row[None], -10, 10)[0], colours)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_values_beyond_the_scale_take_its_ends(dtype: type) -> None:
    drawn = colourise(np.array([[-np.inf, 1, 1.5, 2, np.inf]], dtype), 1, 2)[0]
    np.testing.assert_array_equal(drawn, PALETTE[[0, 0, 128, 255, 255]])


def test_a_scale_of_no_length_still_tells_below_from_above() -> None:
    np.testing.assert_array_equal(colourise(np.array([[0.9, 1.0, 1.1]]), 1, 1)[0], PALETTE[[0, 0, 255]])


@given(MAPS, st.integers(0, 255))
def test_heat_covers_nothing_at_the_bottom_and_most_at_the_top(anomaly_map: np.ndarray, gray: int) -> None:
    image = np.full((5, 7, 3), gray, np.uint8)
    drawn = overlay(image, anomaly_map, -10, 10).astype(int)
    np.testing.assert_array_equal(drawn[anomaly_map <= -10], gray)
    hottest = drawn[anomaly_map >= 10]
    assert (np.abs(hottest - (0.2 * gray + 0.8 * PALETTE[-1])) <= 1.5).all()


def test_the_outline_goes_around_the_defect_and_hides_none_of_it() -> None:
    image, anomaly_map, mask = np.full((300, 280, 3), 90, np.uint8), np.zeros((300, 280)), np.zeros((300, 280), bool)
    mask[100:110, 50:60] = True
    drawn = overlay(image, anomaly_map, 0, 1, mask)
    assert (drawn[mask] == 90).all()
    assert (drawn == (0, 229, 255)).all(axis=2).sum() == 40  # one pixel along each side
    assert (drawn != 90).any(axis=2).sum() == 40 + 44  # and a dark one around it
    mask[:] = False
    mask[0:2, 0:2] = True  # in the corner nothing wraps around to the far side
    assert (overlay(image, anomaly_map, 0, 1, mask) != image).any(axis=2)[4:, 4:].sum() == 0


@pytest.mark.parametrize(
    ("anomaly_map", "low", "high", "words"),
    [
        (np.zeros((2, 2, 1)), 0, 1, r"\(2, 2, 1\); expected \[H, W\]"),
        (np.array([[np.nan]]), 0, 1, "NaN"),
        (np.zeros((2, 2)), 1, 0, "low <= high"),
        (np.zeros((2, 2)), 0, np.inf, "finite"),
    ],
)
def test_what_cannot_be_drawn_is_refused(anomaly_map: np.ndarray, low: float, high: float, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        colourise(anomaly_map, low, high)


def test_sizes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="its anomaly map"):
        overlay(np.zeros((3, 3, 3), np.uint8), np.zeros((2, 2)), 0, 1)
    with pytest.raises(ValueError, match="mask has shape"):
        overlay(np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2)), 0, 1, np.zeros((3, 3), bool))


def test_a_map_of_half_a_thousand_pixels_a_side_takes_milliseconds() -> None:
    anomaly_map = np.random.default_rng(0).random((512, 512), np.float32)
    times = []
    for _ in range(10):
        start = time.perf_counter()
        colourise(anomaly_map, 0, 1)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.05  # about 3 ms; a loop over pixels takes half a second
