"""What a data set holds, and what is wrong with it: every file is read, nothing is written."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shiftproof.data.annotations import draw_shapes
from shiftproof.data.cache import iter_decoded
from shiftproof.data.images import Decoded, ImageInfo
from shiftproof.data.layouts import (
    LAYOUTS,
    LabelledImage,
    calibration_images,
    categories,
    good_images,
    recognise_layout,
)
from shiftproof.data.layouts.base import MissingSplitError
from shiftproof.data.layouts.files import other_files, refusing_unlistable, said_of_other_files
from shiftproof.data.layouts.registry import fitted_mask
from shiftproof.data.masks import inspect_mask
from shiftproof.data.profile import ImageProfile
from shiftproof.errors import DataError, ImageError

SPLITS = ("train", "calibration", "test", "unlabelled")
FEWEST_GOOD = 3
"""Two images to train on, and one to place the threshold with."""


@dataclass(frozen=True)
class Finding:
    """Something about a data set that its owner should know."""

    wrong: bool
    """True for what has to be mended, False for what may well be meant so."""
    line: str
    """What it is, where, and the mend."""


@dataclass(frozen=True)
class Group:
    """Images of one split and kind."""

    split: str
    """One of :data:`SPLITS`."""
    kind: str
    """good, or the kind of defect; with the lighting after a comma where file names say it."""
    images: int
    """Those that can be read."""
    unreadable: int
    masks: int
    """Defective images with a mask."""
    sizes: dict[str, int]
    """Number of images by WIDTHxHEIGHT, the most frequent first."""
    channels: dict[str, int]
    """Number of images that are gray (three equal channels), and of those in colour."""


@dataclass(frozen=True)
class CategoryCheck:
    """What one category holds."""

    root: str
    layout: str
    groups: tuple[Group, ...]
    findings: tuple[Finding, ...]


@dataclass
class _Tally:
    """A group while it is counted."""

    unreadable: int = 0
    masks: int = 0
    sizes: Counter[str] = field(default_factory=Counter)
    channels: Counter[str] = field(default_factory=Counter)

    def add(self, info: ImageInfo) -> None:
        self.sizes[f"{info.width}x{info.height}"] += 1
        self.channels["gray" if info.gray else "colour"] += 1


@refusing_unlistable()
def check_data(
    root: Path,
    layout: str = "auto",
    *,
    bits: int | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[CategoryCheck]:
    """Look at a category, or at every category of a data set.

    Args:
        root: a folder, or a manifest.
        layout: how it is laid out, or "auto".
        bits: of the values in files of 16 bits whose tags say nothing else.
        on_progress: is told (images read, images in all) for each category in turn.

    Raises:
        DataError: nothing is recognised. UsageError: ``layout`` is not a known name.
    """
    roots = [root]
    if layout == "auto":
        try:
            roots = categories(root)
        except DataError:  # a folder of good images, or nothing
            recognise_layout(root)
    return [_check_category(each, recognise_layout(each, layout), bits, on_progress) for each in roots]


def _check_category(
    root: Path, layout: str, bits: int | None, on_progress: Callable[[int, int], None]
) -> CategoryCheck:
    findings: dict[Finding, None] = {}  # in order, each once

    def found(wrong: bool, line: str) -> None:
        findings[Finding(wrong, line)] = None

    splits = _listed(root, layout, found)
    jobs = [(split, item) for split, items in splits.items() for item in items]
    tallies: dict[tuple[str, str], _Tally] = {}
    seen: dict[str, tuple[str, LabelledImage]] = {}
    infos: list[ImageInfo] = []
    covering: list[bool] = []
    read = iter_decoded((item.path for _, item in jobs), bits=bits)
    for done, ((split, item), (_, decoded)) in enumerate(zip(jobs, read, strict=True), start=1):
        kind = ", ".join(filter(None, (item.defect_type, item.variant)))
        tally = tallies.setdefault((split, kind), _Tally())
        if isinstance(decoded, ImageError):
            tally.unreadable += 1
            found(True, str(decoded))
        else:
            tally.add(decoded.info)
            infos.append(decoded.info)
            for finding in (*_copies(split, item, decoded.pixels, seen), *_mask_faults(item, decoded, covering)):
                found(finding.wrong, finding.line)
            tally.masks += item.has_mask
        on_progress(done, len(jobs))
    groups = tuple(
        Group(split, kind, sum(t.sizes.values()), t.unreadable, t.masks, _most_first(t.sizes), _most_first(t.channels))
        for (split, kind), t in tallies.items()
    )
    for finding in (*_judged(root, splits, groups), *_of_images(root, infos), *_of_masks(root, covering)):
        found(finding.wrong, finding.line)
    if not infos and not any(finding.wrong for finding in findings):
        found(True, f"{root}: no image of it can be used; name its layout by --layout, or another folder")
    return CategoryCheck(str(root), layout, groups, tuple(sorted(findings, key=lambda finding: not finding.wrong)))


def _listed(root: Path, layout: str, found: Callable[[bool, str], None]) -> dict[str, list[LabelledImage]]:
    """The images of each split; what keeps one from being listed is a finding."""
    known = LAYOUTS[layout]
    splits: dict[str, list[LabelledImage]] = {}
    problems: tuple[str, ...] = ()
    for split, listing in (("test", None), ("train", good_images), ("calibration", calibration_images)):
        try:
            if listing is None:
                test_set = known.test(root)
                splits[split], problems = list(test_set.images), test_set.problems
            else:
                splits[split] = [LabelledImage(path, "", "good", False) for path in listing(root, layout)]
        except DataError as error:
            # A table's broken rows stand in the way of every split; they are all listed below.
            if not (problems and str(error).startswith(problems[0])):
                found(not isinstance(error, MissingSplitError), str(error))
    for problem in problems:
        found(True, problem)
    splits["unlabelled"] = [LabelledImage(path, "", path.parent.name, False) for path in known.unlabelled(root)]
    return {split: splits.get(split, []) for split in SPLITS}


def _copies(
    split: str, item: LabelledImage, image: NDArray[np.uint8], seen: dict[str, tuple[str, LabelledImage]]
) -> Iterator[Finding]:
    """Say it where the same pixels were seen before, in whatever file."""
    digest = hashlib.sha256(f"{image.shape}".encode() + image.tobytes()).hexdigest()
    if digest not in seen:
        seen[digest] = split, item
        return
    before, other = seen[digest]
    if other.path == item.path:
        return  # a folder without a split, of which one line is said for all
    if before != split:
        yield Finding(True, f"{item.path}: in {split}, has the pixels of {other.path} in {before}; remove one of them")
    elif other.defective != item.defective:
        yield Finding(
            True,
            f"{item.path}: {item.defect_type}, has the pixels of {other.path}, {other.defect_type}; remove one of them",
        )
    else:
        yield Finding(False, f"{item.path}: has the pixels of {other.path}; a copy teaches and tests nothing")


def _mask_faults(item: LabelledImage, decoded: Decoded, covering: list[bool]) -> Iterator[Finding]:
    """What is wrong with the masks of an image; ``covering`` collects which masks are larger than half of it."""
    if not item.has_mask:
        return
    size = decoded.pixels.shape[:2]
    drawn = False
    try:
        united = draw_shapes(item.shapes, (size[0], size[1]), item.name)
        for path in item.masks:
            reading = inspect_mask(path)
            if decoded.info.orientation != 1 and reading.orientation == 1:
                drawn |= reading.mask.shape == size and (size[0] == size[1] or decoded.info.orientation in (2, 3, 4))
            united |= fitted_mask(path, reading.mask, item, (size[0], size[1]))
            for note in reading.notes:
                yield Finding(False, f"{path}: {note}")
    except DataError as error:
        yield Finding(True, str(error))
        return
    place = item.masks[0] if item.masks else item.path
    covering.append(float(united.mean()) > 0.5)
    if not united.any():
        yield Finding(False, f"{place}: is empty, of a defective image; it counts for no pixel figure")
    elif drawn:
        yield Finding(
            False,
            f"{place}: {item.path.name} is turned by its EXIF orientation {decoded.info.orientation}, its mask is not, and "
            "its size does not say whether it was drawn before or after that; look at both, or remove the orientation",
        )


def _of_images(root: Path, infos: list[ImageInfo]) -> Iterator[Finding]:
    """What the images say together, and what was passed over."""
    for line in ImageProfile.of(infos).remarks() if infos else ():
        yield Finding("one colour" in line and all(info.constant for info in infos), f"{root}: {line}")
    if root.is_dir() and (said := said_of_other_files(other_files(root))):
        yield Finding(False, f"{root}: {said}; convert them to PNG if they are images of parts")


def _of_masks(root: Path, covering: list[bool]) -> Iterator[Finding]:
    if covering and sum(covering) * 2 > len(covering):
        count = f"{sum(covering)} of {len(covering)} masks"
        yield Finding(
            True, f"{root}: {count} cover more than half of their image; are they black on white? Invert them"
        )


def _judged(root: Path, splits: dict[str, list[LabelledImage]], groups: tuple[Group, ...]) -> Iterator[Finding]:
    """What the numbers say of a category as a whole."""
    good = len(splits["train"])
    if 0 < good < FEWEST_GOOD:
        images = "image" if good == 1 else "images"
        yield Finding(True, f"{root}: only {good} good {images} to train on; expected {FEWEST_GOOD} at least, add some")
    tested = splits["test"]
    if tested:
        for defective, lacks in ((True, "defects"), (False, "good images")):
            if not any(item.defective == defective for item in tested):
                yield Finding(True, f"{root}: tests on no {lacks}, so that nothing can be told apart; add some")
        if any(item.defective for item in tested) and not any(item.has_mask for item in tested):
            yield Finding(False, f"{root}: has no masks, so no pixel figures; add ground_truth/<kind>/<stem>_mask.png")
    for kind, count in Counter(item.defect_type for item in tested).items():
        if count == 1:
            yield Finding(False, f"{root}: holds one image of {kind} to test on; figures of it mean little")
    learnt = {item.path for item in splits["train"]}
    both = sum(item.path in learnt for item in tested)
    if both:
        yield Finding(
            False,
            f"{root}: {both} good images are to train on and to test on, so that figures flatter; "
            "put some of them into test/good, the others into train/good",
        )
    channels = sum((Counter(group.channels) for group in groups), Counter[str]())
    if len(channels) > 1:
        said = ", ".join(f"{count} {name}" for name, count in channels.items())
        yield Finding(False, f"{root}: mixes gray and colour ({said}); a model sees that difference too")


def _most_first(counter: Counter[str]) -> dict[str, int]:
    return dict(counter.most_common())
