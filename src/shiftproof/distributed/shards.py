"""Rows of many images in shards: a sorted list cut in a fixed way, and for each cut one file that is there whole or not."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.compute
import pyarrow.dataset
import pyarrow.parquet

from shiftproof.errors import DataError
from shiftproof.locking import file_lock

FOLDER = "predictions.parquet"
LARGEST = 1000  # images in a shard: what a killed worker may have to do again
SMALLEST = 16
WANTED = 64  # shards, where that makes none smaller or larger than this: so many that every worker has some
SCHEMA = pyarrow.schema(
    {
        "path": pyarrow.string(),
        "status": pyarrow.string(),  # "ok", or "error"
        "score": pyarrow.float64(),  # null where there is an error, as the four below
        "p_value": pyarrow.float64(),
        "verdict": pyarrow.string(),
        "threshold": pyarrow.float64(),
        "latency_ms": pyarrow.float64(),
        "error": pyarrow.string(),  # null where there is none
    }
)


@dataclass(frozen=True)
class Shards:
    """Which images each shard has, and where its rows go."""

    out: Path
    names: tuple[str, ...]  # of the shards' files: number, and a hash of the paths and of all that the rows depend on
    images: int  # in all
    size: int  # images in each shard, but for the last

    @property
    def folder(self) -> Path:
        """Of the files."""
        return self.out / FOLDER

    @property
    def listing(self) -> Path:
        """Arrow file with a batch of paths for each shard, which workers map into memory."""
        return self.out / ".images.arrow"

    def size_of(self, number: int) -> int:
        """How many images one shard has."""
        return min(self.size, self.images - number * self.size)

    def missing(self) -> list[int]:
        """Numbers of the shards that are not finished."""
        there = _names(self.folder)
        return [number for number, name in enumerate(self.names) if name not in there]

    def remove_stale(self) -> None:
        """Remove what is no shard of these: of other images, another model, or left by a worker that died."""
        for name in _names(self.folder).difference(self.names):
            (self.folder / name).unlink(missing_ok=True)

    def paths(self, number: int) -> list[Path]:
        """The images of one shard."""
        with pyarrow.memory_map(str(self.listing)) as file:
            batch = pyarrow.ipc.open_file(file).get_batch(number)
            return [Path(os.fsdecode(path)) for path in batch.column(0).to_pylist()]

    def begin(self, what: str) -> int:
        """Mark that a worker begins with it; how many have begun so far and not ended."""
        with self._mark(what).open("ab") as file:
            file.write(b".")
        return self._mark(what).stat().st_size

    def end(self, what: str) -> None:
        """A worker has come to its end: forget the marks."""
        self._mark(what).unlink(missing_ok=True)

    def _mark(self, what: str) -> Path:
        return self.folder / f".{what}.begun"

    def write(self, number: int, rows: Sequence[dict[str, Any]]) -> None:
        """Write the rows of one shard, in one step: before it nothing is there, after it the shard is finished.

        Raises:
            DataError: the disk is full, the place cannot be written.
        """
        target = self.folder / self.names[number]
        beside = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows), SCHEMA), beside)
            beside.replace(target)
        except OSError as error:
            with suppress(OSError):
                beside.unlink(missing_ok=True)
            raise cannot_write(self.out, error) from error


def cut(images: Iterable[Sequence[Path]], out: Path, settings: str) -> Shards:
    """Sort the images, each once, cut them into shards, and write the list that workers read.

    The cut depends on the paths alone, not on the order they come in, nor on how many workers there will be.

    Args:
        images: absolute paths, a list of them at a time.
        out: folder for list and shards; it is made.
        settings: all else that the rows depend on; other settings, other shards.

    Raises:
        DataError: the place cannot be written.
    """
    arrays = [pyarrow.array([os.fsencode(path) for path in some], pyarrow.large_binary()) for some in images]
    paths = pyarrow.compute.unique(pyarrow.chunked_array(arrays, pyarrow.large_binary()))
    paths = paths.take(pyarrow.compute.sort_indices(paths))
    size = shard_size(len(paths))
    shards = Shards(out, tuple(_cut_names(paths, size, settings)), len(paths), size)
    try:
        shards.folder.mkdir(parents=True, exist_ok=True)
        with pyarrow.OSFile(str(shards.listing), "wb") as file:
            schema = pyarrow.schema({"path": pyarrow.large_binary()})
            with pyarrow.ipc.new_file(file, schema) as writer:
                writer.write_table(pyarrow.table([paths], schema), max_chunksize=size)
    except OSError as error:
        raise cannot_write(out, error) from error
    return shards


def shard_size(images: int) -> int:
    """Images in a shard: a multiple of 8, so that the networks see full batches.

    >>> [shard_size(count) for count in (5, 3000, 10**6)]
    [16, 48, 1000]
    """
    return min(max(-(-images // WANTED) + 7, SMALLEST) // 8 * 8, LARGEST)


def _cut_names(paths: Any, size: int, settings: str) -> Iterator[str]:
    for number, start in enumerate(range(0, len(paths), size)):
        digest = hashlib.sha256(settings.encode())
        for path in paths.slice(start, size).to_pylist():
            digest.update(b"\0" + path)
        yield f"part-{number:06}-{digest.hexdigest()[:16]}.parquet"


@dataclass(frozen=True)
class PredictionTotals:
    """What stands in finished shards."""

    images: int
    defective: int
    failed: int
    failures: list[str]  # the first of them, a line each


def count_predictions(shards: Shards, most: int) -> PredictionTotals:
    """Count what stands in the files, a batch of rows at a time.

    Args:
        shards: all finished.
        most: failures to tell.

    Raises:
        DataError: not one row for each image stands there.
    """
    rows = pyarrow.dataset.dataset([str(shards.folder / name) for name in shards.names], SCHEMA, format="parquet")
    field = pyarrow.dataset.field
    count: Callable[..., int] = rows.count_rows
    broken = field("status") == "error"
    images = count()
    if images != shards.images:
        raise DataError(
            f"{shards.folder} holds {images} rows for {shards.images} images: remove it, and run the same command again"
        )
    lines = rows.head(most, columns=["error"], filter=broken).column(0).to_pylist()
    return PredictionTotals(images, count(filter=field("verdict") == "defective"), count(filter=broken), lines)


@contextmanager
def exclusive(out: Path) -> Iterator[None]:
    """Nobody else writes shards to ``out`` meanwhile; a process that ends, however it ends, lets go.

    Raises:
        DataError: somebody does, or the place cannot be written.
    """
    path = out / ".lock"
    with ExitStack() as stack:
        try:
            held = stack.enter_context(file_lock(path))
        except OSError as error:
            raise cannot_write(out, error) from error
        if not held:
            raise DataError(f"another run is writing to {out}: wait for it, or choose another --out")
        yield
    path.unlink(missing_ok=True)


def cannot_write(out: Path, error: OSError) -> DataError:
    """The error for a place that does not take what is to be written there."""
    return DataError(f"{out} cannot be written ({error.strerror or error}): free space, or choose another --out")


def _names(folder: Path) -> set[str]:
    with os.scandir(folder) as entries:
        return {entry.name for entry in entries}
