"""Reverse distillation (Deng & Li, CVPR 2022)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shiftproof.config import RdConfig
from shiftproof.methods.base import NORMAL, Features, Method
from shiftproof.methods.losses import distillation_loss
from shiftproof.networks.anomaly_map import cosine_distance
from shiftproof.networks.correction import SpectrumCorrection
from shiftproof.networks.student import Student, plan_student
from shiftproof.networks.teacher import Teacher
from shiftproof.reporter import Reporter
from shiftproof.synthesis.augmix import augmix
from shiftproof.synthesis.random_rotation import has_every_direction, random_rotation

DENOISE_DEVIATIONS = (0.005, 0.15)  # range of the noise's standard deviation for denoised views; gray levels are 0 to 1
AUGMENTED = "augmented"  # key of the augmented views: rotated, AugMix, denoised


class Rd(Method):
    """Teacher and student; the student reconstructs the teacher's features through a one-class bottleneck."""

    Config: ClassVar[type[RdConfig]] = RdConfig
    config: RdConfig

    def __init__(self, teacher: Teacher, config: RdConfig):
        super().__init__(teacher, config)
        self.student = Student(plan_student(teacher.info.name, teacher.info.channels, config.student))
        self.rotates = config.random_rotation == "always"

    def prepare(self, pixels: NDArray[np.uint8], reporter: Reporter | None = None) -> None:
        """Resolve settings that depend on the good images, before the training.

        Args:
            pixels: uint8 [N, H, W, 3].
            reporter: receives the result, in words.
        """
        if self.config.random_rotation != "auto":
            return
        self.rotates = has_every_direction(pixels)
        yes = "the good images have every direction: the training uses randomly rotated views"
        no = "the good images do not have every direction: the training rotates no view"
        (reporter or Reporter()).info(yes if self.rotates else no)

    def augmented_view(self, images: Tensor, rng: np.random.Generator, *, in_place: bool = False) -> Tensor | None:
        """Return another view of good parts that is as good as the original; None where the settings ask for none.

        Args:
            images: float [B, 3, H, W] in [0, 1].
            rng: random generator.
            in_place: leave every pixel in its place: no rotation, no drift of the pose.

        Returns:
            a tensor of the same shape.
        """
        if not self.config.augment_share:
            return None
        view = random_rotation(images, rng) if self.rotates and not in_place else images
        if self.config.augment != "none":
            view = augmix(view, rng, self.config.augment, in_place)
        if self.config.denoise_augmentation and self.image_correction is not None:
            spectrum = self.image_correction[1]
            assert isinstance(spectrum, SpectrumCorrection)
            low, high = map(math.log, DENOISE_DEVIATIONS)
            deviations = np.exp(rng.uniform(low, high, len(images)))
            with torch.no_grad():
                view = spectrum.denoise(view, torch.from_numpy(deviations).to(images)).clamp(0, 1)
        return None if view is images else view

    def views(self, images: Tensor, rng: np.random.Generator) -> dict[str, Tensor]:
        """Return augmented views of the first images of the (shuffled) batch, if the settings ask for any."""
        count = max(1, round(self.config.augment_share * len(images)))
        augmented = self.augmented_view(images[:count], rng)
        return {} if augmented is None else {AUGMENTED: augmented}

    def losses(self, features: Mapping[str, Features], rng: np.random.Generator) -> dict[str, Tensor]:
        """Return the terms of :meth:`distillation` over the images and their augmented views."""
        good = self.good(features)
        return self.distill(good, good, len(features[NORMAL][0]))

    def distill(self, teacher: Features, inputs: Features, images: int) -> dict[str, Tensor]:
        """Return the terms of :meth:`distillation`, in one pass or in two: of the images, and of their augmented views.

        Args:
            teacher: the images' features, followed by their augmented views'.
            inputs: what the student reads, in the same order.
            images: how many of them are images; the rest are views.
        """
        if self.config.augment_batch == "joint" or len(teacher[0]) == images:
            return self.distillation(teacher, self.student(inputs))
        first, second = (
            self.distillation([stage[part] for stage in teacher], self.student([stage[part] for stage in inputs]))
            for part in (slice(images), slice(images, None))
        )
        return {name: first[name] + second[name] for name in first}

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

    def distances(self, features: Features, size: tuple[int, int]) -> Tensor:
        """Return the smoothed distance between teacher and student, float32 [B, H, W], not negative."""
        return self.residuals(features, self.reconstruct(features), size)

    def residuals(self, features: Features, reconstructed: Features, size: tuple[int, int]) -> Tensor:
        """Return the smoothed distance between given stages of teacher and student, float32 [B, H, W]."""
        return self.to_map([cosine_distance(*pair) for pair in zip(features, reconstructed, strict=True)], size)

    def distillation(self, teacher: Features, student: Features) -> dict[str, Tensor]:
        """Return the distillation loss by name: one term, "distill"."""
        kind, fraction = self.config.distillation, self.config.hard_fraction
        return {"distill": distillation_loss(teacher, student, kind, fraction)}
