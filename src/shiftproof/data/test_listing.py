from __future__ import annotations

from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from shiftproof.data import is_listing, listed_images
from shiftproof.errors import DataError


def write(path, rows, column="path"):
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table({"site": list(range(len(rows))), column: rows}), path, row_group_size=2)
    return path


def test_a_list_is_read_in_its_order_and_from_its_folder(tmp_path):
    source = write(tmp_path / "list.parquet", ["b/1.png", "/far/2.png", "a.png"])
    paths = [path for batch in listed_images(source) for path in batch]
    assert paths == [tmp_path / "b/1.png", Path("/far/2.png"), tmp_path / "a.png"]


def test_a_folder_of_files_is_one_list(tmp_path):
    for number in range(3):
        write(tmp_path / "list.parquet" / f"part-{number}.parquet", [f"{number}.png"])
    paths = [path for batch in listed_images(tmp_path / "list.parquet") for path in batch]
    assert paths == [tmp_path / f"{number}.png" for number in range(3)]


def test_what_is_called_like_a_list():
    assert is_listing(Path("a/LIST.PARQUET"))
    assert not is_listing(Path("parquet"))


@pytest.mark.parametrize(
    ("rows", "column", "message"),
    [
        (["a.png"], "file", "lacks the column path; it has site, file"),
        (["a.png", None], "path", "row 2: None is no path"),
        (["a.png", "b.png", ""], "path", "row 3: '' is no path"),
        ([1], "path", "row 1: 1 is no path"),
        ([], "path", "holds no rows"),
    ],
)
def test_a_broken_list_is_one_line(tmp_path, rows, column, message):
    source = write(tmp_path / "list.parquet", rows, column)
    with pytest.raises(DataError, match=message):
        list(listed_images(source))


def test_what_is_no_parquet_is_one_line(tmp_path):
    (tmp_path / "list.parquet").write_bytes(b"path\na.png\n")
    with pytest.raises(DataError, match="cannot be read as Parquet") as raised:
        list(listed_images(tmp_path / "list.parquet"))
    assert "\n" not in str(raised.value)
    with pytest.raises(DataError, match=r"gone\.parquet: no such file"):
        list(listed_images(tmp_path / "gone.parquet"))
