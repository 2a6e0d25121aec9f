"""What is kept of a map, and what is drawn from it."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from shiftproof.data import decode_image
from shiftproof.errors import ImageFormatError, ImageSizeError
from shiftproof.report.heatmap import overlay
from shiftproof.service.conftest import CALIBRATION, png
from shiftproof.service.images import Upload, decode, draw_heatmap, keep_map, media_type


def test_a_heatmap_from_the_kept_map_is_that_of_the_map():
    image = decode_image(png(), "part")
    heat = np.linspace(-0.2, 1.4, image[..., 0].size, dtype=np.float32).reshape(image.shape[:2])
    expected = overlay(image, heat, CALIBRATION.map_low, CALIBRATION.map_high)
    drawn = np.array(Image.open(io.BytesIO(draw_heatmap(png(), keep_map(heat, CALIBRATION), max_pixels=10**6))))
    np.testing.assert_array_equal(drawn, expected)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
def test_the_media_type_is_told_by_the_first_bytes(kind):
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(buffer, kind)
    assert media_type(buffer.getvalue()) == f"image/{kind.lower()}"
    assert decode(Upload(None, buffer.getvalue()), (2, 3), 16).pixels.shape == (2, 3, 3)


def test_unreadable_images_are_told_apart():
    with pytest.raises(ImageSizeError, match="claims 60x40 pixels, more than the 2399 allowed"):
        decode(Upload("a.png", png()), (8, 8), 2399)
    with pytest.raises(ImageFormatError, match=r"a\.png: is not an image"):
        decode(Upload("a.png", b"GIF89a"), (8, 8), 2399)


def test_bits_of_the_model_scale_a_16_bit_upload():
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 4), 4095, np.uint16)).save(buffer, "PNG")
    found = decode(Upload(None, buffer.getvalue()), (4, 4), 100, bits=12)
    assert found.pixels.min() == 255 and found.info.bits == 12
