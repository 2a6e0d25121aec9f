from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from shiftproof.data import calibration_images, good_images, labelled_images, load_mask, read_image, recognise_layout
from shiftproof.data.depth import convert_depth, depth_image, measured, normal_image, read_xyz, write_xyz
from shiftproof.data.generate import generate
from shiftproof.errors import DataError, ImageError, UsageError


@pytest.fixture
def points() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(5, 7, 3)).astype(np.float32)


@pytest.fixture
def category(tmp_path):
    return generate("mvtec-3d", tmp_path / "bagel", np.random.default_rng(0))


def test_points_are_kept_exactly(tmp_path, points):
    write_xyz(tmp_path / "deep" / "0.tiff", points)
    assert np.array_equal(read_xyz(tmp_path / "deep" / "0.tiff"), points)


@pytest.mark.parametrize("options", [{}, {"compression": "deflate"}, {"byteorder": ">"}, {"rowsperstrip": 2}])
def test_files_of_the_library_that_wrote_the_originals(tmp_path, points, options):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "theirs.tiff", points, photometric="rgb", **options)
    assert np.array_equal(read_xyz(tmp_path / "theirs.tiff"), points)
    write_xyz(tmp_path / "ours.tiff", points)
    assert np.array_equal(tifffile.imread(tmp_path / "ours.tiff"), points)


@pytest.mark.parametrize("content", [b"", b"no TIFF", b"II*\0\x08\0\0\0"])
def test_what_is_no_such_file(tmp_path, content):
    (tmp_path / "0.tiff").write_bytes(content)
    with pytest.raises(ImageError, match=r"0\.tiff: is no TIFF of three 32-bit float channels"):
        read_xyz(tmp_path / "0.tiff")
    with pytest.raises(ImageError, match="no such file"):
        read_xyz(tmp_path / "1.tiff")


def test_a_tiff_of_another_kind(tmp_path):
    Image.fromarray(np.zeros((4, 5), np.float32)).save(tmp_path / "0.tiff")
    with pytest.raises(ImageError, match="is a TIFF of another kind"):
        read_xyz(tmp_path / "0.tiff")


def test_truncated_points(tmp_path, points):
    write_xyz(tmp_path / "0.tiff", points)
    (tmp_path / "0.tiff").write_bytes((tmp_path / "0.tiff").read_bytes()[:-8])
    with pytest.raises(ImageError, match="copy it again"):
        read_xyz(tmp_path / "0.tiff")


def test_depth_is_clipped_to_its_range():
    z = np.array([[0.2, 0.5, 1.0, 1.4, np.nan]], np.float32)
    points = np.stack([z, z, z], axis=2)
    assert depth_image(points, 0.5, 1.0).tolist() == [[255, 255, 1, 1, 0]]
    assert measured(points).tolist() == [[True, True, True, True, False]]


def test_normals_of_planes():
    y, x = np.mgrid[:6, :8].astype(np.float32)
    flat = normal_image(np.stack([x, y, np.ones_like(x)], axis=2))
    assert (flat == (128, 128, 0)).all()  # towards the sensor
    slanting = normal_image(np.stack([x, y, 2 - x], axis=2))
    assert (slanting == np.rint(127.5 * (np.array([-(0.5**0.5), 0, -(0.5**0.5)]) + 1))).all()
    holed = np.stack([x, y, np.ones_like(x)], axis=2)
    holed[2, 3] = 0
    black = (normal_image(holed) == 0).all(axis=2)
    assert {(2, 3), (1, 3), (3, 3), (2, 2), (2, 4)} == set(map(tuple, np.argwhere(black)))


def test_a_category_of_depth_is_one_of_mvtec_ad(category, tmp_path):
    out = tmp_path / "depth"
    told = []
    done = convert_depth(category, out, on_progress=lambda n, total: told.append((n, total)))
    assert (done.images, done.failures) == (15, [])
    assert told[-1] == (15, 15)
    assert recognise_layout(out) == "mvtec"
    assert (len(good_images(out)), len(calibration_images(out))) == (6, 3)
    found, original = labelled_images(out), labelled_images(category)
    assert [(item.defect_type, item.path.stem) for item in found.images] == [
        (i.defect_type, i.path.stem) for i in original.images
    ]
    for mine, theirs in zip(found.images, original.images, strict=True):
        assert np.array_equal(load_mask(mine, (32, 48)), load_mask(theirs, (32, 48)))
    facts = json.loads((out / "depth.json").read_text())
    image = read_image(found.images[0].path)
    assert np.array_equal(
        image[:, :, 0], depth_image(read_xyz(category / "test/crack/xyz/000.tiff"), facts["near"], facts["far"])
    )
    assert (image[:2] == 0).all()
    assert image[2:].min() > 1
    assert image.max() < 255


def test_the_range_is_that_of_the_training_images(category, tmp_path):
    convert_depth(category, tmp_path / "before")
    far = np.full((32, 48, 3), 100, np.float32)
    write_xyz(category / "test/crack/xyz/000.tiff", far)
    write_xyz(category / "validation/good/xyz/000.tiff", far)
    convert_depth(category, tmp_path / "after")
    assert (tmp_path / "before/depth.json").read_text() == (tmp_path / "after/depth.json").read_text()
    assert (read_image(tmp_path / "after/test/crack/000.png") == 1).all()


def test_normals_of_a_category(category, tmp_path):
    assert convert_depth(category, tmp_path / "out", "normals").images == 15
    assert json.loads((tmp_path / "out/depth.json").read_text()) == {"image": "normals"}
    assert np.unique(read_image(tmp_path / "out/train/good/000.png")[5:].reshape(-1, 3), axis=0).shape[0] > 1


def test_points_that_cannot_be_read_are_named(category, tmp_path):
    (category / "train/good/xyz/001.tiff").unlink()
    done = convert_depth(category, tmp_path / "out")
    assert done.images == 14
    assert "train/good/xyz/001.tiff: no such file" in done.failures[0]
    assert not (tmp_path / "out/train/good/001.png").exists()


def test_wrong_use(category, tmp_path):
    with pytest.raises(UsageError, match="unknown image 'normal'; did you mean normals"):
        convert_depth(category, tmp_path / "out", "normal")
    with pytest.raises(UsageError, match="is not empty"):
        convert_depth(category, category)
    with pytest.raises(DataError, match="train/good/rgb: no such folder"):
        convert_depth(generate("mvtec", tmp_path / "screw", np.random.default_rng(0)), tmp_path / "out")
    for path in category.glob("train/good/xyz/*"):
        path.unlink()
    with pytest.raises(DataError, match="no points in train/good/xyz"):
        convert_depth(category, tmp_path / "out")
