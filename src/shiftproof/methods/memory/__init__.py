"""Nearest neighbors in a memory bank (PatchCore; Roth et al., CVPR 2022) on the teacher's middle and coarse stages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shiftproof.config import MemoryConfig
from shiftproof.methods.base import CHUNK, Features, Method, Phase, to_images
from shiftproof.networks.memory_bank import MemoryBank
from shiftproof.networks.teacher import Teacher


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
        self.bank.fit(self._stages(pixels, selected), len(selected), rng)
        assert self.bank.sources is not None
        self.bank.sources = torch.from_numpy(selected).to(self.bank.sources.device)[self.bank.sources]

    def _stages(self, pixels: NDArray[np.uint8], selected: NDArray[np.int64]) -> Iterator[Features]:
        for start in range(0, len(selected), CHUNK):
            batch = np.ascontiguousarray(pixels[selected[start : start + CHUNK]])
            yield self.features(to_images(torch.from_numpy(batch).to(self.teacher.device)))[1:]
