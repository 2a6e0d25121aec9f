"""How a model is trained: one fixed schedule for every product."""

from __future__ import annotations

import math
from dataclasses import dataclass

from shiftproof.errors import UsageError, unknown

SCHEDULES = ("one-cycle", "constant")
OPTIMIZERS = ("adamw", "adam")
PRECISIONS = ("auto", "32", "bf16")
STRIDE = 32  # image sides are multiples of the student's deepest stride


@dataclass(frozen=True)
class TrainConfig:
    """The schedule. No field may depend on a test image."""

    image_size: tuple[int, int] = (256, 256)  # height and width, multiples of 32
    steps: int = 1200  # batches in all, where epochs is None: small sets get as much training as large ones
    epochs: int | None = None  # passes over the training images instead of a number of steps
    batch_size: int = 16  # over all devices
    accumulate: int = 1  # batches whose gradients add up to one step (RD++'s reference code: 2)
    learning_rate: float = 4e-3  # peak; parts of a method may take a fraction of it
    optimizer: str = "adamw"  # "adamw" (betas 0.9, 0.999; decay 1e-4), or "adam" (betas 0.5, 0.999: the papers')
    schedule: str = "one-cycle"  # "one-cycle" (warm-up over 10 %, cosine to zero) or "constant" (the papers')
    seed: int = 0  # of weights, order, views and split
    precision: str = "auto"  # "32", "bf16", or "auto": bf16 where the device computes it natively
    devices: int = 1  # processes; more than one runs DDP
    feature_cache: int = 4 * 2**30  # bytes that cached teacher features may take; above, they are computed each time

    def __post_init__(self) -> None:
        for value, known, kind in (
            (self.schedule, SCHEDULES, "schedule"),
            (self.optimizer, OPTIMIZERS, "optimizer"),
            (self.precision, PRECISIONS, "precision"),
        ):
            if value not in known:
                raise unknown(kind, value, known)
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
        """The batch size for a set of that many images: never more than there are."""
        return min(self.batch_size, images)

    def steps_for(self, images: int) -> int:
        """Steps of the whole schedule for a set of that many images."""
        if self.epochs is None:
            return self.steps
        return max(1, self.epochs * steps_per_epoch(images, self.batch_for(images)) // self.accumulate)

    def steps_of_an_epoch(self, images: int) -> int:
        """Steps of one pass over a set of that many images, rounded down, at least 1."""
        return max(1, steps_per_epoch(images, self.batch_for(images)) // self.accumulate)

    def rate_factor(self, step: int, steps: int) -> float:
        """Learning rate of a step over its peak.

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
    """Full batches in one pass; the remainder of a pass is left out, as batch statistics of a few images mislead."""
    return max(1, images // batch)


def parse_size(text: str) -> tuple[int, int]:
    """Height and width from "256" or "640x256" (height first).

    >>> parse_size("256"), parse_size("640x256")
    ((256, 256), (640, 256))
    """
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise UsageError(f"image size {text!r} is not understood: expected N or HxW in pixels, e.g. 256 or 640x256")
    return int(parts[0]), int(parts[-1])


def fit_size(size: tuple[int, int]) -> tuple[int, int]:
    """The nearest size whose sides are multiples of 32 (at least 64, so that the map can be smoothed).

    >>> fit_size((250, 300)), fit_size((10, 640))
    ((256, 288), (64, 640))
    """
    height, width = (max(2 * STRIDE, STRIDE * math.floor(side / STRIDE + 0.5)) for side in size)
    return height, width


def format_size(size: tuple[int, int]) -> str:
    """Height x width, as the command line writes it."""
    return f"{size[0]}x{size[1]}"
