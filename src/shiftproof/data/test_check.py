from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shiftproof.data import read_image, write_image
from shiftproof.data.check import check_data
from shiftproof.data.generate import MAKERS, generate
from shiftproof.errors import DataError


@pytest.fixture
def root(tmp_path) -> Path:
    return generate("mvtec", tmp_path / "screw", np.random.default_rng(0))


def look(root: Path):
    (checked,) = check_data(root)
    return checked


def wrong(root: Path) -> list[str]:
    return [finding.line for finding in look(root).findings if finding.wrong]


def notes(root: Path) -> list[str]:
    return [finding.line for finding in look(root).findings if not finding.wrong]


@pytest.mark.parametrize("layout", MAKERS)
def test_nothing_is_wrong_with_a_sound_data_set(tmp_path, layout):
    checked = look(generate(layout, tmp_path / "part", np.random.default_rng(0)))
    if layout == "folder":
        (finding,) = checked.findings
        assert not finding.wrong
        assert "6 good images are to train on and to test on, so that figures flatter" in finding.line
    else:
        assert checked.findings == ()
    assert sum(group.images for group in checked.groups if group.split == "train") == 6
    assert all(group.unreadable == 0 for group in checked.groups)
    tested = {group.kind: group for group in checked.groups if group.split == "test"}
    assert sum(group.masks for group in tested.values()) == sum(
        group.images for kind, group in tested.items() if kind.split(",")[0] not in {"good", "ok", "normal"}
    )


def test_counts_sizes_and_channels(root):
    colours = np.random.default_rng(1).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    write_image(root / "train/good/colour.png", colours)
    (root / "test/good/001.png").write_bytes(b"")
    groups = {(group.split, group.kind): group for group in look(root).groups}
    train = groups["train", "good"]
    assert (train.sizes, train.channels) == ({"48x32": 6, "30x20": 1}, {"gray": 6, "colour": 1})
    assert (groups["test", "good"].images, groups["test", "good"].unreadable) == (2, 1)
    assert groups["test", "thread_top"].masks == 3
    assert any("mixes gray and colour (14 gray, 1 colour)" in line for line in notes(root))
    assert any("001.png: is empty (0 bytes)" in line for line in wrong(root))


def test_lightings_are_counted_apart(tmp_path):
    checked = look(generate("mvtec-2", tmp_path / "can", np.random.default_rng(0), test=7))
    groups = {(group.split, group.kind): group.images for group in checked.groups}
    assert groups["test", "bad, regular"] == 2
    assert groups["test", "bad, shift_1"] == 1
    assert groups["unlabelled", "test_private_mixed"] == 7


def test_every_missing_and_stray_mask_is_named(root):
    (root / "ground_truth/scratch_head/001_mask.png").unlink()
    (root / "ground_truth/thread_top/002_mask.png").rename(root / "ground_truth/thread_top/020_mask.png")
    lines = wrong(root)
    assert len(lines) == 3
    assert "test/scratch_head/001.png: defective, but without its mask" in lines[0]
    assert "test/thread_top/002.png: defective, but without its mask" in lines[1]
    assert "thread_top/020_mask.png: mask without its image" in lines[2]
    assert {group.kind: group.masks for group in look(root).groups if group.split == "test"} == {
        "good": 0,
        "scratch_head": 2,
        "thread_top": 2,
    }


def test_masks_of_another_size_and_empty_ones(root):
    write_image(root / "ground_truth/thread_top/000_mask.png", np.full((8, 8), 255, np.uint8))
    write_image(root / "ground_truth/thread_top/001_mask.png", np.zeros((32, 48), np.uint8))
    (line,) = wrong(root)
    assert "thread_top/000_mask.png: mask of 8x8 pixels for an image of 48x32" in line
    (line,) = notes(root)
    assert "thread_top/001_mask.png: is empty, of a defective image" in line


def test_copies_are_found_by_their_pixels(root):
    pixels = read_image(root / "train/good/000.png")
    write_image(root / "test/good/other.bmp", pixels)  # another name, another format
    shutil.copyfile(root / "train/good/001.png", root / "train/good/again.png")
    shutil.copyfile(root / "test/good/002.png", root / "test/thread_top/003.png")
    shutil.copyfile(root / "ground_truth/thread_top/000_mask.png", root / "ground_truth/thread_top/003_mask.png")
    across, labels = wrong(root)
    assert across == (
        f"{root}/test/good/other.bmp: in test, has the pixels of {root}/train/good/000.png in train; remove one of them"
    )
    assert labels.startswith(f"{root}/test/thread_top/003.png: thread_top, has the pixels of {root}/test/good/002.png")
    (line,) = notes(root)
    assert line.startswith(f"{root}/train/good/again.png: has the pixels of {root}/train/good/001.png")


