"""Options of the methods. They need no torch, so that the command line can show them at once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from shiftproof.config.options import check_choices, option
from shiftproof.errors import UsageError

STUDENTS = ("auto", "paper", "narrow", "lightweight")
DISTILLATIONS = ("hard", "hard-reference", "position", "flattened")
SSOT = ("pairwise", "reference", "off")
AUGMENTATIONS = ("blind", "production")
CORRECTION_WEIGHT = 0.5  # as in ATTA


@dataclass(frozen=True)
class MethodConfig:
    """Settings that every method has."""

    smoothing_sigma: float = option(4.0, "Sigma of the Gaussian over the anomaly map, in pixels of the image size.")
    score: str = option(
        "max",
        "Image score: the anomaly map's maximum (the papers'), or the mean of its highest values (top).",
        choices=("max", "top"),
    )
    score_fraction: float = option(0.005, "Fraction of the map's values that the score top is the mean of.")
    score_normalization: str = option(
        "median",
        "What each anomaly map is normalized by: its own median, a learned model, or none (the papers').",
        choices=("median", "learned", "none"),
    )
    correction: str = option(
        "image",
        "Shift correction: global shifts of the image, of the features (ATTA), of both, or none.",
        choices=("none", "image", "features", "both"),
    )
    correction_weight: float = option(CORRECTION_WEIGHT, "Blend weight of corrected features, 0 to 1.")

    def __post_init__(self) -> None:
        check_choices(self)
        weight = self.correction_weight
        if not 0 <= weight <= 1:
            raise UsageError(f"correction weight {weight} is out of range: expected 0 (off) to 1 (full)")
        if weight != CORRECTION_WEIGHT and self.correction not in ("features", "both"):
            raise UsageError(
                f"correction weight {weight} applies to features, and correction is {self.correction!r}: "
                "leave it out, or set correction to features or both"
            )
        if self.smoothing_sigma < 0:
            raise UsageError(f"smoothing sigma {self.smoothing_sigma} is negative: expected 0 (none) or more")
        if not 0 < self.score_fraction <= 1:
            raise UsageError(
                f"score fraction {self.score_fraction} is out of range: expected above 0, at most 1 (all values)"
            )

    @property
    def synthetic_anomalies(self) -> bool:
        """Whether the training makes synthetic anomalies of textures."""
        return False


@dataclass(frozen=True)
class RdConfig(MethodConfig):
    """Settings of RD, and of every method that distills a teacher into a student."""

    student: str = option(
        "auto",
        "Student network; auto is the paper's for a ResNet, and lightweight for any other teacher.",
        choices=STUDENTS,
    )
    distillation: str = option(
        "hard", "Distillation loss; RD's is flattened, and GNL's hard-reference.", choices=DISTILLATIONS
    )
    hard_fraction: float = option(0.02, "Fraction of a stage's positions in the hard loss.")
    augment: str = option(
        "none",
        "AugMix views: blind leaves out what the test shifts do; production has all that helps on a line.",
        choices=("none", *AUGMENTATIONS),
        common=True,
    )
    random_rotation: str = option(
        "never",
        "Views rotated by any angle; auto: if the good images have every direction.",
        choices=("never", "auto", "always"),
        common=True,
    )
    denoise_augmentation: bool = option(
        True, "Views denoised as image correction denoises; only with image correction."
    )
    augment_share: float = option(0.5, "Share of a batch that gets an augmented view (GNL's paper: 1); 0: none.")
    augment_batch: str = option(
        "joint",
        "Images and views as one batch, or separate: with batch statistics of their own, and summed losses (the papers').",
        choices=("joint", "separate"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.hard_fraction <= 1:
            raise UsageError(f"hard fraction {self.hard_fraction} is out of range: expected above 0, at most 1 (all)")
        share = self.augment_share
        if not 0 <= share <= 1:
            raise UsageError(f"augment share {share} is out of range: expected 0 (no views) to 1 (all images)")


@dataclass(frozen=True)
class MemoryConfig(MethodConfig):
    """Settings of the nearest-neighbor method."""

    score: str = option(
        "top",
        "Image score: the anomaly map's maximum (the papers'), or the mean of its highest values (top).",
        choices=("max", "top"),
    )
    score_normalization: str = option(
        "none",
        "What each anomaly map is normalized by: its own median, a learned model, or none (the papers').",
        choices=("median", "learned", "none"),
    )
    bank_size: int = option(1500, "Patch features of good images that the memory bank keeps.")
    bank_images: int = option(400, "Most training images whose patches compete for the memory bank.")
    neighborhood: int = option(3, "Side of the neighborhood that a patch feature is the mean of, in positions.")
    invariance: str = option(
        "blind",
        "Perturbations of good images that distances are less sensitive to: blind leaves out what the test shifts do; "
        "production has all that change light, color, focus or noise.",
        choices=("none", *AUGMENTATIONS),
    )
    invariance_weight: float = option(1.0, "How much less the directions of these perturbations count; 0: not at all.")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("bank_size", "bank_images", "neighborhood"):
            value = getattr(self, name)
            if value < 1:
                raise UsageError(f"{name.replace('_', ' ')} {value} is too small: expected 1 or more")
        if not 0 <= self.invariance_weight < math.inf:
            raise UsageError(f"invariance weight {self.invariance_weight} is out of range: expected 0 (off) or more")
        if self.neighborhood % 2 == 0:
            raise UsageError(f"neighborhood {self.neighborhood} is even: expected an odd number, such as 3")


@dataclass(frozen=True)
class RdppConfig(RdConfig):
    """Settings of RD++; the weights are the paper's."""

    projection_weight: float = option(0.2, "Weight of the projection's losses; the distillation loss has 1.")
    reconstruct_weight: float = option(0.01, "Weight of RD++'s Reconstruct loss; SSOT has 1.")
    contrast_weight: float = option(0.1, "Weight of RD++'s Contrast loss; SSOT has 1.")
    ssot: str = option(
        "pairwise", "RD++'s SSOT loss; reference is zero, as the reference code computes it.", choices=SSOT
    )
    ssot_points: int = option(64, "Most positions of a map in the optimal transport of SSOT.")
    noisy_share: float = option(0.25, "Share of a batch that gets a pseudo-anomalous view (paper: 1).")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.noisy_share <= 1:
            raise UsageError(
                f"noisy share {self.noisy_share} is out of range: expected above 0, at most 1 (all images)"
            )


