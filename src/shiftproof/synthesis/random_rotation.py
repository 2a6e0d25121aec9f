"""Views rotated by any angle, for parts that have every direction anyway; the good images show whether they do."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shiftproof.drift.statistics import STATISTICS, measure
from shiftproof.shifts import pose

SAMPLED_IMAGES = 128  # most images that are measured
MIN_STRENGTH = 0.15  # strength of the edges in their main direction; below it, an image has no direction
MAX_RESULTANT = 0.4  # resultant length of the main directions: 1 where all are the same, about 0 where they are any


def has_every_direction(pixels: NDArray[np.uint8]) -> bool:
    """Return whether parts occur in every direction.

    Each image's edges have a main direction, the second harmonic of their directions weighted with their strength
    (:mod:`shiftproof.drift.statistics`). Parts occur in every direction if the images have a direction and the
    directions do not agree: neither on one, nor on two, three or four at equal distances (the resultant lengths of the
    first four multiples of the angle; Mardia & Jupp, *Directional Statistics*, 2000). A few images agree by chance; then
    the answer is no. Rotating a part that always lies straight would teach that a rotated one is good.

    Args:
        pixels: uint8 [N, H, W, 3], H and W multiples of 32; an evenly spread sample of them is measured.
    """
    names = [statistic.name for statistic in STATISTICS]
    columns = [names.index("direction_2_cos"), names.index("direction_2_sin")]
    selected = np.linspace(0, len(pixels) - 1, min(len(pixels), SAMPLED_IMAGES)).round().astype(int)
    cosines, sines = np.array([measure(pixels[number])[columns] for number in selected]).T
    strengths, angles = np.hypot(cosines, sines), np.arctan2(sines, cosines)
    if strengths.mean() < MIN_STRENGTH:
        return False
    resultants = [abs((strengths * np.exp(1j * fold * angles)).sum()) / strengths.sum() for fold in range(1, 5)]
    return bool(max(resultants) <= MAX_RESULTANT)


def random_rotation(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Rotate each image about its center by any angle; the border is mirrored.

    Args:
        images: float [B, 3, H, W], clipped to [0, 1] and rounded to 8 bits.
        rng: draws the angles.

    Returns:
        a new tensor of the same shape, dtype and device, in [0, 1].
    """
    pixels = (images.permute(0, 2, 3, 1) * 255).clamp(0, 255).round().to(torch.uint8).cpu().numpy()
    views = [_rotate(image, rng.uniform(0, 2 * np.pi)) for image in pixels]
    return torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2).to(images) / 255


def _rotate(image: NDArray[np.uint8], angle: float) -> NDArray[np.uint8]:
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return pose.move(image, None, pose.about_centre(turn, *image.shape[:2])).image
