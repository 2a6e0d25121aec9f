"""Files that are not all there: full length and zeros at the end, cut, or with a checksum that does not match."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from shiftproof.data.images import decode, decode_image
from shiftproof.errors import ImageError


def part(seed: int = 0, height: int = 96, width: int = 128) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    gray = 120 + 60 * np.sin(x / 9) * np.cos(y / 7)
    return np.clip(gray[:, :, None] + rng.normal(0, 4, (height, width, 3)), 1, 255).astype(np.uint8)


def encode(array: np.ndarray, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format, **options)
    return buffer.getvalue()


def stalled(data: bytes, kept: float) -> bytes:
    """As a copy leaves it that has set the length first."""
    length = int(len(data) * kept)
    return data[:length] + bytes(len(data) - length)


FORMATS = [
    ("PNG", {}),
    ("JPEG", {}),
    ("JPEG", {"progressive": True}),
    ("JPEG", {"restart_marker_rows": 1}),
    ("BMP", {}),
    ("WEBP", {}),
    ("WEBP", {"lossless": True}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ("TIFF", {"compression": "packbits"}),
    ("TIFF", {"compression": "jpeg"}),
]


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize(("format", "options"), FORMATS)
@pytest.mark.parametrize("kept", [0.31, 0.513, 0.77])
def test_a_stalled_copy_is_refused_in_every_format(format, options, kept):
    data = encode(part(), format, **options)
    decode_image(data, "x")
    with pytest.raises(ImageError):
        decode_image(stalled(data, kept), "x")


@pytest.mark.parametrize(("format", "options"), FORMATS)
@pytest.mark.parametrize("scene", ["flat", "black", "black top", "black bottom", "disc"])
def test_black_and_flat_parts_of_a_picture_are_no_damage(format, options, scene):
    image = part(1)
    if scene in ("flat", "black"):
        image[:] = 120 * (scene == "flat")
    elif scene == "disc":
        y, x = np.mgrid[:96, :128]
        image[np.hypot(y - 48, x - 64) > 35] = 0
    else:
        image[:40] *= scene != "black top"
        image[60:] *= scene != "black bottom"
    assert decode_image(encode(image, format, **options), "x").shape == image.shape


def test_large_flat_areas_of_lossy_webp_end_in_zeros_and_are_sound():
    image = np.full((640, 640, 3), 120, np.uint8)
    image[:100] = np.random.default_rng(0).integers(0, 255, (100, 640, 3))
    data = encode(image, "WEBP", method=0)
    assert decode_image(data, "x").shape == image.shape
    with pytest.raises(ImageError):
        decode_image(stalled(data, 0.4), "x")


@pytest.mark.parametrize("format", ["TIFF", "BMP"])
def test_gray_and_16_bits_break_off_too(format):
    gray = part()[:, :, 0]
    images = [gray] if format == "BMP" else [gray, gray.astype(np.uint16) * 16]
    for image in images:
        with pytest.raises(ImageError, match="zeros"):
            decode_image(stalled(encode(image, format), 0.613), "x")


def chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    found, position = [], 8
    while position < len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        found.append((kind, data[position + 8 : position + 8 + length]))
        position += 12 + length
    return found


def png_of(parts: list[tuple[bytes, bytes]]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )


def test_a_png_with_a_wrong_checksum_or_no_end_is_refused_with_its_cause():
    parts = chunks(encode(part(), "PNG"))
    sound = png_of(parts)
    wrong = bytearray(sound)
    wrong[sound.index(b"IDAT") + 40] ^= 1
    with pytest.raises(ImageError, match="checksum of the IDAT chunk"):
        decode_image(bytes(wrong), "x")
    with pytest.raises(ImageError, match="IEND"):
        decode_image(png_of(parts[:-1]), "x")


def test_a_wrong_checksum_of_a_chunk_without_pixels_does_not_matter():
    sound = encode(part(), "PNG", pnginfo=text("a", "b"))
    wrong = bytearray(sound)
    wrong[sound.index(b"tEXt") + 4] ^= 1
    np.testing.assert_array_equal(decode_image(bytes(wrong), "x"), part())


def text(key: str, value: str, compressed: bool = False) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text(key, value, zip=compressed)
    return info


@pytest.mark.parametrize("compressed", [True, False])
def test_long_texts_in_a_png_are_no_damage(compressed):
    data = encode(part(), "PNG", pnginfo=text("Camera", "exposure 12; " * 300_000, compressed))
    np.testing.assert_array_equal(decode_image(data, "x"), part())


def test_an_orientation_in_a_text_of_a_png_still_counts():
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", '<x:xmpmeta><rdf tiff:Orientation="6"/></x:xmpmeta>')
    info.add_text("Camera", "x" * 3_000_000, zip=True)
    assert decode_image(encode(part(), "PNG", pnginfo=info), "x").shape == (128, 96, 3)


def test_bytes_after_the_end_of_a_jpeg_do_not_matter():
    data = encode(part(), "JPEG")
    np.testing.assert_array_equal(decode_image(data + bytes(4096), "x"), decode_image(data, "x"))


def test_a_jpeg_thumbnail_does_not_count_as_its_end():
    exif = Image.Exif()
    exif[0x010E] = "x" * 20
    data = encode(part(), "JPEG", exif=exif)
    inside = data[:4] + b"" + data[4:]
    app = b"\xff\xe2" + struct.pack(">H", 2 + len(data)) + data  # a whole JPEG in a segment
    nested = inside[:2] + app + inside[2:]
    decode_image(nested, "x")
    with pytest.raises(ImageError, match="end-of-image"):
        decode_image(nested[: len(nested) - 500] + bytes(500), "x")


def test_run_length_and_top_down_bmp():
    gray = np.repeat(np.arange(8, dtype=np.uint8), 8).reshape(8, 8)
    palette = b"".join(bytes((i, i, i, 0)) for i in range(256))
    rows = b"".join(bytes((8, 7 - i)) + b"\0\0" for i in range(8))[:-2] + b"\0\1"

    def bmp(body: bytes, compression: int, height: int) -> bytes:
        offset = 14 + 40 + len(palette)
        head = struct.pack("<2sIHHI", b"BM", offset + len(body), 0, 0, offset)
        return (
            head
            + struct.pack("<IiiHHIIiiII", 40, 8, height, 1, 8, compression, len(body), 0, 0, 256, 0)
            + palette
            + body
        )

    np.testing.assert_array_equal(decode_image(bmp(rows, 1, 8), "x")[:, :, 0], gray)
    np.testing.assert_array_equal(decode_image(bmp(gray.tobytes(), 0, -8), "x")[:, :, 0], gray)


def test_pages_orientation_and_constant_images_are_told():
    pages = [Image.fromarray(part(seed)) for seed in range(3)]
    buffer = io.BytesIO()
    pages[0].save(buffer, "TIFF", save_all=True, append_images=pages[1:])
    assert decode(buffer.getvalue(), "x").info.pages == 3
    exif = Image.Exif()
    exif[0x0112] = 8
    info = decode(encode(part(), "JPEG", exif=exif), "x").info
    assert (info.orientation, info.width, info.height, info.pages) == (8, 96, 128, 1)
    assert decode(encode(np.full((4, 4, 3), 9, np.uint8), "PNG"), "x").info.constant
    assert not info.constant
