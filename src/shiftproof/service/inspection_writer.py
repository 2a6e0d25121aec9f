"""Committing: what is found meanwhile is committed together, so that a disk's pause is shared by many images."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar

from sqlalchemy.exc import DBAPIError, IntegrityError

from shiftproof.service.errors import RequestError
from shiftproof.service.store import Database, Files, InspectionRecord, files, history
from shiftproof.service.store.files import Content
from shiftproof.service.telemetry import Telemetry

LOG = logging.getLogger("shiftproof.service")
_SPARE = 0.95  # of the limit that removal goes down to, so that it is not due again at once
_LOOKED_UP = 1000  # hashes in one query
_NOT_WRITTEN = "the inspection could not be written down, so there is no answer: send it again"
Answer = TypeVar("Answer")


@dataclass
class _PendingWrite:
    """What belongs to one batch."""

    inspections: Sequence[InspectionRecord]
    contents: Sequence[Content]
    committed: asyncio.Future[list[InspectionRecord]] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class InspectionWriter:
    """The one writer of inspections and files, in a thread of its own.

    Args:
        database: for rows.
        folder: for images and maps.
        retention_bytes: how much the files may hold.
        telemetry: is told how much they hold.
    """

    def __init__(self, database: Database, folder: Files, retention_bytes: int, telemetry: Telemetry):
        self._database, self._files, self._limit, self._telemetry = database, folder, retention_bytes, telemetry
        self._thread = ThreadPoolExecutor(1, "shiftproof-ledger")
        self._entries: list[_PendingWrite] = []
        self._arrived = asyncio.Event()
        with database.reading() as session:
            self._stored = files.kept_bytes(session)
        telemetry.stored.set(self._stored)

    async def commit(
        self, inspections: Sequence[InspectionRecord], contents: Sequence[Content]
    ) -> list[InspectionRecord]:
        """Write files and rows; returns once they are durable, with their ids.

        Raises:
            RequestError: 503, the database or the disk cannot be written.
        """
        entry = _PendingWrite(inspections, contents)
        self._entries.append(entry)
        self._arrived.set()
        return await entry.committed

    async def run(self) -> None:
        """Commit what comes, until cancelled."""
        loop = asyncio.get_running_loop()
        sweeps = iter(range(256))
        while True:
            if not self._entries and (shard := next(sweeps, None)) is not None:
                await loop.run_in_executor(self._thread, self._guarded, lambda: self._sweep(shard))
                continue
            await self._arrived.wait()
            self._arrived.clear()
            entries, self._entries = self._entries, []
            if entries:
                answers = await loop.run_in_executor(self._thread, self._write_all, entries)
                for entry, answer in zip(entries, answers, strict=True):
                    _answer(entry.committed, answer)
                if self._stored > self._limit:
                    await loop.run_in_executor(self._thread, self._guarded, self._retain)

    def close(self) -> None:
        """Wait for what is being written."""
        self._thread.shutdown(wait=True)

    def _write_all(self, entries: Sequence[_PendingWrite]) -> list[list[InspectionRecord] | Exception]:
        try:
            found = iter(self._write([one for entry in entries for one in entry.inspections], entries))
            return [[next(found) for _ in entry.inspections] for entry in entries]
        except IntegrityError as error:
            if len(entries) == 1:
                return [RequestError(409, "this Idempotency-Key is being used by another request: send it again")]
            LOG.warning("a group is committed one by one: %s", error.orig)
            return [answer for entry in entries for answer in self._write_all([entry])]
        except (DBAPIError, OSError) as error:
            reason = " ".join(str(getattr(error, "orig", error)).split())[:200]
            LOG.warning("cannot commit: %s", reason)
            return [RequestError(503, _NOT_WRITTEN, {"Retry-After": "5"}) for _ in entries]
        except Exception:
            LOG.exception("cannot commit")
            return [RequestError(500, _NOT_WRITTEN) for _ in entries]

    def _write(
        self, inspections: Sequence[InspectionRecord], entries: Sequence[_PendingWrite]
    ) -> list[InspectionRecord]:
        contents = {one.sha256: one for entry in entries for one in entry.contents}
        for content in contents.values():
            self._files.write(content)
        with self._database.writing() as session:
            new = files.unknown(session, contents)
            files.record(session, contents.values(), datetime.now(UTC))
            committed = history.add(session, inspections)
        self._stored += sum(len(contents[sha256].data) for sha256 in new)
        self._telemetry.stored.set(self._stored)
        return committed

    def _retain(self) -> None:
        """Remove files until there is room again."""
        removed = 0
        while self._stored > self._limit * _SPARE:
            with self._database.writing() as session:
                chosen, room = [], self._stored - self._limit * _SPARE
                for sha256, size in files.expendable(session):
                    if room <= 0:
                        break
                    chosen.append((sha256, size))
                    room -= size
                if not chosen:
                    self._stored = files.kept_bytes(session)
                    break
                # Files first: one that is missing while its row says it is kept is noticed by whoever reads it.
                for sha256, _ in chosen:
                    self._files.remove(sha256)
                files.forget(session, [sha256 for sha256, _ in chosen])
            self._stored -= sum(size for _, size in chosen)
            removed += len(chosen)
        self._telemetry.stored.set(self._stored)
        LOG.info("removed %d files to stay within %d bytes", removed, self._limit)

    def _sweep(self, shard: int) -> None:
        """Remove the files of one folder whose inspection was never committed."""
        found = self._files.shard(shard)
        for start in range(0, len(found), _LOOKED_UP):
            with self._database.reading() as session:
                for sha256 in files.unknown(session, found[start : start + _LOOKED_UP]):
                    self._files.remove(sha256)

    def _guarded(self, work: Callable[[], None]) -> None:
        """Housekeeping that fails is done again another time; inspections go on."""
        try:
            work()
        except Exception:
            LOG.exception("housekeeping of files failed")


def _answer(future: asyncio.Future[Answer], answer: Answer | Exception) -> None:
    """Hand over a result, unless nobody waits for it any more."""
    with contextlib.suppress(asyncio.InvalidStateError):
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)
