"""Synthetic anomalies with known masks: foreign textures on good parts (DRAEM, ICCV 2021; DeSTSeg, CVPR 2023)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from shiftproof.shifts.base import is_gray
from shiftproof.synthesis.simplex import simplex_noise
from shiftproof.synthesis.textures import Textures, turned_grid

LARGEST_SHARE_KEPT = 0.8  # of the good part, under the texture
AREAS = (0.0005, 0.1)  # of the image, that an anomaly covers
ELONGATIONS = (1.0, 8.0)  # of its spots
SPOT_AREAS = (0.3, 3.0)  # square of the noise's wavelength over the anomaly's area
SPREADS = (1.0, 5.0)  # how far from its center the noise's peaks fall by half of their height, in wavelengths
LEAST_WAVELENGTH = 1 / 64  # of the noise, by the shorter side
LEAST_DIFFERENCE = 0.2  # between texture and part, on average over the mask


def synthetic_anomalies(
    images: Tensor, rng: np.random.Generator, textures: Textures, share: float = 0.7
) -> tuple[Tensor, Tensor]:
    """Put a foreign texture on some of the images, where a mask of noise says so.

    Args:
        images: float [B, 3, H, W] in [0, 1].
        rng: draws which images, masks, textures and how strong they are.
        textures: where textures come from.
        share: of the images that get an anomaly, on average.

    Returns:
        the images, in new memory, [B, 3, H, W] in [0, 1]; and the masks, float [B, H, W], 1 on anomalies and 0
        elsewhere: all zero for an image that was left as it is, never for one that was not.
    """
    size = (images.shape[2], images.shape[3])
    parts = images.permute(0, 2, 3, 1).float().cpu().numpy()
    anomalous, masks = parts.copy(), np.zeros(parts.shape[:3], np.bool_)
    for number in np.flatnonzero(rng.random(len(parts)) < share):
        part = parts[number]
        mask = anomaly_mask(size, _place(part, rng), rng)
        covered, texture = part[mask], textures.draw(parts, rng)[mask]
        if is_gray(part):  # color alone must not give it away
            texture = texture.mean(axis=1, keepdims=True)
        if np.abs(texture - covered).mean() < LEAST_DIFFERENCE:
            texture = (texture + 0.5) % 1  # so that the anomaly is visible
        kept = np.float32(rng.uniform(0, LARGEST_SHARE_KEPT))
        anomalous[number][mask] = kept * covered + (1 - kept) * texture
        masks[number] = mask
    return torch.from_numpy(anomalous).permute(0, 3, 1, 2).to(images), torch.from_numpy(masks).to(images)


def anomaly_mask(size: tuple[int, int], center: tuple[int, int], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Where one anomaly lies: the peaks of simplex noise about a place, one spot or several, round or drawn-out.

    The papers cut their noise at half of its range, whatever its wavelength: long waves often leave nothing, short ones
    freckles all over the image, most of them finer than the network's finest stage. Here the area is drawn, from half
    a thousandth of the image to a tenth, each order of magnitude alike; wavelengths follow from it, the noise falls away
    from the center, and it is cut where it leaves that area.

    Args:
        size: (height, width) of the image.
        center: row and column about which the spots lie.
        rng: draws size, shape and direction.

    Returns:
        bool [H, W], True somewhere.
    """
    area = max(1, round(size[0] * size[1] * _log_uniform(AREAS, rng)))
    wavelength = (area * _log_uniform(SPOT_AREAS, rng)) ** 0.5
    stretch, least = _log_uniform(ELONGATIONS, rng) ** 0.5, LEAST_WAVELENGTH * min(size)
    wavelengths = max(wavelength * stretch, least), max(wavelength / stretch, least)
    u, v = turned_grid(size, wavelengths, rng)
    distance = (u - u[center]) ** 2 + (v - v[center]) ** 2
    spread = _log_uniform(SPREADS, rng) ** 2
    step = max(1, int(min(wavelengths) / 4))  # four samples of a wave will do; what is between is interpolated
    coarse = (slice(None, None, step),) * 2
    near = distance[coarse] < 3 * spread  # no peak farther away reaches the cut
    noise = np.full(near.shape, -1, np.float32)
    noise[near] = simplex_noise(u[coarse][near], v[coarse][near], rng.permutation(256))
    fine = F.interpolate(torch.from_numpy(noise)[None, None], size=size, mode="bicubic")[0, 0].numpy()
    peaks = fine - distance / (2 * spread)
    return peaks >= np.partition(peaks.ravel(), -area)[-area]


def _place(part: NDArray[np.floating], rng: np.random.Generator) -> tuple[int, int]:
    """Row and column of a pixel of ``part`` [H, W, 3]: any, or, every other time, one that stands out.

    Where the part is small, few anomalies would lie on it; it stands out from the background, whose level is the
    median.
    """
    row, column = (int(rng.integers(side)) for side in part.shape[:2])
    if rng.random() < 0.5:
        return row, column
    levels = part[row % 8 :: 8, column % 8 :: 8].mean(axis=2, dtype=np.float64)
    weights = np.abs(levels - np.median(levels)).ravel() + 1e-6
    drawn = divmod(int(rng.choice(weights.size, p=weights / weights.sum())), levels.shape[1])
    return row % 8 + 8 * drawn[0], column % 8 + 8 * drawn[1]


def _log_uniform(span: tuple[float, float], rng: np.random.Generator) -> float:
    return float(np.exp(rng.uniform(*np.log(span))))
