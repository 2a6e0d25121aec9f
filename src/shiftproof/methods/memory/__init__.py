"""Nearest neighbors in a memory bank (PatchCore; Roth et al., CVPR 2022) on the teacher's middle and coarse stages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shiftproof.config import MemoryConfig
from shiftproof.methods.base import Features, Method, Phase, chunk_size, to_images
from shiftproof.networks.memory_bank import MemoryBank
from shiftproof.networks.teacher import Teacher
from shiftproof.shifts import SEVERITIES, ShiftNotApplicable, apply_shift

PERTURBED_IMAGES = 16  # training images that are perturbed
VERSIONS = 6  # perturbed versions of each
CROP = 256  # side of the part that is perturbed, in pixels
_BLIND = ("exposure", "colour_temperature", "vignetting", "motion_blur", "jpeg")
PERTURBATIONS = {
    "blind": _BLIND,
    "production": (*_BLIND, "brightness", "contrast", "defocus_blur", "gaussian_noise"),
}
"""Shifts that move nothing from its place, so that each patch can be compared with itself."""


class Memory(Method):
    """The distance of each patch to its nearest neighbor among patches of good images. Nothing is trained by gradients."""

    Config: ClassVar[type[MemoryConfig]] = MemoryConfig
    auto_pixels: ClassVar[int | None] = 512 * 512
    cross_fits: ClassVar[bool] = True
    config: MemoryConfig

    def __init__(self, teacher: Teacher, config: MemoryConfig):
        super().__init__(teacher, config)
        self.bank = MemoryBank(teacher.info.channels[1:], config.bank_size, config.neighborhood)

    def phases(self) -> Sequence[Phase]:
        """Return no parts: fitting the statistics is all."""
        return ()

    def leave_out(self, image: int | None) -> None:
        """Score without the patches of the training image with this index; None scores with all."""
        self.bank.left_out = image

    def distances(self, features: Features, size: tuple[int, int]) -> Tensor:
        """Return the smoothed distance to the nearest neighbors, float32 [B, H, W], not negative."""
        return self.to_map([self.bank(features[1:])], size)

    def fit_distances(self, pixels: NDArray[np.uint8], rng: np.random.Generator) -> None:
        """Fill the memory bank from good training images uint8 [N, H, W, 3]; of many, from a random sample."""
        selected = np.sort(rng.permutation(len(pixels))[: self.config.bank_images])
        chunk = chunk_size(pixels)
        stages = (self._stages(pixels[selected[k : k + chunk]]) for k in range(0, len(selected), chunk))
        self.bank.fit(stages, len(selected), rng, self._perturbed(pixels, rng), self.config.invariance_weight)
        assert self.bank.sources is not None
        self.bank.sources = torch.from_numpy(selected).to(self.bank.sources.device)[self.bank.sources]

    def _perturbed(self, pixels: NDArray[np.uint8], rng: np.random.Generator) -> Iterator[tuple[Features, Features]]:
        """Yield the stages of some images, and of perturbed versions of each."""
        families = PERTURBATIONS.get(self.config.invariance, ())
        if not families or not self.config.invariance_weight:
            return
        for index in np.sort(rng.permutation(len(pixels))[:PERTURBED_IMAGES]):
            image = _random_crop(pixels[index], rng)
            versions = [_perturbed_version(image, families, rng) for _ in range(VERSIONS)]
            before = self._stages(image[None])
            yield [stage.expand(VERSIONS, -1, -1, -1) for stage in before], self._stages(np.stack(versions))

    def _stages(self, pixels: NDArray[np.uint8]) -> Features:
        batch = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.teacher.device)
        return self.features(to_images(batch))[1:]


def _random_crop(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a crop of at most CROP x CROP pixels: patches are compared one by one, so that a part is enough."""
    height, width = (min(side, CROP) for side in image.shape[:2])
    top, left = rng.integers(image.shape[0] - height + 1), rng.integers(image.shape[1] - width + 1)
    return np.ascontiguousarray(image[top : top + height, left : left + width])


def _perturbed_version(
    image: NDArray[np.uint8], families: Sequence[str], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Return an image under a random shift of random severity; unchanged where the shift cannot be applied to it."""
    family, severity = families[int(rng.integers(len(families)))], SEVERITIES[int(rng.integers(len(SEVERITIES)))]
    with suppress(ShiftNotApplicable):
        return apply_shift(family, image, None, severity, int(rng.integers(2**32))).image
    return image
