"""RD++'s pseudo-anomalies: a rectangle of simplex noise on a good image."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from shiftproof.synthesis.simplex import octave_noise

REFERENCE_SIDE = 256  # the paper's image side; rectangle and wavelength scale with the image
SIDE_RANGE = (10, 31)  # of the rectangle, in pixels of the reference image, both ends included
STRENGTH = 0.2


def add_pseudo_anomalies(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Give each image one rectangle of simplex noise (RD++, CVPR 2023, section 3.1).

    Side lengths are drawn from 10..31 pixels of a 256-pixel image, the place uniformly; six octaves, persistence 0.6, first
    wavelength 32 pixels, strength 0.2, the same for all channels, so that a gray product stays gray. As in the paper the
    result is not clipped.

    Args:
        images: float [B, C, H, W] in [0, 1].
        rng: draws sizes, places and noise; the same state gives the same images.

    Returns:
        a new tensor of the same shape and dtype; values may leave [0, 1] by up to 0.48.
    """
    noisy = images.clone()
    height, width = images.shape[-2:]
    scale = min(height, width) / REFERENCE_SIDE
    for image in noisy:
        rows, columns = (max(1, round(int(side) * scale)) for side in rng.integers(*SIDE_RANGE, size=2, endpoint=True))
        top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
        noise = octave_noise(rows, columns, rng, frequency=32 * scale)
        image[:, top : top + rows, left : left + columns] += torch.from_numpy(STRENGTH * noise).to(image)
    return noisy
