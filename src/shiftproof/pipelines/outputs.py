"""Where a run writes to: proved to be writable before any image is looked at, and without a former run's results."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from shiftproof.errors import DataError


def clear_outputs(out: Path, names: Sequence[str]) -> None:
    """Make the folder and remove what a former run called by these names: no old report beside new figures.

    Raises:
        DataError: the folder cannot be made or written, or something that is no file is in the way.
    """
    with _refusing_unwritable(out):
        out.mkdir(parents=True, exist_ok=True)
        for name in names:
            (out / name).unlink(missing_ok=True)


class Table:
    """A CSV file in which a row is as soon as it is written: what was found before a run is killed is not lost.

    Args:
        path: of the file, in a folder that exists.
        columns: its head; a row has a cell for each, empty where it holds no value.

    Raises:
        DataError: the file cannot be written; by its methods too.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._out = path.parent
        with _refusing_unwritable(self._out):
            # Names that are no Unicode are escaped, as in JSON. One line is one write.
            self._file = path.open("w", buffering=1, encoding="utf-8", errors="backslashreplace", newline="")
        self._writer = csv.DictWriter(self._file, columns, lineterminator="\n")
        self.write(dict(zip(columns, columns, strict=True)))

    def write(self, row: Mapping[str, Any]) -> None:
        """Add a row."""
        with _refusing_unwritable(self._out):
            self._writer.writerow(row)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with _refusing_unwritable(self._out):
            self._file.close()


@contextlib.contextmanager
def _refusing_unwritable(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        raise DataError(f"{out} cannot be written ({what}): free space, or choose another --out") from error
