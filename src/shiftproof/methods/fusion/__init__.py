"""Fusion: RD++ and GNL in one method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from shiftproof.methods.gnl import Gnl, GnlConfig
from shiftproof.methods.rdpp import Rdpp, RdppConfig


@dataclass(frozen=True)
class FusionConfig(GnlConfig, RdppConfig):
    """Settings of both; parts without a measured gain are off (docs/results/ablation.md)."""

    segmentation: bool = False
    ssot: str = "off"


class Fusion(Gnl, Rdpp):
    """Projections and pseudo-anomalies of RD++; views, losses, segmentation and shift correction of GNL.

    Each parent adds to the next one in the method resolution order, so that inheritance joins them: GNL's augmented
    views become further images in RD++'s losses, and RD++'s distillation gets GNL's structure term.
    """

    Config: ClassVar[type[FusionConfig]] = FusionConfig
    config: FusionConfig
