"""GNL: generalised normality learning (VAND 2.0 challenge, CVPR 2024)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shiftproof.errors import UsageError, unknown
from shiftproof.methods.base import CHUNK, MASKS, NORMAL, Features, MethodConfig, Phase, to_images
from shiftproof.methods.losses import structure_loss
from shiftproof.methods.rd import Rd
from shiftproof.methods.segmentation_loss import segmentation_loss
from shiftproof.networks.anomaly_map import CommonScale
from shiftproof.networks.segmentation import SegmentationHead
from shiftproof.networks.teacher import Teacher
from shiftproof.synthesis.augmix import VIEWS, augmix
from shiftproof.synthesis.synthetic_anomaly import synthetic_anomalies
from shiftproof.synthesis.textures import Textures

LOOKS = "looks"  # the AugMix view
SYNTHETIC = "synthetic"  # the view with synthetic anomalies
SEGMENTATION_RATE = 0.25  # of the student's learning rate


@dataclass(frozen=True)
class GnlConfig(MethodConfig):
    """Settings of GNL."""

    views: str = "blind"  # AugMix "blind": without any operation that a test shift uses; "production": all that helps
    views_share: float = 0.5  # of a batch that is seen in an AugMix view as well (paper: 1); 0: no views
    structure_weight: float = 0.02  # of the structure loss beside the distillation's; 0 leaves it out
    segmentation: bool = True  # train a segmentation head on synthetic anomalies, and add its map
    segmentation_share: float = 0.25  # steps of that training over the distillation's
    segmentation_weight: float = 0.5  # of its map beside the distance map, both in standard deviations
    segmentation_width: int = 32  # channels of the head (paper: 256, which costs fifty times the light student)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.views not in VIEWS:
            raise unknown("views", self.views, VIEWS)
        if not 0 < self.segmentation_share <= 1:
            raise UsageError(
                f"segmentation share {self.segmentation_share} is out of range: expected above 0, at most 1"
            )
        if not 0 <= self.views_share <= 1:
            raise UsageError(f"views share {self.views_share} is out of range: expected 0 (no views) to 1 (all images)")
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

    def views(self, images: Tensor, random: np.random.Generator) -> dict[str, Tensor]:
        """AugMix views of the first images of the (shuffled) batch."""
        views = super().views(images, random)
        if self.config.views_share == 0:
            return views
        count = max(1, round(self.config.views_share * len(images)))
        return {**views, LOOKS: augmix(images[:count], random, self.config.views)}

    def losses(self, features: Mapping[str, Features], random: np.random.Generator) -> dict[str, Tensor]:
        """The losses of images, with the views as further images: the student rebuilds what the teacher sees in each."""
        if LOOKS not in features:
            return super().losses(features, random)
        pairs = zip(features[NORMAL], features[LOOKS], strict=True)
        return super().losses({**features, NORMAL: [torch.cat(pair) for pair in pairs]}, random)

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
        """Images with synthetic anomalies, half of them in an AugMix view, and the masks of the anomalies."""
        looks = images.clone()
        half = len(images) // 2 if self.method.config.views_share else 0
        if half:
            looks[:half] = augmix(images[:half], random, self.method.config.views)
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
