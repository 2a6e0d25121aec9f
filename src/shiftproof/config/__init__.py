"""All options of the training and of the methods, as dataclasses; none of them needs torch."""

from shiftproof.config.methods import CONFIGS, FusionConfig, GnlConfig, MemoryConfig, MethodConfig, RdConfig, RdppConfig
from shiftproof.config.options import Option, build_config, options_of, parse_settings, typed_settings
from shiftproof.config.training import (
    DEFAULT_BACKBONE,
    DEFAULT_METHOD,
    TrainConfig,
    TrainOptions,
    fit_size,
    format_size,
    parse_size,
    steps_per_epoch,
)

__all__ = [
    "CONFIGS",
    "DEFAULT_BACKBONE",
    "DEFAULT_METHOD",
    "FusionConfig",
    "GnlConfig",
    "MemoryConfig",
    "MethodConfig",
    "Option",
    "RdConfig",
    "RdppConfig",
    "TrainConfig",
    "TrainOptions",
    "build_config",
    "fit_size",
    "format_size",
    "options_of",
    "parse_settings",
    "parse_size",
    "steps_per_epoch",
    "typed_settings",
]
