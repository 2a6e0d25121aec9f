"""Fusion: RD++ and GNL in one method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from shiftproof.methods.gnl import Gnl, GnlConfig
from shiftproof.methods.rdpp import Rdpp, RdppConfig


@dataclass(frozen=True)
class FusionConfig(GnlConfig, RdppConfig):
    """Settings of both; what did not pay where it was measured is off (docs/results/ablation.md)."""

    segmentation: bool = False
    ssot: str = "off"


class Fusion(Gnl, Rdpp):
    """Projections and pseudo-anomalies of RD++; views, losses, segmentation and matching of GNL.

    Each says what it adds to the method before it, so that to join them is to name them: GNL's views become further
    images of RD++'s losses, and RD++'s distillation gets GNL's structure term.
    """

    Config: ClassVar[type[FusionConfig]] = FusionConfig
    config: FusionConfig
