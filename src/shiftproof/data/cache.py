"""Many images: decoded in threads, in order, with bounded memory; each file is opened once."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from shiftproof.data.images import Decoded, ImageInfo, decode, read_bytes, read_decoded, resize_image
from shiftproof.data.profile import ImageProfile
from shiftproof.errors import DataError, ImageError

Item = TypeVar("Item")
Result = TypeVar("Result")

MEMORY_LIMIT_BYTES = 2 * 1024**3
"""Decoded images above this size lie in a file instead of in memory."""

AHEAD_BYTES = 512 * 1024**2
"""Results that are computed ahead of their use take this much at most, or are one."""


@dataclass(frozen=True)
class DecodedImages:
    """Images of one size, ready for training."""

    pixels: NDArray[np.uint8]
    """uint8 [N, H, W, 3] RGB, in the order of ``paths``; a file mapped into memory above the memory limit."""
    paths: tuple[Path, ...]
    """Where each came from."""
    digests: tuple[str, ...]
    """sha256 of each file's bytes, in the order of ``paths``: equal ones are copies, whatever they are called."""
    failures: tuple[tuple[Path, str], ...]
    """Those that could not be read and were left out, each with its one-line reason."""
    fingerprint: str
    """sha256 over the names and bytes of the decoded files: the same in any order and wherever the folder lies."""
    profile: ImageProfile
    """What kind of images they are."""


