"""RD++: reverse distillation with projection layers and pseudo-anomalies (Tien et al., CVPR 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from shiftproof.config import RdppConfig
from shiftproof.methods.base import NORMAL, Features
from shiftproof.methods.losses import contrast_loss, reconstruct_loss, ssot_loss
from shiftproof.methods.rd import Rd
from shiftproof.networks.projection import Projection
from shiftproof.networks.teacher import Teacher
from shiftproof.synthesis.pseudo_anomaly import add_pseudo_anomalies

NOISY = "noisy"  # the view with a pseudo-anomaly
# The paper's learning rates: 1e-3 for the projection, 5e-3 for the rest.
PROJECTION_RATE = 1e-3 / 5e-3


class Rdpp(Rd):
    """RD with a projection between teacher and student, trained on a normal and a pseudo-anomalous view."""

    Config: ClassVar[type[RdppConfig]] = RdppConfig
    config: RdppConfig

    def __init__(self, teacher: Teacher, config: RdppConfig):
        super().__init__(teacher, config)
        self.projection = Projection(teacher.info.channels)

    def to_channels_last(self) -> None:
        """Use channels-last memory except in the projection, whose instance norm and narrow convolutions are faster without."""
        super().to_channels_last()
        self.projection.to(memory_format=torch.contiguous_format)

    def views(self, images: Tensor, rng: np.random.Generator) -> dict[str, Tensor]:
        """Return the augmented views, and the first images of the (shuffled) batch with a rectangle of simplex noise each."""
        count = max(1, round(self.config.noisy_share * len(images)))
        return {**super().views(images, rng), NOISY: add_pseudo_anomalies(images[:count], rng)}

    def losses(self, features: Mapping[str, Features], rng: np.random.Generator) -> dict[str, Tensor]:
        """Return the distillation and the three terms of the projection, weighted as in the paper."""
        config = self.config
        normal, noisy = self.good(features), features[NOISY]
        projected, projected_noisy = self.projection(normal), self.projection(noisy)
        partners = [stage[: len(noisy[0])] for stage in projected]  # of the noisy views
        share = config.projection_weight / (1 + config.reconstruct_weight + config.contrast_weight)
        return {
            **self.distill(normal, projected, len(features[NORMAL][0])),
            "ssot": share * ssot_loss(projected, rng, config.ssot, config.ssot_points),
            "reconstruct": share * config.reconstruct_weight * reconstruct_loss(projected_noisy, partners),
            "contrast": share * config.contrast_weight * contrast_loss(noisy, partners),
        }

    def trained_parameters(self, learning_rate: float) -> list[dict[str, Any]]:
        """Return two groups: the student, and the projection at a fifth of its rate."""
        return [
            *super().trained_parameters(learning_rate),
            {"params": list(self.projection.parameters()), "lr": learning_rate * PROJECTION_RATE},
        ]

    def reconstruct(self, features: Features) -> Features:
        """Return the student's stages; the student reads projected features."""
        return self.student(self.projection(features))
