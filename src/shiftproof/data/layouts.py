"""Which files of a data set are good, which are for testing, and which mask belongs to which image.

Labels come from folders and masks are paired by name; nothing below ``test/`` is ever offered for training.
A new layout is a :class:`Layout` of three functions and a line in :data:`LAYOUTS`.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from shiftproof.data.images import IMAGE_SUFFIXES, read_mask
from shiftproof.errors import DataError, unknown

_SUFFIXES = ", ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))
_NEVER_GOOD = frozenset({"test", "ground_truth"})


@dataclass(frozen=True)
class TestImage:
    """One image to test on."""

    __test__: ClassVar[bool] = False  # pytest: the name only looks like a test

    path: Path
    """Where it lies."""
    name: str
    """Its posix path relative to the data set's root, such as ``test/scratch_head/003.png``."""
    kind: str
    """The folder's name: ``good``, or the kind of defect."""
    defective: bool
    """The folder's word, never the mask's: a small defect stays a defect at any size."""
    mask: Path | None
    """Its ground-truth mask; None for good images, and for all in a data set without masks."""


@dataclass(frozen=True)
class TestSet:
    """All images to test on."""

    __test__: ClassVar[bool] = False

    images: tuple[TestImage, ...]
    """In natural order of their names, kind by kind."""
    has_masks: bool
    """True if every defective image has a mask, False if the data set has none."""


@dataclass(frozen=True)
class Layout:
    """How one family of data sets is laid out."""

    recognise: Callable[[Path], bool]
    """Whether a root looks like it."""
    good: Callable[[Path], list[Path]]
    """The good images to train on."""
    test: Callable[[Path], TestSet]
    """The labelled images to test on."""


@contextlib.contextmanager
def _refusing_unlistable() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"{error.filename}: no such file or folder; expected an image or a folder of images") from error
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be listed: {error.strerror}; allow reading it") from error


@_refusing_unlistable()
def find_images(root: Path | str) -> list[Path]:
    """All image files below a folder, in natural order (``img2`` before ``img10``); a file is returned as it is.

    Hidden files and folders are skipped, linked folders followed. Only names are looked at: a file that turns out not
    to be readable is for the reader to report, and so is a link to nowhere.

    Raises:
        DataError: ``root`` is missing or cannot be listed, or holds no image.
    """
    root = Path(root)
    if root.is_file():
        return [root]
    images = _images_below(root)
    if not images:
        raise DataError(f"{root}: no images found; looked for {_SUFFIXES} in this folder and all below it")
    return images


@_refusing_unlistable()
def recognise_layout(root: Path | str, layout: str = "auto") -> str:
    """The name of the layout of a data set: the one that is given, or the first of :data:`LAYOUTS` that fits.

    Raises:
        UsageError: ``layout`` is not a known name.
        DataError: ``root`` does not exist, or is a collection of categories of which one has to be named.
    """
    root = Path(root)
    if layout != "auto":
        if layout not in LAYOUTS:
            raise unknown("layout", layout, [*LAYOUTS, "auto"])
        return layout
    root.stat()  # a root that is missing looks like no layout at all
    name = next(name for name, known in LAYOUTS.items() if known.recognise(root))
    if name == "folder" and (categories := [folder for folder in _folders(root) if _is_mvtec(folder)]):
        names = ", ".join(folder.name for folder in categories)
        raise DataError(f"{root}: holds several categories ({names}); name one of them, such as {categories[0]}")
    return name


@_refusing_unlistable()
def good_images(root: Path | str, layout: str = "auto") -> list[Path]:
    """The good images to train on, in natural order.

    ``mvtec``: those in ``train/good``. ``folder``: all of them, flat or nested; where the root has a ``good`` folder,
    only those in it, since the folders beside it hold defects. Whatever the layout: never one below ``test/``, nor
    where the root itself lies in the ``test`` of a category.

    Raises:
        DataError: there are none, or the root holds test images; UsageError: ``layout`` is not a known name.
    """
    root = Path(root)
    _refuse_never_good(root)
    found = LAYOUTS[recognise_layout(root, layout)].good(root)
    allowed = [path for path in found if not _NEVER_GOOD.intersection(_parents_below(path, root))]
    if not allowed:
        raise DataError(f"{root}: no good images; all {len(found)} lie below test or ground_truth, never trained on")
    return allowed


