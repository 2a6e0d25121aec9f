from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shiftproof.drift import STATISTICS, Reference, measure
from shiftproof.errors import ImageError
from shiftproof.shifts import SHIFTS, apply_shift

NAMES = [statistic.name for statistic in STATISTICS]


def part(seed, side=128):
    """A part of some colour on a bright ground, with an edge that leans: uint8 [side, side, 3]."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side
    inside = (abs(x - 0.45 + 0.3 * (y - 0.5) + random.normal(0, 0.01)) < 0.15) & (abs(y - 0.55) < 0.3)
    light = 170 + random.normal(0, 2)
    image = np.where(inside[..., None], np.array([110.0, 80.0, 60.0]), light * np.array([1.0, 0.98, 0.95]))
    return np.clip(image + random.normal(0, 2.5, image.shape), 0, 255).astype(np.uint8)


def by_name(image):
    return dict(zip(NAMES, measure(image).tolist(), strict=True))


@pytest.fixture(scope="module")
def reference():
    return Reference.from_images([part(seed) for seed in range(40)], [part(seed) for seed in range(40, 60)])


def test_every_statistic_is_a_finite_number_whatever_the_image():
    for image in (np.zeros((64, 96, 3)), np.full((32, 32, 3), 255), np.indices((64, 64, 3)).sum(axis=0) % 2 * 255):
        values = measure(image.astype(np.uint8))
        assert values.shape == (len(STATISTICS),) and values.dtype == np.float64
        assert np.isfinite(values).all()


@given(st.integers(0, 2**32 - 1), st.sampled_from([(32, 32), (64, 32), (96, 64)]))
@settings(max_examples=30, deadline=None)
def test_what_turns_an_image_changes_direction_and_place_alone(seed, shape):
    image = np.random.default_rng(seed).integers(0, 256, (*shape, 3)).astype(np.uint8)
    plain, flipped = by_name(image), by_name(image[:, ::-1])
    for name in ("light", "contrast", "red", "blue", "fine_edges", "grain", "falloff", "size", "place_down"):
        assert flipped[name] == pytest.approx(plain[name], abs=2e-3), name
    for name in ("place_across", "slope_across", "direction_2_sin", "direction_4_sin"):
        assert flipped[name] == pytest.approx(-plain[name], abs=2e-3), name


def test_gain_leaves_sharpness_and_colour_noise_leaves_light():
    image = part(0)
    plain, dim = by_name(image), by_name((image * 0.5).astype(np.uint8))
    assert dim["light"] == pytest.approx(plain["light"] / 2, abs=1)
    assert dim["contrast"] == pytest.approx(plain["contrast"] - np.log(2), abs=0.05)
    assert dim["fine_edges"] == pytest.approx(plain["fine_edges"], abs=0.1)
    assert dim["direction_2_sin"] == pytest.approx(plain["direction_2_sin"], abs=0.05)
    noise = np.random.default_rng(0).normal(0, 8, image.shape)
    noisy = by_name(np.clip(image + noise, 0, 255).astype(np.uint8))
    assert np.exp(noisy["grain"]) == pytest.approx(np.hypot(8, 2.5) * np.sqrt(0.299**2 + 0.587**2 + 0.114**2), rel=0.15)
    assert noisy["light"] == pytest.approx(plain["light"], abs=1.5)
    assert by_name(image[::-1, ::-1])["place_down"] == pytest.approx(-plain["place_down"], abs=0.02)


@pytest.mark.parametrize("name", ["brightness", "contrast", "defocus_blur", "gaussian_noise", "exposure"])
def test_the_measure_grows_with_severity(reference, name):
    distances = [
        np.median(
            [reference.distance(measure(apply_shift(name, part(s), None, severity, s).image)) for s in range(60, 64)]
        )
        for severity in range(1, 6)
    ]
    clean = np.median([reference.distance(measure(part(seed))) for seed in range(60, 64)])
    assert clean < 2 < distances[0] < distances[2] < distances[4]


@pytest.mark.parametrize(
    ("name", "statistic", "sign"),
    [
        ("brightness", "light", 1),
        ("exposure", "light", -1),
        ("contrast", "contrast", -1),
        ("defocus_blur", "crispness", -1),
        ("motion_blur", "crispness", -1),
        ("gaussian_noise", "grain", 1),
        ("vignetting", "falloff", -1),
        ("jpeg", "colour_grain", -1),
    ],
)
def test_each_statistic_moves_steadily_with_its_shift(reference, name, statistic, sign):
    moved = [
        np.median(
            [
                reference.standardize(measure(apply_shift(name, part(s), None, severity, s).image))[
                    NAMES.index(statistic)
                ]
                for s in range(70, 73)
            ]
        )
        for severity in (1, 3, 5)
    ]
    steps = sign * np.diff([0.0, *moved])
    assert steps[0] > 3
    assert (steps > -0.1 * abs(moved[0])).all(), moved  # what has gone altogether can go no further


def test_a_small_defect_moves_the_picture_as_a_whole_little(reference):
    image = part(80)
    image[60:66, 30:36] = (250, 245, 240)
    moved = np.abs(reference.standardize(measure(image)) - reference.standardize(measure(part(80))))
    edges = [statistic.group in ("orientation", "place") for statistic in STATISTICS]
    assert moved[~np.array(edges)].max() < 2.5
    assert moved[edges].max() < 8  # where edges lie and lead counts them all, and parts this alike hardly differ


def test_a_turned_part_has_another_direction(reference):
    deviations = reference.by_group(measure(np.ascontiguousarray(np.rot90(part(90)))))
    assert abs(deviations["orientation"]) > 10


@pytest.mark.parametrize("shape", [(64, 64), (64, 64, 4), (60, 64, 3), (16, 16, 3)])
def test_what_cannot_be_measured_is_refused(shape):
    with pytest.raises(ImageError, match="multiples of 32"):
        measure(np.zeros(shape, np.uint8))


def test_all_shifts_can_be_measured():
    for name in SHIFTS:
        assert np.isfinite(measure(apply_shift(name, part(0), None, 5, 0).image)).all()
