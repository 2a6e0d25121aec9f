"""Folders as shop floors name them: what is plainly meant is taken, what is doubtful is refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shiftproof.data import find_images, good_images, labelled_images, load_mask, recognise_layout, write_image
from shiftproof.data.vocabulary import Meaning, image_of_mask, is_system_folder, meaning
from shiftproof.errors import DataError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def names(paths, root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in paths]


WORDS = {
    Meaning.GOOD: "OK, ok_front, Normal, normal_dir, Gut, i.O., iO, GoodParts, PASS, 良品, 合格, годен, ok2024, "
    "defect-free, no defects, without_defect, nondefective",
    Meaning.DEFECTIVE: "NG, n.i.O., niO, NIO, nok, NotOK, not_good, def_front, Defekte, BAD, abnormal_dir, anomalies, "
    "Ausschuss, Défauts, 不良品, 不合格, брак, N.G.",
    Meaning.MASK: "MASK, masks, mask_dir, gt, GT_images, ground_truth, SegmentationClass, good_masks, defect mask, "
    "labels, Masken",
    Meaning.UNCLEAR: "ok_ng, good and bad",
    Meaning.UNKNOWN: "monday, cam2, default, okular, missing_label, thread_top, 2024-05-01",
}


@pytest.mark.parametrize(("word", "expected"), [(w, kind) for kind, words in WORDS.items() for w in words.split(", ")])
def test_words(word, expected):
    assert meaning(word) is expected


def test_names_of_masks_beside_images():
    assert [image_of_mask(stem) for stem in ("1_mask", "part-GT", "a.label", "x_ground_truth", "1")] == [
        "1",
        "part",
        "a",
        "x",
        None,
    ]


@pytest.mark.parametrize(
    ("good", "bad", "mask"),
    [
        ("OK", "NG", "MASK"),
        ("normal_dir", "abnormal_dir", "mask_dir"),
        ("iO", "niO", "Masken"),
        ("良品", "不良品", "gt"),
    ],
)
def test_good_defective_and_mask_folders_side_by_side(tmp_path, good, bad, mask):
    touch(tmp_path, f"{good}/1.png", f"{good}/deep/2.png", f"{bad}/3.png", f"{mask}/3.png", f"{mask}/1.png")
    assert recognise_layout(tmp_path) == "folder"
    assert names(good_images(tmp_path), tmp_path) == [f"{good}/1.png", f"{good}/deep/2.png"]
    found = labelled_images(tmp_path)
    assert {(item.name, item.defective) for item in found.images} == {
        (f"{good}/1.png", False),
        (f"{good}/deep/2.png", False),
        (f"{bad}/3.png", True),
    }
    assert [names(item.masks, tmp_path) for item in found.images if item.defective] == [[f"{mask}/3.png"]]


def test_several_good_folders_and_kinds_beside_a_folder_of_masks(tmp_path):
    touch(tmp_path, "ok_front/1.png", "ok_back/1.png", "def_front/1.png", "crack/1.png")
    touch(tmp_path, "mask/crack/1.png", "mask/def_front/1_mask.png")
    assert len(good_images(tmp_path)) == 2
    found = {item.name: item for item in labelled_images(tmp_path).images}
    assert {name for name, item in found.items() if item.defective} == {"def_front/1.png", "crack/1.png"}
    assert names(found["crack/1.png"].masks, tmp_path) == ["mask/crack/1.png"]
    assert names(found["def_front/1.png"].masks, tmp_path) == ["mask/def_front/1_mask.png"]


@pytest.mark.parametrize("word", ["normal", "OK", "ok_front", "Gut"])
def test_good_kinds_of_a_category(tmp_path, word):
    touch(
        tmp_path, f"train/{word}/1.png", "train/NG/2.png", f"test/{word}/3.png", "test/dent/4.png", "masks/dent/4.png"
    )
    touch(tmp_path, f"val/{word}/5.png")
    assert names(good_images(tmp_path), tmp_path) == [f"train/{word}/1.png"]
    found = labelled_images(tmp_path)
    assert {item.name: item.defective for item in found.images} == {
        f"test/{word}/3.png": False,
        "test/dent/4.png": True,
    }
    assert found.has_masks
    for part in ("test", "masks/dent"):
        with pytest.raises(DataError, match="never trained on"):
            good_images(tmp_path / part)


def test_a_mask_beside_its_image_is_no_image(tmp_path):
    touch(tmp_path, "good/1.png", "good/1_mask.png", "dent/2.jpg", "dent/2_mask.png", "dent/3.jpg", "dent/3-gt.png")
    assert names(good_images(tmp_path), tmp_path) == ["good/1.png"]
    found = {item.name: names(item.masks, tmp_path) for item in labelled_images(tmp_path).images}
    assert found == {"good/1.png": [], "dent/2.jpg": ["dent/2_mask.png"], "dent/3.jpg": ["dent/3-gt.png"]}


def test_a_mask_without_a_kind_that_could_be_two_images_is_a_problem(tmp_path):
    touch(tmp_path, "OK/1.png", "NG/2.png", "crack/2.png", "mask/2.png")
    with pytest.raises(DataError, match="without its mask"):
        labelled_images(tmp_path)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (("NG/1.png", "monday/2.png"), "NG"),
        (("images/1.png", "masks/1.png"), "masks"),
        (("1.png", "day/abnormal/2.png"), "abnormal"),
        (("ok_ng/1.png", "other/2.png"), "ok_ng"),
        (("1.png", "1_mask.png"), "1_mask.png"),
        (("cast_ok_1.png", "cast_def_2.png"), "cast_def_2.png"),
        (("OK/1.png", "OK/NG/2.png"), "NG"),
    ],
)
def test_what_is_doubtful_is_refused_by_name_and_taken_by_those_who_insist(tmp_path, files, said):
    touch(tmp_path, *files)
    with pytest.raises(DataError) as caught:
        good_images(tmp_path)
    assert said in str(caught.value)
    assert len(good_images(tmp_path, "all-good")) == len(files)


def test_a_folder_of_defects_given_alone(tmp_path):
    touch(tmp_path, "OK/1.png", "NG/2.png", "MASK/2.png")
    for folder in ("NG", "MASK"):
        with pytest.raises(DataError, match="OK"):
            good_images(tmp_path / folder)
        assert len(good_images(tmp_path / folder, "all-good")) == 1
    assert len(good_images(tmp_path / "OK")) == 1
    alone = touch(tmp_path / "elsewhere", "bad/1.png")
    assert len(good_images(alone / "bad")) == 1  # nothing beside it is called good


def test_kinds_that_say_both_are_refused(tmp_path):
    touch(tmp_path, "train/good/1.png", "test/good/2.png", "test/ok_ng/3.png")
    with pytest.raises(DataError, match="ok_ng"):
        labelled_images(tmp_path)


@pytest.mark.parametrize("root", ["a/OK a/NG", "a/ok b/ng"])
def test_nested_good_and_defective_folders(tmp_path, root):
    touch(tmp_path, *(f"{folder}/1.png" for folder in root.split()))
    with pytest.raises(DataError):
        good_images(tmp_path)


def test_folders_of_the_system_are_no_part_of_a_data_set(tmp_path):
    hidden = ("@eaDir/1.jpg/x.jpg", "#recycle/2.jpg", "$RECYCLE.BIN/3.jpg", "@Recycle/4.jpg", "__MACOSX/5.jpg")
    touch(tmp_path, "1.jpg", "deep/6.jpg", *hidden, "deep/@eaDir/7.jpg", "System Volume Information/8.jpg")
    assert names(find_images(tmp_path), tmp_path) == ["1.jpg", "deep/6.jpg"]
    assert is_system_folder(".Trash-1000") and not is_system_folder("recycle_line")
    touch(tmp_path, "kinds/good/1.jpg", "kinds/@eaDir/2.jpg")
    assert len(good_images(tmp_path / "kinds")) == 1


@pytest.mark.parametrize("orientation", [6, 8, 5])
def test_a_mask_drawn_before_its_image_was_turned_is_turned_with_it(tmp_path, orientation):
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.full((20, 30), 200, np.uint8)
    stored[2:6, 20:28] = 0
    for name in ("train/good/0", "test/good/1", "test/dent/2"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(stored).save(tmp_path / f"{name}.png", exif=exif)
    write_image(tmp_path / "ground_truth/dent/2_mask.png", (stored == 0).astype(np.uint8) * 255)
    from shiftproof.data import read_image

    (item,) = [item for item in labelled_images(tmp_path).images if item.defective]
    image = read_image(item.path)
    np.testing.assert_array_equal(load_mask(item, image.shape[:2]), image[:, :, 0] < 100)
    upright = (image[:, :, 0] < 100).astype(np.uint8) * 255
    write_image(tmp_path / "ground_truth/dent/2_mask.png", upright)
    np.testing.assert_array_equal(load_mask(item, image.shape[:2]), image[:, :, 0] < 100)
