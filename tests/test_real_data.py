"""The main job on a real category, where one is at hand: SHIFTPROOF_CATEGORY=/path/to/screw make test."""

from __future__ import annotations

import os

import pytest

from .parts import read_json

CATEGORY = os.environ.get("SHIFTPROOF_CATEGORY")


@pytest.mark.skipif(not CATEGORY, reason="no real data: set SHIFTPROOF_CATEGORY to a category in MVTec AD layout")
def test_defects_of_a_real_category_are_found(shiftproof, tmp_path):
    assert shiftproof("train", CATEGORY, tmp_path / "model", "--method", "rd", "--steps", 100).code == 0
    assert shiftproof("evaluate", tmp_path / "model", CATEGORY, "--out", tmp_path / "out").code == 0
    clean = read_json(tmp_path / "out" / "metrics.json")["clean"]
    assert clean["image"]["auroc"] > 0.6
    assert clean["pixel"]["auroc"] is None or clean["pixel"]["auroc"] > 0.9
