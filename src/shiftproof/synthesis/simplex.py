"""OpenSimplex noise, for whole arrays at once.

The algorithm and the numbers are those of the ``opensimplex`` package (2-D), which evaluates point by point in Python and
needs seconds for what one training batch asks; here every point of an array goes through NumPy together, and the tests hold
both to the same values.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]

STRETCH = (1 / np.sqrt(3) - 1) / 2
SQUISH = (np.sqrt(3) - 1) / 2
NORMALIZATION = 47.0
GRADIENTS = np.array([(5, 2), (2, 5), (-5, 2), (-2, 5), (5, -2), (2, -5), (-5, -2), (-2, -5)], dtype=np.float64)


def simplex_noise(x: Points, y: Points, permutation: NDArray[np.integer]) -> Points:
    """OpenSimplex noise in two dimensions.

    Args:
        x: float64 array of any shape.
        y: the same shape.
        permutation: of 0..255; it is the noise's seed.

    Returns:
        float64 array of that shape, within [-1, 1], smooth, with features about 1 apart.
    """
    offset = (x + y) * STRETCH
    column, row = np.floor(x + offset), np.floor(y + offset)
    u, v = x + offset - column, y + offset - row
    squish = (column + row) * SQUISH
    dx, dy = x - (column + squish), y - (row + squish)

    def corner(i: Points | int, j: Points | int) -> Points:
        """What the lattice point (column + i, row + j) adds."""
        cx, cy = dx - i - (i + j) * SQUISH, dy - j - (i + j) * SQUISH
        falloff = np.maximum(2 - cx * cx - cy * cy, 0) ** 4
        a, b = (column + i).astype(np.int64) & 255, (row + j).astype(np.int64)
        gradient = GRADIENTS[(permutation[(permutation[a] + b) & 255] & 14) >> 1]
        return falloff * (gradient[..., 0] * cx + gradient[..., 1] * cy)

    # Each cell is two triangles; the nearest corners are (1, 0), (0, 1), and (0, 0) or (1, 1). The fourth lies
    # outside the cell, and which one it is depends on the nearest side.
    upper = u + v > 1
    w = np.where(upper, 2 - u - v, 1 - u - v)
    side = np.where(upper, (w < u) | (w < v), (w > u) | (w > v))
    right = u > v
    i = np.select([~side & ~upper, ~side & upper, upper & right, upper, right], [1, 0, 2, 0, 1], -1)
    j = np.select([~side & ~upper, ~side & upper, upper & right, upper, right], [1, 0, 0, 2, -1], 1)
    own = upper.astype(np.float64)
    total = corner(1, 0) + corner(0, 1) + corner(own, own) + corner(i.astype(np.float64), j.astype(np.float64))
    return total / NORMALIZATION


def octave_noise(
    height: int,
    width: int,
    rng: np.random.Generator,
    *,
    octaves: int = 6,
    persistence: float = 0.6,
    frequency: float = 32.0,
    noise: Callable[[Points, Points, NDArray[np.integer]], Points] = simplex_noise,
) -> Points:
    """Several octaves of noise on a pixel grid, as RD++ sums them.

    Args:
        height: rows.
        width: columns.
        rng: draws the noise's permutation.
        octaves: how many; each has half the wavelength of the one before.
        persistence: amplitude of an octave over that of the one before.
        frequency: wavelength of the first octave in pixels (the paper's word and value).
        noise: the function of (x, y, permutation).

    Returns:
        float64 [height, width], within the sum of the amplitudes: 2.38 with the paper's values.
    """
    permutation = rng.permutation(256)
    wavelengths = frequency / 2.0 ** np.arange(octaves)
    amplitudes = persistence ** np.arange(octaves)
    y, x = np.mgrid[:height, :width].astype(np.float64)
    values = noise(x / wavelengths[:, None, None], y / wavelengths[:, None, None], permutation)
    return np.tensordot(amplitudes, values, axes=1)
