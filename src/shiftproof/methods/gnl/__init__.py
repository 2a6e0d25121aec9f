"""GNL: generalised normality learning (VAND 2.0 challenge, CVPR 2024)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shiftproof.errors import UsageError
from shiftproof.methods.base import CHUNK, MASKS, Features, MethodConfig, Phase, to_images
from shiftproof.methods.losses import structure_loss
from shiftproof.methods.rd import Rd
from shiftproof.methods.segmentation_loss import segmentation_loss
from shiftproof.networks.anomaly_map import CommonScale
from shiftproof.networks.segmentation import SegmentationHead
from shiftproof.networks.teacher import Teacher
from shiftproof.synthesis.synthetic_anomaly import synthetic_anomalies
from shiftproof.synthesis.textures import Textures

SYNTHETIC = "synthetic"  # the view with synthetic anomalies
SEGMENTATION_RATE = 0.25  # of the student's learning rate


@dataclass(frozen=True)
class GnlConfig(MethodConfig):
    """Settings of GNL."""

    views: str = "blind"
    structure_weight: float = 0.02  # of the structure loss beside the distillation's; 0 leaves it out
    segmentation: bool = True  # train a segmentation head on synthetic anomalies, and add its map
    segmentation_share: float = 0.25  # steps of that training over the distillation's
    segmentation_weight: float = 0.5  # of its map beside the distance map, both in standard deviations
    segmentation_width: int = 32  # channels of the head (paper: 256, which costs fifty times the light student)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.segmentation_share <= 1:
            raise UsageError(
                f"segmentation share {self.segmentation_share} is out of range: expected above 0, at most 1"
            )
        for name in ("structure_weight", "segmentation_weight"):
            value = getattr(self, name)
            if value < 0:
                raise UsageError(f"{name.replace('_', ' ')} {value} is negative: expected 0 (off) or more")


class Gnl(Rd):
    """RD on images and AugMix views of them, with a structure loss, and a segmentation head trained afterwards."""

    Config: ClassVar[type[GnlConfig]] = GnlConfig
    config: GnlConfig

    def __init__(self, teacher: Teacher, config: GnlConfig):
        super().__init__(teacher, config)
        self.textures = Textures()  # what synthetic anomalies are made of; may be replaced before the training
        self.head: SegmentationHead | None = None
        if config.segmentation:
            self.head = SegmentationHead(teacher.info.channels, config.segmentation_width)
            self.scale = CommonScale((1.0, config.segmentation_weight))

    def distillation(self, teacher: Features, student: Features) -> dict[str, Tensor]:
        """Two terms, "distill" and "structure"."""
        terms = super().distillation(teacher, student)
        if self.config.structure_weight:
            terms["structure"] = self.config.structure_weight * structure_loss(teacher, student)
        return terms

    def phases(self) -> Sequence[Phase]:
        """Distillation, then segmentation."""
        return [self] if self.head is None else [self, SegmentationPhase(self)]

    def compare(self, features: Features, size: tuple[int, int]) -> Tensor:
        """Distance and segmentation on one scale, added."""
        if self.head is None:
            return super().compare(features, size)
        return self.scale(*self._maps(features, size))

    def learn_scale(self, pixels: NDArray[np.uint8]) -> None:
        """Take the spread of both maps' maxima on held-out good images."""
        if self.head is None:
            return
        maxima = []
        for start in range(0, len(pixels), CHUNK):
            images = to_images(torch.from_numpy(np.ascontiguousarray(pixels[start : start + CHUNK])))
            images = images.to(self.teacher.device)
            maps = self._maps(self.features(images), (images.shape[-2], images.shape[-1]))
            maxima.append(torch.stack([each.amax(dim=(1, 2)) for each in maps], dim=1))
        self.scale.learn(torch.cat(maxima))

    def _maps(self, features: Features, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """The distance against its background and the smoothed logit of a defect, [B, H, W] each."""
        rebuilt = self.rebuild(features)
        logits = self.head(features, rebuilt)  # type: ignore[misc]
        return self.against_background(self.distances(features, rebuilt, size)), self.to_map([logits], size)


class SegmentationPhase(Phase):
    """The second part of GNL's training: the head alone, on synthetic anomalies, with the student as it is."""

    reads_normal = False

    def __init__(self, method: Gnl):
        super().__init__()
        self.method = method
        self.teacher = method.teacher
        self.share = method.config.segmentation_share

    def train(self, mode: bool = True) -> SegmentationPhase:
        """Only the head is ever in training mode: the student's statistics stay as well."""
        super().train(False)
        assert self.method.head is not None
        self.method.head.train(mode)
        return self

    def views(self, images: Tensor, random: np.random.Generator) -> dict[str, Tensor]:
        """Images with synthetic anomalies, half of them in another look, and the masks of the anomalies."""
        half = len(images) // 2
        look = self.method.look(images[:half], random) if half else None
        looks = images if look is None else torch.cat([look, images[half:]])
        anomalous, masks = synthetic_anomalies(looks, random, self.method.textures)
        return {SYNTHETIC: anomalous, MASKS: masks}

    def losses(self, features: Mapping[str, Features], random: np.random.Generator) -> dict[str, Tensor]:
        """One term, "segmentation"."""
        assert self.method.head is not None
        teacher = features[SYNTHETIC]
        with torch.no_grad():
            student = self.method.rebuild(teacher)
        return {"segmentation": segmentation_loss(self.method.head(teacher, student), features[MASKS][0])}

    def trained_parameters(self, learning_rate: float) -> list[dict[str, Any]]:
        """One group: the head."""
        assert self.method.head is not None
        return [{"params": list(self.method.head.parameters()), "lr": learning_rate * SEGMENTATION_RATE}]
