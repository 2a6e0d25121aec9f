"""The types of all settings of training and methods, for signatures; defaults and help are at the dataclass fields."""

from __future__ import annotations

from typing import TypedDict


class Settings(TypedDict, total=False):
    """Fields of :class:`~shiftproof.config.TrainConfig` and of the methods' configs (a test compares the types)."""

    batch_size: int
    accumulate: int
    learning_rate: float
    optimizer: str
    schedule: str
    precision: str
    devices: int
    feature_cache: int
    student: str
    distillation: str
    hard_fraction: float
    smoothing_sigma: float
    score: str
    score_fraction: float
    score_normalization: str
    correction: str
    correction_weight: float
    augment: str
    random_rotation: str
    denoise_augmentation: bool
    augment_share: float
    augment_batch: str
    projection_weight: float
    reconstruct_weight: float
    contrast_weight: float
    ssot: str
    ssot_points: int
    noisy_share: float
    structure_weight: float
    structure: str
    segmentation: bool
    segmentation_share: float
    segmentation_weight: float
    segmentation_width: int
    segmentation_network: str
    segmentation_optimizer: str
    segmentation_sum: str
    segmentation_views: str
    bank_size: int
    bank_images: int
    neighborhood: int
    invariance: str
    invariance_weight: float
