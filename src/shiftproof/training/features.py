"""Teacher features of the view that never changes, computed once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shiftproof.methods.base import to_images
from shiftproof.networks.teacher import Teacher


class NormalFeatures:
    """The teacher's features of the training images: kept as float16 where they fit, computed again where not.

    Training then costs only the student, which is most of what makes it quick on a CPU. What is kept lies in
    channels-last order, as the student reads it.

    Args:
        teacher: on its device.
        pixels: uint8 [N, H, W, 3]; may be memory-mapped.
        limit: bytes that the features may take.
        batch: images that go through the teacher at once.
        on_progress: called with (images done, images in all).
    """

    def __init__(
        self,
        teacher: Teacher,
        pixels: NDArray[np.uint8],
        limit: int,
        batch: int,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ):
        self.teacher = teacher
        self.pixels = pixels
        self.stages: list[Tensor] | None = None
        height, width = pixels.shape[1:3]
        shapes = [
            (len(pixels), height // stride, width // stride, channels)
            for stride, channels in zip((4, 8, 16), teacher.info.channels, strict=True)
        ]
        if sum(2 * int(np.prod(shape)) for shape in shapes) > limit:
            return
        stages = [torch.empty(shape, dtype=torch.float16, device=teacher.device) for shape in shapes]
        for start in range(0, len(pixels), batch):
            rows = slice(start, start + batch)
            for kept, stage in zip(stages, self._compute(pixels[rows]), strict=True):
                kept[rows] = stage.permute(0, 2, 3, 1)
            on_progress(min(start + batch, len(pixels)), len(pixels))
        # Features beyond float16's range would have become infinite: then keep none and compute them each time.
        if all(bool(stage.isfinite().all()) for stage in stages):
            self.stages = stages

    def __call__(self, indices: NDArray[np.integer]) -> list[Tensor]:
        """Features of some images: float32 tensors [B, C_k, H_k, W_k], one a stage."""
        if self.stages is None:
            return self._compute(self.pixels[indices])
        selected = torch.from_numpy(indices).to(self.stages[0].device)
        return [stage[selected].float().permute(0, 3, 1, 2) for stage in self.stages]

    def _compute(self, pixels: NDArray[np.uint8]) -> list[Tensor]:
        with torch.no_grad():
            return self.teacher(to_images(torch.from_numpy(np.ascontiguousarray(pixels)).to(self.teacher.device)))
