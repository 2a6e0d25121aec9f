"""Foreign textures for synthetic anomalies: from a folder of pictures, or made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shiftproof.data import decode_images, find_images
from shiftproof.errors import DataError
from shiftproof.synthesis.simplex import simplex_noise

Field = NDArray[np.float64]
"""float64 [H, W]."""


@dataclass(frozen=True, eq=False)
class Textures:
    """Where textures come from; without a bank they are made, for each image anew."""

    bank: NDArray[np.uint8] | None = None
    """uint8 [N, H, W, 3] at the model's image size, N >= 1; see :func:`load_textures`."""
    fingerprint: str | None = None
    """sha256 over the names and bytes of the bank's files; None where there is none."""

    def draw(self, parts: NDArray[np.floating], rng: np.random.Generator) -> NDArray[np.float32]:
        """One texture: a picture of the bank, perhaps mirrored; without one, made.

        Args:
            parts: images of the training set, float [B, H, W, 3] in [0, 1], B >= 1; of the bank's size if there is one.
            rng: draws the texture and how it lies.

        Returns:
            float32 [H, W, 3] in [0, 1]: in color, whatever the parts are.
        """
        if self.bank is None:
            return _made(parts, rng)
        return _mirrored(self.bank[rng.integers(len(self.bank))], rng).astype(np.float32) / np.float32(255)


def load_textures(folder: Path | str, size: tuple[int, int], *, limit: int = 256, seed: int = 0) -> Textures:
    """Textures from a folder of pictures, such as the Describable Textures Dataset (DTD), decoded once.

    Args:
        folder: with pictures in it or in folders below.
        size: (height, width) of the model's images.
        limit: the most pictures to take; of more, the seed draws that many.
        seed: of that choice.

    Returns:
        a bank of at most ``limit * height * width * 3`` bytes.

    Raises:
        DataError: no such folder, no picture in it, or one that cannot be read.
    """
    try:
        paths = find_images(folder)
    except DataError as error:
        raise DataError(
            f"{error} (expected textures, such as DTD's pictures; without a folder they are made)"
        ) from error
    selected = np.sort(np.random.default_rng(seed).permutation(len(paths))[:limit])
    decoded = decode_images([paths[number] for number in selected], size)
    if decoded.failures:
        raise DataError(f"a texture cannot be used: {decoded.failures[0][1]}, or take it out of the folder")
    return Textures(np.asarray(decoded.pixels), decoded.fingerprint)


def stripes(u: Field, v: Field, rng: np.random.Generator) -> Field:
    """Light and dark bands, soft or hard."""
    return _sharpened(np.sin(2 * np.pi * u), rng)


def checkers(u: Field, v: Field, rng: np.random.Generator) -> Field:
    """A chessboard, soft or hard."""
    return _sharpened(np.sin(2 * np.pi * u) * np.sin(2 * np.pi * v), rng)


def blobs(u: Field, v: Field, rng: np.random.Generator) -> Field:
    """Dots in rows, of a size of their own."""
    height = np.sin(2 * np.pi * u) + np.sin(2 * np.pi * v)
    return _sharpened(height / 2 - rng.uniform(-0.3, 0.5), rng)


def clouds(u: Field, v: Field, rng: np.random.Generator) -> Field:
    """Simplex noise, soft or hard."""
    # Every other row and column, which is all that waves of this length need, at a quarter of the time.
    coarse = simplex_noise(u[::2, ::2], v[::2, ::2], rng.permutation(256))
    noise = coarse.repeat(2, axis=0).repeat(2, axis=1)[: u.shape[0], : u.shape[1]]
    return _sharpened(2 * noise, rng)


def grain(u: Field, v: Field, rng: np.random.Generator) -> Field:
    """Every pixel for itself."""
    return rng.random(u.shape)


PATTERNS: tuple[Callable[[Field, Field, np.random.Generator], Field], ...] = (stripes, checkers, blobs, clouds, grain)
"""Each takes two coordinates (in wavelengths, turned) and a random generator; its values are in [0, 1]."""


def turned_grid(
    size: tuple[int, int], wavelengths: tuple[float, float], rng: np.random.Generator
) -> tuple[Field, Field]:
    """Two coordinates at right angles, in a direction and with an origin that are drawn.

    Args:
        size: (height, width).
        wavelengths: pixels that each coordinate takes to grow by 1.
        rng: draws direction and origin.

    Returns:
        float64 [height, width], twice.
    """
    angle, (first, second) = rng.uniform(0, np.pi), rng.uniform(0, 256, size=2)
    y, x = np.arange(size[0])[:, None], np.arange(size[1])
    u = (x * np.cos(angle) + y * np.sin(angle)) / wavelengths[0] + first
    v = (y * np.cos(angle) - x * np.sin(angle)) / wavelengths[1] + second
    return u, v


def _made(parts: NDArray[np.floating], rng: np.random.Generator) -> NDArray[np.float32]:
    """A pattern in two colors, or, one time in three, a shuffled cut of one of the parts ([B, H, W, 3])."""
    if rng.random() < 1 / 3:
        return _cut(parts[rng.integers(len(parts))], rng)
    size = (parts.shape[1], parts.shape[2])
    first, second = np.maximum(4, min(size) / 2 ** rng.uniform(2, 6, size=2))  # 4: finer ones would alias
    pattern = PATTERNS[rng.integers(len(PATTERNS))]
    share = pattern(*turned_grid(size, (first, second), rng), rng).astype(np.float32)
    dark, bright = rng.random((2, 3), dtype=np.float32)
    return dark + (bright - dark) * share[..., None]


def _cut(part: NDArray[np.floating], rng: np.random.Generator) -> NDArray[np.float32]:
    """The part's own pieces in another order, mirrored, in other tones: a training image's, but nowhere in one."""
    rows, columns = (
        np.concatenate([pieces[n] for n in rng.permutation(len(pieces))])
        for pieces in (np.array_split(np.arange(side), rng.integers(2, 9)) for side in part.shape[:2])
    )
    gain, middle = rng.choice([-1, 1]) * rng.uniform(0.6, 1.6), rng.uniform(0.2, 0.8, size=3)
    toned = (_mirrored(part[rows][:, columns], rng) - 0.5) * np.float32(gain) + middle.astype(np.float32)
    return np.clip(toned, 0, 1)


def _mirrored(image: NDArray, rng: np.random.Generator) -> NDArray:
    """As it is, upside down, mirrored, or turned by 180 degrees: [H, W, 3]."""
    vertical, horizontal = rng.choice([-1, 1], size=2)
    return image[::vertical, ::horizontal]


def _sharpened(wave: Field, rng: np.random.Generator) -> Field:
    """Values about 0 to [0, 1]: as they come, or up to nearly black and white."""
    return np.clip(0.5 + 0.5 * wave * rng.choice([1, 3, 10]), 0, 1)
