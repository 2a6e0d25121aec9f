"""Rotated views, and the test of the good images that decides whether they are used."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from shiftproof.synthesis.random_rotation import has_every_direction, random_rotation


def bar(angle: float, size: tuple[int, int] = (64, 64)) -> NDArray[np.uint8]:
    """A dark bar through the middle of a bright image, at an angle in degrees."""
    y, x = (np.arange(side) - side / 2 for side in size)
    across = np.abs(y[:, None] * np.cos(np.deg2rad(angle)) - x[None] * np.sin(np.deg2rad(angle)))
    along = np.abs(y[:, None] * np.sin(np.deg2rad(angle)) + x[None] * np.cos(np.deg2rad(angle)))
    gray = np.where((across < 6) & (along < 24), 40, 200).astype(np.uint8)
    return np.repeat(gray[..., None], 3, axis=2)


def ring() -> NDArray[np.uint8]:
    y, x = np.mgrid[-32:32, -32:32]
    return np.repeat(np.where(np.abs(np.hypot(y, x) - 18) < 5, 40, 200).astype(np.uint8)[..., None], 3, axis=2)


@pytest.mark.parametrize("count", [40, 300])
@pytest.mark.parametrize("size", [(64, 64), (64, 96)])
def test_parts_that_lie_anyhow_are_known(count: int, size: tuple[int, int]):
    angles = np.random.default_rng(0).uniform(0, 360, count)
    assert has_every_direction(np.stack([bar(angle, size) for angle in angles])) is True


@pytest.mark.parametrize(
    "directions",
    [(0,), (30,), (0, 90), (10, 70, 130), (0, 45, 90, 135)],
    ids=["straight", "aslant", "two ways", "three ways", "four ways"],
)
def test_parts_with_directions_of_their_own_are_left_as_they_are(directions: tuple[float, ...]):
    jitter = np.random.default_rng(1).normal(0, 5, 60)
    parts = [bar(directions[number % len(directions)] + each) for number, each in enumerate(jitter)]
    assert has_every_direction(np.stack(parts)) is False


def test_parts_without_a_direction_and_too_few_parts_are_left_as_they_are():
    rng = np.random.default_rng(0)
    assert not has_every_direction(np.stack([ring()] * 40))
    assert not has_every_direction(np.full((40, 64, 64, 3), 90, np.uint8))
    assert not has_every_direction(rng.integers(0, 256, (40, 64, 64, 3), np.uint8))
    assert not has_every_direction(bar(0)[None])
    assert not has_every_direction(np.stack([bar(0), bar(90)]))


def as_tensor(*images: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 255


def angle_of(image: Tensor) -> float:
    """Of the dark pixels' main axis, in degrees of a half turn."""
    y, x = torch.nonzero(image[0] < 0.4, as_tuple=True)
    y, x = y.double() - y.double().mean(), x.double() - x.double().mean()
    return float(torch.rad2deg(0.5 * torch.atan2(2 * (x * y).sum(), (x * x - y * y).sum()))) % 180


@pytest.mark.parametrize("size", [(64, 64), (64, 96)])
def test_views_are_rotated_by_any_angle(size: tuple[int, int]):
    images = as_tensor(*[bar(0, size)] * 64)
    kept = images.clone()
    views = random_rotation(images, np.random.default_rng(0))
    assert torch.equal(images, kept)
    assert views.shape == images.shape
    assert views.dtype == images.dtype
    assert views.min() >= 0 and views.max() <= 1
    assert torch.equal(views[:, 0], views[:, 1])  # gray stays gray
    angles = np.array([angle_of(view) for view in views])
    assert (np.histogram(angles, bins=6, range=(0, 180))[0] >= 4).all()
    assert torch.equal(random_rotation(images, np.random.default_rng(0)), views)


def test_views_go_all_the_way_round():
    """A mark at the upper end comes to lie on every side."""
    image = np.full((64, 64, 3), 200, np.uint8)
    image[8:16, 30:34] = 0
    views = random_rotation(as_tensor(*[image] * 40), np.random.default_rng(0))
    places = torch.stack([torch.nonzero(view[0] < 0.4).double().mean(dim=0) for view in views])
    assert ((places < 24).sum(dim=0) >= 5).all() and ((places > 40).sum(dim=0) >= 5).all()