def test_copies_among_calibration_images(tmp_path):
    root = generate("mvtec-loco", tmp_path / "box", np.random.default_rng(0))
    shutil.copyfile(root / "train/good/000.png", root / "validation/good/009.png")
    (line,) = wrong(root)
    assert "validation/good/009.png: in calibration, has the pixels of" in line


def test_categories_that_are_nearly_empty(tmp_path):
    root = generate("mvtec", tmp_path / "few", np.random.default_rng(0), train=2, test=1)
    assert wrong(root) == [f"{root}: only 2 good images to train on; expected 3 at least, add some"]
    assert [line.split("; ")[0] for line in notes(root)] == [
        f"{root}: holds one image of {kind} to test on" for kind in ("good", "scratch_head", "thread_top")
    ]
    for folder in ("scratch_head", "thread_top"):
        shutil.rmtree(root / "test" / folder)
    shutil.rmtree(root / "ground_truth")
    assert any("tests on no defects" in line for line in wrong(root))


def test_without_good_images_to_test_on(root):
    shutil.rmtree(root / "test/good")
    assert wrong(root) == [f"{root}: tests on no good images, so that nothing can be told apart; add some"]


def test_without_masks_or_a_split_may_be_meant_so(root):
    shutil.rmtree(root / "ground_truth")
    assert wrong(root) == []
    assert any("has no masks, so no pixel figures" in line for line in notes(root))
    shutil.rmtree(root / "train")
    assert wrong(root) == []
    assert any("train/good: no such folder" in line for line in notes(root))


def test_an_empty_split_is_wrong(root):
    for path in (root / "train/good").iterdir():
        path.unlink()
    assert [line for line in wrong(root) if "train/good: no images found" in line]


def test_every_broken_row_is_named_once(tmp_path):
    root = generate("manifest", tmp_path / "part", np.random.default_rng(0))
    with (root / "manifest.csv").open("a") as file:
        file.write("images/gone.png,good,,train\nimages/train-0.png,good,,nowhere\n")
    assert [line.split(": ")[0] for line in wrong(root)] == ["manifest.csv line 17", "manifest.csv line 18"]
    (root / "manifest.csv").write_text("image,label\n")
    (line,) = wrong(root)
    assert "lacks the column split" in line


def test_visa_without_its_table_says_so_once(tmp_path):
    root = generate("visa", tmp_path / "candle", np.random.default_rng(0))
    shutil.rmtree(tmp_path / "split_csv")
    (line,) = wrong(root)
    assert "split_csv/1cls.csv: no such file" in line


def test_all_categories_of_a_data_set(tmp_path):
    for name in ("candle", "pcb1"):
        generate("visa", tmp_path / "VisA" / name, np.random.default_rng(0))
    checks = check_data(tmp_path / "VisA")
    assert [(Path(checked.root).name, checked.layout) for checked in checks] == [("candle", "visa"), ("pcb1", "visa")]
    assert all(group.images for checked in checks for group in checked.groups)


def test_nothing_recognised(tmp_path):
    with pytest.raises(DataError, match=r"no images found; looked for .*visa: Data/Images/Normal"):
        check_data(tmp_path)
    with pytest.raises(DataError, match="no such file or folder"):
        check_data(tmp_path / "none")


def test_everything_is_told_of_its_progress(root):
    told: list[tuple[int, int]] = []
    check_data(root, on_progress=lambda done, total: told.append((done, total)))
    assert told == [(done, 15) for done in range(1, 16)]


# --- what nobody judges elsewhere --------------------------------------------------------------------------------


def folder(root: Path, count: int = 4, **options) -> list[Path]:
    """Good images, gray of 8 bits unless ``options`` say otherwise; gives their paths."""
    root.mkdir(parents=True, exist_ok=True)
    paths = [root / f"{number}.{options.pop('ending', 'png')}" for number in range(count)]
    for number, path in enumerate(paths):
        pixels = np.random.default_rng(number).integers(0, 256, (16, 24)).astype(np.uint8)
        Image.fromarray(pixels).save(path)
    return paths


