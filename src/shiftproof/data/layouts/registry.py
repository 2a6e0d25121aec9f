"""The layouts by name, and what is asked of them: images to train on, to place the threshold with, to test on."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shiftproof.data.annotations import draw_shapes
from shiftproof.data.layouts.annotated import AnnotatedImages
from shiftproof.data.layouts.base import LabelledImage, LabelledSet, Layout
from shiftproof.data.layouts.categories import BeanTech, Category, Category2, Category3D, Everything, Loco, Plain
from shiftproof.data.layouts.files import folders, folders_of, refusing_unlistable
from shiftproof.data.layouts.kolektor import Kolektor
from shiftproof.data.layouts.tables import NEVER_TRAINED_ON, Manifest, VisA, refuse
from shiftproof.data.masks import read_mask
from shiftproof.data.source import read_orientation, turn
from shiftproof.data.vocabulary import Meaning, meaning
from shiftproof.errors import DataError, unknown

LAYOUTS: dict[str, Layout] = {
    "manifest": Manifest(),
    "visa": VisA(),
    "ksdd": Kolektor(),
    "annotated": AnnotatedImages(),
    "mvtec-2": Category2(),
    "mvtec-3d": Category3D(),
    "mvtec-loco": Loco(),
    "btad": BeanTech(),
    "mvtec": Category(),  # fits what is laid out like it
    "all-good": Everything(),  # only where it is named
    "folder": Plain(),  # fits anything: stays last
}
"""Known layouts by name, in the order in which they are tried."""


@refusing_unlistable()
def recognise_layout(root: Path | str, layout: str = "auto") -> str:
    """The name of the layout of a data set: the one that is given, or the first of :data:`LAYOUTS` that fits.

    Raises:
        UsageError: ``layout`` is not a known name.
        DataError: ``root`` does not exist, holds nothing that is known, or is a collection of categories of which one
            has to be named.
    """
    root = Path(root)
    if layout != "auto":
        if layout not in LAYOUTS:
            raise unknown("layout", layout, [*LAYOUTS, "auto"])
        return layout
    root.stat()  # a root that is missing looks like no layout at all
    name = _recognised(root)
    if name == "folder" and (found := _categories_below(root)):
        names = ", ".join(folder.relative_to(root).as_posix() for folder in found)
        raise DataError(f"{root}: holds several categories ({names}); name one of them, such as {found[0]}")
    if name is None:
        known = "; ".join(f"{name}: {known.looks_for}" for name, known in LAYOUTS.items() if name != "folder")
        raise DataError(f"{root}: no images found; looked for {LAYOUTS['folder'].looks_for}, and for {known}")
    return name


@refusing_unlistable()
def categories(root: Path | str) -> list[Path]:
    """The categories of a data set in natural order: the folders in ``root`` that are recognised by their structure.

    One level further down where there are none (VisA's copy in MVTec's style has ``1cls/`` above its categories);
    ``root`` itself where it is a category.

    Raises:
        DataError: there are none.
    """
    root = Path(root)
    root.stat()
    found = [root] if _is_category(root) else _categories_below(root)
    if not found:
        raise DataError(
            f"{root}: no category found in it or one folder below; looked for "
            + "; ".join(f"{name}: {known.looks_for}" for name, known in LAYOUTS.items() if name != "folder")
        )
    return found


@refusing_unlistable()
def good_images(root: Path | str, layout: str = "auto") -> list[Path]:
    """The good images to train on, in natural order; those of :func:`calibration_images` are not among them.

    ``folder``: all of them, flat or nested; where the root has a ``good`` folder, only those in it, since the folders
    beside it hold defects. The others: see docs/data.md. Whatever the layout: never one that the data set tests on or
    lies below a folder of test images, nor where the root itself lies in the test images of a category.

    Raises:
        DataError: there are none, or the root holds test images, or a table has broken rows; UsageError: ``layout`` is
            not a known name.
    """
    root = Path(root)
    name = recognise_layout(root, layout)
    _refuse_test_images(root)
    if name == "folder" and not _is_category(root):
        _refuse_defects(root)
    found = LAYOUTS[name].good(root)
    allowed = [path for path in found if not _below_test(path, root)]
    if name in ("folder", "all-good"):  # by its name perhaps, for a data set that it does not fit
        above = {path: "/".join(path.relative_to(root).parts[:-1][:1]) for path in allowed}
        protected = {folder for folder in set(above.values()) if _protected(root, folder)}
        allowed = [path for path in allowed if above[path] not in protected]
    if not found:
        raise DataError(f"{root}: no good images to train on; see what it holds by shiftproof data check {root}")
    if not allowed:
        raise DataError(f"{root}: no good images; all {len(found)} lie below test or ground_truth, never trained on")
    return allowed


@refusing_unlistable()
def calibration_images(root: Path | str, layout: str = "auto") -> list[Path]:
    """The good images that the data set itself holds out of training, in natural order, to place the threshold with.

    Those in ``validation/good`` (MVTec AD 2, LOCO, 3D-AD, and what is laid out like them), or of the split
    ``calibration`` in a manifest; none elsewhere.

    Raises:
        as :func:`good_images`.
    """
    root = Path(root)
    found = LAYOUTS[recognise_layout(root, layout)].calibration(root)
    return [path for path in found if not _below_test(path, root)]


@refusing_unlistable()
def labelled_images(root: Path | str, layout: str = "auto") -> LabelledSet:
    """The labelled images to test on, with their masks.

    ``mvtec``: ``test/<kind>/<stem>.*`` with ``ground_truth/<kind>/<stem>_mask.*`` or ``ground_truth/<kind>/<stem>.*``.
    ``folder``: ``good/`` and at least one other folder, each a kind. The others: see docs/data.md.

    Raises:
        DataError: no such folders, an image in none of them, a defective image without its mask, a mask without its
            image, or a table with broken rows. UsageError: ``layout`` is not a known name.
    """
    root = Path(root)
    found = LAYOUTS[recognise_layout(root, layout)].test(root)
    refuse(found.problems)
    return found


def load_mask(item: LabelledImage, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The defect's mask, bool [H, W], several united; all False for a good image.

    Args:
        item: one image of a :class:`LabelledSet`.
        shape: (height, width) of that image at its own size.

    Raises:
        DataError: the item has no mask, or one of another size; ImageError: it cannot be read.
    """
    size = (shape[0], shape[1])
    if item.defective and not item.has_mask:
        raise DataError(f"{item.name}: has no mask; pixel figures need ground_truth/{item.defect_type}")
    united = draw_shapes(item.shapes, size, item.name) if item.shapes else np.zeros(size, dtype=bool)
    for path in item.masks:
        united |= fitted_mask(path, read_mask(path), item, size)
    return united


