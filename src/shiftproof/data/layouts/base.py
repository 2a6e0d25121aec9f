"""What a layout is: which files are good, which are held out, which are for testing, and which mask belongs to which."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from shiftproof.data.annotations import Shape
from shiftproof.errors import DataError


class MissingSplitError(DataError):
    """A data set that has no images of a split, to train on or to test on, which may well be meant so."""


@dataclass(frozen=True)
class LabelledImage:
    """One image to test on."""

    path: Path
    """Where it lies."""
    name: str
    """Its posix path relative to the data set's root, such as ``test/scratch_head/003.png``; never one that leaves it."""
    defect_type: str
    """The folder's name, or the label in the data set's table: ``good``, or the kind of defect."""
    defective: bool
    """The folder's or the table's word, never the mask's: a small defect stays a defect at any size."""
    masks: tuple[Path, ...] = ()
    """Its ground-truth masks, which are united; none for good images, and for all in a data set without masks."""
    shapes: tuple[Shape, ...] = ()
    """Defects as an annotation tool draws them; united with the masks."""
    variant: str = ""
    """How it was taken, where file names say so: the lighting in MVTec AD 2 (``regular``, ``overexposed``, ...)."""

    @property
    def has_mask(self) -> bool:
        """Whether something says where its defects are."""
        return bool(self.masks or self.shapes)


@dataclass(frozen=True)
class LabelledSet:
    """All images to test on."""

    images: tuple[LabelledImage, ...]
    """In natural order of their names, kind by kind."""
    has_masks: bool
    """True if every defective image has a mask, False if the data set has none."""
    problems: tuple[str, ...] = ()
    """One line for each missing or stray mask, naming it; a set with problems is for looking at, not for evaluating."""


class Layout(ABC):
    """How one family of data sets is laid out; a new one answers these questions and gets a line in ``LAYOUTS``."""

    looks_for: str
    """What it is recognised by, for the error where nothing is."""
    in_folders: bool = True
    """Whether folders alone say what an image is; otherwise a table does, or masks."""

    @abstractmethod
    def recognise(self, root: Path) -> bool:
        """Whether a root looks like it; only names are looked at."""

    @abstractmethod
    def good(self, root: Path) -> list[Path]:
        """The good images to train on; :class:`MissingSplitError` where there are none of that split."""

    @abstractmethod
    def test(self, root: Path) -> LabelledSet:
        """The labelled images to test on; :class:`MissingSplitError` where there are none."""

    def calibration(self, root: Path) -> list[Path]:
        """The good images that the data set itself holds out of training; none where it has no such split."""
        return []

    def unlabelled(self, root: Path) -> list[Path]:
        """Images whose labels are not published."""
        return []

    def protects(self, root: Path, inside: str) -> bool:
        """Whether a folder ``inside`` the root (in lower case; "" for the root's own files) holds test images.

        It may look like a plain folder to whoever is given it alone.
        """
        return False
