"""The output of a watch: a table that grows by whole lines, CSV or JSON lines, and agrees with the journal after any crash."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from shiftproof.errors import DataError, UsageError

COLUMNS = (
    *("number", "time", "path", "status", "score", "p_value", "verdict", "threshold", "latency_ms"),
    *("distance", "drift", "message"),
)
CSV, JSON_LINES = ".csv", ".jsonl"


def csv_line(row: Mapping[str, Any]) -> str:
    r"""A row as a line of CSV; what is not there is empty, a line break inside becomes a space.

    >>> csv_line({"number": 1, "path": "a,b.png", "score": 0.1})
    '1,,"a,b.png",,0.1,,,,,,,\n'
    """
    buffer = io.StringIO()
    cells = ["" if row.get(name) is None else " ".join(str(row[name]).splitlines()) for name in COLUMNS]
    csv.writer(buffer, lineterminator="\n").writerow(cells)
    return buffer.getvalue()


def json_line(row: Mapping[str, Any]) -> str:
    """A row as a line of JSON; what is not there is left out."""
    filled = {name: row[name] for name in COLUMNS if row.get(name) is not None}
    return json.dumps(filled, ensure_ascii=False, allow_nan=False) + "\n"


class OutputTable:
    """A file that lines are appended to, each in one write and on the disk before the next.

    Args:
        path: of the file; its ending says CSV or JSON lines.

    Raises:
        UsageError: another ending, or a file that holds something else.
    """

    def __init__(self, path: Path):
        if path.suffix.lower() not in (CSV, JSON_LINES):
            raise UsageError(f"output {path} ends in {path.suffix or 'nothing'!r}; expected .csv or .jsonl")
        self.path = path
        self._is_csv = path.suffix.lower() == CSV
        self._head = (",".join(COLUMNS) + "\n").encode() if self._is_csv else b""
        if path.exists() and not self._is_ours(path):
            raise UsageError(
                f"{path} holds another table: expected the columns {','.join(COLUMNS)}; choose another --out"
            )

    def line(self, row: Mapping[str, Any]) -> str:
        """A row as this file writes it."""
        return csv_line(row) if self._is_csv else json_line(row)

    def recover(self, unconfirmed: Sequence[str]) -> None:
        """Bring the file to where the journal is: cut off a line that was half written, and append those that lack.

        Args:
            unconfirmed: lines of which it is not known that the file holds them, in order; it may hold the first of them.
        """
        lines = [_encode(line) for line in unconfirmed]
        with self._opened() as descriptor:
            size = os.fstat(descriptor).st_size
            reach = min(size, len(self._head) + sum(map(len, lines)) + 1)
            tail = os.pread(descriptor, reach, size - reach)
            torn = tail[tail.rfind(b"\n") + 1 :]  # what has no end
            if torn and self._wrote(torn, lines, alone=len(torn) == size):
                os.ftruncate(descriptor, size := size - len(torn))
                tail, torn = tail[: -len(torn)], b""
            there = next(held for held in range(len(lines), -1, -1) if tail.endswith(b"".join(lines[:held])))
            head = self._head if size == 0 else b"\n" if torn else b""
            _write(descriptor, head + b"".join(lines[there:]))

    def append(self, lines: Sequence[str]) -> None:
        """Append lines; they are on the disk afterwards.

        Raises:
            DataError: the disk is full, or the file cannot be written.
        """
        with self._opened() as descriptor:
            head = (
                self._head if os.fstat(descriptor).st_size == 0 else b""
            )  # the first line, or the file was moved away
            _write(descriptor, head + _encode("".join(lines)))

    def _wrote(self, torn: bytes, lines: Sequence[bytes], alone: bool) -> bool:
        """Whether a line without an end is ours, cut off; somebody else's stays and gets one."""
        return any(line.startswith(torn) for line in lines) or (alone and self._head.startswith(torn))

    def _is_ours(self, path: Path) -> bool:
        with path.open("rb") as file:
            start = file.read(max(len(self._head), 1))
        return self._head.startswith(start) if self._is_csv else start in (b"", b"{")

    def _opened(self) -> _Descriptor:
        return _Descriptor(self.path)


class _Descriptor:
    """The file, open for appending; what the system refuses is one line."""

    def __init__(self, path: Path):
        self._path = path

    def __enter__(self) -> int:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise DataError(f"{self._path} cannot be written ({error.strerror}): choose another --out") from error
        return self._descriptor

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        os.close(self._descriptor)
        if isinstance(error, OSError):
            raise DataError(
                f"{self._path} cannot be written ({error.strerror}): free space, then start again"
            ) from error


def _encode(line: str) -> bytes:
    return line.encode("utf-8", "backslashreplace")


def _write(descriptor: int, content: bytes) -> None:
    """One write, on the disk; a disk that takes a part only is asked for the rest."""
    while content:
        content = content[os.write(descriptor, content) :]
    os.fsync(descriptor)
