from __future__ import annotations

from dataclasses import replace

import pytest

from shiftproof.data.images import ImageInfo
from shiftproof.data.profile import ImageProfile

USUAL = ImageInfo(640, 480, False, 8, 220, False, 1, 1, False)


def profile(*infos: ImageInfo) -> ImageProfile:
    return ImageProfile.of(infos or [USUAL, replace(USUAL, brightest=200), replace(USUAL, width=1280, height=960)])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"width": 480, "height": 640}, "480x640"),
        ({"height": 400}, "640x400"),
        ({"width": 64, "height": 48}, "64x48"),
        ({"gray": True}, "gray"),
        ({"bits": 16, "brightest": 60_000}, "16 bits"),
        ({"brightest": 11}, "brightest"),
        ({"constant": True, "brightest": 200}, "one colour"),
    ],
)
def test_an_image_of_another_kind_is_told(change, said):
    assert said in profile().difference(replace(USUAL, **change))


@pytest.mark.parametrize(
    "change", [{}, {"brightest": 120}, {"width": 650, "height": 480}, {"width": 800, "height": 600}]
)
def test_an_image_of_the_same_kind_is_not(change):
    assert profile().difference(replace(USUAL, **change)) == ""


@pytest.mark.parametrize(("brightest", "bits"), [(900, 10), (1024, 12), (4095, 12), (16_000, 14), (20_000, None)])
def test_proposed_bits(brightest, bits):
    deep = replace(USUAL, bits=16, gray=True, brightest=brightest)
    assert profile(deep, replace(deep, brightest=3)).proposed_bits == bits


def test_a_tagged_depth_needs_no_proposal():
    assert profile(replace(USUAL, bits=12, gray=True, brightest=900)).proposed_bits is None


def test_json_keeps_all():
    assert ImageProfile.from_json(profile().to_json()).difference(USUAL) == ""
    assert ImageProfile.from_json(profile().to_json()).sizes == profile().sizes
