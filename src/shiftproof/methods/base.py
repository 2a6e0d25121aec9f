"""What a method is: a composition of networks, the views that it trains on, and the losses that it sums."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from shiftproof.errors import unknown
from shiftproof.methods.losses import DISTILLATIONS
from shiftproof.networks.anomaly_map import GaussianSmoothing, median_of_maps, sum_of_distances
from shiftproof.networks.student import STUDENTS
from shiftproof.networks.teacher import Teacher

Features = list[Tensor]  # one tensor [B, C_k, H_k, W_k] a stage, fine to coarse
BACKGROUNDS = ("median", "none")
NORMAL = "normal"  # the view that is the image itself; its teacher features never change and are cached


@dataclass(frozen=True)
class MethodConfig:
    """Settings that every method has."""

    student: str = (
        "auto"  # "mirror" (the paper's), "light", or "auto": mirror for a ResNet, light for any other teacher
    )
    distillation: str = "hard"  # "hard", "position" or "flattened" (the papers'); see methods/losses.py
    hard_fraction: float = 0.02  # of the positions of a stage that the hard loss takes
    smoothing_sigma: float = 4.0  # of the Gaussian over the anomaly map, in pixels of the model's image size
    background: str = "median"  # what each map is measured against: "median" of its own, or "none" (the papers')

    def __post_init__(self) -> None:
        for kind, value, known in (
            ("student", self.student, STUDENTS),
            ("distillation loss", self.distillation, DISTILLATIONS),
            ("background", self.background, BACKGROUNDS),
        ):
            if value not in known:
                raise unknown(kind, value, known)


class Method(nn.Module):
    """Base of all methods; a subclass adds networks, views and losses.

    Everything random in :meth:`views` and :meth:`losses` comes from the generator that is passed in, so that a step of
    the training is a function of the weights, the images and the seed.
    """

    Config: ClassVar[type[MethodConfig]] = MethodConfig

    def __init__(self, teacher: Teacher, config: MethodConfig):
        super().__init__()
        self.teacher = teacher
        self.config = config
        self.smoothing = GaussianSmoothing(config.smoothing_sigma)

    def arrange(self) -> None:
        """Put the weights in the memory order in which each part computes fastest; results stay the same."""
        self.to(memory_format=torch.channels_last)

    def views(self, images: Tensor, random: np.random.Generator) -> dict[str, Tensor]:
        """The views that change from step to step, by name; :data:`NORMAL` is always there and not among them.

        Args:
            images: float [B, 3, H, W] in [0, 1].
            random: draws what is random.

        Returns:
            float tensors [b, 3, H, W], b <= B: views of the first b images.
        """
        return {}

    def losses(self, features: Mapping[str, Features], random: np.random.Generator) -> dict[str, Tensor]:
        """The weighted terms of the training loss, by name; their sum is minimised.

        Args:
            features: the teacher's stages for each view, :data:`NORMAL` included; without gradients.
            random: draws what is random.

        Returns:
            scalar float32 tensors.
        """
        raise NotImplementedError

    def trained_parameters(self, learning_rate: float) -> list[dict[str, Any]]:
        """Parameter groups for the optimiser, with their learning rates."""
        raise NotImplementedError

    def rebuild(self, features: Features) -> Features:
        """The student's stages for the teacher's; what inference compares."""
        raise NotImplementedError

    def anomaly_map(self, images: Tensor) -> Tensor:
        """The smoothed anomaly map.

        Args:
            images: float [B, 3, H, W] in [0, 1]; H and W multiples of 32.

        Returns:
            float32 [B, H, W]; higher is more anomalous, and 0 is the image's own background unless that is "none".
        """
        features = self.teacher(images)
        size = (images.shape[-2], images.shape[-1])
        maps = self.smoothing(sum_of_distances(features, self.rebuild(features), size))
        return maps if self.config.background == "none" else maps - median_of_maps(maps)


class Inspector(nn.Module):
    """The one inference path: what is evaluated, shown and exported is this module.

    Args:
        method: in any mode; the inspector puts it in eval mode.
    """

    def __init__(self, method: Method):
        super().__init__()
        self.method = method
        self.eval()

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Inspect images of the model's size.

        Args:
            pixels: uint8 [B, H, W, 3] RGB.

        Returns:
            anomaly maps, float32 [B, H, W], and image scores, float32 [B]: the maximum of each map.
        """
        maps = self.method.anomaly_map(to_images(pixels))
        return maps, maps.amax(dim=(1, 2))


@contextmanager
def exact_inference() -> Iterator[None]:
    """No gradients, and float32 that is float32: on a GPU convolutions would round to TF32, and a threshold would move."""
    flags = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
    with torch.inference_mode(), flags:
        yield


def to_images(pixels: Tensor) -> Tensor:
    """uint8 [B, H, W, 3] to float32 [B, 3, H, W] in [0, 1], in channels-last memory (no copy of the layout)."""
    return pixels.permute(0, 3, 1, 2).to(torch.float32) / 255