@dataclass(frozen=True)
class GnlConfig(RdConfig):
    """Settings of GNL."""

    augment: str = option(
        "blind",
        "AugMix views: blind leaves out what the test shifts do; production has all that helps on a line.",
        choices=("none", *AUGMENTATIONS),
        common=True,
    )
    structure_weight: float = option(0.02, "Weight of GNL's structure loss; the distillation loss has 1; 0: none.")
    structure: str = option(
        "sum", "Structure loss over positions; the reference code's is the mean.", choices=("sum", "mean")
    )
    segmentation: bool = option(True, "Train a segmentation head on synthetic anomalies, and add its map.")
    segmentation_share: float = option(0.25, "Steps of the segmentation over steps of the distillation.")
    segmentation_weight: float = option(0.5, "Weight of the segmentation map; the distance map has 1.")
    segmentation_width: int = option(32, "Channels of the segmentation head (paper: 256).")
    segmentation_network: str = option(
        "lightweight", "Segmentation head; paper is the network of DeSTSeg and GNL.", choices=("lightweight", "paper")
    )
    segmentation_optimizer: str = option(
        "schedule",
        "Optimizer of the segmentation: the training's, or the paper's sgd at its own rates.",
        choices=("schedule", "sgd"),
    )
    segmentation_sum: str = option(
        "scaled",
        "Sum of both maps: in standard deviations of their maxima, or the distance and the probability (the paper's).",
        choices=("scaled", "probability"),
    )
    segmentation_views: str = option(
        "half",
        "Augmented views of the segmentation: half of a batch, before the anomalies, or all of it after them (the paper's).",
        choices=("half", "all"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.segmentation_share <= 1:
            raise UsageError(
                f"segmentation share {self.segmentation_share} is out of range: expected above 0, at most 1"
            )
        if self.segmentation_optimizer == "sgd" and self.segmentation_network != "paper":
            raise UsageError(
                "segmentation optimizer sgd has the rates of the paper's network: set segmentation network to paper"
            )
        for name in ("structure_weight", "segmentation_weight"):
            value = getattr(self, name)
            if value < 0:
                raise UsageError(f"{name.replace('_', ' ')} {value} is negative: expected 0 (off) or more")

    @property
    def synthetic_anomalies(self) -> bool:
        """Whether the training makes synthetic anomalies of textures: only with the segmentation head."""
        return self.segmentation


@dataclass(frozen=True)
class FusionConfig(GnlConfig, RdppConfig):
    """Settings of both; parts without a measured gain are off (docs/results/ablation.md)."""

    segmentation: bool = option(False, "Train a segmentation head on synthetic anomalies, and add its map.")
    ssot: str = option("off", "RD++'s SSOT loss; reference is zero, as the reference code computes it.", choices=SSOT)


CONFIGS: Mapping[str, type[MethodConfig]] = {
    "rd": RdConfig,
    "rdpp": RdppConfig,
    "gnl": GnlConfig,
    "fusion": FusionConfig,
    "memory": MemoryConfig,
}
"""The config of each method, by the method's name."""