def decode_images(
    paths: Sequence[Path],
    size: tuple[int, int],
    *,
    memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
    scratch: Path | None = None,
    workers: int | None = None,
    bits: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> DecodedImages:
    """Decode and resize images once, so that training never waits for files.

    Args:
        paths: image files; unreadable ones are left out and listed in ``failures``.
        size: (height, width) of the result.
        memory_limit_bytes: above ``N * H * W * 3`` of this, pixels go to a temporary file that disappears with its last
            user, even after a crash.
        scratch: folder for that file; None for the system's temporary folder.
        workers: decoding threads; None for one per processor, 16 at most.
        bits: of the values in files of 16 bits whose tags say nothing else.
        on_progress: called with (done, total) after each image, in the calling thread.

    Raises:
        DataError: no paths, none of them readable, or the scratch folder is full or cannot be written.
    """
    if not paths:
        raise DataError("no images to decode; expected one at least")
    height, width = size
    needed = len(paths) * height * width * 3
    store = _FileStore(scratch, needed) if needed > memory_limit_bytes else _MemoryStore(len(paths), size)
    decoded, digests, failures, infos = [], [], [], []
    threads = _threads(workers)
    results = in_order(lambda path: _hash_and_decode(path, size, bits), paths, workers=threads, ahead=4 * threads)
    for done, (path, result) in enumerate(zip(paths, results, strict=True), start=1):
        if isinstance(result, ImageError):
            failures.append((path, str(result)))
        else:
            digest, image, info = result
            store.append(image)
            infos.append(info)
            decoded.append(path)
            digests.append(digest)
        if on_progress is not None:
            on_progress(done, len(paths))
    if not decoded:
        raise DataError(f"none of {len(paths)} images could be read; the first: {failures[0][1]}")
    pixels = store.finish((len(decoded), height, width, 3))
    fingerprint, profile = _fingerprint(decoded, digests), ImageProfile.of(infos)
    return DecodedImages(pixels, tuple(decoded), tuple(digests), tuple(failures), fingerprint, profile)


def iter_images(
    paths: Iterable[Path], *, workers: int | None = None, ahead: int = 8, bits: int | None = None
) -> Iterator[tuple[Path, NDArray[np.uint8] | ImageError]]:
    """Decode images at their own size, in order, reading a few ahead of the caller.

    Args:
        paths: image files; may be endless.
        workers: decoding threads; None for one per processor, 16 at most.
        ahead: the most images held or being decoded at any time, the one handed out included.
        bits: of the values in files of 16 bits whose tags say nothing else.

    Yields:
        (path, uint8 [H, W, 3]), or (path, ImageError) for one that cannot be read: an error never ends the rest.
    """
    for path, decoded in iter_decoded(paths, workers=workers, ahead=ahead, bits=bits):
        yield path, decoded if isinstance(decoded, ImageError) else decoded.pixels


def iter_decoded(
    paths: Iterable[Path], *, workers: int | None = None, ahead: int = 8, bits: int | None = None
) -> Iterator[tuple[Path, Decoded | ImageError]]:
    """As :func:`iter_images`, with what each file says about its image."""

    def read(path: Path) -> tuple[Path, Decoded | ImageError]:
        try:
            return path, read_decoded(path, bits=bits)
        except ImageError as error:
            return path, error

    return in_order(read, paths, workers=workers, ahead=ahead, cost=_decoded_bytes)


def in_order(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int | None = None,
    ahead: int,
    cost: Callable[[Result], int] | None = None,
    budget: int = AHEAD_BYTES,
) -> Iterator[Result]:
    """``map`` in threads, with at most ``ahead`` results under way; left early, it starts nothing more.

    Args:
        function: called in a thread; its error is raised in the caller's.
        items: taken in the caller's thread, as they are needed.
        workers: threads; None for one per processor, 16 at most.
        ahead: the most results held or being computed at any time, the one handed out included.
        cost: bytes that a result takes; with it, fewer are held where they are large, one at least.
        budget: bytes for all that are held, by the largest seen so far.
    """
    pending: deque[Future[Result]] = deque()
    most, largest = (ahead, 0) if cost is None else (1, 0)  # the first result says how many fit
    with ThreadPoolExecutor(_threads(workers), thread_name_prefix="shiftproof") as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                while len(pending) >= most:
                    result = pending.popleft().result()
                    if cost is not None:
                        largest = max(largest, cost(result), 1)
                        most = min(ahead, max(1, budget // largest))
                    yield result
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def _hash_and_decode(
    path: Path, size: tuple[int, int], bits: int | None
) -> tuple[str, NDArray[np.uint8], ImageInfo] | ImageError:
    try:
        data = read_bytes(path)
        decoded = decode(data, str(path), bits=bits)
        return hashlib.sha256(data).hexdigest(), resize_image(decoded.pixels, size), decoded.info
    except ImageError as error:
        return error


def _decoded_bytes(result: tuple[Path, Decoded | ImageError]) -> int:
    decoded = result[1]
    return 0 if isinstance(decoded, ImageError) else decoded.pixels.nbytes


def _threads(workers: int | None) -> int:
    return workers or min(16, os.cpu_count() or 1)


def _fingerprint(paths: Sequence[Path], digests: Sequence[str]) -> str:
    """sha256 over the sorted (name, sha256 of content), names relative to the deepest folder that holds all."""
    absolute = [path.absolute() for path in paths]
    common = os.path.commonpath([path.parent for path in absolute])
    names = [path.relative_to(common).as_posix() for path in absolute]
    entries = sorted(os.fsencode(name) + b"\0" + digest.encode() for name, digest in zip(names, digests, strict=True))
    return hashlib.sha256(b"\n".join(entries)).hexdigest()


class _MemoryStore:
    """Collects images in an array."""

    def __init__(self, count: int, size: tuple[int, int]) -> None:
        self._pixels = np.empty((count, *size, 3), dtype=np.uint8)
        self._filled = 0

    def append(self, image: NDArray[np.uint8]) -> None:
        self._pixels[self._filled] = image
        self._filled += 1

    def finish(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        return self._pixels[: shape[0]]


class _FileStore:
    """Collects images in a nameless temporary file.

    Written with ``write`` and mapped afterwards: a full disk is then an error, where writing to a mapped file would
    kill the process with a bus error.
    """

    def __init__(self, scratch: Path | None, needed: int) -> None:
        self._folder = scratch or Path(tempfile.gettempdir())
        self._needed = needed
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self._folder).free
            self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - lives as long as its pixels
        except OSError as error:
            raise self._refusal(error.strerror or str(error)) from error
        if free < needed:
            self._file.close()
            raise self._refusal(f"only {_gib(free)} are free")

    def append(self, image: NDArray[np.uint8]) -> None:
        try:
            self._file.write(np.ascontiguousarray(image).data)
        except OSError as error:
            raise self._refusal(error.strerror or str(error)) from error

    def finish(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        try:
            self._file.flush()
            # The mapping keeps the file alive by itself. "r+", since torch warns of arrays that are read-only.
            return np.memmap(self._file, dtype=np.uint8, mode="r+", shape=shape)
        except OSError as error:
            raise self._refusal(error.strerror or str(error)) from error

    def _refusal(self, reason: str) -> DataError:
        return DataError(
            f"{self._folder}: cannot hold {_gib(self._needed)} of decoded images: {reason}; "
            "free some space, choose another scratch folder or a smaller image size"
        )


def _gib(count: int) -> str:
    return f"{count / 1024**3:.1f} GiB"
