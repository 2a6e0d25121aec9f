"""GNL: generalized normality learning (VAND 2.0 challenge, CVPR 2024)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from shiftproof.config import GnlConfig
from shiftproof.methods.base import CHUNK, MASKS, Features, Phase, to_images
from shiftproof.methods.losses import reference_structure_loss, structure_loss
from shiftproof.methods.rd import Rd
from shiftproof.methods.segmentation_loss import segmentation_loss
from shiftproof.networks.anomaly_map import CommonScale
from shiftproof.networks.segmentation import PaperSegmentationHead, SegmentationHead
from shiftproof.networks.teacher import Teacher
from shiftproof.synthesis.synthetic_anomaly import synthetic_anomalies

SYNTHETIC = "synthetic"  # the view with synthetic anomalies
SEGMENTATION_RATE = 0.25  # of the student's learning rate
SGD_RATES = (0.1, 0.01)  # of the paper's network: its residual blocks, and the rest


class Gnl(Rd):
    """RD on images and their AugMix views, with a structure loss, and a segmentation head trained afterwards."""

    Config: ClassVar[type[GnlConfig]] = GnlConfig
    config: GnlConfig

    def __init__(self, teacher: Teacher, config: GnlConfig):
        super().__init__(teacher, config)
        self.head: SegmentationHead | PaperSegmentationHead | None = None
        if config.segmentation:
            network = PaperSegmentationHead if config.segmentation_network == "paper" else SegmentationHead
            self.head = network(teacher.info.channels, config.segmentation_width)
            self.scale = CommonScale((1.0, config.segmentation_weight))

    def distillation(self, teacher: Features, student: Features) -> dict[str, Tensor]:
        """Return two terms, "distill" and "structure"."""
        terms = super().distillation(teacher, student)
        if self.config.structure_weight:
            loss = structure_loss if self.config.structure == "sum" else reference_structure_loss
            terms["structure"] = self.config.structure_weight * loss(teacher, student)
        return terms

    def phases(self) -> Sequence[Phase]:
        """Return the distillation, then the segmentation."""
        return [self] if self.head is None else [self, SegmentationPhase(self)]

    def score_map(self, features: Features, size: tuple[int, int]) -> Tensor:
        """Return the sum of the distance map and the segmentation map, on a common scale or as the paper adds them."""
        if self.head is None:
            return super().score_map(features, size)
        if self.config.segmentation_sum == "probability":
            return self._with_probability(features, size)
        return self.scale(*self._maps(features, size))

    def fit_scale(self, pixels: NDArray[np.uint8]) -> None:
        """Fit mean and standard deviation of both maps' maxima on good calibration images."""
        if self.head is None or self.config.segmentation_sum == "probability":
            return
        maxima = []
        for start in range(0, len(pixels), CHUNK):
            images = to_images(torch.from_numpy(np.ascontiguousarray(pixels[start : start + CHUNK])))
            images = images.to(self.teacher.device)
            maps = self._maps(self.features(images), (images.shape[-2], images.shape[-1]))
            maxima.append(torch.stack([each.amax(dim=(1, 2)) for each in maps], dim=1))
        self.scale.fit(torch.cat(maxima))

    def _with_probability(self, features: Features, size: tuple[int, int]) -> Tensor:
        """Return the normalized distance plus the weighted probability of a defect, [B, H, W]."""
        assert self.head is not None
        reconstructed = self.reconstruct(features)
        probability = self.head(features, reconstructed).sigmoid()[:, None]
        resized = F.interpolate(probability, size=size, mode="bilinear", align_corners=False)[:, 0]
        distance = self.normalize_maps(self.residuals(features, reconstructed, size))
        return distance + self.config.segmentation_weight * resized

    def _maps(self, features: Features, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return the normalized distance and the smoothed logit of a defect, [B, H, W] each."""
        reconstructed = self.reconstruct(features)
        logits = self.head(features, reconstructed)  # type: ignore[misc]
        return self.normalize_maps(self.residuals(features, reconstructed, size)), self.to_map([logits], size)


class SegmentationPhase(Phase):
    """The second part of GNL's training: it trains the head on synthetic anomalies and leaves the student unchanged."""

    reads_normal = False

    def __init__(self, method: Gnl):
        super().__init__()
        self.method = method
        self.teacher = method.teacher
        self.share = method.config.segmentation_share
        self.optimizer = "sgd" if method.config.segmentation_optimizer == "sgd" else None

    def train(self, mode: bool = True) -> SegmentationPhase:
        """Put only the head in training mode, so that the student's statistics stay."""
        super().train(False)
        assert self.method.head is not None
        self.method.head.train(mode)
        return self

    def views(self, images: Tensor, rng: np.random.Generator) -> dict[str, Tensor]:
        """Return images with synthetic anomalies, half or all of them as augmented views, and the masks."""
        if self.method.config.segmentation_views == "all":
            anomalous, masks = synthetic_anomalies(images, rng, self.method.textures)
            augmented = self.method.augmented_view(anomalous, rng, in_place=True)
            return {SYNTHETIC: anomalous if augmented is None else augmented, MASKS: masks}
        half = len(images) // 2
        augmented = self.method.augmented_view(images[:half], rng) if half else None
        good = images if augmented is None else torch.cat([augmented, images[half:]])
        anomalous, masks = synthetic_anomalies(good, rng, self.method.textures)
        return {SYNTHETIC: anomalous, MASKS: masks}

    def losses(self, features: Mapping[str, Features], rng: np.random.Generator) -> dict[str, Tensor]:
        """Return one term, "segmentation"."""
        assert self.method.head is not None
        teacher = features[SYNTHETIC]
        with torch.no_grad():
            student = self.method.reconstruct(teacher)
        return {"segmentation": segmentation_loss(self.method.head(teacher, student), features[MASKS][0])}

    def trained_parameters(self, learning_rate: float) -> list[dict[str, Any]]:
        """Return one group, the head; with SGD two: its residual blocks, and the rest, at the paper's rates."""
        assert self.method.head is not None
        if self.optimizer == "sgd":
            named = list(self.method.head.named_parameters())
            parts = ([p for name, p in named if name.startswith("blocks.") == first] for first in (True, False))
            return [{"params": part, "lr": rate} for part, rate in zip(parts, SGD_RATES, strict=True)]
        return [{"params": list(self.method.head.parameters()), "lr": learning_rate * SEGMENTATION_RATE}]
