"""Masks as different tools write them: right, or with a note that names the likely cause."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter, TiffImagePlugin

from shiftproof.data.masks import inspect_mask, read_mask
from shiftproof.errors import ImageError

WANTED = np.zeros((60, 80), bool)
WANTED[20:31, 30:47] = True


def write(path, image: Image.Image | np.ndarray, **options):
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return path


def palette_image(indices: np.ndarray, colors: dict[int, tuple[int, int, int]]) -> Image.Image:
    image = Image.fromarray(indices.astype(np.uint8)).convert("L")
    image = Image.frombytes("P", image.size, image.tobytes())
    palette = np.full((256, 3), 99, np.uint8)
    for index, color in colors.items():
        palette[index] = color
    image.putpalette(palette.tobytes())
    return image


def coloured(color: tuple[int, int, int], background: tuple[int, int, int] = (0, 0, 0)) -> np.ndarray:
    return np.where(WANTED[:, :, None], np.array(color, np.uint8), np.array(background, np.uint8))


@pytest.mark.parametrize(
    "image",
    [
        coloured((128, 0, 0)),
        palette_image(WANTED, {0: (0, 0, 0), 1: (128, 0, 0)}),
        palette_image(~WANTED, {0: (255, 255, 255), 1: (0, 0, 0)}),  # as Pillow orders an image's own colours
        np.where(WANTED, 3, 0).astype(np.uint8),
        np.where(WANTED, 40_000, 0).astype(np.uint16),
    ],
    ids=["colour", "palette", "palette black last", "label", "16 bits"],
)
def test_plain_masks_have_no_note(tmp_path, image):
    reading = inspect_mask(write(tmp_path / "m.png", image))
    np.testing.assert_array_equal(reading.mask, WANTED)
    assert reading.notes == ()


def test_classes_are_all_defects(tmp_path):
    labels = np.zeros((60, 80), np.uint8)
    labels[5:20, 5:20], labels[20:31, 30:47], labels[40:50, 60:70] = 1, 100, 255
    colors = np.array([(0, 0, 0), (200, 0, 0), (0, 200, 0), (0, 0, 200)], np.uint8)
    rgb = colors[np.searchsorted([0, 1, 100, 255], labels)]
    for image in (labels, rgb):
        reading = inspect_mask(write(tmp_path / "m.png", image))
        np.testing.assert_array_equal(reading.mask, labels > 0)
        assert reading.notes == ()


@pytest.mark.parametrize("kind", ["gray", "palette", "colour"])
def test_void_is_no_defect(tmp_path, kind):
    labels = np.where(WANTED, 2, 0)
    labels[18:20, 28:50] = 255
    if kind == "gray":
        image = labels.astype(np.uint8)
    elif kind == "palette":
        image = palette_image(labels, {0: (0, 0, 0), 2: (128, 0, 0), 255: (224, 224, 192)})
    else:
        image = np.zeros((60, 80, 3), np.uint8)
        image[labels == 2], image[labels == 255] = (128, 0, 0), (224, 224, 192)
    reading = inspect_mask(write(tmp_path / "m.png", image))
    np.testing.assert_array_equal(reading.mask, WANTED)
    assert any("void" in note for note in reading.notes)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_soft_edges_are_cut_at_half(tmp_path, mode):
    soft = Image.fromarray(WANTED.astype(np.uint8) * 255).filter(ImageFilter.GaussianBlur(1))
    reading = inspect_mask(write(tmp_path / "m.png", soft.convert(mode)))
    assert abs(int(reading.mask.sum()) - int(WANTED.sum())) <= 4
    assert any("soft" in note for note in reading.notes)


@pytest.mark.parametrize("color", [(255, 255, 255), (0, 200, 40)])
@pytest.mark.parametrize("quality", [40, 75, 95])
def test_a_jpeg_is_cut_at_half_and_named(tmp_path, color, quality):
    reading = inspect_mask(write(tmp_path / "m.jpg", coloured(color), quality=quality))
    assert np.mean(reading.mask != WANTED) < 0.03
    assert any("JPEG" in note for note in reading.notes)
    empty = inspect_mask(write(tmp_path / "e.jpg", np.zeros((60, 80), np.uint8)))
    assert not empty.mask.any()


def test_a_mask_that_covers_most_is_noted_as_inverted(tmp_path):
    reading = inspect_mask(write(tmp_path / "m.png", (~WANTED).astype(np.uint8) * 255))
    assert any("96%" in note for note in reading.notes)


def test_a_background_that_is_not_black(tmp_path):
    reading = inspect_mask(write(tmp_path / "m.png", coloured((250, 0, 0), (255, 255, 255))))
    np.testing.assert_array_equal(reading.mask, WANTED)
    assert reading.notes
    reading = inspect_mask(write(tmp_path / "p.png", palette_image(WANTED, {0: (165, 42, 42), 1: (255, 0, 0)})))
    np.testing.assert_array_equal(reading.mask, WANTED)
    assert any("index 0" in note for note in reading.notes)


@pytest.mark.parametrize("ending", ["png", "jpg"])
@pytest.mark.parametrize("gray", [True, False])
def test_a_picture_that_was_painted_over_is_refused(tmp_path, ending, gray):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:60, :80]
    scene = 120 + 60 * np.sin(x / 9)[:, :, None] * np.cos(y / 7)[:, :, None] + rng.normal(0, 6, (60, 80, 3))
    picture = np.clip(scene, 0, 255).astype(np.uint8)
    picture[WANTED] = (255, 0, 0)
    image = Image.fromarray(picture).convert("L") if gray else Image.fromarray(picture)
    with pytest.raises(ImageError, match="picture, not a mask"):
        read_mask(write(tmp_path / f"m.{ending}", image))


def test_boolean_tiff_as_tifffile_writes_it_and_as_others_do(tmp_path):
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[262], tags[305] = 0, "tifffile.py"
    bits = np.packbits(WANTED, axis=1).tobytes()
    for software, wanted in (("tifffile.py", WANTED), ("scanner", ~WANTED)):
        buffer = io.BytesIO()
        info = TiffImagePlugin.ImageFileDirectory_v2()
        info[305] = software
        Image.frombytes("1", (80, 60), bits).save(buffer, "TIFF", tiffinfo=info)
        data = buffer.getvalue()
        entry = data.index(b"\x06\x01\x03\0")  # PhotometricInterpretation
        (tmp_path / "m.tif").write_bytes(data[: entry + 8] + b"\0" + data[entry + 9 :])
        np.testing.assert_array_equal(read_mask(tmp_path / "m.tif"), wanted)


def test_visible_pixels_of_a_transparent_mask(tmp_path):
    rgba = np.full((60, 80, 4), 255, np.uint8)
    rgba[:, :, 3] = WANTED * 255
    np.testing.assert_array_equal(read_mask(write(tmp_path / "m.png", rgba)), WANTED)
    rgba[:, :, :3], rgba[:, :, 3] = WANTED[:, :, None] * 255, 0  # the fourth byte was never set
    np.testing.assert_array_equal(read_mask(write(tmp_path / "m.png", rgba)), WANTED)
