"""The loop of a watch: look, inspect, write down, tell; and what happens to a file at each step if the power goes."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shiftproof.data import decode_image, in_order
from shiftproof.data.images import read_bytes
from shiftproof.detector import BATCH, Detector, Inspection, batched
from shiftproof.drift import DriftState, Monitor
from shiftproof.errors import DataError, ImageError
from shiftproof.watch.arrivals import Arrivals, Identity, identify
from shiftproof.watch.deliver import Courier, Receiver
from shiftproof.watch.journal import Journal
from shiftproof.watch.output import Output

RETRIES = 3  # further looks at a file that cannot be read, before it becomes a line that says so
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
class _Taken:
    """A file that was read as it is."""

    identity: Identity
    image: NDArray[np.uint8] | ImageError


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
        output: Output,
        journal: Journal,
        *,
        model: str = "",
        settle: float = 1.0,
        done: Path | None = None,
        monitor: Monitor | None = None,
        receivers: Sequence[Receiver] = (),
        say: Callable[[str], None] = lambda line: None,
        warn: Callable[[str], None] = lambda line: None,
    ):
        self._detector, self._folder, self._output, self._journal = detector, folder, output, journal
        self._model, self._settle, self._done, self._monitor = model, settle, done, monitor
        self._say, self._warn = say, warn
        self._couriers = [Courier(journal, receiver, warn) for receiver in receivers]
        self._arrivals = Arrivals(folder, settle, self._is_known, without=done)
        self._attempts: dict[Identity, int] = {}
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
        for courier in self._couriers:
            courier.start()
        away = False
        try:
            while not stop.is_set():
                try:
                    ready = self._arrivals.look(time.monotonic())
                except OSError as error:  # a network share that comes back
                    if not away:
                        self._warn(f"{self._folder} cannot be listed ({error.strerror}); it is tried again")
                    away, ready = True, []
                else:
                    away = False
                for few in batched(ready, BATCH):
                    if not stop.is_set():
                        self._take(few, stop)
                if once and not ready and not away and not self._arrivals.waiting:
                    break
                if not ready:
                    stop.wait(max(self._settle / 2, 0.02))
            with self._journal.together():
                self._journal.confirm()  # not after an error: the last line may be in the journal alone
                self._save_drift()
        finally:
            for courier in self._couriers:
                courier.stop(PARTING)
        waiting = self._journal.undelivered()
        return Totals(self._images, self._defective, self._failures, self._alerts, waiting)

    def _take(self, few: list[Identity], stop: threading.Event) -> None:
        """Inspect some files, and deal with one after the other until a stop is asked for."""
        taken = [each for each in in_order(self._read, few, ahead=BATCH) if each is not None]
        images = (each.image for each in taken if not isinstance(each.image, ImageError))
        inspections = iter(list(self._detector.stream(images)))  # all before the first is written down: one batch
        for each in taken:
            if stop.is_set():
                return
            if not isinstance(each.image, ImageError):
                self._settle_with(each.identity, next(inspections))
            elif self._attempts.get(each.identity, 0) < RETRIES:
                self._attempts[each.identity] = self._attempts.get(each.identity, 0) + 1
                self._arrivals.again(each.identity, time.monotonic())
            else:
                self._settle_with(each.identity, each.image)

    def _read(self, identity: Identity) -> _Taken | None:
        """A file's image; None where it is gone or has changed since it was looked at."""
        path = self._folder / identity.name
        image: NDArray[np.uint8] | ImageError
        try:
            image = decode_image(read_bytes(path), str(path))
        except ImageError as error:
            image = error
        return _Taken(identity, image) if identify(self._folder, identity.name) == identity else None

    def _settle_with(self, identity: Identity, seen: Inspection | ImageError) -> None:
        """Write down what was found, in the journal, then in the output; then tell."""
        self._attempts.pop(identity, None)
        number = self._journal.next_number
        state = self._follow(seen)
        rows = [self._row(number, identity, seen, state)]
        if state is not None and (state.alert or state.ended):
            self._alerts += state.alert
            rows.append(self._drift_row(number + 1, identity, state))
            self._say(f"drift: {state.sentence}")
        lines = [self._output.line(row) for row in rows]
        with self._journal.together():
            self._journal.confirm()  # former lines are on the disk
            self._journal.note(identity, number)
            for row, line in zip(rows, lines, strict=True):
                self._journal.add_line(row["number"], line)
                key = f"{self._journal.id}-{row['number']}"
                body = {
                    "key": key,
                    "model": self._model,
                    **{name: value for name, value in row.items() if value is not None},
                }
                self._journal.post([courier.name for courier in self._couriers], key, json.dumps(body))
            if len(rows) > 1 or (state is not None and state.images % SAVED_EVERY == 0):
                self._save_drift()
        self._output.append(lines)
        self._arrivals.deal(identity)
        for courier in self._couriers:
            courier.wake()
        self._images += 1
        if isinstance(seen, ImageError):
            self._failures += 1
            self._warn(str(seen))
        else:
            self._defective += seen.defective
        self._put_away(identity)

    def _follow(self, seen: Inspection | ImageError) -> DriftState | None:
        if self._monitor is None or isinstance(seen, ImageError):
            return None
        return self._monitor.update(seen.pixels, p_value=seen.p_value, defective=seen.defective)

    def _row(
        self, number: int, identity: Identity, seen: Inspection | ImageError, state: DriftState | None
    ) -> dict[str, Any]:
        row = {"number": number, "time": _now(), "path": identity.name}
        if isinstance(seen, ImageError):
            return {**row, "status": "error", "message": str(seen)}
        row |= {"status": "ok", "score": seen.score, "p_value": seen.p_value, "verdict": seen.verdict}
        row |= {"threshold": seen.threshold, "latency_ms": round(seen.latency_ms, 3)}
        return row if state is None else {**row, "measure": state.measure, "drift": state.status}

    @staticmethod
    def _drift_row(number: int, identity: Identity, state: DriftState) -> dict[str, Any]:
        """The line that says that a drift was found, or that it is over."""
        message = state.sentence if state.alert else "the drift is over: images are like the good ones again"
        told = {"findings": [asdict(finding) for finding in state.findings], "advice": state.advice}
        row = {"number": number, "time": _now(), "path": identity.name, "status": "drift"}
        return {**row, "measure": state.measure, "drift": state.status, "message": message, **told}

    def _save_drift(self) -> None:
        if self._monitor is not None:
            self._journal.keep(DRIFT_STATE, json.dumps(self._monitor.to_json()))

    def _is_known(self, identity: Identity) -> bool:
        known = self._journal.knows(identity)
        if known:
            self._put_away(identity)  # killed before it was
        return known

    def _put_away(self, identity: Identity) -> None:
        """Move a file to where those are that were dealt with; one that has changed since stays: it is another image."""
        if self._done is None or identify(self._folder, identity.name) != identity:
            return
        target = self._done / identity.name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists():
                target = target.with_stem(f"{target.stem}-{identity.changed}")
            shutil.move(os.fspath(self._folder / identity.name), os.fspath(target))
        except OSError as error:
            self._warn(f"{identity.name} cannot be moved to {self._done} ({error.strerror or error}); it stays")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def resume_monitor(journal: Journal, monitor: Monitor, warn: Callable[[str], None]) -> Monitor:
    """The monitor with the state that the journal holds, if that is of the same reference and rate; else as it is."""
    kept = journal.fact(DRIFT_STATE)
    if kept is None:
        return monitor
    try:
        former = Monitor.from_json(json.loads(kept), monitor.reference, matched=monitor.matched, bound=monitor.bound)
    except (DataError, ValueError):
        warn("the model's reference is another one than at the last start: watching for drift begins anew")
        return monitor
    return former if former.alpha == monitor.alpha else monitor
