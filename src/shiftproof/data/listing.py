"""Lists of images: Parquet files with a column of paths, read batch by batch, however long they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from shiftproof.errors import DataError

COLUMN = "path"
SUFFIX = ".parquet"
_BATCH = 65_536  # rows in memory at a time


def is_listing(source: Path) -> bool:
    """Whether it is called like a list: a Parquet file, or a folder of them, whose name ends in ``.parquet``."""
    return source.suffix.lower() == SUFFIX


def listed_images(source: Path) -> Iterator[list[Path]]:
    """The images of a list, some at a time, in its order; nothing is said of whether they exist.

    Args:
        source: a Parquet file, or a folder of them, with a column ``path`` of strings; paths that are not absolute
            start at the folder that the list lies in.

    Raises:
        DataError: it cannot be read, has no such column, no row, or a row without a path.
    """
    try:
        import pyarrow
        import pyarrow.dataset
    except ImportError as error:
        raise DataError(
            f"{source}: needs pyarrow to be read: pip install pyarrow, or name folders of images"
        ) from error
    if not source.exists():
        raise DataError(f"{source}: no such file or folder")
    base, rows = source.parent, 0
    try:
        table = pyarrow.dataset.dataset(source, format="parquet")
        if COLUMN not in table.schema.names:
            raise DataError(f"{source}: lacks the column {COLUMN}; it has {', '.join(table.schema.names) or 'none'}")
        for batch in table.to_batches(columns=[COLUMN], batch_size=_BATCH):
            paths = []
            for row, path in enumerate(batch.column(0).to_pylist(), start=rows + 1):
                if not isinstance(path, str) or not path:
                    raise DataError(f"{source} row {row}: {path!r} is no path; fill it in, or remove the row")
                paths.append(base / path)
            rows += len(paths)
            yield paths
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(
            f"{source}: cannot be read as Parquet ({str(error).splitlines()[0]}); write it again"
        ) from error
    if not rows:
        raise DataError(f"{source}: holds no rows; expected one for each image")
