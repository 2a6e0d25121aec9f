"""Shifts of the camera: blur, noise, compression.

The functions take and return what those of :mod:`shiftproof.shifts.light` do.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

from shiftproof.shifts.base import Image, is_gray, to_pixels

Kernel = NDArray[np.float64]


def gaussian_noise(image: Image, deviation: float, rng: np.random.Generator) -> Image:
    """Add normal noise of standard deviation ``deviation`` (of 1), drawn for each pixel and channel (ImageNet-C).

    Each channel has its own noise on gray images as well, as in the published sets: a gray image comes out coloured.
    """
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    noise *= np.float32(255 * deviation)
    noise += image
    return to_pixels(noise)


def defocus_blur(image: Image, lens: tuple[int, float], rng: np.random.Generator) -> Image:
    """Blur with a disk: ``lens`` is its radius and the deviation of the Gaussian that softens its rim, in pixels.

    That is ImageNet-C's, border mirrored.
    """
    return _convolve(image, disk_kernel(*lens))


def motion_blur(image: Image, share: float, rng: np.random.Generator) -> Image:
    """Blur along a line, as a part does that moves at constant speed; the direction is drawn.

    ``share`` is the way that it moves, by the image's shorter side; the line is a pixel longer.
    """
    return _convolve(image, line_kernel(1 + share * min(image.shape[:2]), np.pi * rng.random()))


def jpeg(image: Image, quality: int, rng: np.random.Generator) -> Image:
    """Compress as JPEG of this quality (Pillow's scale of 1..95, its usual colour subsampling) and read it back."""
    from PIL import Image as Pillow

    file = io.BytesIO()
    Pillow.fromarray(image).save(file, "JPEG", quality=quality)
    with Pillow.open(file) as compressed:
        return np.array(compressed)


def disk_kernel(radius: int, softness: float) -> Kernel:
    """ImageNet-C's disk, float64 [n, n], n = max(17, 2 radius + 1).

    The Gaussian has 3 x 3 taps up to radius 8, then 5 x 5, and is mirrored at the kernel's own rim. At radius 8 and 10
    the disk touches the rim, so that the kernel's sum passes 1: the published blur brightens by as much.

    >>> [round(float(disk_kernel(*lens).sum()), 4) for lens in ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))]
    [1.0, 1.0, 1.0, 1.013, 1.0108]
    """
    from scipy.ndimage import correlate1d

    offsets = np.arange(-max(radius, 8), max(radius, 8) + 1)
    disk = (offsets[:, None] ** 2 + offsets**2 <= radius**2).astype(np.float64)
    reach = 1 if radius <= 8 else 2
    taps = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * softness**2))
    softened = correlate1d(correlate1d(disk, taps, axis=0, mode="mirror"), taps, axis=1, mode="mirror")
    return softened / (disk.sum() * taps.sum() ** 2)


def line_kernel(length: float, angle: float) -> Kernel:
    """A line of ``length`` pixels at ``angle`` radians, one pixel wide, anti-aliased: float64 [n, n], n odd, sum 1."""
    reach = int(np.ceil(length / 2)) + 1
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    along = np.abs(x * np.cos(angle) + y * np.sin(angle))
    across = np.abs(y * np.cos(angle) - x * np.sin(angle))
    line = np.clip((length + 1) / 2 - along, 0, 1) * np.clip(1 - across, 0, 1)
    return line / line.sum()


def _convolve(image: Image, kernel: Kernel) -> Image:
    """Convolve each channel in float64, where sums taken in another order still round alike; border mirrored."""
    from scipy.signal import oaconvolve

    gray = is_gray(image)
    reach = kernel.shape[0] // 2
    channels = np.moveaxis(image[..., :1] if gray else image, -1, 0)
    padded = (np.pad(channel, reach, mode="reflect").astype(np.float64) for channel in channels)
    blurred = np.stack([to_pixels(oaconvolve(channel, kernel, mode="valid")) for channel in padded], axis=-1)
    return np.repeat(blurred, 3, axis=-1) if gray else blurred
