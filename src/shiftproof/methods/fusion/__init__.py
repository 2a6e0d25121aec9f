"""Fusion: RD++ and GNL in one method."""

from __future__ import annotations

from typing import ClassVar

from shiftproof.config import FusionConfig
from shiftproof.methods.gnl import Gnl
from shiftproof.methods.rdpp import Rdpp


class Fusion(Gnl, Rdpp):
    """Projections and pseudo-anomalies of RD++; views, losses, segmentation and shift correction of GNL.

    Each parent adds to the next one in the method resolution order, so that inheritance joins them: GNL's augmented
    views become further images in RD++'s losses, and RD++'s distillation gets GNL's structure term.
    """

    Config: ClassVar[type[FusionConfig]] = FusionConfig
    config: FusionConfig
