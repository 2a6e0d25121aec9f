"""Under what conditions to test: clean, or a shift at a severity; and how the command line writes them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from shiftproof.errors import UsageError, unknown
from shiftproof.shifts.base import Image, Mask, Shifted
from shiftproof.shifts.registry import SHIFTS, apply_shift, check_shift, image_seed

PAPER_SHIFTS = ("brightness", "contrast", "defocus_blur", "gaussian_noise", "rotation")
"""The families that the papers on shifts of MVTec AD test on."""


@dataclass(frozen=True)
class Condition:
    """One condition to test under."""

    shift: str | None
    """Name of the shift; None when clean."""
    severity: int
    """1 to 5; 0 when clean."""

    def __post_init__(self) -> None:
        if self.shift is not None:
            check_shift(self.shift, self.severity)

    @property
    def name(self) -> str:
        """``"clean"`` or ``"brightness-3"``: the key in metrics and tables, and part of each image's seed."""
        return "clean" if self.shift is None else f"{self.shift}-{self.severity}"

    def apply(self, image: Image, mask: Mask | None, *, seed: int, image_name: str) -> Shifted:
        """Put one image (uint8 [H, W, 3]) and its mask (bool [H, W] or None) under this condition.

        The draw depends on ``seed``, the condition and ``image_name`` alone; errors are those of
        :func:`~shiftproof.shifts.apply_shift`. Clean gives back what it was given.
        """
        if self.shift is None:
            return Shifted(image, mask, lost=0)
        return apply_shift(self.shift, image, mask, self.severity, image_seed(seed, self.name, image_name))


CLEAN = Condition(None, 0)
GROUPS: Mapping[str, tuple[str, ...]] = {"clean": (), "all": tuple(SHIFTS), "paper": PAPER_SHIFTS}
"""What one word stands for, besides clean."""


def parse_conditions(text: str, default_severity: int = 3) -> tuple[Condition, ...]:
    """Read conditions as the command line writes them.

    Args:
        text: names with commas between them: ``clean``; a shift, as ``brightness``, ``brightness:4`` or
            ``brightness:1-5`` (a condition's own name, ``brightness-4``, will do too); ``paper``, which is clean and
            the papers' five shifts at severity 3; ``all``, which is clean and every shift; ``paper:1-5``, ``all:5``.
        default_severity: of shifts named without one, those of ``all`` included.

    Returns:
        each condition once, in the order in which they are first named.

    Raises:
        UsageError: an unknown or missing name, or a severity out of 1..5.

    >>> [condition.name for condition in parse_conditions("clean,brightness,contrast:4-5,brightness:3")]
    ['clean', 'brightness-3', 'contrast-4', 'contrast-5']
    """
    conditions: dict[Condition, None] = {}
    for item in (part.strip() for part in text.split(",")):
        conditions |= dict.fromkeys(_conditions(item, default_severity))
    return tuple(conditions)


def _conditions(item: str, default_severity: int) -> list[Condition]:
    """The conditions of one shift or group: ``name``, ``name:3``, ``name-3`` or ``name:1-5``."""
    name, _, severities = item.partition(":")
    if re.fullmatch(r".+-\d+", name):
        name, _, severities = item.rpartition("-")
    if name not in GROUPS and name not in SHIFTS:
        raise unknown("shift", name, [*GROUPS, *SHIFTS])
    if name == "clean" != item:
        raise UsageError(f"clean takes no severity, got {item!r}: write clean alone")
    default = 3 if name == "paper" else default_severity
    levels = range(default, default + 1) if name == item else _severities(name, severities)
    shifted = [Condition(shift, level) for shift in GROUPS.get(name, (name,)) for level in levels]
    return [CLEAN, *shifted] if name in GROUPS else shifted


def _severities(name: str, text: str) -> range:
    """What stands behind the colon: ``3`` or ``1-5``."""
    span = re.fullmatch(r"(-?\d+)(?:-(\d+))?", text)
    if not span:
        raise UsageError(f"severity {text!r} of shift {name!r} is not a number: write {name}:3 or {name}:1-5")
    first, last = int(span[1]), int(span[2] or span[1])
    if first > last:
        raise UsageError(f"severities {text!r} of shift {name!r} run backwards: write {name}:{last}-{first}")
    return range(first, last + 1)
