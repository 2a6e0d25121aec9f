"""KolektorSDD (Tabernik et al., Journal of Intelligent Manufacturing 2019) as it is published."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from shiftproof.data.layouts.base import LabelledImage, LabelledSet, Layout
from shiftproof.data.layouts.files import folders, images_below, natural_key
from shiftproof.data.masks import read_mask
from shiftproof.errors import DataError

LAST_TRAINING_ITEM = 33
"""Good surfaces of items up to this one are to train on, those of later ones to test on."""
_ITEM = re.compile(r"kos(\d+)", re.IGNORECASE)


class Kolektor(Layout):
    """``kosXX/PartN.jpg`` with ``kosXX/PartN_label.bmp`` beside it.

    Nothing but the label image says whether a surface is defective, so here, and here alone, a mask is the label: read
    at its full size, defective where any pixel is set. The publication splits the items three ways at random; here a
    fixed rule by name does it, so that no item is on both sides: to train on are the good surfaces of items 1 to 33, to
    test on are the good ones of items 34 to 50, and every defective one.
    """

    looks_for = "kosXX/PartN_label.bmp"
    in_folders = False

    def recognise(self, root: Path) -> bool:
        return any(True for item in _items(root) for path in item.iterdir() if _is_label(path))

    def good(self, root: Path) -> list[Path]:
        surfaces = ((image, label) for image, label in _surfaces(root) if _trains(image))
        return [image for image, label in surfaces if not read_mask(label).any()]

    def test(self, root: Path) -> LabelledSet:
        images = []
        for image, label in _surfaces(root):
            defective = bool(read_mask(label).any())
            if defective or not _trains(image):
                kind = "defective" if defective else "good"
                name = image.relative_to(root).as_posix()
                images.append(LabelledImage(image, name, kind, defective, (label,) if defective else ()))
        return LabelledSet(tuple(images), has_masks=True)

    def protects(self, root: Path, inside: str) -> bool:
        return _ITEM.fullmatch(inside) is not None and self.recognise(root)


def _items(root: Path) -> list[Path]:
    return [folder for folder in folders(root) if _ITEM.fullmatch(folder.name)]


def _surfaces(root: Path) -> Iterator[tuple[Path, Path]]:
    """Each image with its label image, in natural order."""
    items = _items(root)
    if not items:
        raise DataError(f"{root}: not laid out as KolektorSDD; looked for {Kolektor.looks_for}")
    for item in items:
        files = images_below(item)
        labels = {path.stem[: -len("_label")].casefold(): path for path in files if _is_label(path)}
        for image in sorted((path for path in files if not _is_label(path)), key=natural_key):
            label = labels.get(image.stem.casefold())
            if label is None:
                raise DataError(
                    f"{image}: without its label image, which says whether it is good; expected {image.stem}_label.bmp"
                )
            yield image, label


def _is_label(path: Path) -> bool:
    return path.stem.casefold().endswith("_label")


def _trains(image: Path) -> bool:
    item = _ITEM.fullmatch(image.parent.name)
    return item is not None and int(item[1]) <= LAST_TRAINING_ITEM
