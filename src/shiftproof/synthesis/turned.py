"""Turned views, for parts that lie in every direction anyway; whether they do is seen from the good images."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shiftproof.drift.statistics import STATISTICS, measure
from shiftproof.shifts import pose

LOOKED_AT = 128  # images, at most
LEAST_STRENGTH = 0.15  # of an image's edges in their main direction: below, it has none
MOST_ALIKE = 0.4  # resultant length of the main directions: 1 where all are the same, about 0 where they are any


def lie_in_every_direction(pixels: NDArray[np.uint8]) -> bool:
    """Whether parts lie in any direction whatever.

    Each image's edges have a main direction, the second harmonic of their directions weighted with their strength
    (:mod:`shiftproof.drift.statistics`). Parts lie in every direction where the images have one and these
    do not agree: neither on one, nor on two, three or four at equal distances (the resultant lengths of the first four
    multiples of the angle; Mardia & Jupp, *Directional Statistics*, 2000). Few images agree by chance, and are then left
    as they are: to turn a part that always lies straight would teach that a turned one is good.

    Args:
        pixels: uint8 [N, H, W, 3], H and W multiples of 32; some, evenly spread, are looked at.
    """
    names = [statistic.name for statistic in STATISTICS]
    columns = [names.index("direction_2_cos"), names.index("direction_2_sin")]
    chosen = np.linspace(0, len(pixels) - 1, min(len(pixels), LOOKED_AT)).round().astype(int)
    cosines, sines = np.array([measure(pixels[number])[columns] for number in chosen]).T
    strengths, angles = np.hypot(cosines, sines), np.arctan2(sines, cosines)
    if strengths.mean() < LEAST_STRENGTH:
        return False
    resultants = [abs((strengths * np.exp(1j * fold * angles)).sum()) / strengths.sum() for fold in range(1, 5)]
    return bool(max(resultants) <= MOST_ALIKE)


def turned(images: Tensor, random: np.random.Generator) -> Tensor:
    """Turn each image about its centre by any angle; what comes into view at the border is a mirror image.

    Args:
        images: float [B, 3, H, W], clipped to [0, 1] and read to 8 bits.
        random: draws the angles.

    Returns:
        a new tensor of the same shape, dtype and device, in [0, 1].
    """
    pixels = (images.permute(0, 2, 3, 1) * 255).clamp(0, 255).round().to(torch.uint8).cpu().numpy()
    views = [_turn(image, random.uniform(0, 2 * np.pi)) for image in pixels]
    return torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2).to(images) / 255


def _turn(image: NDArray[np.uint8], angle: float) -> NDArray[np.uint8]:
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return pose.move(image, None, pose.about_centre(turn, *image.shape[:2])).image
