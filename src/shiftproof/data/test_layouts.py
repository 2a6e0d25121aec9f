from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shiftproof.data import layouts
from shiftproof.data.images import write_image
from shiftproof.data.layouts import find_images, good_images, load_mask, recognise_layout
from shiftproof.errors import DataError, ImageError, UsageError


def touch(root: Path, *names: str) -> Path:
    """Layouts look at names only: the files may be empty."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def names(paths, root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in paths]


@pytest.fixture
def category(tmp_path) -> Path:
    return touch(
        tmp_path / "screw",
        *(f"train/good/{i:03}.png" for i in range(3)),
        "test/good/000.png",
        "test/scratch/000.png",
        "test/scratch/001.png",
        "test/dent/000.png",
        "ground_truth/scratch/000_mask.png",
        "ground_truth/scratch/001_mask.png",
        "ground_truth/dent/000.bmp",
    )


def complaint(function, *arguments) -> str:
    with pytest.raises(DataError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- finding -----------------------------------------------------------------------------------------------------


def test_find_images_in_natural_order_without_hidden_files_and_lookalikes(tmp_path):
    touch(tmp_path, "img10.png", "img2.PNG", "img1.jpeg", "b2/x.tif", "b10/x.webp", "notes.txt", "Thumbs.db")
    touch(tmp_path, ".hidden.png", "._img1.png", ".cache/x.png", "looks.png/inside.bmp")
    found = names(find_images(tmp_path), tmp_path)
    assert found == ["b2/x.tif", "b10/x.webp", "img1.jpeg", "img2.PNG", "img10.png", "looks.png/inside.bmp"]


def test_find_images_takes_one_file_as_it_is(tmp_path):
    touch(tmp_path, "only.png")
    assert find_images(tmp_path / "only.png") == [tmp_path / "only.png"]
    assert find_images(tmp_path) == [tmp_path / "only.png"]


def test_find_images_follows_links_but_never_in_circles(tmp_path):
    touch(tmp_path, "real/a.png")
    root = touch(tmp_path / "root", "b.png")
    (root / "linked").symlink_to(tmp_path / "real")
    (root / "circle").symlink_to(root)
    (root / "dangling.png").symlink_to(tmp_path / "gone.png")  # for the reader to report, not to hide
    assert names(find_images(root), root) == ["b.png", "dangling.png", "linked/a.png"]


def test_no_images(tmp_path):
    touch(tmp_path, "notes.txt")
    expected = (
        f"{tmp_path}: no images found; looked for bmp, jpeg, jpg, png, tif, tiff, webp in this folder and all below it"
    )
    assert complaint(find_images, tmp_path) == expected
    message = complaint(good_images, tmp_path)
    assert message.startswith(expected)
    assert all(f"{name}: {layout.looks_for}" in message for name, layout in list(layouts.LAYOUTS.items())[:-1])


def test_folder_that_is_missing(tmp_path):
    expected = f"{tmp_path / 'none'}: no such file or folder; expected an image or a folder of images"
    for function in (find_images, good_images, layouts.labelled_images, recognise_layout):
        assert complaint(function, tmp_path / "none") == expected


def test_folder_that_cannot_be_listed(tmp_path, monkeypatch):
    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", denied)
    expected = f"{tmp_path}: cannot be listed: Permission denied; allow reading it"
    assert complaint(find_images, tmp_path) == expected
    monkeypatch.setattr(Path, "is_dir", denied)
    for function in (recognise_layout, good_images, layouts.labelled_images):
        assert complaint(function, tmp_path) == expected


@given(st.lists(st.integers(0, 10**6), unique=True, max_size=30), st.randoms(use_true_random=False))
def test_natural_order_is_the_order_of_the_numbers(numbers, shuffler: random.Random):
    paths = [Path(f"day1/img{number}.png") for number in numbers]
    shuffler.shuffle(paths)
    assert sorted(paths, key=layouts.natural_key) == [Path(f"day1/img{number}.png") for number in sorted(numbers)]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1)))
def test_natural_order_is_total_on_any_names(texts):
    ordered = sorted(map(Path, texts), key=layouts.natural_key)
    backwards = ordered[::-1]
    assert ordered == sorted(backwards, key=layouts.natural_key)


# --- recognising -------------------------------------------------------------------------------------------------


def test_recognise_layout(category, tmp_path):
    assert recognise_layout(category) == "mvtec"
    assert recognise_layout(category / "train" / "good") == "folder"
    assert recognise_layout(category, "folder") == "folder"
    assert recognise_layout(touch(tmp_path / "shifted", "test/good/0.png")) == "mvtec"
    assert recognise_layout(category / "train/good/000.png") == "folder"


def test_unknown_layout(tmp_path):
    with pytest.raises(UsageError, match=r"^unknown layout 'mvtek'; did you mean mvtec, mvtec-2, mvtec-3d\?$"):
        recognise_layout(tmp_path, "mvtek")


def test_a_collection_of_categories_is_no_folder_of_good_images(category):
    root = category.parent
    expected = f"{root}: holds several categories (screw); name one of them, such as {category}"
    assert complaint(good_images, root) == expected


# --- good images -------------------------------------------------------------------------------------------------


def test_good_images_of_mvtec_are_those_of_train(category):
    assert names(good_images(category), category) == [f"train/good/{i:03}.png" for i in range(3)]


def test_good_images_of_a_folder_flat_or_nested(tmp_path):
    touch(tmp_path, "a.png", "monday/b.png", "tuesday/late/c.png")
    assert names(good_images(tmp_path), tmp_path) == ["a.png", "monday/b.png", "tuesday/late/c.png"]
    assert good_images(tmp_path / "a.png") == [tmp_path / "a.png"]


def test_defects_beside_a_good_folder_are_not_good(tmp_path):
    touch(tmp_path, "good/a.png", "dent/b.png")
    assert names(good_images(tmp_path), tmp_path) == ["good/a.png"]


def test_good_is_good_in_any_case(tmp_path):
    kinds = touch(tmp_path / "kinds", "Good/a.png", "Broken/b.png")
    assert names(good_images(kinds), kinds) == ["Good/a.png"]
    assert [(item.defect_type, item.defective) for item in layouts.labelled_images(kinds).images] == [
        ("Broken", True),
        ("Good", False),
    ]
    category = touch(
        tmp_path / "category", "Train/GOOD/a.png", "Train/dent/b.png", "Test/Good/c.png", "Test/dent/d.png"
    )
    touch(category, "Ground_Truth/dent/d_mask.png")
    assert recognise_layout(category) == "mvtec"
    assert names(good_images(category), category) == ["Train/GOOD/a.png"]
    found = layouts.labelled_images(category)
    assert [(item.name, not item.masks) for item in found.images] == [
        ("Test/dent/d.png", False),
        ("Test/Good/c.png", True),
    ]


def test_two_good_folders_are_refused(tmp_path):
    touch(tmp_path, "good/a.png", "Good/b.png")
    if len(list(tmp_path.iterdir())) == 2:  # not where file names know no case
        assert "folder beside " in complaint(good_images, tmp_path)


@pytest.mark.parametrize("part", ["test", "test/good", "test/good/000.png", "ground_truth/scratch", "linked"])
def test_test_images_are_no_good_images_by_any_way(category, part):
    (category / "linked").symlink_to(category / "test" / "good")
    folder = "ground_truth" if part.startswith("ground_truth") else "test"
    assert complaint(good_images, category / part) == (
        f"{category / part}: lies in the {folder} images of {category}, which are never trained on; give {category}"
    )


def test_a_folder_that_is_only_called_test_holds_good_images(tmp_path):
    touch(tmp_path, "test/line3/a.png", "test/line3/b.png")
    assert len(good_images(tmp_path / "test" / "line3")) == 2


@pytest.mark.parametrize("layout", ["mvtec", "all-good", "auto"])
def test_nothing_below_test_is_ever_good(category, layout):
    touch(category, "train/good/test/x.png", "train/good/Test/x.png")
    found = names(good_images(category, layout), category)
    assert found and not [name for name in found if name.casefold().startswith("test/") or "/test/" in name.casefold()]
    assert not [name for name in found if name.startswith("ground_truth")]


def test_only_images_below_test(tmp_path):
    touch(tmp_path, "test/good/a.png")
    expected = f"{tmp_path}: no good images; all 1 lie below test or ground_truth, never trained on"
    assert complaint(good_images, tmp_path, "folder") == expected
    assert complaint(good_images, tmp_path) == (
        f"{tmp_path / 'train/good'}: no such folder; expected good images to train on there"
    )


# --- test images -------------------------------------------------------------------------------------------------


def test_mvtec_test_set(category):
    found = layouts.labelled_images(category)
    assert found.has_masks
    assert [(item.name, item.defect_type, item.defective) for item in found.images] == [
        ("test/dent/000.png", "dent", True),
        ("test/good/000.png", "good", False),
        ("test/scratch/000.png", "scratch", True),
        ("test/scratch/001.png", "scratch", True),
    ]
    assert [[mask.relative_to(category).as_posix() for mask in item.masks] for item in found.images] == [
        ["ground_truth/dent/000.bmp"],
        [],
        ["ground_truth/scratch/000_mask.png"],
        ["ground_truth/scratch/001_mask.png"],
    ]


def test_without_ground_truth_there_are_no_masks(tmp_path):
    found = layouts.labelled_images(touch(tmp_path, "test/good/0.png", "test/dent/0.png"))
    assert not found.has_masks
    assert [item.masks for item in found.images] == [(), ()]
    with pytest.raises(DataError, match=r"^test/dent/0\.png: has no mask; pixel figures need ground_truth/dent$"):
        load_mask(found.images[0], (4, 4))


def test_mask_missing(category):
    (category / "ground_truth/scratch/001_mask.png").unlink()
    assert complaint(layouts.labelled_images, category) == (
        f"{category}/test/scratch/001.png: defective, but without its mask; "
        f"expected {category}/ground_truth/scratch/001_mask.png (or 001.png there)"
    )


@pytest.mark.parametrize("stray", ["scratch/002_mask.png", "bent/000_mask.png", "scratch/000.png"])
def test_mask_without_its_image(category, stray):
    touch(category, f"ground_truth/{stray}")
    assert complaint(layouts.labelled_images, category) == (
        f"{category}/ground_truth/{stray}: mask without its image; "
        f"expected one of that name in {category}/test, or remove the mask"
    )


def test_two_masks_of_one_name(category):
    touch(category, "ground_truth/scratch/000_mask.bmp")
    message = complaint(layouts.labelled_images, category)
    assert message.endswith("000_mask.png: a second mask beside 000_mask.bmp; expected one, remove the other")


def test_one_mask_never_serves_two_images(category):
    touch(category, "test/scratch/000.jpg")
    assert "test/scratch/000.png: defective, but without its mask" in complaint(layouts.labelled_images, category)


def test_masks_of_good_images_are_no_matter(category):
    touch(category, "ground_truth/good/000_mask.png")
    assert layouts.labelled_images(category).has_masks


@settings(deadline=None, max_examples=30)
@given(
    st.sets(st.from_regex(r"[a-z0-9]{1,6}", fullmatch=True), min_size=1, max_size=12),
    st.sampled_from(["_mask.png", "_mask.tif", ".png"]),
)
def test_masks_are_paired_by_name_whatever_the_order(stems, ending):
    with tempfile.TemporaryDirectory() as folder:
        root = touch(Path(folder), *(f"test/dent/{stem}.jpg" for stem in stems), "test/good/a.jpg")
        touch(root, *(f"ground_truth/dent/{stem}{ending}" for stem in sorted(stems, reverse=True)))
        found = layouts.labelled_images(root).images
        pairs = {item.path.stem: item.masks[0].name for item in found if item.masks}
        assert pairs == {stem: stem + ending for stem in stems}


def test_no_test_folder(category, tmp_path):
    only_good = touch(tmp_path / "only", "train/good/0.png")
    assert complaint(layouts.labelled_images, only_good) == (
        f"{only_good}: nothing to test on; looked for {only_good}/test/<kind>/ with good and defective images"
    )
    flat = touch(tmp_path / "flat", "a.png")
    expected = f"{flat}: nothing to test on; looked for test/<kind>/, or good/ beside at least one folder of defects"
    assert complaint(layouts.labelled_images, flat) == expected
    touch(flat, "good/b.png")
    assert complaint(layouts.labelled_images, flat) == expected


def test_test_folder_without_images(tmp_path):
    (tmp_path / "test" / "good").mkdir(parents=True)
    assert complaint(layouts.labelled_images, tmp_path).startswith(
        f"{tmp_path}/test: no images to test on; looked for bmp,"
    )


def test_image_in_no_kind(category):
    touch(category, "test/stray.png")
    assert complaint(layouts.labelled_images, category) == (
        f"{category}/test/stray.png: lies in no folder of a kind; "
        f"expected {category}/test/good or {category}/test/<kind of defect>"
    )


def test_labelled_folder(tmp_path):
    touch(tmp_path, "good/1.png", "scratch/1.png", "scratch/deep/2.png")
    found = layouts.labelled_images(tmp_path)
    assert not found.has_masks
    assert [(item.name, item.defect_type, item.defective) for item in found.images] == [
        ("good/1.png", "good", False),
        ("scratch/1.png", "scratch", True),
        ("scratch/deep/2.png", "scratch", True),
    ]


# --- loading a mask ----------------------------------------------------------------------------------------------


@pytest.fixture
def defect(tmp_path) -> layouts.LabelledImage:
    touch(tmp_path, "test/dent/0.png")
    mask = np.zeros((4, 6), np.uint8)
    mask[1, 2] = 255
    write_image(tmp_path / "ground_truth/dent/0_mask.png", mask)
    return layouts.labelled_images(tmp_path).images[0]


def test_load_mask(defect):
    assert np.argwhere(load_mask(defect, (4, 6))).tolist() == [[1, 2]]
    good = layouts.LabelledImage(Path("g.png"), "test/good/g.png", "good", False)
    assert load_mask(good, (2, 3)).tolist() == [[False] * 3] * 2


def test_mask_of_another_size(defect):
    assert complaint(load_mask, defect, (6, 4)) == (
        f"{defect.masks[0]}: mask of 6x4 pixels for an image of 4x6 (test/dent/0.png); expected the same size"
    )


def test_an_empty_mask_does_not_make_a_defect_good(defect):
    write_image(defect.masks[0], np.zeros((4, 6), np.uint8))
    assert layouts.labelled_images(defect.path.parents[2]).images[0].defective
    assert not load_mask(defect, (4, 6)).any()


def test_mask_that_is_damaged(defect):
    defect.masks[0].write_bytes(b"")
    with pytest.raises(ImageError, match=r"0_mask\.png: is empty \(0 bytes\)"):
        load_mask(defect, (4, 6))
