"""What the command line says, and how: lines, warnings, one progress bar at a time."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from shiftproof.report.page import duration

OUT = Console(highlight=False, soft_wrap=True)
ERR = Console(stderr=True, highlight=False, soft_wrap=True)


def say(line: str) -> None:
    """A fact, on standard output."""
    OUT.print(printable(line), markup=False)


def warn(line: str) -> None:
    """Something left out or gone wrong that does not end the command."""
    ERR.print(f"warning: {printable(line)}", markup=False, style="yellow")


def printable(line: str) -> str:
    r"""A line that every terminal takes: bytes of a file name that are no Unicode are escaped.

    >>> print(printable("caf\udce9.png"))
    caf\udce9.png
    """
    return line.encode("utf-8", "backslashreplace").decode("utf-8")


def encode_leniently() -> None:
    """Replace what standard output and error cannot encode, on a console of cp932, Latin-1 or ASCII, by question marks.

    Work that is done is not lost because a dash or a file's name cannot be shown.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


class Bar(AbstractContextManager["Bar"]):
    """A progress bar with the time left; where nobody watches, a line every tenth of the way."""

    def __init__(self) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._progress = Progress(*columns, console=ERR, transient=True)
        self._task: TaskID | None = None
        self._phase = ""
        self._tenth = 0
        self._started = 0.0

    def __enter__(self) -> Bar:
        if ERR.is_terminal:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if ERR.is_terminal:
            self._progress.stop()

    def __call__(self, phase: str, done: int, total: int, note: str = "") -> None:
        """Show how far a phase is."""
        if phase != self._phase:
            if self._task is not None:
                self._progress.remove_task(self._task)
            self._task = self._progress.add_task(phase, total=total, note=note)
            self._phase, self._tenth, self._started = phase, 0, time.monotonic()
        assert self._task is not None
        self._progress.update(self._task, completed=done, total=total, note=note)
        if not ERR.is_terminal and done * 10 // total > self._tenth:
            self._tenth = done * 10 // total
            left = (time.monotonic() - self._started) * (total - done) / max(done, 1)
            ERR.print(f"{phase}: {done} of {total}, {duration(left)} left {note}".rstrip(), markup=False)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A plain table; the first column is text, the others numbers."""
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for number, name in enumerate(head):
        drawn.add_column(name, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        drawn.add_row(*row)
    # As wide as it needs to be: in a pipe or a narrow window, numbers cut short would be worse than long lines.
    Console(highlight=False, width=max(OUT.width, 200)).print(drawn, soft_wrap=True)
