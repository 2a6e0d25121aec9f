"""`shiftproof corrupt`."""

from __future__ import annotations

import numpy as np
import pytest

from shiftproof.data import read_image, read_mask
from shiftproof.shifts import apply_shift, image_seed

from .parts import save, texture


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))


def test_a_category_keeps_its_layout_and_names_and_masks_move_along(shiftproof, product, tmp_path):
    said = shiftproof("corrupt", product, tmp_path / "out", "--shift", "rotation", "--severity", 2, "--seed", 7)
    assert said.code == 0
    assert "7 images under rotation-2" in said.out
    assert names(tmp_path / "out" / "test") == names(product / "test")
    assert names(tmp_path / "out" / "ground_truth") == names(product / "ground_truth")
    assert (tmp_path / "out" / "train").resolve() == product / "train"
    name = "test/scratch/001.png"
    image, mask = read_image(product / name), read_mask(product / "ground_truth" / "scratch" / "001_mask.png")
    expected = apply_shift("rotation", image, mask, 2, image_seed(7, "rotation-2", name))
    assert np.array_equal(read_image(tmp_path / "out" / name), expected.image)
    moved = read_mask(tmp_path / "out" / "ground_truth" / "scratch" / "001_mask.png")
    assert np.array_equal(moved, expected.mask)
    assert not np.array_equal(moved, mask)


def test_a_plain_folder_is_shifted_whole(shiftproof, tmp_path):
    save(tmp_path / "in" / "deep" / "a.png", texture(0))
    save(tmp_path / "in" / "b.jpg", texture(1))
    assert shiftproof("corrupt", tmp_path / "in", tmp_path / "out", "--shift", "brightness").code == 0
    assert read_image(tmp_path / "out" / "deep" / "a.png").mean() > texture(0).mean() + 20
    assert (tmp_path / "out" / "b.jpg").read_bytes()[:2] == b"\xff\xd8"


def test_an_unreadable_image_is_left_out_and_named(shiftproof, tmp_path):
    save(tmp_path / "in" / "a.png", texture(0))
    (tmp_path / "in" / "b.png").write_bytes(b"")
    said = shiftproof("corrupt", tmp_path / "in", tmp_path / "out", "--shift", "contrast")
    assert said.code == 3
    assert "b.png" in said.warnings[0]
    assert names(tmp_path / "out") == ["a.png"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--shift", "brightnes"), "did you mean brightness?"),
        (("--shift", "brightness", "--severity", 6), "severity 6"),
        (("--shift", "brightness", "--severity", 2.5), "--severity: '2.5' is not a whole number"),
    ],
)
def test_wrong_use_is_refused_before_any_work(shiftproof, product, tmp_path, options, message):
    said = shiftproof("corrupt", product, tmp_path / "out", *options)
    assert said.code == 2
    assert message in said.error
    assert not (tmp_path / "out").exists()


def test_defects_that_leave_the_frame_are_counted(shiftproof, own_product, tmp_path):
    mask = np.zeros((64, 64), np.uint8)
    mask[:2, :2] = 255
    for path in (own_product / "ground_truth").rglob("*.png"):
        save(path, mask)
    said = shiftproof("corrupt", own_product, tmp_path / "out", "--shift", "rotation_gray")
    assert said.code == 0
    assert "; 2 defect regions were moved out of the frame" in said.out  # the third is turned by little
    assert len(list((tmp_path / "out" / "test" / "scratch").iterdir())) == 3  # as defective as before


def test_where_no_image_could_be_shifted_nothing_is_left(shiftproof, own_product, tmp_path):
    for path in (own_product / "test").rglob("*.png"):
        path.write_bytes(b"")
    said = shiftproof("corrupt", own_product, tmp_path / "out", "--shift", "brightness")
    assert said.code == 2
    assert "could be shifted" in said.error
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_is_left_alone(shiftproof, product, tmp_path):
    kept = save(tmp_path / "out" / "mine.png", texture(0))
    said = shiftproof("corrupt", product, tmp_path / "out", "--shift", "brightness")
    assert said.code == 2
    assert "is not empty" in said.error
    assert kept.is_file()
