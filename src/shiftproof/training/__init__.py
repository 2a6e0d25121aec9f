"""Training: from good images to a method's weights."""

from shiftproof.config import TrainConfig, fit_size, format_size, parse_size
from shiftproof.training.checkpoint import load_checkpoint
from shiftproof.training.loop import Interrupted, Record, StepFunction, fit

__all__ = [
    "Interrupted",
    "Record",
    "StepFunction",
    "TrainConfig",
    "fit",
    "fit_size",
    "format_size",
    "load_checkpoint",
    "parse_size",
]
