"""Images and maps in the data folder, each under the SHA-256 of its content; the oldest go when there are too many."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from shiftproof.service.store.tables import FileRow, InspectionRow

IMAGE, MAP = "image", "map"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_AT_ONCE = 200  # files that one statement removes


@dataclass(frozen=True)
class Content:
    """What a file is to hold."""

    sha256: str  # of the bytes
    kind: str  # "image" or "map"
    data: bytes

    @classmethod
    def of(cls, kind: str, data: bytes) -> Content:
        """With its hash."""
        return cls(hashlib.sha256(data).hexdigest(), kind, data)


class Files:
    """A folder of files named by their hash. A name that is no hash is never looked at, so no client can name a path.

    Args:
        folder: is made; 256 folders in it hold the files.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        for shard in range(256):
            (folder / f"{shard:02x}").mkdir(parents=True, exist_ok=True)

    def write(self, content: Content) -> None:
        """Keep a file; whoever looks meanwhile sees all of it or none. OSError passes through."""
        path = self._path(content.sha256)
        with contextlib.suppress(OSError):
            if path.stat().st_size == len(content.data):
                return
        # Not forced to the disk: the row that names it is, and a reader checks the hash. A kill loses nothing.
        beside = path.with_name(f".{path.name}.tmp")
        beside.write_bytes(content.data)
        beside.replace(path)

    def read(self, sha256: str) -> bytes | None:
        """The content of that hash; None where it is not there, or no longer what it was."""
        try:
            data = self._path(sha256).read_bytes()
        except OSError:
            return None
        return data if hashlib.sha256(data).hexdigest() == sha256 else None

    def remove(self, sha256: str) -> None:
        """Remove a file, if it is there."""
        with contextlib.suppress(OSError):
            self._path(sha256).unlink()

    def shard(self, number: int) -> list[str]:
        """The hashes of the files in one of the 256 folders; what a kill left half-written is removed."""
        found = []
        for entry in os.scandir(self._folder / f"{number:02x}"):
            if _SHA256.fullmatch(entry.name):
                found.append(entry.name)
            elif entry.name.startswith("."):
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)  # noqa: PTH108
        return found

    def _path(self, sha256: str) -> Path:
        if not _SHA256.fullmatch(sha256):
            raise ValueError(f"{sha256!r} is no SHA-256; expected 64 digits of 0-9 and a-f")
        return self._folder / sha256[:2] / sha256


def record(session: Session, contents: Iterable[Content], time: datetime) -> None:
    """Write down which files are kept, and when they came last."""
    rows = {
        one.sha256: {"sha256": one.sha256, "kind": one.kind, "bytes": len(one.data), "stored": time, "kept": True}
        for one in contents
    }
    if not rows:
        return
    dialect: Any = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    # In the order of the hashes: two writers that lock the same rows never wait for each other in a circle.
    statement = dialect.insert(FileRow).values([rows[sha256] for sha256 in sorted(rows)])
    session.execute(
        statement.on_conflict_do_update(
            index_elements=[FileRow.sha256], set_={"stored": statement.excluded.stored, "kept": True}
        )
    )


def kept_bytes(session: Session) -> int:
    """How much the files hold that are kept."""
    return int(session.scalar(select(func.coalesce(func.sum(FileRow.bytes), 0)).where(FileRow.kept)) or 0)


def expendable(session: Session, count: int = _AT_ONCE) -> list[tuple[str, int]]:
    """The files to remove first, (SHA-256, bytes): not reviewed before reviewed, reviewed good ones last; then by age.

    Images that were reviewed as good are what a new threshold is placed with.
    """
    ours = select(InspectionRow.id).where(
        (InspectionRow.image == FileRow.sha256) | (InspectionRow.map == FileRow.sha256)
    )
    good = ours.where(InspectionRow.truth == "good").exists()
    reviewed = ours.where(InspectionRow.truth.is_not(None)).exists()
    for condition in (~reviewed, reviewed & ~good, good):
        statement = select(FileRow.sha256, FileRow.bytes).where(FileRow.kept, condition)
        found = session.execute(statement.order_by(FileRow.stored).limit(count)).all()
        if found:
            return [(sha256, size) for sha256, size in found]
    return []


def forget(session: Session, hashes: Iterable[str]) -> None:
    """Write down that files are no longer kept."""
    session.execute(update(FileRow).where(FileRow.sha256.in_(list(hashes))).values(kept=False))


def unknown(session: Session, hashes: Iterable[str]) -> set[str]:
    """Those of the hashes that no row says are kept: files whose inspection was never committed."""
    wanted = set(hashes)
    known = session.scalars(select(FileRow.sha256).where(FileRow.sha256.in_(list(wanted)), FileRow.kept))
    return wanted - set(known)