def test_a_depth_that_nobody_tagged_is_proposed(tmp_path):
    for number, path in enumerate(folder(tmp_path)):
        values = np.random.default_rng(number).integers(0, 4000, (16, 24)).astype(np.uint16)
        Image.fromarray(values).save(path)
    assert any("--bits 12" in line for line in notes(tmp_path))
    (checked,) = check_data(tmp_path, bits=12)
    assert not any("--bits" in finding.line for finding in checked.findings)
    (checked,) = check_data(tmp_path, bits=10)  # some values need more
    assert any(finding.wrong for finding in checked.findings)


def test_pages_transparency_shapes_and_depths_are_told(tmp_path):
    paths = folder(tmp_path, 6)
    first = Image.open(paths[0]).convert("RGB")
    first.save(tmp_path / "pages.tif", save_all=True, append_images=[first])
    hidden = Image.open(paths[1]).convert("RGBA")
    hidden.putalpha(0)
    hidden.save(paths[1])
    Image.open(paths[2]).rotate(90, expand=True).save(paths[2])
    Image.fromarray(np.random.default_rng(9).integers(0, 65536, (16, 24)).astype(np.uint16)).save(paths[3])
    lines = "\n".join(notes(tmp_path))
    for said in (
        "1 of 7 images hold several pages",
        "1 of 7 images are wholly transparent",
        "24x16",
        "16x24",
        "depths",
    ):
        assert said in lines


def test_images_of_one_colour_are_wrong_if_all_are(tmp_path):
    for number, path in enumerate(folder(tmp_path)):
        Image.fromarray(np.full((16, 24), number * (number < 3), np.uint8)).save(path)
    assert any("one colour" in line for line in wrong(tmp_path))


def test_files_of_other_types_are_counted_by_type(tmp_path):
    folder(tmp_path)
    for number in range(6):
        (tmp_path / f"{number}.jp2").write_bytes(b"x")
    for name in ("a.gif", "b.gif", "notes.txt", "table.csv", "@eaDir/c.gif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert any("8 files of other types left out (jp2 6, gif 2)" in line for line in notes(tmp_path))


def test_nothing_found_is_something_to_fix(tmp_path):
    root = generate("visa", tmp_path / "candle", np.random.default_rng(0))
    for path in root.rglob("*.JPG"):
        path.write_bytes(b"")
    assert wrong(root)
    empty = tmp_path / "export"
    (empty / "train").mkdir(parents=True)
    (empty / "test").mkdir()
    assert any("no image" in line for line in wrong(empty))


def test_doubtful_folders_are_wrong(tmp_path):
    folder(tmp_path / "NG")
    folder(tmp_path / "monday")
    assert any("NG" in line and "--layout all-good" in line for line in wrong(tmp_path))


def test_masks_that_look_wrong_are_noted_with_the_likely_cause(root):
    masks = sorted((root / "ground_truth").rglob("*.png"))
    pixels = read_image(masks[0])[:, :, 0]
    Image.fromarray(pixels).save(masks[0].with_suffix(".jpg"))
    masks[0].unlink()
    void = np.where(pixels > 0, 1, 0).astype(np.uint8)
    void[:2] = 255
    write_image(masks[1], void)
    write_image(masks[2], 255 - pixels)
    lines = notes(root)
    for said in ("JPEG", "void", "covers"):
        assert any(said in line for line in lines)
    assert wrong(root) == []
    for mask in masks[1:]:
        write_image(mask, 255 - pixels)
    assert any("cover more than half" in line for line in wrong(root))


@pytest.mark.parametrize("orientation", [3, 6])
@pytest.mark.parametrize("square", [True, False])
def test_masks_that_may_lie_otherwise_than_their_turned_image_are_noted(tmp_path, orientation, square):
    exif = Image.Exif()
    exif[0x0112] = orientation
    height, width = (24, 24) if square else (16, 24)
    for place in (
        "train/good/0",
        "train/good/1",
        "train/good/2",
        "test/good/3",
        "test/good/4",
        "test/dent/5",
        "test/dent/6",
    ):
        pixels = np.random.default_rng(int(place[-1])).integers(0, 256, (height, width, 3), dtype=np.uint8)
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / f"{place}.jpg", exif=exif)
    for number in (5, 6):
        mask = np.zeros((height, width), np.uint8)
        mask[2:5, 3:9] = 255
        write_image(tmp_path / f"ground_truth/dent/{number}_mask.png", mask)
    told = [line for line in notes(tmp_path) if "EXIF orientation" in line]
    assert len(told) == (2 if square or orientation == 3 else 0)
    assert wrong(tmp_path) == []
