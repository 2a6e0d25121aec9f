"""Reverse distillation (Deng & Li, CVPR 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shiftproof.config import MethodConfig
from shiftproof.methods.base import NORMAL, Features, Method
from shiftproof.methods.losses import distillation_loss
from shiftproof.networks.student import Student, plan_student
from shiftproof.networks.teacher import Teacher

AUGMENTED = "augmented"  # key of the augmented views: rotated, AugMix, denoised


class Rd(Method):
    """Teacher and student; the student reconstructs the teacher's features through a one-class bottleneck."""

    def __init__(self, teacher: Teacher, config: MethodConfig):
        super().__init__(teacher, config)
        self.student = Student(plan_student(teacher.info.name, teacher.info.channels, config.student))

    def views(self, images: Tensor, rng: np.random.Generator) -> dict[str, Tensor]:
        """Return augmented views of the first images of the (shuffled) batch, if the settings ask for any."""
        count = max(1, round(self.config.augment_share * len(images)))
        augmented = self.augmented_view(images[:count], rng)
        return {} if augmented is None else {AUGMENTED: augmented}

    def losses(self, features: Mapping[str, Features], rng: np.random.Generator) -> dict[str, Tensor]:
        """Return the terms of :meth:`distillation` over the images and their augmented views."""
        good = self.good(features)
        return self.distillation(good, self.reconstruct(good))

    @staticmethod
    def good(features: Mapping[str, Features]) -> Features:
        """Return the images' features followed by their augmented views': the student reconstructs both alike."""
        if AUGMENTED not in features:
            return features[NORMAL]
        return [torch.cat(pair) for pair in zip(features[NORMAL], features[AUGMENTED], strict=True)]

    def trained_parameters(self, learning_rate: float) -> list[dict[str, Any]]:
        """Return one group: the student."""
        return [{"params": list(self.student.parameters()), "lr": learning_rate}]

    def reconstruct(self, features: Features) -> Features:
        """Return the student's stages; the student reads the teacher's features unchanged."""
        return self.student(features)

    def distillation(self, teacher: Features, student: Features) -> dict[str, Tensor]:
        """Return the distillation loss by name: one term, "distill"."""
        kind, fraction = self.config.distillation, self.config.hard_fraction
        return {"distill": distillation_loss(teacher, student, kind, fraction)}
