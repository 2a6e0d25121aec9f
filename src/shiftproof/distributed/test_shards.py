from __future__ import annotations

import errno
import os
from pathlib import Path

import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shiftproof.distributed.cluster import WorkerError
from shiftproof.distributed.predict import Scorer, Scoring
from shiftproof.distributed.shards import FOLDER, SCHEMA, Shards, count_predictions, cut, exclusive, shard_size
from shiftproof.errors import DataError
from shiftproof.loading import LoadOptions

NAMES = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=8), min_size=1)


def rows(paths, status="ok"):
    return [{"path": str(path), "status": status, "verdict": "good" if status == "ok" else None} for path in paths]


@pytest.fixture
def shards(tmp_path):
    return cut([[Path(f"/i/{number:03}.png") for number in range(40)]], tmp_path, "model torch")


@given(NAMES, st.randoms(), st.integers(1, 5))
def test_the_shards_hold_each_path_once_and_sorted_whatever_order_they_came_in(tmp_path_factory, names, random, parts):
    paths = [Path("/images", f"x{name}") for name in names]
    out = tmp_path_factory.mktemp("out")
    first = cut([paths], out, "settings")
    found = [path for number in range(len(first.names)) for path in first.paths(number)]
    assert [os.fsencode(path) for path in found] == sorted({os.fsencode(path) for path in paths})
    assert [len(first.paths(number)) for number in range(len(first.names))] == [
        first.size_of(number) for number in range(len(first.names))
    ]
    random.shuffle(paths)
    second = cut([paths[start::parts] for start in range(parts)], out, "settings")
    assert second == first
    assert not set(cut([paths], out, "other settings").names) & set(first.names)


@given(st.integers(1, 10**9))
def test_a_shard_is_whole_batches_and_neither_tiny_nor_large(images):
    size = shard_size(images)
    assert size % 8 == 0
    assert 16 <= size <= 1000


def test_a_name_that_is_no_unicode_keeps_its_bytes(tmp_path):
    path = Path(os.fsdecode(b"/i/\xff.png"))
    assert cut([[path]], tmp_path, "").paths(0) == [path]


def test_a_shard_is_there_whole_or_not_at_all(shards, monkeypatch):
    assert shards.missing() == [0, 1, 2]
    shards.write(1, rows(shards.paths(1)))
    assert shards.missing() == [0, 2]

    def full(table, place):
        place.write_bytes(b"PAR1")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pyarrow.parquet, "write_table", full)
    with pytest.raises(DataError, match=r"cannot be written \(No space"):
        shards.write(0, rows(shards.paths(0)))
    assert [path.name for path in shards.folder.iterdir()] == [shards.names[1]]


def test_tidying_leaves_these_shards_alone_and_nothing_else(shards):
    shards.write(0, rows(shards.paths(0)))
    for name in ("part-000000-0123456789abcdef.parquet", f".{shards.names[2]}.77"):
        (shards.folder / name).write_bytes(b"")
    shards.begin("model")
    shards.remove_stale()
    assert [path.name for path in shards.folder.iterdir()] == [shards.names[0]]


def test_totals_are_counted_in_the_files(shards):
    for number in range(3):
        shards.write(number, rows(shards.paths(number), "error" if number == 2 else "ok"))
    found = count_predictions(shards, most=3)
    assert (found.images, found.defective, found.failed, len(found.failures)) == (40, 0, 8, 3)
    assert pyarrow.parquet.read_table(shards.folder).schema.equals(SCHEMA)
    shards.write(2, rows(shards.paths(2)[1:]))
    with pytest.raises(DataError, match="holds 39 rows for 40 images: remove it"):
        count_predictions(shards, most=3)


def test_two_runs_do_not_write_to_one_folder(tmp_path):
    with exclusive(tmp_path), pytest.raises(DataError, match="another run is writing to"), exclusive(tmp_path):
        pass
    with exclusive(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / FOLDER).write_text("in the way")
    with pytest.raises(DataError, match="cannot be written"):
        cut([[Path("/i/1.png")]], tmp_path, "")
    with pytest.raises(DataError, match="cannot be written"), exclusive(tmp_path / FOLDER):
        pass


class Loaded(Scorer):
    """A worker that has loaded its model."""

    def __init__(self, shards: Shards):
        self._shards = shards

    def _rows(self, paths):
        return iter(rows(paths))


def test_a_shard_that_kills_its_workers_is_given_up_by_name(shards):
    for _ in range(3):
        shards.begin(shards.names[1])
    assert Loaded(shards)({"number": [1]}) == {"images": [16]}  # the fourth gets through
    assert not list(shards.folder.glob(".*"))
    for _ in range(4):
        shards.begin(shards.names[0])
    with pytest.raises(WorkerError, match=r"4 workers died at images /i/000.png to /i/015.png; fewer --workers"):
        Loaded(shards)({"number": [0]})


def test_a_model_that_kills_its_workers_is_given_up(shards, tmp_path):
    for _ in range(8):
        shards.begin("model")
    with pytest.raises(WorkerError, match="die again and again while they load"):
        Scorer(shards, Scoring(tmp_path / "model", LoadOptions("torch", threads=1), None), workers=2)
