"""The loop of a watch: look, inspect, write down, tell; and what happens to a file at each step if the power goes."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftproof.data import in_order, read_decoded
from shiftproof.detector import BATCH, Detector, batched
from shiftproof.drift import DriftState, Monitor
from shiftproof.errors import DataError, ImageError, IncompleteImageError
from shiftproof.results import Inspection
from shiftproof.watch.delivery import DeliveryWorker, Receiver
from shiftproof.watch.folder_scanner import FileIdentity, FolderScanner, identify
from shiftproof.watch.journal import Journal
from shiftproof.watch.output import OutputTable

RETRIES = 3  # further looks at a file that cannot be read, before it becomes a line that says so
INCOMPLETE_RETRIES = 30  # as long as the file looks like a copy that has not finished
DECODED_FACTOR = 10  # pixels take so many times the bytes of their file, roughly
MOST_NOTED = 50  # other kinds of images that are warned of, each once
SAVED_EVERY = 20  # images between two copies of the drift monitor's state in the journal
DRIFT_STATE = "drift"  # what it is kept under
PARTING = 10.0  # seconds for messages to be delivered at the end


@dataclass(frozen=True)
class Totals:
    """What a watch has done since it was started."""

    images: int  # lines of images, unreadable ones included
    defective: int
    failures: int  # unreadable
    alerts: int  # drifts found
    undelivered: int  # messages that wait in the journal


@dataclass(frozen=True)
class _ReadFile:
    """A file that was read as it is."""

    identity: FileIdentity
    image: NDArray[np.uint8] | ImageError
    note: str  # how it differs in kind from those trained on


class Watch:
    """Inspects each image that arrives in a folder once.

    A file is dealt with in three steps: its line and its messages go into the journal, together with the file's name,
    size and time, in one transaction; the line is appended to the output; the messages are delivered. Killed before the
    first, the image is inspected at the next start; after it, never again, and the next start does what is left.

    Args:
        detector: with its fixed threshold.
        folder: to watch.
        output: that lines are appended to.
        journal: beside it.
        model: name of the model, for messages.
        settle: seconds for which a file must stay as it is before it is taken for complete.
        done: folder to move files to that were dealt with; None leaves them.
        monitor: is given every image; its state is in the journal. None watches for no drift.
        receivers: of messages.
        say: is told a fact worth a line.
        warn: is told what went wrong and does not end the watch.
    """

    def __init__(
        self,
        detector: Detector,
        folder: Path,
        output: OutputTable,
        journal: Journal,
        *,
        model: str = "",
        settle: float = 1.0,
        move_to: Path | None = None,
        monitor: Monitor | None = None,
        receivers: Sequence[Receiver] = (),
        say: Callable[[str], None] = lambda line: None,
        warn: Callable[[str], None] = lambda line: None,
    ):
        self._detector, self._folder, self._output, self._journal = detector, folder, output, journal
        self._model, self._settle, self._move_to, self._monitor = model, settle, move_to, monitor
        self._say, self._warn = say, warn
        self._workers = [DeliveryWorker(journal, receiver, warn) for receiver in receivers]
        self._scanner = FolderScanner(folder, settle, self._is_known, excluded=move_to)
        self._attempts: dict[FileIdentity, int] = {}
        self._once = False
        self._noted: set[str] = set()
        self._images = self._defective = self._failures = self._alerts = 0

    def run(self, stop: threading.Event, *, once: bool = False) -> Totals:
        """Watch until ``stop`` is set, or, ``once``, until every file that is there has been dealt with.

        Raises:
            DataError: the output or the journal cannot be written, or the folder is not there at the start.
        """
        if not self._folder.is_dir():
            raise DataError(f"{self._folder} is no folder that could be watched: make it, or check the path")
        self._output.recover(self._journal.unconfirmed())
        self._journal.confirm()
        for worker in self._workers:
            worker.start()
        away, self._once = False, once
        try:
            while not stop.is_set():
                try:
                    ready = self._scanner.scan(time.monotonic())
                except OSError as error:  # a network share that comes back
                    if not away:
                        self._warn(f"{self._folder} cannot be listed ({error.strerror}); it is tried again")
                    away, ready = True, []
                else:
                    away = False
                for few in batched(ready, BATCH, weight=lambda each: DECODED_FACTOR * each.size):
                    if not stop.is_set():
                        self._take(few, stop)
                if once and not ready and not away and not self._scanner.waiting:
                    break
                if not ready:
                    stop.wait(max(self._settle / 2, 0.02))
            with self._journal.transaction():
                self._journal.confirm()  # not after an error: the last line may be in the journal alone
                self._save_drift()
        finally:
            for worker in self._workers:
                worker.stop(PARTING)
        waiting = self._journal.undelivered()
        return Totals(self._images, self._defective, self._failures, self._alerts, waiting)

    def _take(self, few: list[FileIdentity], stop: threading.Event) -> None:
        """Inspect some files, and deal with one after the other until a stop is asked for."""
        taken = [each for each in in_order(self._read, few, ahead=BATCH) if each is not None]
        images = (each.image for each in taken if not isinstance(each.image, ImageError))
        inspections = iter(list(self._detector.stream(images)))  # all before the first is written down: one batch
        for each in taken:
            if stop.is_set():
                return
            if not isinstance(each.image, ImageError):
                self._record(each.identity, replace(next(inspections), note=each.note))
            elif self._attempts.get(each.identity, 0) < self._retries(each.image):
                self._attempts[each.identity] = self._attempts.get(each.identity, 0) + 1
                self._scanner.retry_later(each.identity, time.monotonic())
            else:
                self._record(each.identity, each.image)

    def _retries(self, error: ImageError) -> int:
        return INCOMPLETE_RETRIES if isinstance(error, IncompleteImageError) and not self._once else RETRIES

    def _read(self, identity: FileIdentity) -> _ReadFile | None:
        """A file's image; None where it is gone or has changed since it was looked at."""
        path = self._folder / identity.name
        image: NDArray[np.uint8] | ImageError
        note = ""
        try:
            decoded = read_decoded(path, bits=self._detector.bits)
            image = decoded.pixels
            if self._detector.profile is not None:
                note = self._detector.profile.difference(decoded.info)
        except ImageError as error:
            image = error
        return _ReadFile(identity, image, note) if identify(self._folder, identity.name) == identity else None

    def _record(self, identity: FileIdentity, result: Inspection | ImageError) -> None:
        """Write down what was found, in the journal, then in the output; then tell."""
        self._attempts.pop(identity, None)
        number = self._journal.next_number
        state = self._update_monitor(result)
        rows = [self._row(number, identity, result, state)]
        if state is not None and (state.alert or state.ended):
            self._alerts += state.alert
            rows.append(self._drift_row(number + 1, identity, state))
            self._say(f"drift: {state.sentence}")
        lines = [self._output.line(row) for row in rows]
        with self._journal.transaction():
            self._journal.confirm()  # former lines are on the disk
            self._journal.mark_inspected(identity, number)
            for row, line in zip(rows, lines, strict=True):
                self._journal.add_line(row["number"], line)
                key = f"{self._journal.id}-{row['number']}"
                body = {
                    "key": key,
                    "model": self._model,
                    **{name: value for name, value in row.items() if value is not None},
                }
                self._journal.queue_message([worker.name for worker in self._workers], key, json.dumps(body))
            if len(rows) > 1 or (state is not None and state.images % SAVED_EVERY == 0):
                self._save_drift()
        self._output.append(lines)
        self._scanner.mark_done(identity)
        for worker in self._workers:
            worker.wake()
        self._images += 1
        if isinstance(result, ImageError):
            self._failures += 1
            self._warn(str(result))
        else:
            self._defective += result.defective
            if result.note and result.note not in self._noted and len(self._noted) < MOST_NOTED:
                self._noted.add(result.note)
                self._warn(f"{identity.name} is another kind of image than those trained on: {result.note}")
        self._move_away(identity)

    def _update_monitor(self, result: Inspection | ImageError) -> DriftState | None:
        if self._monitor is None or isinstance(result, ImageError):
            return None
        return self._monitor.update(result.pixels, p_value=result.p_value, defective=result.defective)

    def _row(
        self, number: int, identity: FileIdentity, result: Inspection | ImageError, state: DriftState | None
    ) -> dict[str, Any]:
        row = {"number": number, "time": _now(), "path": identity.name}
        if isinstance(result, ImageError):
            return {**row, "status": "error", "message": str(result)}
        row |= {"status": "ok", "score": result.score, "p_value": result.p_value, "verdict": result.verdict}
        row |= {"threshold": result.threshold, "latency_ms": round(result.latency_ms, 3)}
        if result.note:
            row["message"] = f"another kind of image: {result.note}"
        return row if state is None else {**row, "distance": state.distance, "drift": state.status}

    @staticmethod
    def _drift_row(number: int, identity: FileIdentity, state: DriftState) -> dict[str, Any]:
        """The line that says that a drift was found, or that it is over."""
        message = state.sentence if state.alert else "the drift is over: images are like the good ones again"
        extra = {"findings": [asdict(finding) for finding in state.findings], "advice": state.advice}
        row = {"number": number, "time": _now(), "path": identity.name, "status": "drift"}
        return {**row, "distance": state.distance, "drift": state.status, "message": message, **extra}

    def _save_drift(self) -> None:
        if self._monitor is not None:
            self._journal.put(DRIFT_STATE, json.dumps(self._monitor.to_json()))

    def _is_known(self, identity: FileIdentity) -> bool:
        known = self._journal.knows(identity)
        if known:
            self._move_away(identity)  # killed before it was
        return known

    def _move_away(self, identity: FileIdentity) -> None:
        """Move a file to where those are that were dealt with; one that has changed since stays: it is another image."""
        if self._move_to is None or identify(self._folder, identity.name) != identity:
            return
        target = self._move_to / identity.name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists():
                target = target.with_stem(f"{target.stem}-{identity.changed}")
            shutil.move(os.fspath(self._folder / identity.name), os.fspath(target))
        except OSError as error:
            self._warn(f"{identity.name} cannot be moved to {self._move_to} ({error.strerror or error}); it stays")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def resume_monitor(journal: Journal, monitor: Monitor, warn: Callable[[str], None]) -> Monitor:
    """The monitor with the state that the journal holds, if that is of the same reference and rate; else as it is."""
    kept = journal.get(DRIFT_STATE)
    if kept is None:
        return monitor
    try:
        former = Monitor.from_json(
            json.loads(kept), monitor.reference, corrected=monitor.corrected, bound=monitor.bound
        )
    except (DataError, ValueError):
        warn("the model's reference is another one than at the last start: watching for drift begins anew")
        return monitor
    return former if former.alpha == monitor.alpha else monitor
