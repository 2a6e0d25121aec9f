from __future__ import annotations

import csv
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shiftproof.errors import DataError, UsageError
from shiftproof.watch.output import COLUMNS, OutputTable

ROWS = [{"number": number, "path": f"{number}, é.png", "status": "ok", "score": 0.1 + number} for number in range(1, 6)]


def read(path):
    if path.suffix == ".jsonl":
        return [json.loads(line)["number"] for line in path.read_text().splitlines()]
    with path.open(newline="") as file:
        return [int(row["number"]) for row in csv.DictReader(file)]


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl"])
def test_lines_are_appended_and_read_back(tmp_path, name):
    output = OutputTable(tmp_path / "new" / name)
    output.recover([])
    for row in ROWS:
        output.append([output.line(row)])
    assert read(output.path) == [1, 2, 3, 4, 5]
    if name == "out.csv":
        with output.path.open(newline="") as file:
            first = next(csv.DictReader(file))
        assert first["path"] == "1, é.png" and float(first["score"]) == 1.1 and tuple(first) == COLUMNS


@given(kept=st.integers(0, 5), cut=st.integers(0, 400), name=st.sampled_from(["out.csv", "out.jsonl"]))
def test_whatever_a_crash_left_every_line_is_there_once(tmp_path_factory, kept, cut, name):
    """The journal knows `kept` lines to be on the disk; of all that was written, only the first bytes got there."""
    output = OutputTable(tmp_path_factory.mktemp("out") / name)
    lines = [output.line(row) for row in ROWS]
    output.append(lines[:kept])
    certain = output.path.stat().st_size if kept else 0
    output.append(lines[kept:])
    content = output.path.read_bytes()
    output.path.write_bytes(content[: max(certain, min(cut, len(content)))])
    output.recover(lines[kept:])
    assert output.path.read_bytes() == content
    output.recover(lines[kept:])  # killed once more, after the mending
    assert output.path.read_bytes() == content


def test_somebody_elses_last_line_is_never_cut_off(tmp_path):
    output = OutputTable(tmp_path / "out.csv")
    output.append([output.line(ROWS[0])])
    with output.path.open("a") as file:
        file.write("a note of mine")
    output.recover([output.line(ROWS[1])])
    assert output.path.read_text().endswith("a note of mine\n" + output.line(ROWS[1]))
    assert output.path.read_text().count("a note of mine") == 1


def test_a_table_that_was_moved_away_begins_anew_with_its_head(tmp_path):
    output = OutputTable(tmp_path / "out.csv")
    output.append([output.line(ROWS[0])])
    output.path.rename(tmp_path / "old.csv")
    output.append([output.line(ROWS[1])])
    assert read(output.path) == [2] and read(tmp_path / "old.csv") == [1]


def test_what_cannot_be_an_output_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"expected .csv or .jsonl"):
        OutputTable(tmp_path / "out.txt")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UsageError, match="holds another table"):
        OutputTable(tmp_path / "other.csv")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        OutputTable(tmp_path / "file" / "out.csv").append(["x\n"])
