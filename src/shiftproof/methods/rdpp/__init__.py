"""RD++: reverse distillation with projection layers and pseudo-anomalies (Tien et al., CVPR 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from shiftproof.errors import UsageError, unknown
from shiftproof.methods.base import Features, MethodConfig
from shiftproof.methods.losses import SSOT, contrast_loss, reconstruct_loss, ssot_loss
from shiftproof.methods.rd import Rd
from shiftproof.networks.projection import Projection
from shiftproof.networks.teacher import Teacher
from shiftproof.synthesis.pseudo_anomaly import add_pseudo_anomalies

NOISY = "noisy"  # the view with a pseudo-anomaly
# The paper's learning rates: 1e-3 for the projection, 5e-3 for the rest.
PROJECTION_RATE = 1e-3 / 5e-3


@dataclass(frozen=True)
class RdppConfig(MethodConfig):
    """Settings of RD++; the weights are the paper's."""

    projection_weight: float = 0.2  # of the projection's losses beside the distillation's
    reconstruct_weight: float = 0.01  # of Reconstruct beside SSOT
    contrast_weight: float = 0.1  # of Contrast beside SSOT
    ssot: str = "pairwise"  # "pairwise", "published" (zero by construction) or "off"
    ssot_points: int = 64  # positions of a map in the optimal transport, at most
    noisy_share: float = 0.25  # of a batch that gets a pseudo-anomalous view (paper: 1); on average the same loss

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ssot not in SSOT:
            raise unknown("ssot", self.ssot, SSOT)
        if not 0 < self.noisy_share <= 1:
            raise UsageError(
                f"noisy share {self.noisy_share} is out of range: expected above 0, at most 1 (all images)"
            )


class Rdpp(Rd):
    """RD with a projection between teacher and student, trained on a normal and a pseudo-anomalous view."""

    Config: ClassVar[type[RdppConfig]] = RdppConfig
    config: RdppConfig

    def __init__(self, teacher: Teacher, config: RdppConfig):
        super().__init__(teacher, config)
        self.projection = Projection(teacher.info.channels)

    def arrange(self) -> None:
        """Channels last but for the projection: instance norm, and convolutions of few channels, are quicker without."""
        super().arrange()
        self.projection.to(memory_format=torch.contiguous_format)

    def views(self, images: Tensor, random: np.random.Generator) -> dict[str, Tensor]:
        """The looks, and the first images of the (shuffled) batch, each with a rectangle of simplex noise."""
        count = max(1, round(self.config.noisy_share * len(images)))
        return {**super().views(images, random), NOISY: add_pseudo_anomalies(images[:count], random)}

    def losses(self, features: Mapping[str, Features], random: np.random.Generator) -> dict[str, Tensor]:
        """Distillation plus the three terms of the projection, weighted as in the paper."""
        config = self.config
        normal, noisy = self.good(features), features[NOISY]
        projected, projected_noisy = self.projection(normal), self.projection(noisy)
        partners = [stage[: len(noisy[0])] for stage in projected]  # of the noisy views
        share = config.projection_weight / (1 + config.reconstruct_weight + config.contrast_weight)
        return {
            **self.distillation(normal, self.student(projected)),
            "ssot": share * ssot_loss(projected, random, config.ssot, config.ssot_points),
            "reconstruct": share * config.reconstruct_weight * reconstruct_loss(projected_noisy, partners),
            "contrast": share * config.contrast_weight * contrast_loss(noisy, partners),
        }

    def trained_parameters(self, learning_rate: float) -> list[dict[str, Any]]:
        """Two groups: the student, and the projection at a fifth of its rate."""
        return [
            *super().trained_parameters(learning_rate),
            {"params": list(self.projection.parameters()), "lr": learning_rate * PROJECTION_RATE},
        ]

    def rebuild(self, features: Features) -> Features:
        """The student reads projected features."""
        return self.student(self.projection(features))
