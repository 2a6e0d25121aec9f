"""Annotations that lie beside images: found, read, and joined with the images that they name."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from shiftproof.data.annotations.readers import Annotated, read_file, read_yolo, yolo_names
from shiftproof.data.annotations.shapes import Shape, draw_shapes
from shiftproof.data.images import IMAGE_SUFFIXES
from shiftproof.data.vocabulary import Meaning, is_system_folder, meaning, split_of

__all__ = ["Annotations", "Shape", "draw_shapes", "read_annotations"]

_SUFFIXES = (".json", ".xml", ".txt")
_TEXTS = frozenset({"classes.txt", "train.txt", "val.txt", "valid.txt", "test.txt", "readme.txt", "requirements.txt"})


@dataclass(frozen=True)
class Annotations:
    """What was drawn on the images of a data set."""

    source: str
    """The format and the file, or the number of files: ``COCO (annotations.json)``."""
    shapes: dict[Path, tuple[Shape, ...]]
    """Of each annotated image; without shapes for one that was looked at and found good."""
    problems: tuple[str, ...]

    def shapes_of(self, image: Path) -> tuple[Shape, ...]:
        """The defects drawn on an image."""
        return self.shapes.get(image, ())


def read_annotations(root: Path) -> Annotations | None:
    """All annotations below a folder, or None where there are none.

    Shapes whose label says good are left out: a part that was boxed as good has no defect.

    Raises:
        DataError: a file of annotations cannot be read.
    """
    if not root.is_dir():
        return None
    images, files = _files(root)
    key = tuple((path, *_stamp(path)) for path in files)
    return _read(root, tuple(images), key) if images and files else None


@lru_cache(maxsize=16)
def _read(root: Path, images: tuple[Path, ...], files: tuple[tuple[Path, int, int], ...]) -> Annotations | None:
    formats: Counter[str] = Counter()
    found: list[tuple[Path, Annotated]] = []
    names = yolo_names(root)
    by_stem = {path.stem for path in images}
    for path, _, _ in files:
        if path.suffix.lower() == ".txt":
            if (
                path.stem in by_stem
                and path.name.lower() not in _TEXTS
                and (text := read_yolo(path, names)) is not None
            ):
                found.append((path, text))
                formats["YOLO"] += 1
        elif (content := read_file(path)) is not None:
            formats[content[0]] += 1
            found += [(path, image) for image in content[1]]
    if "YOLO" in formats and not any(item.shapes for path, item in found if path.suffix.lower() == ".txt"):
        found = [(path, item) for path, item in found if path.suffix.lower() != ".txt"]  # empty texts say nothing
        del formats["YOLO"]
    if not found:
        return None
    shapes: dict[Path, tuple[Shape, ...]] = {}
    missing: list[str] = []
    resolve = _Resolver(images)
    for path, item in found:
        image = resolve(item.image, path)
        if image is None:
            missing.append(item.image)
        else:
            defects = tuple(shape for shape in item.shapes if meaning(shape.label) is not Meaning.GOOD)
            shapes[image] = shapes.get(image, ()) + defects
    file = f"{len(files)} files" if len(found) > 1 and sum(formats.values()) > 1 else found[0][0].name
    source = f"{' and '.join(formats)} ({file})"
    problems = []
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        problems.append(f"{root}: {source} names {missing[0]}{more}, which no image is called; add it, or export again")
    return Annotations(source, shapes, tuple(problems)) if shapes else None


class _Resolver:
    """Finds the image that a file of annotations means."""

    def __init__(self, images: tuple[Path, ...]) -> None:
        self._by_name: dict[str, list[Path]] = {}
        for path in images:
            for name in {path.name.casefold(), path.stem.casefold()}:
                self._by_name.setdefault(name, []).append(path)

    def __call__(self, name: str, file: Path) -> Path | None:
        place = PurePosixPath(name.replace("\\", "/"))
        last = place.name.casefold()
        for wanted in (last, last.partition("-")[2], place.stem.casefold()):  # Label Studio puts "1a2b3c4d-" before
            if found := self._by_name.get(wanted, []) if wanted else []:
                return found[0] if len(found) == 1 else self._nearest(found, place, file)
        return None

    @staticmethod
    def _nearest(found: list[Path], place: PurePosixPath, file: Path) -> Path:
        """Of images of one name, the one with the longest path in common, then the same split, then the nearest."""
        wanted = [part.casefold() for part in place.parts[::-1]]
        splits = {split_of(part) for part in (*file.parts, *file.stem.split("_"))} - {None}

        def key(path: Path) -> tuple[int, bool, int]:
            parts = [part.casefold() for part in path.parts[::-1]]
            same = next((n for n, (a, b) in enumerate(zip(wanted, parts, strict=False)) if a != b), len(wanted))
            shared = len(os.path.commonpath([path, file.parent]))
            return same, bool(splits & {split_of(part) for part in path.parts}), shared

        return max(found, key=key)


def _files(root: Path) -> tuple[list[Path], list[Path]]:
    images, files = [], []
    for path in _walk(root):
        suffix = path.suffix.lower()
        if suffix in IMAGE_SUFFIXES:
            images.append(path)
        elif suffix in _SUFFIXES:
            files.append(path)
    return images, sorted(files)


def _walk(root: Path) -> Iterator[Path]:
    for folder, below, names in os.walk(root):
        below[:] = sorted(name for name in below if not is_system_folder(name))
        yield from (Path(folder) / name for name in sorted(names) if not name.startswith("."))


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
