"""The papers' settings by name, and where what is done here differs from them.

What their code does was read from it: RD++ (tientrandinh/Revisiting-Reverse-Distillation), GNL (Hui-design/VAND-GNL) and
ADShift (mala-lab/ADShift).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

WIDE_RESNET = "wide_resnet50_2.tv_in1k"


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
_HELD_OUT = "a part of train/good is not trained on: it places the threshold (the papers train on all and have none)"
_WHOLE_BATCHES = "the last batch of a pass is left out where it is not full (the papers' loaders keep it)"
_AUPRO = "AUPRO is that of the whole data set, exact; RD++'s code averages over images and rescales what it has seen"
_RESIZE = (
    "masks keep the images' own size, to which maps are brought; the papers resize masks, and take labels from them"
)

RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        recipe.name: recipe
        for recipe in (
            Recipe(
                "rdpp-cvpr2023",
                "Tien et al., Revisiting Reverse Distillation for Anomaly Detection, CVPR 2023",
                ("rdpp",),
                {**_SCHEDULE, "epochs": 200},
                {
                    **_MAP,
                    "distillation": "flattened",
                    "correction": "none",
                    "ssot": "reference",
                    "noisy_share": 1.0,
                    "projection_weight": 0.2,
                },
                (
                    "the reference code steps its optimizers after every second batch alone and drops the other's gradient: "
                    "half as many steps",
                    "categories that the paper does not name get 200 epochs",
                    "oracle: the reference takes the epoch with the best mean of image AUROC, pixel AUROC and PRO on the test "
                    "set; here the best image AUROC",
                    _HELD_OUT,
                    _WHOLE_BATCHES,
                    _AUPRO,
                    _RESIZE,
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
                    "distillation": "hard",
                    "correction": "features",
                    "correction_weight": 0.5,
                    "augment": "production",
                    "augment_share": 1.0,
                    "segmentation": True,
                    "segmentation_share": 1.0,
                    "segmentation_width": 256,
                },
                (
                    "augment: production, since the reference trains with corruptions that it is tested on: set "
                    "augment=blind to compare with anything else",
                    "views are tone curves, drift and noise; the reference's AugMix also turns and shears",
                    "the hard loss takes 2 % of the positions of a stage, and the mean over all of them as well; the reference "
                    "the hardest 10",
                    "the structure loss sums over positions; the reference averages, which makes it about 1e-3 of the rest",
                    "segmentation: Adam for 80 passes over batches of 16; the reference SGD for 100 over batches of 32",
                    "segmentation: its logit and the distance are added in standard deviations of calibration images",
                    "correction: towards channel quantiles of many training images; the reference has it commented out",
                    "oracle: the reference takes the best mean of image and pixel F1 on the test set, every ten epochs, in "
                    "each of its two parts; here the best image AUROC, in the second part",
                    "metal_nut is trained as well; the reference leaves it out",
                    _HELD_OUT,
                    _WHOLE_BATCHES,
                    _RESIZE,
                ),
                shifts="paper",
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
                },
                (
                    "the student is trained on the views as on images; the reference makes bottleneck and last stage of image, "
                    "AugMix view and gray view alike instead (0.9 distillation + 0.05 + 0.05)",
                    "there is no gray view",
                    "views are tone curves without anything that the test shifts use",
                    "correction is towards channel quantiles of many training images; the reference's towards one image",
                    "the reference takes the last epoch: --protocol blind is its protocol",
                    _HELD_OUT,
                    _WHOLE_BATCHES,
                ),
                shifts="paper",
            ),
        )
    }
)
"""The recipes by name."""
