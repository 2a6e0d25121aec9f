"""How long work reports to its caller: facts, warnings and progress. The command line prints them; a program may log them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


class ProgressFunction(Protocol):
    """Shows how far a phase is."""

    def __call__(self, phase: str, done: int, total: int, note: str = "") -> None:
        """Show progress.

        Args:
            phase: name of the phase.
            done: finished units.
            total: all units.
            note: text beside the progress, such as the current loss.
        """


def _no_line(line: str) -> None:
    """Ignore a line."""


def _no_progress(phase: str, done: int, total: int, note: str = "") -> None:
    """Ignore progress."""


@dataclass(frozen=True)
class Reporter:
    """Receives what long work reports; the default ignores all of it.

    >>> Reporter(info=print).info("threshold 0.5")
    threshold 0.5
    """

    info: Callable[[str], None] = _no_line  # a fact, on one line
    warning: Callable[[str], None] = _no_line  # something was left out or went wrong, and the work goes on
    progress: ProgressFunction = _no_progress

    def counter(self, phase: str) -> Callable[[int, int], None]:
        """Return a function of (done, total) that reports the progress of one phase.

        >>> Reporter(progress=print).counter("decoding")(1, 2)
        decoding 1 2
        """
        return lambda done, total: self.progress(phase, done, total)
