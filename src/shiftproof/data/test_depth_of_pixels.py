"""Pixels of other kinds than 8-bit RGB: 10 to 16 bits, planes, inverted gray, transparency that means nothing."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

from shiftproof.data.images import decode, decode_image
from shiftproof.errors import ImageError, ImageFormatError

RNG = np.random.default_rng(0)


def tiff(tags: dict[int, tuple[int, ...]], body: bytes | list[bytes], order: str = "<") -> bytes:
    """A TIFF of the strips in ``body``; every value is written as a LONG."""
    strips = [body] if isinstance(body, bytes) else body
    sizes = tuple(map(len, strips))
    tags = dict(sorted({**tags, 273: (0,) * len(strips), 279: sizes}.items()))
    after = 8 + 2 + 12 * len(tags) + 4
    start = after + sum(4 * len(values) for values in tags.values() if len(values) > 1)
    tags[273] = tuple(start + sum(sizes[:number]) for number in range(len(strips)))
    entries, extra = b"", b""
    for tag, values in tags.items():
        place = values[0] if len(values) == 1 else after + len(extra)
        entries += struct.pack(f"{order}HHII", tag, 4, len(values), place)
        extra += struct.pack(f"{order}{len(values)}I", *values) if len(values) > 1 else b""
    head = struct.pack(f"{order}2sHIH", b"II" if order == "<" else b"MM", 42, 8, len(tags))
    return head + entries + bytes(4) + extra + b"".join(strips)


def gray_tags(height: int, width: int, bits: int, photometric: int = 1) -> dict[int, tuple[int, ...]]:
    return {256: (width,), 257: (height,), 258: (bits,), 259: (1,), 262: (photometric,), 277: (1,), 278: (height,)}


def packed(values: np.ndarray, bits: int) -> bytes:
    flags = (values[:, :, None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(flags.reshape(len(values), -1).astype(np.uint8), axis=1).tobytes()


def png(array: np.ndarray, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("photometric", [0, 1])
def test_a_depth_that_is_tagged_is_the_range(bits, photometric):
    values = RNG.integers(0, 1 << bits, (9, 13)).astype(np.uint16)
    expected = np.rint(values * 255.0 / ((1 << bits) - 1)).astype(np.uint8)
    shown = 255 - expected.astype(int) if photometric == 0 else expected
    decoded = decode(tiff(gray_tags(9, 13, bits, photometric), packed(values, bits)), "x")
    assert np.abs(decoded.pixels[:, :, 0].astype(int) - shown).max() <= (photometric == 0)
    assert decoded.info.bits == bits
    tags = gray_tags(9, 13, 16) | {281: ((1 << bits) - 1,)}
    in_16 = decode(tiff(tags, values.astype("<u2").tobytes()), "x")
    np.testing.assert_array_equal(in_16.pixels[:, :, 0], expected)
    assert in_16.info.bits == bits


def test_a_greatest_value_that_is_no_depth_is_never_a_stretch():
    values = np.full((4, 4), 3000, np.uint16)
    tags = gray_tags(4, 4, 16) | {281: (3000,)}
    assert (decode_image(tiff(tags, values.tobytes()), "x") == round(3000 / 257)).all()


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_bits_that_the_caller_names_scale_an_untagged_file(bits):
    values = RNG.integers(0, 1 << bits, (8, 8)).astype(np.uint16)
    decoded = decode(png(values), "x", bits=bits)
    np.testing.assert_array_equal(decoded.pixels[:, :, 0], np.rint(values * 255.0 / ((1 << bits) - 1)).astype(np.uint8))
    assert decoded.info.brightest == values.max()
    assert decode_image(png(np.full((2, 2), 77, np.uint8)), "x", bits=bits).max() == 77  # 8 bits have no other range


def test_values_beyond_the_bits_are_refused_and_so_is_colour_of_16_bits():
    with pytest.raises(ImageError, match="5000"):
        decode_image(png(np.full((2, 2), 5000, np.uint16)), "x", bits=12)
    body = np.full((2, 2, 3), 900, "<u2").tobytes()
    tags = gray_tags(2, 2, 16) | {258: (16, 16, 16), 262: (2,), 277: (3,)}
    assert decode_image(tiff(tags, body), "x").max() == 3
    with pytest.raises(ImageFormatError, match="16-bit colour"):
        decode_image(tiff(tags, body), "x", bits=12)


@pytest.mark.parametrize("order", ["<", ">"])
def test_colour_of_16_bits_in_planes(order):
    values = RNG.integers(0, 1 << 16, (3, 7, 5))
    tags = gray_tags(7, 5, 16) | {258: (16, 16, 16), 262: (2,), 277: (3,), 284: (2,)}
    data = tiff(tags, [plane.astype(f"{order}u2").tobytes() for plane in values], order)
    np.testing.assert_array_equal(decode_image(data, "x"), np.rint(np.moveaxis(values, 0, 2) / 257).astype(np.uint8))


def test_gray_with_white_at_zero_is_inverted_at_any_depth():
    values = RNG.integers(0, 1 << 16, (6, 6)).astype("<u2")
    expected = np.rint((65535 - values.astype(int)) / 257).astype(np.uint8)
    np.testing.assert_array_equal(decode_image(tiff(gray_tags(6, 6, 16, 0), values.tobytes()), "x")[:, :, 0], expected)
    eight = (values >> 8).astype(np.uint8)
    np.testing.assert_array_equal(decode_image(tiff(gray_tags(6, 6, 8, 0), eight.tobytes()), "x")[:, :, 0], 255 - eight)


def test_a_pixel_format_that_is_not_read_is_no_damage():
    for bits in (24, 32):
        body = bytes(4 * 4 * bits // 8)
        with pytest.raises(ImageFormatError, match="pixel format"):
            decode_image(tiff(gray_tags(4, 4, bits), body), "x")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L"])
def test_transparency_everywhere_is_none(mode):
    gray = RNG.integers(1, 255, (8, 8), dtype=np.uint8)
    if mode == "L":  # a level that is declared transparent
        gray[:] = 90
        data = png(gray, transparency=90)
    elif mode == "P":
        buffer = io.BytesIO()
        Image.fromarray(gray).convert("P").save(buffer, "PNG", transparency=bytes(256))
        data = buffer.getvalue()
    else:
        image = Image.fromarray(gray).convert(mode)
        image.putalpha(0)
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        data = buffer.getvalue()
    decoded = decode(data, "x")
    np.testing.assert_array_equal(decoded.pixels[:, :, 0], gray)
    assert decoded.info.unused_alpha


def test_one_visible_pixel_is_transparency():
    rgba = np.full((4, 4, 4), 200, np.uint8)
    rgba[:, :, 3] = 0
    rgba[1, 1, 3] = 255
    decoded = decode(png(rgba), "x")
    assert decoded.pixels.sum() == 600 and not decoded.info.unused_alpha


def test_gray_is_told_from_colour_by_pixels():
    gray = RNG.integers(0, 255, (40, 40), dtype=np.uint8)
    rgb = np.repeat(gray[:, :, None], 3, axis=2)
    assert decode(png(gray), "x").info.gray and decode(png(rgb), "x").info.gray
    rgb[3, 5, 0] ^= 64
    assert not decode(png(rgb), "x").info.gray
