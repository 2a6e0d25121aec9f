"""Training: from good images to a method's weights."""

from shiftproof.training.checkpoint import load_checkpoint
from shiftproof.training.config import TrainConfig, fit_size, format_size, parse_size
from shiftproof.training.loop import Interrupted, Record, fit

__all__ = [
    "Interrupted",
    "Record",
    "TrainConfig",
    "fit",
    "fit_size",
    "format_size",
    "load_checkpoint",
    "parse_size",
]
