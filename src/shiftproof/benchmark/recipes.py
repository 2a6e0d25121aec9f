"""The papers' settings by name, and where what is done here differs from them.

What their code does was read from it: RD (hq-deng/RD4AD), RD++ (tientrandinh/Revisiting-Reverse-Distillation), GNL
(Hui-design/VAND-GNL) and ADShift (mala-lab/ADShift).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

WIDE_RESNET = "wide_resnet50_2.tv_in1k"
_CORRUPTIONS = "clean,brightness:3,contrast:3,defocus_blur:3,gaussian_noise:3"


@dataclass(frozen=True)
class Recipe:
    """The settings of one paper."""

    name: str  # as --recipe takes it
    source: str  # paper
    methods: tuple[str, ...]  # that it is about
    schedule: Mapping[str, Any]  # fields of TrainConfig
    options: Mapping[str, Any]  # fields of the methods' configs; a method takes those that it has
    differs: tuple[str, ...]  # a line for each thing that is not done as in the paper's code
    shifts: str = "clean"  # that the paper tests under
    epochs: Mapping[str, int] = field(default_factory=dict)  # of single categories, by their folder's name
    backbone: str = WIDE_RESNET

    def schedule_of(self, category: str) -> dict[str, Any]:
        """Return the fields of TrainConfig for a category, by the name of its folder."""
        return {**self.schedule, "epochs": self.epochs.get(category, self.schedule["epochs"])}


# Adam with betas 0.5 and 0.999 at a constant rate of 5e-3, 16 images of 256 x 256 in a step, in float32: RD's, and all later.
_SCHEDULE = {
    "image_size": (256, 256),
    "batch_size": 16,
    "learning_rate": 5e-3,
    "optimizer": "adam",
    "schedule": "constant",
    "precision": "32",
}
# RD's student and map, and no further views than a paper's own.
_MAP = {
    "student": "paper",
    "score_normalization": "none",
    "smoothing_sigma": 4.0,
    "random_rotation": "never",
    "denoise_augmentation": False,
}
_HELD_OUT = (
    "a part of the good images places the threshold and is not trained on, unless the data set has validation images (the "
    "papers train on all good images and have no threshold)"
)
_WHOLE_BATCHES = "the last batch of a pass is left out where it is not full; the reference's loader keeps it"
_AUPRO = "AUPRO is exact and that of the whole data set; the reference averages over images, on a grid of thresholds"
_MASKS = "masks keep their own size, and maps are resized to it; the reference resizes masks and takes labels from them"
_SEED = "the reference runs one seed, 111; the same number gives other random draws here"
_ROTATION = "the rotation is resampled bicubically, masks by nearest neighbor; the reference resamples both bilinearly"

RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        recipe.name: recipe
        for recipe in (
            Recipe(
                "rd-cvpr2022",
                "Deng & Li, Anomaly Detection via Reverse Distillation from One-Class Embedding, CVPR 2022",
                ("rd",),
                {**_SCHEDULE, "epochs": 200},
                {**_MAP, "distillation": "flattened", "correction": "none"},
                (
                    "the reference keeps the last epoch: --protocol blind is its protocol",
                    _SEED,
                    _HELD_OUT,
                    _WHOLE_BATCHES,
                    _AUPRO,
                    _MASKS,
                ),
            ),
            Recipe(
                "rdpp-cvpr2023",
                "Tien et al., Revisiting Reverse Distillation for Anomaly Detection, CVPR 2023",
                ("rdpp",),
                {**_SCHEDULE, "epochs": 200, "accumulate": 2},
                {
                    **_MAP,
                    "distillation": "flattened",
                    "correction": "none",
                    "ssot": "reference",
                    "noisy_share": 1.0,
                    "projection_weight": 0.2,
                },
                (
                    "two batches of 16 add up to one step, as in the reference code; one of its versions drops the first of "
                    "the two gradients instead",
                    "contrast: target -1 and margin 0.5, as in the paper; one version of the reference code has target +1",
                    "images are resized with antialiasing; the reference resizes without (OpenCV, bilinear), which keeps "
                    "about three times the fine detail of 1024 -> 256",
                    "noise: a field of its own for each image, the same for all channels; the reference takes slices of a "
                    "3-D field that is the same for the whole run, so that all pseudo-anomalies are cut from one corner of it",
                    "categories that the paper does not name get 200 epochs",
                    "oracle: the reference takes the epoch with the best mean of image AUROC, pixel AUROC and PRO on the test "
                    "set; here the best image AUROC",
                    _SEED,
                    _HELD_OUT,
                    _WHOLE_BATCHES,
                    _AUPRO,
                    _MASKS,
                ),
                epochs={
                    "carpet": 10,
                    "leather": 10,
                    "grid": 260,
                    "tile": 260,
                    "wood": 100,
                    "cable": 240,
                    "capsule": 300,
                    "hazelnut": 160,
                    "metal_nut": 160,
                    "screw": 280,
                    "toothbrush": 280,
                    "transistor": 300,
                    "zipper": 300,
                    "pill": 200,
                    "bottle": 200,
                },
            ),
            Recipe(
                "gnl-vand2024",
                "Tang et al., Generalized Normality Learning for Robust Anomaly Detection, VAND 2.0, CVPR 2024",
                ("gnl",),
                {**_SCHEDULE, "epochs": 80},
                {
                    **_MAP,
                    "distillation": "hard-reference",
                    "structure": "mean",
                    "structure_weight": 1.0,
                    "correction": "features",
                    "correction_weight": 0.5,
                    "augment": "production",
                    "augment_share": 1.0,
                    "augment_batch": "separate",
                    "segmentation": True,
                    "segmentation_network": "paper",
                    "segmentation_width": 256,
                    "segmentation_optimizer": "sgd",
                    "segmentation_share": 0.625,  # 50 passes in batches of 16: the steps of 100 in batches of 32
                    "segmentation_sum": "probability",
                    "segmentation_weight": 1.0,
                    "segmentation_views": "all",
                },
                (
                    "augment: production, since the reference trains with corruptions that it is tested on: set "
                    "augment=blind to compare with anything else",
                    "views: drift of light, camera and pose, then AugMix's tone curves; the reference mixes brightness, "
                    "contrast, color, sharpness and noise, and turns many images, with gray corners",
                    "segmentation: batches of 16, as many steps as the reference's 100 passes over batches of 32",
                    "segmentation: its views are not turned; the reference turns many of them, and their masks along",
                    "segmentation: anomalies are spots of simplex noise whose area is drawn; the reference cuts Perlin noise "
                    "at one half. Without --textures their textures are made; the reference takes those of DTD",
                    "segmentation: masks are averaged down to the logits; the reference cuts them at one half",
                    "correction: towards channel quantiles of many training images; the reference has it commented out",
                    "oracle: the reference takes the best mean of image and pixel F1 on the test set, every ten epochs, in "
                    "each of its two parts; here the best image AUROC, in the second part",
                    "metal_nut is trained as well; the reference leaves it out",
                    _ROTATION,
                    _SEED,
                    _HELD_OUT,
                    _WHOLE_BATCHES,
                    _MASKS,
                ),
                shifts=f"{_CORRUPTIONS},rotation_gray",
            ),
            Recipe(
                "adshift-iccv2023",
                "Cao et al., Anomaly Detection under Distribution Shift, ICCV 2023",
                ("gnl",),
                {**_SCHEDULE, "epochs": 20},
                {
                    **_MAP,
                    "distillation": "flattened",
                    "structure_weight": 0.0,
                    "segmentation": False,
                    "correction": "features",
                    "correction_weight": 0.5,
                    "augment_share": 1.0,
                    "augment_batch": "separate",
                },
                (
                    "the student is trained on the views as on images; the reference makes bottleneck and last stage of image, "
                    "AugMix view and gray view alike instead (0.9 distillation + 0.05 + 0.05)",
                    "there is no gray view",
                    "views: AugMix's tone curves without anything that the test shifts use; the reference also changes color "
                    "and sharpness",
                    "correction is towards channel quantiles of many training images; the reference's towards one image",
                    "the reference takes the last epoch: --protocol blind is its protocol",
                    _HELD_OUT,
                    _WHOLE_BATCHES,
                    _MASKS,
                ),
                shifts=_CORRUPTIONS,
            ),
        )
    }
)
"""The recipes by name."""
