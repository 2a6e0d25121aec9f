"""The station: its models, its memory, and what it does with what it is sent."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import IO, Any

from shiftproof.errors import ImageError, ImageFormatError, ImageSizeError, ShiftproofError, UsageError
from shiftproof.loading import open_detector
from shiftproof.service.following import Follower
from shiftproof.service.ledger import Ledger
from shiftproof.service.line import Line, Ticket
from shiftproof.service.pictures import Arrival, Upload, decode, draw_heatmap
from shiftproof.service.refusal import Refusal
from shiftproof.service.reload import Reloader
from shiftproof.service.settings import Settings
from shiftproof.service.store import Database, Files, Inspection, history
from shiftproof.service.telemetry import Telemetry
from shiftproof.service.uploads import Budget
from shiftproof.service.versions import Load, Version, model_names, open_version

LOG = logging.getLogger("shiftproof.service")
_PAUSE = 0.01  # seconds between two looks at whether all is finished


@dataclass(frozen=True)
class Unreadable:
    """A file that could not be inspected."""

    file: str | None  # as the client calls it
    status: int  # of HTTP, were it alone: 413 too many pixels, 415 no known format, 422 damaged
    error: str  # one line

    def to_json(self) -> dict[str, Any]:
        """As clients get it."""
        return {"file": self.file, "status": self.status, "error": self.error}


class Station:
    """Everything behind the addresses. Opening loads the models and the database; ``start`` begins to work.

    Args:
        settings: what it was told.
        load: from a model folder to a detector; :func:`shiftproof.load` if not given.

    Raises:
        ShiftproofError: a model, the database or the data folder cannot be used.
    """

    def __init__(self, settings: Settings, load: Load | None = None):
        self.settings = settings
        self._load: Load = load or partial(open_detector, options=settings.options)
        self.telemetry = Telemetry()
        self.budget = Budget(settings.limits.waiting_bytes)
        names = model_names(settings.models)
        with contextlib.ExitStack() as undone:
            self._lock = undone.enter_context(_lock(settings.data))
            self.database = Database(settings.database or f"sqlite:///{settings.data.resolve() / 'station.sqlite'}")
            undone.callback(self.database.close)
            self.files = Files(settings.data / "files")
            self._opened = {name: self._open(name, folder) for name, folder in names.items()}
            undone.pop_all()
        self._folders = names
        self.lines: dict[str, Line] = {}  # by the model's name, once started
        self.reloaders: dict[str, Reloader] = {}  # by the model's name, once started
        self.followers: dict[str, Follower] = {}  # by the model's name, once started
        self.pool = ThreadPoolExecutor(max(2, min(4, os.cpu_count() or 2)), "shiftproof-pool")
        self._tasks: list[asyncio.Task[None]] = []
        self._keys: set[str] = set()  # Idempotency-Keys of requests that are being answered

    async def start(self) -> None:
        """Begin to take images."""
        settings, loop = self.settings, asyncio.get_running_loop()
        self.ledger = Ledger(self.database, self.files, settings.retention_bytes, self.telemetry)
        self._tasks.append(loop.create_task(self.ledger.run()))
        for name, version in self._opened.items():
            line = Line(
                version,
                self.ledger,
                self.pool,
                self.telemetry,
                bound=settings.queue,
                batch=settings.batch,
                wait=settings.wait,
            )
            reloader = Reloader(line, self._folders[name], self._open, self.telemetry, settings.reload_seconds)
            follower = Follower(line, self.database, self.telemetry, settings.reload_seconds)
            self.lines[name], self.reloaders[name], self.followers[name] = line, reloader, follower
            self._tasks += [loop.create_task(one.run()) for one in (line, reloader, follower)]

    async def stop(self) -> None:
        """Finish what was accepted; nothing new comes any more."""
        while any(line.waiting for line in self.lines.values()):
            await asyncio.sleep(_PAUSE)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for line in self.lines.values():
            line.close()
        self.ledger.close()
        self.close()

    def close(self) -> None:
        """Let go of threads, database and data folder."""
        self.pool.shutdown(wait=True)
        self.database.close()
        self._lock.close()

    def line(self, name: str) -> Line:
        """The line of a model.

        Raises:
            Refusal: 404, there is no such model.
        """
        if name not in self.lines:
            raise Refusal(404, f"no model {name!r}; there are: {', '.join(self.lines)}")
        return self.lines[name]

    @property
    def problems(self) -> dict[str, str]:
        """By model: why its newest version is not served."""
        return {name: one.problem for name, one in self.reloaders.items() if one.problem}

    async def inspect(
        self, name: str, uploads: Sequence[Upload], *, station: str | None = None, key: str | None = None
    ) -> list[Inspection | Unreadable]:
        """Inspect files; what is returned is committed.

        Args:
            name: of the model.
            uploads: the files.
            station: as the client calls itself.
            key: its Idempotency-Key: what was committed under it before is returned, not inspected again.

        Returns:
            One inspection for each file, in their order, or why it could not be made.

        Raises:
            Refusal: 404 no such model; 409 and 422 misuse of the key; 413 and 429 no room; 5xx faults of ours.
        """
        line = self.line(name)
        with self._only(key), line.places(len(uploads)):
            earlier = await asyncio.to_thread(self._earlier, key, name, uploads) if key else {}
            ticket = Ticket(datetime.now(UTC), station, key)
            # All are decoded at once, and sent in their order as they are ready.
            new = {at: self._decode(line, upload) for at, upload in enumerate(uploads) if at not in earlier}
            sent: list[asyncio.Future[Inspection] | Inspection | Unreadable] = []
            for position, upload in enumerate(uploads):
                if position in earlier:
                    sent.append(earlier[position])
                    continue
                try:
                    sent.append(line.send(await new[position], ticket, position))
                except ImageError as error:
                    self.telemetry.unreadable.labels(name).inc()
                    sent.append(Unreadable(upload.name, _status(error), str(error)))
            waiting = [one for one in sent if isinstance(one, asyncio.Future)]
            answers = await asyncio.gather(*waiting, return_exceptions=True)
        for one in answers:
            if isinstance(one, BaseException):
                raise one
        return [one.result() if isinstance(one, asyncio.Future) else one for one in sent]

    def _decode(self, line: Line, upload: Upload) -> asyncio.Future[Arrival]:
        image_size, pixels = line.version.detector.image_size, self.settings.limits.pixels
        return asyncio.get_running_loop().run_in_executor(self.pool, decode, upload, image_size, pixels)

    async def heatmap(self, seen: Inspection, longest: int | None = None) -> bytes:
        """A heatmap as PNG.

        Raises:
            Refusal: 410, its files are no longer kept.
        """
        return await asyncio.get_running_loop().run_in_executor(self.pool, self._heatmap, seen, longest)

    def image(self, seen: Inspection) -> bytes:
        """The file that was inspected.

        Raises:
            Refusal: 410, it is no longer kept.
        """
        return self._read(seen.image, seen.id)

    def _heatmap(self, seen: Inspection, longest: int | None) -> bytes:
        image, kept_map = self._read(seen.image, seen.id), self._read(seen.map, seen.id)
        return draw_heatmap(image, kept_map, longest=longest, max_pixels=seen.width * seen.height)

    def _read(self, sha256: str, number: int) -> bytes:
        data = self.files.read(sha256)
        if data is None:
            raise Refusal(410, f"the files of inspection {number} are no longer kept; its row is")
        return data

    def _earlier(self, key: str, name: str, uploads: Sequence[Upload]) -> dict[int, Inspection]:
        """What was committed under a key, by position; a refusal where it was for other images or another model."""
        with self.database.reading() as session:
            found = history.of_key(session, key)
        for position, seen in found.items():
            data = uploads[position].data if position < len(uploads) else b""
            if (seen.model, seen.image) != (name, hashlib.sha256(data).hexdigest()):
                raise Refusal(422, f"Idempotency-Key {key!r} was used for another image or model: use a new one")
        return found

    @contextlib.contextmanager
    def _only(self, key: str | None) -> Any:
        """One request at a time under a key."""
        if key in self._keys:
            raise Refusal(409, f"a request with Idempotency-Key {key!r} is being answered: send it again in a moment")
        if key is None:
            yield
            return
        self._keys.add(key)
        try:
            yield
        finally:
            self._keys.discard(key)

    def _open(self, name: str, folder: Path) -> Version:
        version = open_version(name, folder, self.database, self._load)
        self.telemetry.model.labels(name, version.version, version.detector.backend.name).set(1)
        return version


def _status(error: ImageError) -> int:
    if isinstance(error, ImageSizeError):
        return 413
    return 415 if isinstance(error, ImageFormatError) else 422


def _lock(data: Path) -> IO[bytes]:
    """Hold the data folder: two programs that remove files of one folder would remove each other's."""
    try:
        data.mkdir(parents=True, exist_ok=True)
        file = (data / ".lock").open("wb")
    except OSError as error:
        raise ShiftproofError(
            f"cannot write {error.filename or data}: {error.strerror}; choose another --data"
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise UsageError(f"{data} is in use by another station: stop it, or choose another --data") from error
    return file
