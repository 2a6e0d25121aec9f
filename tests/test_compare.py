"""``shiftproof compare``: which verdicts change between two models."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from shiftproof.loading import load
from shiftproof.pipelines.compare import Errors, compare

from .parts import read_csv, save, texture


def test_verdicts_that_change_are_counted_listed_and_drawn(model, product, tmp_path):
    current, other = load(model), load(model)
    other.calibration = replace(other.calibration, threshold=1e9)  # lets everything pass
    found = compare((current, other), product, tmp_path / "out")
    rows = read_csv(tmp_path / "out" / "comparison.csv")
    assert found.images == len(rows) == len(list((product / "test").rglob("*.png")))
    changed = [row for row in rows if row["changed"] == "yes"]
    assert (found.to_defective, found.to_good) == (0, len(changed))
    assert {row["verdict_b"] for row in rows} == {"good"}
    assert {row["verdict_a"] for row in changed} == {"defective"}
    defects = sum(row["label"] == "defective" for row in rows)
    assert (found.good, found.defective) == (len(rows) - defects, defects)
    assert found.errors[1] == Errors(false_alarms=0, missed=defects)
    assert found.errors[0].missed < defects
    pictures = list((tmp_path / "out" / "changed").rglob("*.png"))
    assert len(pictures) == len(changed) > 0
    height, width = np.asarray(Image.open(pictures[0])).shape[:2]
    assert width == 3 * height
    assert all(float(row["score_a"]) == pytest.approx(float(row["score_b"])) for row in rows)


def test_a_model_agrees_with_itself_on_a_folder_without_labels(shiftproof, model, tmp_path):
    for number in range(3):
        save(tmp_path / "in" / f"{number}.png", texture(number))
    (tmp_path / "in" / "3.png").write_bytes(b"")
    said = shiftproof("compare", model, model, tmp_path / "in", "--out", tmp_path / "out")
    assert said.code == 3
    assert "4 images: 0 verdicts differ" in said.out and "model A" not in said.out
    rows = read_csv(tmp_path / "out" / "comparison.csv")
    assert [row["changed"] for row in rows] == ["no", "no", "no", ""]
    assert not (tmp_path / "out" / "changed").exists()
