"""What holds for every layout, on generated data sets with the names and file types of the originals."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shiftproof.data import (
    LAYOUTS,
    calibration_images,
    categories,
    find_images,
    good_images,
    labelled_images,
    load_mask,
    read_image,
    recognise_layout,
)
from shiftproof.data.generate import MAKERS, generate
from shiftproof.errors import DataError, UsageError

MADE = sorted(MAKERS)
HELD_OUT = {"mvtec-2", "mvtec-3d", "mvtec-loco", "manifest"}


def make(layout: str, root: Path, **counts) -> Path:
    return generate(layout, root, np.random.default_rng(0), **counts)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, Path]:
    """A category of each; not to be changed."""
    return {layout: make(layout, tmp_path_factory.mktemp(layout) / "part") for layout in MADE}


def real(paths) -> set[str]:
    return {os.path.realpath(path) for path in paths}


@pytest.mark.parametrize("layout", MADE)
def test_recognised_by_one_layout_alone(made, layout):
    expected = layout.removeprefix("visa-")
    assert recognise_layout(made[layout]) == expected
    # Those that fit whatever is laid out alike come last, and are never asked before one that names a data set.
    fits = {name for name, known in LAYOUTS.items() if known.recognise(made[layout])}
    assert fits - {"mvtec", "folder"} == {expected} - {"mvtec", "folder"}


@pytest.mark.parametrize("layout", MADE)
def test_images_of_each_split(made, layout):
    root = made[layout]
    found = labelled_images(root)
    kinds = 2 if layout in {"mvtec", "mvtec-loco"} else 1
    good = 6 if layout == "folder" else 3
    assert len(good_images(root)) == 6
    assert len(calibration_images(root)) == (3 if layout in HELD_OUT else 0)
    assert sum(not item.defective for item in found.images) == good
    assert sum(item.defective for item in found.images) == 3 * kinds
    assert found.has_masks
    assert len({item.name for item in found.images}) == len(found.images)


@pytest.mark.parametrize("layout", MADE)
def test_masks_lie_on_their_defects(made, layout):
    for item in labelled_images(made[layout]).images:
        image = read_image(item.path)
        mask = load_mask(item, image.shape[:2])
        assert mask.any() == item.defective
        assert not mask.any() or image[mask].mean() > 240 > 180 > image[~mask].mean()


@pytest.mark.parametrize("layout", [name for name in MADE if name != "folder"])
def test_nothing_that_is_tested_on_is_learnt_from(made, layout):
    root = made[layout]
    tested = real(item.path for item in labelled_images(root).images) | real(
        LAYOUTS[recognise_layout(root)].unlabelled(root)
    )
    calibration_set = real(calibration_images(root))
    for name in (*LAYOUTS, "auto"):  # by a wrong name, too
        try:
            learnt = real(good_images(root, name))
        except DataError:
            continue
        assert not learnt & tested
        if name == "auto":
            assert not learnt & calibration_set


@pytest.mark.parametrize("layout", [name for name in MADE if name != "folder"])
def test_no_folder_within_a_category_gives_what_is_tested_on(made, layout):
    root = made[layout]
    tested = real(item.path for item in labelled_images(root).images) | real(
        LAYOUTS[recognise_layout(root)].unlabelled(root)
    )
    inside = [Path(place) for place, _, files in os.walk(root) if files]
    assert inside
    for folder in {*inside, *(folder.parent for folder in inside)} - {root}:
        try:
            learnt = real(good_images(folder))
        except DataError:
            continue
        assert not learnt & tested, folder


@settings(max_examples=30)
@given(st.sampled_from(MADE), st.integers(1, 9), st.integers(1, 3), st.integers(1, 7))
def test_counts_whatever_they_are(layout, train, calibration, test):
    with tempfile.TemporaryDirectory() as folder:
        root = make(layout, Path(folder) / "part", train=train, calibration=calibration, test=test, size=(8, 9))
        good, found = good_images(root), labelled_images(root)
        assert len(good) == train
        assert len(calibration_images(root)) == (calibration if layout in HELD_OUT else 0)
        assert {item.path for item in found.images if item.defective}.isdisjoint(good)
        assert sum(item.defective for item in found.images) == test * (2 if layout in {"mvtec", "mvtec-loco"} else 1)


# --- categories --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [name for name in MADE if name != "manifest"])
def test_categories_of_a_collection(tmp_path, layout):
    for name in ("01", "02"):
        make(layout, tmp_path / name, train=1, calibration=1, test=1)
    assert [path.name for path in categories(tmp_path)] == ["01", "02"]
    assert categories(tmp_path / "01") == [tmp_path / "01"]
    with pytest.raises(DataError, match=r"holds several categories \(01, 02\); name one of them"):
        good_images(tmp_path)


def test_categories_one_folder_further_down(tmp_path):
    for name in ("candle", "pcb1"):
        make("visa-mvtec", tmp_path / "1cls" / name, train=1, test=1)
    assert [path.name for path in categories(tmp_path)] == ["candle", "pcb1"]
    with pytest.raises(DataError, match=r"several categories \(1cls/candle, 1cls/pcb1\)"):
        good_images(tmp_path)


def test_no_categories(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no category found.*visa: Data/Images/Normal.*mvtec: train/good"):
        categories(tmp_path)


# --- what is special about one -----------------------------------------------------------------------------------


def test_lighting_of_mvtec_ad_2_is_in_the_names(made):
    found = labelled_images(made["mvtec-2"]).images
    assert {(item.defect_type, item.variant) for item in found} == {
        (kind, light) for kind in ("good", "bad") for light in ("regular", "overexposed", "underexposed")
    }
    unlabelled = LAYOUTS["mvtec-2"].unlabelled(made["mvtec-2"])
    assert {path.parent.name for path in unlabelled} == {"test_private", "test_private_mixed"}


def test_several_masks_of_an_image_are_united(made):
    item = next(item for item in labelled_images(made["mvtec-loco"]).images if len(item.masks) == 2)
    parts = [load_mask(type(item)(item.path, "", "", True, (mask,)), (32, 48)) for mask in item.masks]
    assert np.array_equal(load_mask(item, (32, 48)), parts[0] | parts[1])
    assert not np.array_equal(parts[0], parts[1])


@pytest.mark.parametrize(
    ("layout", "mask", "expected"),
    [
        ("mvtec-2", "test_public/ground_truth/bad/000_regular_mask.png", "ground_truth/bad/000_regular_mask.png"),
        ("mvtec-3d", "test/crack/gt/001.png", "test/crack/gt/001.png"),
        ("mvtec-loco", "ground_truth/logical_anomalies/000", "ground_truth/logical_anomalies/000/000.png"),
        ("btad", "ground_truth/ko/0002.png", "ground_truth/ko/0002_mask.png"),
        ("visa", "Data/Masks/Anomaly/001.png", "Data/Masks/Anomaly/001.png: no such mask"),
        ("visa-mvtec", "ground_truth/bad/001.png", "ground_truth/bad/001_mask.png"),
        ("folder", "ground_truth/dent/1.png", "ground_truth/dent/1_mask.png"),
        ("manifest", "masks/dent-1.png", "masks/dent-1.png: no such mask"),
    ],
)
def test_a_missing_mask_is_named(tmp_path, layout, mask, expected):
    root = make(layout, tmp_path / "part")
    (shutil.rmtree if (root / mask).is_dir() else os.unlink)(root / mask)
    with pytest.raises(DataError) as caught:
        labelled_images(root)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_kolektor_trains_on_the_first_items_alone(tmp_path):
    root = make("ksdd", tmp_path / "KolektorSDD", train=8, test=8)
    assert {path.parent.name for path in good_images(root)} == {"kos01", "kos02"}
    found = labelled_images(root)
    assert {(item.path.parent.name, item.defective) for item in found.images} == {
        ("kos34", False),
        ("kos35", False),
        ("kos20", True),
        ("kos21", True),
    }
    (root / "kos01/Part0_label.bmp").unlink()
    with pytest.raises(DataError, match=r"kos01/Part0\.jpg: without its label image.*expected Part0_label\.bmp"):
        good_images(root)


def test_visa_without_its_table_of_splits(tmp_path):
    root = make("visa", tmp_path / "candle")
    shutil.rmtree(tmp_path / "split_csv")
    with pytest.raises(DataError, match=r"split_csv/1cls\.csv: no such file; .*candle needs VisA's table of splits"):
        good_images(root)


def test_visa_under_another_name(tmp_path):
    root = make("visa", tmp_path / "candle").rename(tmp_path / "kerze")
    with pytest.raises(DataError, match=r"holds no row of the object 'kerze'"):
        labelled_images(root)


def test_visa_test_images_lie_among_normal_ones(tmp_path):
    root = make("visa", tmp_path / "candle")
    tested = {item.path for item in labelled_images(root).images if not item.defective}
    everything = set(find_images(root / "Data/Images/Normal"))
    assert tested < everything
    assert set(good_images(root)) == everything - tested


def test_a_layout_may_be_named_and_is_not_guessed_at(made):
    assert recognise_layout(made["btad"], "mvtec-loco") == "mvtec-loco"
    with pytest.raises(UsageError, match="unknown layout"):
        generate("mvtec-4", Path("never"), np.random.default_rng(0))
