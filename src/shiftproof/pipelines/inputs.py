"""The inputs of ``predict``: files, folders and lists of images; each image once, and none of its own pictures."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from shiftproof.data import find_images, is_listing, listed_images
from shiftproof.errors import DataError

PICTURES = ("heatmaps", "masks")
"""Folders below ``out`` that ``predict`` writes pictures to."""


@dataclass(frozen=True)
class Missing:
    """An input that is not there, or holds no image."""

    path: Path
    reason: str


def find_inputs(inputs: Sequence[str | Path], out: Path) -> Iterator[list[Path] | Missing]:
    """The images of each input, in the order given, a list of them at a time; an image may come twice.

    Without the pictures of a former run, which lie among the images where ``out`` does.

    Args:
        inputs: image files, folders, and Parquet lists (see :func:`~shiftproof.data.listed_images`).
        out: the folder that is written to.

    Raises:
        DataError: nothing is left to look at, or a list is broken.
    """
    own = [Path(os.path.realpath(out / folder)) for folder in PICTURES]
    folders: dict[Path, bool] = {}  # whether it lies in one of those
    found = skipped = 0
    first = ""
    for source in map(Path, inputs):
        try:
            for images in listed_images(source) if is_listing(source) else [find_images(source)]:
                kept = []
                for path in images:
                    if path.parent not in folders:
                        place = Path(os.path.realpath(path.parent))
                        folders[path.parent] = any(place.is_relative_to(folder) for folder in own)
                    if not folders[path.parent]:
                        kept.append(path)
                skipped += len(images) - len(kept)
                found += len(kept)
                yield kept
        except DataError as error:
            first = first or str(error)
            yield Missing(source, str(error))
    if not found:
        if skipped:
            raise DataError(f"all {skipped} images are heatmaps and masks of {out}: name images, or another --out")
        raise DataError(first or "no image given: name files or folders")


def naming(folders: Iterable[str | Path]) -> Callable[[Path], str]:
    """Names for pictures: an image's path below what all folders have in common, with its ending: no two collide.

    Args:
        folders: that images lie in.
    """

    # Without "..", which would lead out of the folder; links stay, as two of them may lead to one file.
    def place(path: str | Path) -> Path:
        return Path(os.path.abspath(path))  # noqa: PTH100

    common = os.path.commonpath({place(folder) for folder in folders})
    return lambda path: place(path).relative_to(common).as_posix()
