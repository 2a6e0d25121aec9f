"""RD++'s projection layers: they learn to throw away what a pseudo-anomaly adds, before the student sees it."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn


class Projection(nn.Module):
    """One small convolutional hourglass for each stage (RD++, CVPR 2023, section 3.2).

    Four 3x3 convolutions c -> c/2 -> c/4 -> c/2 -> c, each followed by instance norm and LeakyReLU. With the stages of
    ``wide_resnet50_2`` (256, 512, 1024) these are 15,486,912 parameters.

    >>> sum(p.numel() for p in Projection((256, 512, 1024)).parameters())
    15486912
    """

    def __init__(self, channels: tuple[int, ...]):
        super().__init__()
        self.stages = nn.ModuleList(_hourglass(c) for c in channels)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Project each stage; shapes stay as they are ([B, C_k, H_k, W_k])."""
        return [
            stage(feature.contiguous()).contiguous(memory_format=torch.channels_last)
            for stage, feature in zip(self.stages, features, strict=True)
        ]


def _hourglass(channels: int) -> nn.Sequential:
    widths = (channels, channels // 2, channels // 4, channels // 2, channels)
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.InstanceNorm2d(after), nn.LeakyReLU()]
    return nn.Sequential(*layers)
