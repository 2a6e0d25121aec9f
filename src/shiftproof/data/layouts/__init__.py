"""How data sets are laid out: which files are good, which are for testing, and which mask belongs to which image.

Labels come from folders or tables and masks are paired by name; nothing that is tested on is ever offered for training.
A new layout is a class of :class:`Layout` and a line in :data:`LAYOUTS`.
"""

from __future__ import annotations

from shiftproof.data.layouts.base import LabelledImage, LabelledSet, Layout
from shiftproof.data.layouts.files import find_images, natural_key, relative_name
from shiftproof.data.layouts.registry import (
    LAYOUTS,
    calibration_images,
    categories,
    good_images,
    labelled_images,
    load_mask,
    recognise_layout,
)
from shiftproof.data.layouts.summary import said_of_folders, said_of_passed_over
from shiftproof.data.layouts.tables import write_manifest

__all__ = [
    "LAYOUTS",
    "Layout",
    "LabelledImage",
    "LabelledSet",
    "calibration_images",
    "categories",
    "find_images",
    "good_images",
    "labelled_images",
    "load_mask",
    "natural_key",
    "recognise_layout",
    "relative_name",
    "said_of_folders",
    "said_of_passed_over",
    "write_manifest",
]
