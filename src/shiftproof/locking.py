"""A lock on a file, for programs that must not write to one place at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def file_lock(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Hold a lock that other processes respect; the system releases it when the process ends, in whatever way.

    Args:
        path: of the lock file; it and its folder are created.
        wait: whether to wait until the lock is free.

    Yields:
        whether the lock is held; always True with ``wait``.

    Raises:
        OSError: the file cannot be created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, thread_local=False)  # a server is opened and closed in different threads
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
