"""A run of a benchmark: one method on one category with one seed, everything that it depends on, and its place on disk."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from shiftproof.errors import DataError
from shiftproof.locking import file_lock
from shiftproof.model_io import write_json_atomic

FILE = "run.json"
EVALUATION = ("conditions", "without_correction")
"""Settings of the evaluation alone: runs that differ in nothing else share their model."""


@dataclass(frozen=True)
class Run:
    """One run."""

    out: Path  # the benchmark's folder
    method: str  # its column in the tables, such as "rdpp" or "rdpp:ssot=off"
    category: str  # its row
    seed: int
    settings: Mapping[str, Any]  # all that the run's figures depend on, as JSON values
    data: Path  # where the category lies: what is in it is among the settings, where it lies is not
    weights: Path | None = None  # the teacher's, likewise
    textures: Path | None = None  # for synthetic anomalies, likewise
    stray: Sequence[str] = field(default=(), compare=False)  # lines on what was left out when the run was planned

    @property
    def title(self) -> str:
        """In words."""
        return f"{self.category}, {self.method}, seed {self.seed}"

    @cached_property
    def folder(self) -> Path:
        """Where its results are; the name has the settings' hash."""
        return self.out / "runs" / self._name(self.settings)

    @cached_property
    def model(self) -> Path:
        """Where its model is trained; shared with runs that evaluate it under other conditions."""
        return self.out / "models" / self._name({k: v for k, v in self.settings.items() if k not in EVALUATION})

    def _name(self, settings: Mapping[str, Any]) -> str:
        words = re.sub(r"[^\w.+-]+", "-", f"{self.category}_{self.method.partition(':')[0]}_{self.seed}")
        return f"{words}_{settings_hash(settings)}"

    def result(self) -> dict[str, Any] | None:
        """Content of its ``run.json``; None where it is not finished.

        Raises:
            DataError: the file is damaged, or holds the results of other settings than its name says.
        """
        path = self.folder / FILE
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            kept = found["settings"]
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path} is damaged ({type(error).__name__}): remove it, and the run runs again") from error
        if kept != plain(self.settings):
            other = next(key for key in {**kept, **self.settings} if kept.get(key) != plain(self.settings).get(key))
            raise DataError(
                f"{path} holds results of other settings ({other}) than its name says: remove it, and the run runs again"
            )
        return dict(found)

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write ``run.json``, in one step: from now on the run is finished."""
        write_json_atomic(self.folder / FILE, {"settings": plain(self.settings), **result})

    @contextmanager
    def lock(self, wait: bool) -> Iterator[bool]:
        """Nobody else works on the run's model meanwhile; a process that ends, however it ends, lets go.

        Yields:
            whether it was had; always, with ``wait``.
        """
        with ExitStack() as stack:
            try:
                held = stack.enter_context(file_lock(self.model.with_name(f"{self.model.name}.lock"), wait=wait))
            except OSError as error:
                raise DataError(f"{self.out} cannot be written ({error.strerror}): choose another --out") from error
            yield held


def settings_hash(settings: Mapping[str, Any]) -> str:
    """Ten digits that name the settings; the order of the keys does not count.

    >>> settings_hash({"a": 1, "b": [2]}) == settings_hash({"b": (2,), "a": 1}) != settings_hash({"a": 1, "b": [3]})
    True
    """
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they come back from a file: tuples are lists."""
    return dict(json.loads(json.dumps(settings)))
