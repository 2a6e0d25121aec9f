"""``shiftproof data``: look at a data set before anything is learnt from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import App

from shiftproof.cli.console import Bar, say, table, warn

if TYPE_CHECKING:
    from shiftproof.data.check import CategoryCheck, Finding, Group

WRONG = 3  # exit code: something has to be mended
MOST_LINES = 20  # of findings on the terminal; --json holds all

data = App(name="data", help="Look at a data set, or make one of MVTec 3D-AD's points.", help_format="plaintext")


@data.command
def check(folder: Path, /, *, layout: str = "auto", bits: int | None = None, json: Path | None = None) -> int:
    """Say what a data set holds and what is wrong with it; every file is read, nothing is changed.

    Parameters
    ----------
    folder
        A category, a folder of categories, a folder of images, or a manifest.
    layout
        How it is laid out: auto, or a name of docs/data.md.
    bits
        Of the values in 16-bit files whose tags say nothing else, such as 12.
    json
        File to write all of it to.
    """
    from shiftproof.data.check import check_data
    from shiftproof.model_io import write_json_atomic

    with Bar() as bar:
        checks = check_data(folder, layout, bits=bits, on_progress=lambda done, total: bar("reading", done, total))
    for checked in checks:
        show(checked)
    wrong = sum(finding.wrong for checked in checks for finding in checked.findings)
    good = sum(group.images for checked in checks for group in checked.groups)
    counts = f"{len(checks)} {'categories' if len(checks) != 1 else 'category'}, {good} image{'s'[: good != 1]}"
    say(f"{counts}: {wrong or 'nothing'} to fix")
    if json is not None:
        write_json_atomic(json, [asdict(checked) for checked in checks])
    return WRONG if wrong else 0


@data.command
def depth(category: Path, out: Path, /, *, image: str = "depth") -> int:
    """Write the points of an MVTec 3D-AD category as images, laid out like MVTec AD, to train and evaluate on.

    Parameters
    ----------
    category
        Folder with train/good/xyz.
    out
        Folder to write; it must be empty.
    image
        depth (gray, one range for the whole category) or normals (colour).
    """
    from shiftproof.data.depth import convert_depth

    with Bar() as bar:
        done = convert_depth(category, out, image, on_progress=lambda n, total: bar("converting", n, total))
    for line in done.failures:
        warn(line)
    say(f"{done.images} images of {image} in {out}")
    return WRONG if done.failures else 0


def show(checked: CategoryCheck) -> None:
    """A category's table, and a line for each finding."""
    say(f"{checked.root}: layout {checked.layout}")
    head = ("split", "kind", "images", "unreadable", "masks", "size", "channels")
    table(head, [_row(group) for group in checked.groups])
    _findings([finding for finding in checked.findings if finding.wrong], "wrong")
    _findings([finding for finding in checked.findings if not finding.wrong], "note")
    say("")


def _row(group: Group) -> tuple[str, ...]:
    counts = (str(group.images), str(group.unreadable or "–"), str(group.masks or "–"))
    return group.split, group.kind, *counts, _common(group.sizes), _common(group.channels)


def _common(counts: dict[str, int]) -> str:
    """The most frequent, and how many others there are."""
    names = list(counts)
    return "–" if not names else names[0] + (f" (and {len(names) - 1} other)" if len(names) > 1 else "")


def _findings(findings: Sequence[Finding], word: str) -> None:
    for finding in findings[:MOST_LINES]:
        say(f"{word}: {finding.line}")
    if len(findings) > MOST_LINES:
        say(f"{word}: and {len(findings) - MOST_LINES} more; --json FILE lists them all")
