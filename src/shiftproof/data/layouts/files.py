"""Finding images and folders by name."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from shiftproof.data.images import IMAGE_SUFFIXES
from shiftproof.data.vocabulary import Meaning, is_system_folder, meaning
from shiftproof.errors import DataError

_NO_IMAGES = frozenset(
    """
    .txt .csv .tsv .json .jsonl .ndjson .xml .yaml .yml .toml .ini .cfg .md .rst .html .htm .pdf .log .db .ini .names
    .data .parquet .xlsx .xls .docx .py .ipynb .sh .bat .zip .gz .tar .7z .rar .sha256 .md5 .lnk .url .bak .tmp .part
    .npy .npz .onnx .safetensors .license .cache .lock .ds_store .hash
    """.split()  # noqa: SIM905
)
SUFFIXES = ", ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))


@contextlib.contextmanager
def refusing_unlistable() -> Iterator[None]:
    """What the file system refuses, as one line."""
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"{error.filename}: no such file or folder; expected an image or a folder of images") from error
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be listed: {error.strerror}; allow reading it") from error


@refusing_unlistable()
def find_images(root: Path | str) -> list[Path]:
    """All image files below a folder, in natural order (``img2`` before ``img10``); a file is returned as it is.

    Hidden files and folders and those of the system (thumbnails, recycle bins) are skipped, linked folders followed.
    Only names are looked at: a file that turns out not to be readable is for the reader to report, and so is a link to nowhere.

    Raises:
        DataError: ``root`` is missing or cannot be listed, or holds no image.
    """
    root = Path(root)
    if root.is_file():
        return [root]
    images = images_below(root)
    if not images:
        raise DataError(f"{root}: no images found; looked for {SUFFIXES} in this folder and all below it")
    return images


def images_below(root: Path) -> list[Path]:
    """All images below a folder in natural order, perhaps none."""
    return sorted(walk_images(root), key=natural_key)


def walk_images(folder: Path, above: frozenset[str] = frozenset()) -> Iterator[Path]:
    """All images below a folder, in no order, as they are found."""
    above = above | {os.path.realpath(folder)}
    with os.scandir(folder) as entries:
        visible = [entry for entry in entries if not entry.name.startswith(".")]
    for entry in visible:
        if entry.is_dir():
            if is_system_folder(entry.name):
                continue
            if os.path.realpath(entry.path) not in above:  # a link back up would never end
                yield from walk_images(Path(entry.path), above)
        elif Path(entry.name).suffix.lower() in IMAGE_SUFFIXES and (entry.is_file() or entry.is_symlink()):
            yield Path(entry.path)


def folders(root: Path) -> list[Path]:
    """The folders right below one, in natural order; none below a file or nothing."""
    if not root.is_dir():
        return []
    with os.scandir(root) as entries:
        found = [Path(entry.path) for entry in entries if not is_system_folder(entry.name) and entry.is_dir()]
    return sorted(found, key=natural_key)


def child(root: Path, *names: str) -> Path:
    """The folder of these names, in upper or lower case: ``Good`` beside ``Broken`` is the good one for all that ask.

    Where there is none, the path at which it was looked for.
    """
    for name in names:
        found = [folder for folder in folders(root) if folder.name.casefold() == name.casefold()]
        if len(found) > 1:
            raise DataError(
                f"{found[1]}: a second {name} folder beside {found[0].name}; expected one, rename the other"
            )
        root = found[0] if found else root / name
    return root


def folders_of(root: Path, wanted: Meaning) -> list[Path]:
    """The folders right below one whose names have a meaning.

    Raises:
        DataError: two names differ in nothing but upper and lower case.
    """
    found = [folder for folder in folders(root) if meaning(folder.name) is wanted]
    names = [folder.name.casefold() for folder in found]
    for place, name in enumerate(names):
        if name in names[:place]:
            other = found[names.index(name)].name
            raise DataError(f"{found[place]}: a second {name} folder beside {other}; expected one, rename the other")
    return found


def other_files(root: Path) -> dict[str, int]:
    """How many files below a folder are of a type that is not read, by suffix, the most frequent first.

    Tables, texts and annotations are not counted.
    """
    counts: dict[str, int] = {}
    for _, below, names in os.walk(root):
        below[:] = [name for name in below if not is_system_folder(name)]
        for name in names:
            suffix = Path(name).suffix.lower()
            if not name.startswith(".") and suffix and suffix not in IMAGE_SUFFIXES and suffix not in _NO_IMAGES:
                counts[suffix[1:]] = counts.get(suffix[1:], 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def said_of_other_files(counts: dict[str, int]) -> str:
    """One line, empty if there are none.

    >>> said_of_other_files({"jp2": 60, "gif": 20})
    '80 files of other types left out (jp2 60, gif 20)'
    """
    total = sum(counts.values())
    listed = ", ".join(f"{suffix} {count}" for suffix, count in list(counts.items())[:6])
    return f"{total} file{'s'[: total != 1]} of other types left out ({listed})" if counts else ""


def has_child(root: Path, *names: str) -> bool:
    """Whether there is a folder of these names."""
    return child(root, *names).is_dir()


def relative_name(root: Path, path: Path) -> str:
    """A file's posix path below ``root``; of one that lies elsewhere, its whole path without the leading slash.

    >>> relative_name(Path("/data/part"), Path("/data/part/test/1.png"))
    'test/1.png'
    >>> relative_name(Path("/data/part"), Path("/data/part/../other/1.png"))
    'data/other/1.png'
    """
    inside, whole = (Path(os.path.abspath(one)) for one in (root, path))  # noqa: PTH100 - links keep their names
    return whole.relative_to(inside if whole.is_relative_to(inside) else whole.anchor).as_posix()


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
