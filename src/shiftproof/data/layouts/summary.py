"""Which images come from which folder, and which files were passed over: what a training prints before it begins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from shiftproof.data.layouts.files import other_files, relative_name, said_of_other_files

MOST_FOLDERS = 12


def said_of_folders(root: Path, images: Sequence[Path]) -> str:
    """How many images come from which folder below ``root``.

    >>> said_of_folders(Path("/data"), [Path("/data/OK/1.png"), Path("/data/OK/2.png"), Path("/data/3.png")])
    '3 good images: 2 from OK, 1 from /data'
    """
    base = root if not root.suffix or root.is_dir() else root.parent
    counts = Counter(Path(relative_name(base, image)).parent.as_posix() for image in images)
    parts = [f"{count} from {base if name == '.' else name}" for name, count in counts.most_common(MOST_FOLDERS)]
    if len(counts) > MOST_FOLDERS:
        rest = sum(count for _, count in counts.most_common()[MOST_FOLDERS:])
        parts.append(f"{rest} from {len(counts) - MOST_FOLDERS} other folders")
    return f"{len(images)} good image{'s'[: len(images) != 1]}: {', '.join(parts)}"


def said_of_passed_over(root: Path) -> str:
    """The files below ``root`` of types that are not read; empty where there are none."""
    return said_of_other_files(other_files(root)) if root.is_dir() else ""
