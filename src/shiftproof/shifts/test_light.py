from __future__ import annotations

import colorsys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shiftproof.shifts import SEVERITIES, apply_shift
from shiftproof.shifts.light import black_body_chromaticity, colour_gains, colour_temperature

colours = st.tuples(*[st.integers(0, 255)] * 3)


def shifted(name, image, severity, seed=0):
    return apply_shift(name, np.asarray(image, np.uint8), None, severity, seed).image


@given(colour=colours, severity=st.sampled_from(SEVERITIES))
def test_brightness_adds_to_v_in_hsv(colour, severity):
    hue, saturation, value = colorsys.rgb_to_hsv(*(level / 255 for level in colour))
    expected = 255 * np.array(colorsys.hsv_to_rgb(hue, saturation, min(value + severity / 10, 1)))
    np.testing.assert_allclose(shifted("brightness", [[colour]], severity)[0, 0], expected, atol=0.5001)


@pytest.mark.parametrize(("severity", "kept"), [(1, 0.4), (2, 0.3), (3, 0.2), (4, 0.1), (5, 0.05)])
def test_contrast_keeps_each_channels_mean_and_a_share_of_its_deviations(severity, kept):
    image = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8) // np.array([1, 2, 3], np.uint8)
    mean = image.mean(axis=(0, 1))
    np.testing.assert_allclose(shifted("contrast", image, severity), (image - mean) * kept + mean, atol=0.5001)


def test_exposure_darkens_all_but_black_and_white():
    levels = np.repeat(np.arange(256)[None, :, None], 3, axis=2)
    dark = shifted("exposure", levels, 3)[0, :, 0]
    np.testing.assert_allclose(dark, np.arange(256) ** 2 / 255, atol=0.5001)
    assert (dark[0], dark[255]) == (0, 255)


def test_vignetting_leaves_the_middle_and_the_stated_share_of_the_corners():
    white = np.full((41, 61, 3), 200)
    for severity, corner in zip(SEVERITIES, [0.85, 0.7, 0.55, 0.4, 0.25], strict=True):
        dark = shifted("vignetting", white, severity)
        assert (dark[20, 30] == 200).all()
        np.testing.assert_allclose(dark[[0, 0, -1, -1], [0, -1, 0, -1]], 200 * corner, atol=0.5001)
        assert (np.diff(dark[20, 30:, 0].astype(int)) <= 0).all()


@pytest.mark.parametrize(
    ("kelvin", "x", "y"), [(4000, 0.3805, 0.3768), (6500, 0.3135, 0.3237), (10000, 0.2807, 0.2884)]
)
def test_black_bodies_have_their_published_chromaticity(kelvin, x, y):
    np.testing.assert_allclose(black_body_chromaticity(kelvin), (x, y), atol=6e-4)


def test_warm_light_is_redder_cool_light_bluer_and_luminance_stays():
    for kelvin, sign in ((4003, -1), (17000, 1)):
        gains = colour_gains(kelvin)
        assert (np.sign(np.diff(gains)) == sign).all()
        assert gains @ [0.2126, 0.7152, 0.0722] == pytest.approx(1)


def test_colour_temperature_draws_warm_or_cool():
    image = np.array([[[90, 91, 90]]], np.uint8)
    redder = {colour_temperature(image, 48, np.random.default_rng(seed))[0, 0, 0] > 90 for seed in range(20)}
    assert redder == {True, False}
