"""Reverse distillation (Deng & Li, CVPR 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from shiftproof.methods.base import NORMAL, Features, Method, MethodConfig
from shiftproof.methods.losses import distillation_loss
from shiftproof.networks.student import Student, plan_student
from shiftproof.networks.teacher import Teacher

LOOKS = "looks"  # further looks at the images: turned, AugMix, shrunk


class Rd(Method):
    """Teacher and student; the student rebuilds the teacher's features through a one-class bottleneck."""

    def __init__(self, teacher: Teacher, config: MethodConfig):
        super().__init__(teacher, config)
        self.student = Student(plan_student(teacher.info.name, teacher.info.channels, config.student))

    def views(self, images: Tensor, random: np.random.Generator) -> dict[str, Tensor]:
        """Another look at the first images of the (shuffled) batch, if there is one."""
        count = max(1, round(self.config.views_share * len(images)))
        looks = self.look(images[:count], random)
        return {} if looks is None else {LOOKS: looks}

    def losses(self, features: Mapping[str, Features], random: np.random.Generator) -> dict[str, Tensor]:
        """The terms of :meth:`distillation`, for the images and their looks."""
        good = self.good(features)
        return self.distillation(good, self.rebuild(good))

    @staticmethod
    def good(features: Mapping[str, Features]) -> Features:
        """The images, and the looks at them as further images: the student rebuilds what the teacher sees in each."""
        if LOOKS not in features:
            return features[NORMAL]
        return [torch.cat(pair) for pair in zip(features[NORMAL], features[LOOKS], strict=True)]

    def trained_parameters(self, learning_rate: float) -> list[dict[str, Any]]:
        """One group: the student."""
        return [{"params": list(self.student.parameters()), "lr": learning_rate}]

    def rebuild(self, features: Features) -> Features:
        """The student reads the teacher's features as they are."""
        return self.student(features)

    def distillation(self, teacher: Features, student: Features) -> dict[str, Tensor]:
        """What makes the student the teacher's likeness, by name: one term, "distill"."""
        kind, fraction = self.config.distillation, self.config.hard_fraction
        return {"distill": distillation_loss(teacher, student, kind, fraction)}
