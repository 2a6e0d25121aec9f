"""What camera, light and fixture do over the months: the shifts of :mod:`shiftproof.shifts`, drawn for training.

A model that trains on these has seen what the shifts test. That helps a line, and spoils a test under those shifts.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from shiftproof.shifts import camera, light, pose
from shiftproof.shifts.base import Image, is_gray


def drift(images: Tensor, rng: np.random.Generator, in_place: bool = False) -> Tensor:
    """Give each image one shift of light, camera or pose, at the model's size and of a strength that a line may meet.

    One shift at its full strength: mixed with the image as AugMix does, noise would all but vanish, and a part that
    turned would be a ghost.

    Args:
        images: float [B, 3, H, W], clipped to [0, 1] and read to 8 bits.
        rng: draws which shift, and what it draws.
        in_place: leave every pixel in its place: no shift of the pose.

    Returns:
        a new tensor of the same shape, dtype and device, in [0, 1]. Gray images stay gray.
    """
    pixels = (images.permute(0, 2, 3, 1) * 255).clamp(0, 255).round().to(torch.uint8).cpu().numpy()
    drifts = [each for each in DRIFTS if each is not move or not in_place]
    drifted = np.stack([drifts[rng.integers(len(drifts))](image, rng) for image in pixels])
    return torch.from_numpy(drifted).permute(0, 3, 1, 2).to(images) / 255


def brightness(image: Image, rng: np.random.Generator) -> Image:
    """Darker or brighter."""
    return light.brightness(image, rng.uniform(-0.2, 0.3), rng)


def contrast(image: Image, rng: np.random.Generator) -> Image:
    """Mostly less contrast."""
    return light.contrast(image, rng.uniform(0.3, 1.2), rng)


def exposure(image: Image, rng: np.random.Generator) -> Image:
    """A gamma on either side of 1."""
    return light.exposure(image, 2 ** rng.uniform(-1, 1), rng)


def uneven_light(image: Image, rng: np.random.Generator) -> Image:
    """Darker corners."""
    return light.vignetting(image, rng.uniform(0.5, 0.9), rng)


def color(image: Image, rng: np.random.Generator) -> Image:
    """Warmer or cooler light; a gray image, which shows no color, gets another exposure."""
    return exposure(image, rng) if is_gray(image) else light.colour_temperature(image, rng.uniform(8, 64), rng)


def noise(image: Image, rng: np.random.Generator) -> Image:
    """The sensor's noise: one for all channels where the image is gray."""
    own = image[..., :1] if is_gray(image) else image
    return np.broadcast_to(camera.gaussian_noise(own, rng.uniform(0.01, 0.12), rng), image.shape)


def defocus(image: Image, rng: np.random.Generator) -> Image:
    """A disk of one to three pixels, as the model's size shrinks a photograph's."""
    return camera.defocus_blur(image, (int(rng.integers(1, 3, endpoint=True)), 0.5), rng)


def motion(image: Image, rng: np.random.Generator) -> Image:
    """A short streak."""
    return camera.motion_blur(image, rng.uniform(0.005, 0.03), rng)


def jpeg(image: Image, rng: np.random.Generator) -> Image:
    """Compression."""
    return camera.jpeg(image, int(rng.integers(15, 60)), rng)


def move(image: Image, rng: np.random.Generator) -> Image:
    """Turned, scaled and moved by a little: a part that lies otherwise in its fixture."""
    angle, factor = np.deg2rad(rng.uniform(-15, 15)), 1.1 ** rng.uniform(-1, 1)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / factor
    place = pose.about_centre(turn, *image.shape[:2])
    place[:, 2] += 0.04 * min(image.shape[:2]) * rng.uniform(-1, 1, size=2)
    return pose.move(image, None, place).image


DRIFTS: tuple[Callable[[Image, np.random.Generator], Image], ...] = (
    brightness,
    contrast,
    exposure,
    uneven_light,
    color,
    noise,
    defocus,
    motion,
    jpeg,
    move,
)
"""One of these for each image, each as often as another."""