def fitted_mask(path: Path, mask: NDArray[np.bool_], item: LabelledImage, size: tuple[int, int]) -> NDArray[np.bool_]:
    """A mask of its image's (height, width), turned as the image is where it was drawn before that.

    Raises:
        DataError: it has another size.
    """
    if mask.shape == size:
        return mask
    orientation = read_orientation(item.path) if mask.shape == size[::-1] else 1
    if orientation in (5, 6, 7, 8):
        return turn(mask, orientation)
    raise DataError(
        f"{path}: mask of {mask.shape[1]}x{mask.shape[0]} pixels for an image of {size[1]}x{size[0]} "
        f"({item.name}); expected the same size"
    )


def _recognised(root: Path) -> str | None:
    return next((name for name, known in LAYOUTS.items() if known.recognise(root)), None)


def _is_category(folder: Path) -> bool:
    """Whether a folder has the structure of a data set, other than that of any folder of images."""
    name = _recognised(folder)
    plain = LAYOUTS["folder"]
    assert isinstance(plain, Plain)
    return name is not None and (name != "folder" or plain.labelled_folders(folder))


def _categories_below(root: Path) -> list[Path]:
    plain = LAYOUTS["folder"]
    assert isinstance(plain, Plain)
    if plain.labelled_folders(root):
        return []
    inside = folders(root)
    return [f for f in inside if _is_category(f)] or [f for above in inside for f in folders(above) if _is_category(f)]


def _below_test(path: Path, root: Path) -> bool:
    if not path.is_relative_to(root):
        return False
    return bool(NEVER_TRAINED_ON.intersection(part.casefold() for part in path.relative_to(root).parts[:-1]))


def _refuse_test_images(root: Path) -> None:
    """Refuse a root inside a category's test images, by the name that is given and by where it leads."""
    for place in (root.absolute(), Path(os.path.realpath(root))):
        for folder in (place, *place.parents):
            if _protected(folder.parent, folder.name):
                raise DataError(
                    f"{root}: lies in the {folder.name} images of {folder.parent}, which are never trained on; "
                    f"give {folder.parent}"
                )


def _refuse_defects(root: Path) -> None:
    """Refuse a folder that is called defective, or masks, beside one that is called good."""
    place = root.absolute()
    if root.is_dir() and meaning(place.name) in (Meaning.DEFECTIVE, Meaning.MASK):
        good = [path.name for path in folders_of(place.parent, Meaning.GOOD)]
        if good:
            raise DataError(
                f"{root}: its name says {meaning(place.name).value}, beside {', '.join(good)}; give {place.parent} or "
                f"{place.parent / good[0]}; --layout all-good takes it as it is"
            )


def _protected(root: Path, inside: str) -> bool:
    with contextlib.suppress(PermissionError):  # of a folder above, where nobody need look
        return any(known.protects(root, inside.casefold()) for known in LAYOUTS.values())
    return False
