"""`shiftproof data check` and `shiftproof data depth`; and the other commands on a layout of a paper."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from shiftproof.data import labelled_images, read_image, read_mask, recognise_layout
from shiftproof.data.generate import MAKERS, generate

from .parts import QUICK, read_json, save, texture


@pytest.fixture
def visa(tmp_path):
    return generate("visa", tmp_path / "VisA" / "candle", np.random.default_rng(0))


def test_a_sound_category_is_described(shiftproof, visa):
    said = shiftproof("data", "check", visa)
    assert said.code == 0
    assert f"{visa}: layout visa" in said.out
    assert [line.split() for line in said.out.splitlines() if line.startswith("test")] == [
        ["test", "anomaly", "3", "–", "3", "48x32", "gray"],
        ["test", "normal", "3", "–", "–", "48x32", "gray"],
    ]
    assert "1 category, 12 images: nothing to fix" in said.out


def test_what_is_wrong_ends_in_3_and_is_written_down(shiftproof, visa, tmp_path):
    (visa / "Data/Masks/Anomaly/001.png").unlink()
    (visa / "Data/Images/Anomaly/000.JPG").write_bytes(b"")
    said = shiftproof("data", "check", visa.parent, "--json", tmp_path / "deep" / "found.json")
    assert said.code == 3
    lines = [line for line in said.out.splitlines() if line.startswith("wrong: ")]
    assert len(lines) == 2
    assert "001.png: no such mask" in lines[0]
    assert "000.JPG: is empty (0 bytes)" in lines[1]
    (written,) = read_json(tmp_path / "deep" / "found.json")
    assert written["layout"] == "visa"
    assert [finding["line"] for finding in written["findings"] if finding["wrong"]] == [line[7:] for line in lines]


def test_nothing_recognised_and_wrong_use(shiftproof, tmp_path):
    assert "no images found; looked for" in shiftproof("data", "check", tmp_path).error
    said = shiftproof("data", "check", tmp_path, "--layout", "vissa")
    assert (said.code, "did you mean visa?" in said.error) == (2, True)


def test_long_lists_are_cut_on_the_terminal_alone(shiftproof, tmp_path):
    for number in range(30):
        save(tmp_path / "in" / f"{number}.png", texture(0))
    said = shiftproof("data", "check", tmp_path / "in", "--json", tmp_path / "all.json")
    assert said.out.count("note: ") == 21
    assert "note: and 10 more; --json FILE lists them all" in said.out
    (written,) = read_json(tmp_path / "all.json")
    assert len(written["findings"]) == 30


def test_depth_of_a_category(shiftproof, tmp_path):
    category = generate("mvtec-3d", tmp_path / "bagel", np.random.default_rng(0))
    said = shiftproof("data", "depth", category, tmp_path / "out", "--image", "normals")
    assert (said.code, "15 images of normals" in said.out) == (0, True)
    assert recognise_layout(tmp_path / "out") == "mvtec"
    (category / "test/crack/xyz/000.tiff").write_bytes(b"")
    said = shiftproof("data", "depth", category, tmp_path / "again")
    assert said.code == 3
    assert "test/crack/xyz/000.tiff" in said.warnings[0]


def test_images_that_a_data_set_holds_out_place_the_threshold(shiftproof, tmp_path):
    category = generate("mvtec-2", tmp_path / "can", np.random.default_rng(0), train=5, calibration=4, size=(64, 64))
    assert shiftproof("train", category, tmp_path / "model", "--method", "rd", *QUICK).code == 0
    facts = read_json(tmp_path / "model" / "model.json")["data"]
    assert (facts["train_images"], facts["calibration_images"]) == (5, 4)
    assert facts["calibration_from"] == "the data set's own validation images"
    assert shiftproof("evaluate", tmp_path / "model", category, "--out", tmp_path / "out").code == 0
    assert read_json(tmp_path / "out" / "metrics.json")["clean"]["images"]["defective"] == 3


@pytest.mark.parametrize("layout", [name for name in MAKERS if name != "folder"])
def test_a_shifted_copy_is_a_data_set_too(shiftproof, tmp_path, layout):
    category = generate(layout, tmp_path / "part", np.random.default_rng(0))
    out = tmp_path / "out"
    assert shiftproof("corrupt", category, out, "--shift", "rotation", "--severity", 1).code == 0
    before, after = labelled_images(category), labelled_images(out)
    assert [(item.name, item.defect_type, item.defective) for item in after.images] == [
        (item.name, item.defect_type, item.defective) for item in before.images
    ]
    assert after.has_masks
    for item in after.images:
        assert len(item.masks) == item.defective
        assert not np.array_equal(read_image(item.path), read_image(category / item.name))
        assert all(read_mask(mask).any() for mask in item.masks)


def test_a_shifted_copy_of_images_elsewhere_leaves_those_alone(shiftproof, tmp_path):
    category = generate("manifest", tmp_path / "part", np.random.default_rng(0))
    shutil.move(category / "images", tmp_path / "elsewhere")
    text = (category / "manifest.csv").read_text()
    (category / "manifest.csv").write_text(text.replace("images/", f"{tmp_path}/elsewhere/"))
    before = {path: path.read_bytes() for path in (tmp_path / "elsewhere").iterdir()}
    assert shiftproof("corrupt", category, tmp_path / "out", "--shift", "brightness").code == 0
    assert before == {path: path.read_bytes() for path in (tmp_path / "elsewhere").iterdir()}
    copies = labelled_images(tmp_path / "out").images
    assert len(copies) == 6
    assert all(item.path.resolve().is_relative_to(tmp_path / "out") for item in copies)
