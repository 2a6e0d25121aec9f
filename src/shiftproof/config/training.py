"""Options of the training: one fixed schedule for every product."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from shiftproof.config.methods import CONFIGS
from shiftproof.config.options import check_choices, option
from shiftproof.errors import UsageError

DEFAULT_METHOD = "rd"
DEFAULT_BACKBONE = "tf_efficientnet_lite0.in1k"
STRIDE = 32  # image sides are multiples of the student's deepest stride


@dataclass(frozen=True)
class TrainOptions:
    """What ``train`` trains: the method, the teacher, and the images."""

    method: str = option(DEFAULT_METHOD, "Method.", choices=tuple(CONFIGS), common=True)
    backbone: str = option(DEFAULT_BACKBONE, "Teacher: a timm name with its pretrained tag.", common=True)
    weights: Path | None = option(None, "File with the teacher's weights, for sites without a model hub.", common=True)
    calibration: Path | None = option(
        None, "Folder of more good images that set the threshold, instead of a part of DATA.", common=True
    )
    false_alarm_rate: float = option(0.05, "Target false-alarm rate among good images at the threshold.", common=True)
    rule: str = option(
        "expected",
        "Whether the target holds in the mean, or with 95 % confidence.",
        choices=("expected", "certified"),
        common=True,
    )
    layout: str = option("auto", "Layout of DATA: auto, or a name of docs/data.md, such as mvtec or folder.")
    bits: int | None = option(
        None, "Bits of the values in 16-bit files whose tags do not say it, such as 12; the model reads all images so."
    )
    conditional: str = option(
        "none",
        "Also set thresholds for shifted images, from calibration images that are shifted by no shift of the papers' "
        "tests (blind) or by all shifts (production).",
        choices=("none", "blind", "production"),
    )
    textures: Path | None = option(
        None, "Folder of pictures, such as DTD, for synthetic anomalies (gnl; fusion with --segmentation)."
    )
    resume: bool = option(False, "Continue an interrupted training; give the other options as before.", common=True)
    overwrite: bool = option(False, "Replace an existing model.", common=True)

    def __post_init__(self) -> None:
        check_choices(self)
        if not 0 < self.false_alarm_rate < 1:
            raise UsageError(
                f"false-alarm rate {self.false_alarm_rate} is out of range: expected one between 0 and 1, e.g. 0.05"
            )


@dataclass(frozen=True)
class TrainConfig:
    """The schedule. No field may depend on a test image."""

    image_size: tuple[int, int] = option(
        (256, 256), "Size that images are resized to: auto, or N or HxW in pixels.", common=True, shown="auto"
    )
    steps: int = option(1200, "Batches in all, the same number for every product.", common=True)
    epochs: int | None = option(None, "Passes over the training images, instead of --steps.", common=True)
    batch_size: int = option(16, "Images per step, over all devices.")
    accumulate: int = option(1, "Batches whose gradients add up to one step (RD++'s reference code: 2).")
    learning_rate: float = option(4e-3, "Peak learning rate; RD++'s projection takes a fifth of it.")
    optimizer: str = option("adamw", "Optimizer; adam has the papers' betas 0.5 and 0.999.", choices=("adamw", "adam"))
    schedule: str = option(
        "one-cycle", "Learning-rate schedule; the papers' is constant.", choices=("one-cycle", "constant")
    )
    seed: int = option(0, "Seed of weights, order, augmentation and split.", common=True)
    precision: str = option(
        "auto", "Precision; auto is bf16 where the device computes it natively.", choices=("auto", "32", "bf16")
    )
    devices: int = option(1, "Processes; more than one trains with DDP.")
    feature_cache: int = option(4 * 2**30, "Bytes for cached teacher features; more are computed at each step.")

    def __post_init__(self) -> None:
        check_choices(self)
        for name in ("steps", "epochs", "batch_size", "accumulate", "devices"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name.replace('_', ' ')} {value} is too small: expected 1 or more")
        if self.seed < 0:
            raise UsageError(f"seed {self.seed} is negative: expected 0 or more")
        if not 0 < self.learning_rate < 1:
            raise UsageError(
                f"learning rate {self.learning_rate} is out of range: expected a number between 0 and 1, e.g. 4e-3"
            )
        if any(side < STRIDE or side % STRIDE for side in self.image_size):
            raise UsageError(f"image size {format_size(self.image_size)} is not made of multiples of {STRIDE}")

    def batch_for(self, images: int) -> int:
        """Return the batch size for a number of images: never more than there are."""
        return min(self.batch_size, images)

    def steps_for(self, images: int) -> int:
        """Return the steps of the whole schedule for a number of images."""
        if self.epochs is None:
            return self.steps
        return max(1, self.epochs * steps_per_epoch(images, self.batch_for(images)) // self.accumulate)

    def steps_of_an_epoch(self, images: int) -> int:
        """Return the steps of one pass over a number of images, rounded down, at least 1."""
        return max(1, steps_per_epoch(images, self.batch_for(images)) // self.accumulate)

    def rate_factor(self, step: int, steps: int) -> float:
        """Return the learning rate of a step over its peak.

        >>> [round(TrainConfig().rate_factor(s, 100), 3) for s in (0, 9, 55, 99)]
        [0.1, 1.0, 0.5, 0.0]
        """
        if self.schedule == "constant":
            return 1.0
        warm_up = max(1, steps // 10)
        if step < warm_up:
            return (step + 1) / warm_up
        return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / (steps - warm_up)))


def steps_per_epoch(images: int, batch: int) -> int:
    """Return the full batches in one pass; the remainder of a pass is left out, as batch statistics of a few images mislead."""
    return max(1, images // batch)


def parse_size(text: str) -> tuple[int, int]:
    """Return height and width from "256" or "640x256" (height first).

    >>> parse_size("256"), parse_size("640x256")
    ((256, 256), (640, 256))
    """
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise UsageError(f"image size {text!r} is not understood: expected N or HxW in pixels, e.g. 256 or 640x256")
    return int(parts[0]), int(parts[-1])


def fit_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return the nearest size whose sides are multiples of 32 (at least 64, so that the map can be smoothed).

    >>> fit_size((250, 300)), fit_size((10, 640))
    ((256, 288), (64, 640))
    """
    height, width = (max(2 * STRIDE, STRIDE * math.floor(side / STRIDE + 0.5)) for side in size)
    return height, width


def format_size(size: tuple[int, int]) -> str:
    """Return height x width, as the command line writes it."""
    return f"{size[0]}x{size[1]}"
