"""AugMix: augmented views of a good part, made by mixing chains of simple operations (Hendrycks et al., ICLR 2020).

Every operation here is a tone curve: it gives each of an image's 256 levels another, whatever stands beside it. A chain
of them is again a tone curve, and so is a mix of chains with the image itself. A view therefore costs one histogram and
one lookup, however many operations made it; those that need the histogram half-way read it off the curve so far.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shiftproof.config.methods import AUGMENTATIONS
from shiftproof.errors import unknown
from shiftproof.shifts.light import LEVELS
from shiftproof.synthesis.drift import drift

WIDTH = 3  # chains
DEPTH = 3  # operations of a chain, at most
SEVERITY = 3.0  # of 10

Curves = NDArray[np.float64]
"""float64 [N, C, 256]: the new level, in [0, 255], of each level of each channel of N images."""
Histograms = NDArray[np.float64]
"""float64 [N, C, 256]: how many pixels have each level."""


def augmix(images: Tensor, rng: np.random.Generator, augment: str = "blind", in_place: bool = False) -> Tensor:
    """Return one AugMix view of each image.

    Three chains of one to three operations (the depth drawn anew for each) are mixed with weights from
    Dirichlet(1, 1, 1), and the mix with the image by a share from Beta(1, 1). Unlike in the paper no operation moves
    or filters pixels:

    - "blind": no operation belongs to a family of :mod:`shiftproof.shifts`, so that a test under those shifts stays a
      test under shifts never seen. Autocontrast, equalize, posterize and solarize are AugMix's own; the wave bends the
      tones but keeps each channel's mean and spread.
    - "production": the image first drifts (:func:`~shiftproof.synthesis.drift.drift`): all that helps on a line, and
      seen in training what a test under shifts tests.

    Args:
        images: float [B, 3, H, W], clipped to [0, 1] and read to 8 bits.
        rng: draws operations, weights and drifts; the same state gives the same views.
        augment: one of :data:`AUGMENTATIONS`.
        in_place: leave every pixel in its place: no drift of the pose.

    Returns:
        a new tensor of the same shape, dtype and device, in [0, 1]; where the channels of an image are equal, so are
        the view's.

    Raises:
        UsageError: unknown augmentation.
    """
    if augment not in AUGMENTATIONS:
        raise unknown("augmentation", augment, AUGMENTATIONS)
    if augment == "production":
        images = drift(images, rng, in_place)
    count, channels = images.shape[:2]
    # A number for each level of each channel of each image: one count and one lookup do for the whole batch.
    first = 256.0 * torch.arange(count * channels, device=images.device).view(count, 1, 1, channels)
    codes = (images.permute(0, 2, 3, 1).float() * 255).clamp_(0, 255).add_(first).round_().to(torch.int32)
    pixels = torch.bincount(codes.flatten(), minlength=count * channels * 256)
    curves = mixed_curves(pixels.view(count, channels, 256).cpu().numpy().astype(np.float64), rng)
    table = torch.from_numpy(curves.ravel() / 255).to(images)
    return table.index_select(0, codes.flatten()).view(codes.shape).permute(0, 3, 1, 2)


def mixed_curves(histograms: Histograms, rng: np.random.Generator) -> Curves:
    """The tone curves of one view of each image: chains, mixed with each other and with the image itself."""
    count = len(histograms)
    weights, shares = rng.dirichlet(np.ones(WIDTH), size=count), rng.beta(1, 1, size=(count, 1, 1))
    depths = rng.integers(1, DEPTH, endpoint=True, size=(count, WIDTH))
    chains = _chains(np.repeat(histograms, WIDTH, axis=0), depths.ravel(), rng)
    mix = np.einsum("nw,nwcl->ncl", weights, chains.reshape(count, WIDTH, *histograms.shape[1:]))
    return np.clip(shares * LEVELS + (1 - shares) * mix, 0, 255)  # the weights add up to 1 but for the rounding


def autocontrast(histograms: Histograms, strengths: NDArray[np.float64], rng: np.random.Generator) -> Curves:
    """Stretch each channel from its darkest and brightest pixel to 0 and 255."""
    filled = histograms > 0
    darkest = filled.argmax(axis=-1)[..., None]
    brightest = 255 - filled[..., ::-1].argmax(axis=-1)[..., None]
    return np.where(brightest > darkest, (LEVELS - darkest) * (255 / np.maximum(brightest - darkest, 1)), LEVELS)


def equalize(histograms: Histograms, strengths: NDArray[np.float64], rng: np.random.Generator) -> Curves:
    """Give each level the share of pixels below it, so that all levels become equally frequent."""
    below = histograms.cumsum(axis=-1) - histograms
    most = np.where(histograms > 0, below, 0).max(axis=-1, keepdims=True)  # below the brightest level that is there
    return np.where(most > 0, below * (255 / np.maximum(most, 1)), LEVELS)


def posterize(histograms: Histograms, strengths: NDArray[np.float64], rng: np.random.Generator) -> Curves:
    """Keep the top four bits of each level, or three."""
    step = 2 ** (4 + np.floor(4 * strengths))
    return np.broadcast_to(LEVELS // step * step, histograms.shape)


def solarize(histograms: Histograms, strengths: NDArray[np.float64], rng: np.random.Generator) -> Curves:
    """Turn the brightest levels into their negative."""
    return np.broadcast_to(np.where(256 * (1 - strengths) > LEVELS, LEVELS, 255 - LEVELS), histograms.shape)


def wave(histograms: Histograms, strengths: NDArray[np.float64], rng: np.random.Generator) -> Curves:
    """Bend the tones by one or two periods of a sine wave, then give each channel its mean and spread back."""
    periods, phases = rng.uniform(1, 2, strengths.shape), rng.uniform(0, 1, strengths.shape)
    bent = LEVELS + 255 * strengths / 3 * np.sin(2 * np.pi * (periods * LEVELS / 255 + phases))
    mean, spread = _moments(histograms, LEVELS)
    bent_mean, bent_spread = _moments(histograms, bent)
    return (bent - bent_mean) * (spread / np.maximum(bent_spread, 1e-9)) + mean


OPERATIONS: tuple[Callable[[Histograms, NDArray[np.float64], np.random.Generator], Curves], ...] = (
    autocontrast,
    equalize,
    posterize,
    solarize,
    wave,
)
"""Each takes histograms, strengths in [0, 1] (float64 [N, 1, 1]) and a random generator; what it draws is for
all channels of an image alike, so that gray stays gray. Curves are clipped to [0, 255] afterwards."""


def _chains(histograms: Histograms, depths: NDArray[np.integer], rng: np.random.Generator) -> NDArray[np.uint8]:
    """The tone curve of as many operations as ``depths`` [N] says, one after the other: uint8 [N, C, 256]."""
    curves = np.broadcast_to(LEVELS.astype(np.uint8), histograms.shape).copy()
    for position in range(max(depths)):
        numbers = rng.integers(len(OPERATIONS), size=len(depths))
        strengths = rng.uniform(0.1, SEVERITY, size=(len(depths), 1, 1)) / 10
        for number, operation in enumerate(OPERATIONS):
            selected = np.flatnonzero((numbers == number) & (position < depths))
            if selected.size:
                so_far = curves[selected]
                step = operation(_carried(histograms[selected], so_far), strengths[selected], rng)
                rounded = np.clip(step + 0.5, 0, 255).astype(np.uint8)
                curves[selected] = np.take_along_axis(rounded, so_far.astype(np.intp), axis=-1)
    return curves


def _carried(histograms: Histograms, curves: NDArray[np.uint8]) -> Histograms:
    """The histograms after the curves."""
    first = 256 * np.arange(histograms[..., 0].size).reshape(*histograms.shape[:-1], 1)
    counts = np.bincount((curves + first).ravel(), histograms.ravel(), histograms.size)
    return counts.reshape(histograms.shape).astype(np.float64, copy=False)


def _moments(histograms: Histograms, levels: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each channel's pixels, [N, C, 1] each, where each level is worth ``levels``."""
    shares = histograms / histograms.sum(axis=-1, keepdims=True)
    mean = (shares * levels).sum(axis=-1, keepdims=True)
    return mean, np.sqrt((shares * (levels - mean) ** 2).sum(axis=-1, keepdims=True))