@_refusing_unlistable()
def labelled_images(root: Path | str, layout: str = "auto") -> TestSet:
    """The labelled images to test on, with their masks.

    ``mvtec``: ``test/<kind>/<stem>.*`` with ``ground_truth/<kind>/<stem>_mask.*`` or ``ground_truth/<kind>/<stem>.*``.
    ``folder``: ``good/`` and at least one other folder, each a kind.

    Raises:
        DataError: no such folders, an image in none of them, a defective image without its mask, or a mask without its
            image. UsageError: ``layout`` is not a known name.
    """
    root = Path(root)
    return LAYOUTS[recognise_layout(root, layout)].test(root)


def load_mask(item: TestImage, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The defect's mask, bool [H, W]; all False for a good image.

    Args:
        item: one image of a :class:`TestSet`.
        shape: (height, width) of that image at its own size.

    Raises:
        DataError: the item has no mask, or one of another size; ImageError: it cannot be read.
    """
    if not item.defective:
        return np.zeros(shape, dtype=bool)
    if item.mask is None:
        raise DataError(f"{item.name}: has no mask; pixel figures need ground_truth/{item.kind}")
    mask = read_mask(item.mask)
    if mask.shape != tuple(shape):
        raise DataError(
            f"{item.mask}: mask of {mask.shape[1]}x{mask.shape[0]} pixels for an image of {shape[1]}x{shape[0]} "
            f"({item.name}); expected the same size"
        )
    return mask


def natural_key(path: Path) -> list[tuple[list[str | int], str]]:
    """A sort key under which numbers count as numbers.

    >>> sorted([Path("img10.png"), Path("img2.png"), Path("b/img1.png")], key=natural_key)[-1].name
    'img10.png'
    """
    # Splitting on digits puts text at even and numbers at odd places, so that like is always compared with like.
    return [
        ([int(s) if i % 2 else s.lower() for i, s in enumerate(re.split("([0-9]+)", part))], part)
        for part in path.parts
    ]


# --- layouts ---------------------------------------------------------------------------------------------------------


def _is_mvtec(root: Path) -> bool:
    return _has_train_good(root) or _child(root, "test").is_dir()


def _has_train_good(root: Path) -> bool:
    return _child(_child(root, "train"), "good").is_dir()


def _mvtec_good(root: Path) -> list[Path]:
    return find_images(_child(_child(root, "train"), "good"))


def _mvtec_test(root: Path) -> TestSet:
    folder = _child(root, "test")
    if not _folders(folder):
        raise DataError(f"{root}: nothing to test on; looked for {folder}/<kind>/ with good and defective images")
    return _labelled(root, folder, _images_below(folder))


def _folder_good(root: Path) -> list[Path]:
    good = _child(root, "good")
    return find_images(good if good.is_dir() else root)


def _folder_test(root: Path) -> TestSet:
    truth = _child(root, "ground_truth").name
    kinds = [folder.name for folder in _folders(root) if folder.name != truth]
    if not any(map(_is_good, kinds)) or len(kinds) < 2:
        raise DataError(
            f"{root}: nothing to test on; looked for test/<kind>/, or good/ beside at least one folder of defects"
        )
    return _labelled(root, root, [path for path in _images_below(root) if path.relative_to(root).parts[0] != truth])


LAYOUTS: dict[str, Layout] = {
    "mvtec": Layout(_is_mvtec, _mvtec_good, _mvtec_test),
    "folder": Layout(lambda root: True, _folder_good, _folder_test),  # fits anything: stays last
}
"""Known layouts by name, in the order in which they are tried."""


# --- what they share -------------------------------------------------------------------------------------------------


def _labelled(root: Path, folder: Path, paths: list[Path]) -> TestSet:
    """A test set of ``folder/<kind>/**`` paired with ``root/ground_truth/<kind>/**``, where there is such a folder."""
    if not paths:
        raise DataError(f"{folder}: no images to test on; looked for {_SUFFIXES}")
    truth = _child(root, "ground_truth")
    masks = _masks_by_name(truth) if truth.is_dir() else None
    items = []
    for path in paths:
        below = path.relative_to(folder)
        if len(below.parts) < 2:
            raise DataError(f"{path}: lies in no folder of a kind; expected {folder}/good or {folder}/<kind of defect>")
        kind = below.parts[0]
        defective = not _is_good(kind)
        mask = None
        if masks is not None and defective:
            # Taken out of what is left: no mask can serve two images.
            stem = below.with_suffix("").as_posix()
            mask = masks.pop(f"{stem}_mask", None) or masks.pop(stem, None)
            if mask is None:
                wanted = truth / below.with_name(f"{below.stem}_mask.png")
                raise DataError(f"{path}: defective, but without its mask; expected {wanted} (or {below.name} there)")
        items.append(TestImage(path, path.relative_to(root).as_posix(), kind, defective, mask))
    if masks:
        stray = next(iter(masks.values()))
        raise DataError(f"{stray}: mask without its image; expected one of that name in {folder}, or remove the mask")
    return TestSet(tuple(items), has_masks=masks is not None)


def _masks_by_name(truth: Path) -> dict[str, Path]:
    """Masks below ``ground_truth`` by relative name without suffix; those of good images are left out."""
    masks: dict[str, Path] = {}
    for path in _images_below(truth):
        below = path.relative_to(truth)
        name = below.with_suffix("").as_posix()
        if name in masks:
            raise DataError(f"{path}: a second mask beside {masks[name].name}; expected one, remove the other")
        if not _is_good(below.parts[0]):
            masks[name] = path
    return masks


def _is_good(kind: str) -> bool:
    return kind.casefold() == "good"


def _child(root: Path, name: str) -> Path:
    """The folder of that name, in upper or lower case: ``Good`` beside ``Broken`` is the good one for all that ask.

    Where there is none, the path at which it was looked for.
    """
    found = [folder for folder in _folders(root) if folder.name.casefold() == name]
    if len(found) > 1:
        raise DataError(f"{found[1]}: a second {name} folder beside {found[0].name}; expected one, rename the other")
    return found[0] if found else root / name


def _refuse_never_good(root: Path) -> None:
    """Refuse a root inside a category's ``test`` or ``ground_truth``, by the name that is given and by where it leads."""
    for place in (root.absolute(), Path(os.path.realpath(root))):
        for folder in (place, *place.parents):
            if folder.name.casefold() in _NEVER_GOOD and _has_train_good(folder.parent):
                raise DataError(
                    f"{root}: lies in the {folder.name} images of {folder.parent}, which are never trained on; "
                    f"give {folder.parent}"
                )


def _folders(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    return sorted((p for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")), key=natural_key)


def _images_below(root: Path) -> list[Path]:
    """All images below a folder in natural order, perhaps none."""
    return sorted(_walk(root, frozenset()), key=natural_key)


def _walk(folder: Path, above: frozenset[str]) -> Iterator[Path]:
    above = above | {os.path.realpath(folder)}
    with os.scandir(folder) as entries:
        visible = [entry for entry in entries if not entry.name.startswith(".")]
    for entry in visible:
        if entry.is_dir():
            if os.path.realpath(entry.path) not in above:  # a link back up would never end
                yield from _walk(Path(entry.path), above)
        elif Path(entry.name).suffix.lower() in IMAGE_SUFFIXES and (entry.is_file() or entry.is_symlink()):
            yield Path(entry.path)


def _parents_below(path: Path, root: Path) -> tuple[str, ...]:
    """Names of the folders between ``root`` and the file, in lower case."""
    return tuple(part.casefold() for part in path.relative_to(root).parts[:-1])
