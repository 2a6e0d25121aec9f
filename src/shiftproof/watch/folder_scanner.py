"""Files that have arrived in a folder and are complete: found by looking again and again, which works on every file system."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from shiftproof.data.images import IMAGE_SUFFIXES
from shiftproof.data.vocabulary import is_system_folder


@dataclass(frozen=True)
class FileIdentity:
    """What makes a file this one and no other: the same name with other content is another image."""

    name: str  # posix path below the folder that is watched
    size: int  # bytes
    changed: int  # time of its last change, nanoseconds


@dataclass
class _Sighting:
    """A file that was seen, and since when it is as it is."""

    identity: FileIdentity
    since: float


class FolderScanner:
    """Looks at a folder and tells which files are new and complete: as large and as old as they were a while ago.

    A producer that writes elsewhere (or to a hidden name, or one without an image's ending) and renames is safe at any
    speed; of one that writes in place, a pause of ``settle`` seconds ends a file.

    Args:
        folder: to watch, with all below it; hidden files and folders are left out.
        settle: seconds.
        known: whether a file was dealt with already; asked once for each file as it is.
        without: folders and files that are not looked at.
    """

    def __init__(
        self, folder: Path, settle: float, known: Callable[[FileIdentity], bool], excluded: Path | None = None
    ):
        self._folder, self._settle, self._known = folder, settle, known
        self._excluded = None if excluded is None else os.path.realpath(excluded)
        self._sightings: dict[str, _Sighting] = {}
        self._done: dict[str, FileIdentity] = {}  # of the files that are there: the journal is not asked at every look

    def scan(self, now: float) -> list[FileIdentity]:
        """The complete files that nobody has dealt with, the oldest first.

        Args:
            now: seconds of a clock that never goes back.

        Raises:
            OSError: the folder is not there.
        """
        there: dict[str, _Sighting] = {}
        ready: list[FileIdentity] = []
        done: dict[str, FileIdentity] = {}
        for identity in self._list(self._folder, ""):
            if self._done.get(identity.name) == identity:
                done[identity.name] = identity
                continue
            before = self._sightings.get(identity.name)
            if before is not None and before.identity == identity:
                sighting = before
            elif self._known(identity):
                done[identity.name] = identity
                continue
            else:
                sighting = _Sighting(identity, now)
            there[identity.name] = sighting
            if now - sighting.since >= self._settle:
                ready.append(identity)
        self._sightings, self._done = there, done
        return sorted(ready, key=lambda each: (each.changed, each.name))

    @property
    def waiting(self) -> int:
        """How many files were not dealt with at the last look."""
        return len(self._sightings)

    def mark_done(self, identity: FileIdentity) -> None:
        """A file has been dealt with."""
        self._sightings.pop(identity.name, None)
        self._done[identity.name] = identity

    def retry_later(self, identity: FileIdentity, now: float) -> None:
        """A file is to be looked at once more after a while."""
        self._sightings[identity.name] = _Sighting(identity, now)

    def _list(self, folder: Path, prefix: str) -> list[FileIdentity]:
        found = []
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                try:
                    if entry.is_dir(follow_symlinks=False):
                        if is_system_folder(entry.name):
                            continue
                        if os.path.realpath(entry.path) != self._excluded:
                            found += self._list(Path(entry.path), f"{prefix}{entry.name}/")
                    elif Path(entry.name).suffix.lower() in IMAGE_SUFFIXES:
                        status = entry.stat()
                        found.append(FileIdentity(prefix + entry.name, status.st_size, status.st_mtime_ns))
                except FileNotFoundError:  # gone between the listing and the look
                    continue
        return found


def identify(folder: Path, name: str) -> FileIdentity | None:
    """A file as it is now; None where it is gone."""
    try:
        status = (folder / name).stat()
    except FileNotFoundError:
        return None
    return FileIdentity(name, status.st_size, status.st_mtime_ns)
