"""The journal of a watch: which files were dealt with, the lines that say so, and messages that are still to be delivered.

It is written before the output (a write-ahead log), in SQLite, which survives a kill and a power cut. A line belongs to a file
from the moment that both are in the journal; the output follows it, and is mended from it at the next start.
"""

from __future__ import annotations

import sqlite3
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from shiftproof.errors import DataError, UsageError
from shiftproof.watch.folder_scanner import FileIdentity

_TABLES = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS files (
    name TEXT NOT NULL, size INTEGER NOT NULL, changed INTEGER NOT NULL, number INTEGER NOT NULL,
    PRIMARY KEY (name, size, changed)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lines (number INTEGER PRIMARY KEY AUTOINCREMENT, line TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS outbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT, receiver TEXT NOT NULL, key TEXT NOT NULL, body TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS of_receiver ON outbox (receiver, number);
"""


@dataclass(frozen=True)
class Message:
    """One that is still to be delivered."""

    number: int  # in the order of delivery
    key: str  # the same at every attempt, so that the receiver can tell a repetition
    body: str  # JSON


class Journal:
    """A SQLite file that one watch writes at a time; its methods may be called from several threads.

    Args:
        path: of the file; made where it is not there.

    Raises:
        UsageError: another watch has it open. DataError: it is no journal, or cannot be written.
    """

    def __init__(self, path: Path):
        self.path = path
        self._lock = threading.RLock()
        try:
            self._database = sqlite3.connect(path, timeout=1, isolation_level=None, check_same_thread=False)
            for pragma in ("locking_mode = EXCLUSIVE", "journal_mode = WAL", "synchronous = FULL"):
                self._database.execute(f"PRAGMA {pragma}")
            self._database.executescript(f"BEGIN EXCLUSIVE; {_TABLES} COMMIT;")
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise UsageError(f"{path} is in use by another watch: end that one, or choose another --out") from error
            raise DataError(f"{path} cannot be written ({error}): choose another --out") from error
        except sqlite3.DatabaseError as error:
            raise DataError(
                f"{path} is no journal of a watch ({error}): move it away, or choose another --out"
            ) from error
        if self.get("id") is None:
            self.put("id", uuid.uuid4().hex)
        self.id = str(self.get("id"))

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._database.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is written inside is there after a crash, or nothing of it.

        Raises:
            DataError: the disk is full, or the file cannot be written.
        """
        with self._lock:
            try:
                self._database.execute("BEGIN IMMEDIATE")
                try:
                    yield
                except BaseException:
                    self._database.execute("ROLLBACK")
                    raise
                self._database.execute("COMMIT")
            except sqlite3.Error as error:
                raise DataError(f"{self.path} cannot be written ({error}): free space, then start again") from error

    def get(self, name: str) -> str | None:
        """What was kept under a name."""
        with self._lock:
            row = self._database.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def put(self, name: str, value: str) -> None:
        """Keep a text under a name."""
        with self._lock:
            self._database.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def knows(self, identity: FileIdentity) -> bool:
        """Whether a file was dealt with."""
        query = "SELECT 1 FROM files WHERE name = ? AND size = ? AND changed = ?"
        with self._lock:
            return (
                self._database.execute(query, (identity.name, identity.size, identity.changed)).fetchone() is not None
            )

    @property
    def next_number(self) -> int:
        """Of the line that comes next."""
        with self._lock:
            row = self._database.execute("SELECT seq FROM sqlite_sequence WHERE name = 'lines'").fetchone()
        return 1 if row is None else int(row[0]) + 1

    def mark_inspected(self, identity: FileIdentity, number: int) -> None:
        """A file has been dealt with; ``number`` is its line's."""
        row = (identity.name, identity.size, identity.changed, number)
        with self._lock:
            self._database.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", row)

    def add_line(self, number: int, line: str) -> None:
        """A line that the output shall hold."""
        with self._lock:
            self._database.execute("INSERT INTO lines VALUES (?, ?)", (number, line))

    def unconfirmed(self) -> list[str]:
        """Lines of which it is not certain that the output holds them, in order."""
        with self._lock:
            return [row[0] for row in self._database.execute("SELECT line FROM lines ORDER BY number")]

    def confirm(self) -> None:
        """The output holds all lines so far."""
        with self._lock:
            self._database.execute("DELETE FROM lines")

    def queue_message(self, receivers: Sequence[str], key: str, body: str) -> None:
        """A message for each of the receivers."""
        rows = [(receiver, key, body) for receiver in receivers]
        with self._lock:
            self._database.executemany("INSERT INTO outbox (receiver, key, body) VALUES (?, ?, ?)", rows)

    def oldest(self, receiver: str) -> Message | None:
        """The message that a receiver gets next."""
        query = "SELECT number, key, body FROM outbox WHERE receiver = ? ORDER BY number LIMIT 1"
        with self._lock:
            row = self._database.execute(query, (receiver,)).fetchone()
        return None if row is None else Message(*row)

    def delivered(self, message: Message) -> None:
        """A message has arrived."""
        with self._lock:
            self._database.execute("DELETE FROM outbox WHERE number = ?", (message.number,))

    def undelivered(self) -> int:
        """How many messages wait."""
        with self._lock:
            return int(self._database.execute("SELECT COUNT(*) FROM outbox").fetchone()[0])
