from __future__ import annotations

import errno
import io
import resource
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageFile

from shiftproof.data.images import decode_image, read_image, read_mask, resize_image, write_image
from shiftproof.errors import DataError, ImageError, UsageError

pixels = hnp.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12), st.just(3)))


def encode(image: Image.Image | np.ndarray, format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(buffer, format=format, **options)
    return buffer.getvalue()


def gradient(height: int = 40, width: int = 60) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, (x + y) % 256], axis=2).astype(np.uint8)


def png_claiming(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


def refusal(data: bytes, **options) -> str:
    with pytest.raises(ImageError) as caught:
        decode_image(data, "part.png", **options)
    message = str(caught.value)
    assert "\n" not in message and message.startswith("part.png: ")
    return message.removeprefix("part.png: ")


# --- what is read ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_come_back_bit_for_bit(format):
    np.testing.assert_array_equal(decode_image(encode(gradient(), format), "x"), gradient())


@pytest.mark.parametrize("format", ["JPEG", "WEBP"])
def test_lossy_formats_come_back_nearly(format):
    decoded = decode_image(encode(gradient(), format, quality=95), "x")
    assert decoded.dtype == np.uint8 and decoded.shape == (40, 60, 3)
    assert np.abs(decoded.astype(int) - gradient()).mean() < 6


def test_gray_bilevel_and_palette_become_rgb():
    gray = gradient()[:, :, 0]
    np.testing.assert_array_equal(decode_image(encode(gray), "x"), np.repeat(gray[:, :, None], 3, axis=2))
    assert set(np.unique(decode_image(encode(Image.fromarray(gray).convert("1")), "x"))) == {0, 255}
    palette = Image.fromarray(gradient()).quantize(16)
    np.testing.assert_array_equal(decode_image(encode(palette), "x"), np.array(palette.convert("RGB")))


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_16_bit_gray_is_scaled_over_the_full_range_and_never_by_the_image(format):
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    expected = np.rint(values / 257).astype(np.uint8)
    np.testing.assert_array_equal(decode_image(encode(values, format), "x")[:, :, 0], expected)
    dark = np.full((4, 4), 2570, np.uint16)  # alone in its image, and still dark
    assert (decode_image(encode(dark, format), "x") == 10).all()


def test_transparency_is_composited_over_black():
    rgba = np.zeros((1, 3, 4), np.uint8)
    rgba[0] = [(200, 100, 50, 255), (200, 100, 50, 128), (200, 100, 50, 0)]
    decoded = decode_image(encode(rgba), "x")[0].astype(int)
    assert decoded[0].tolist() == [200, 100, 50]
    assert np.abs(decoded[1] - [100, 50, 25]).max() <= 1
    assert decoded[2].tolist() == [0, 0, 0]
    keyed = Image.new("L", (2, 2), 90)
    keyed.putpixel((0, 0), 30)  # a gray PNG may declare one level transparent
    assert decode_image(encode(keyed, transparency=90), "x").max() == 30


@pytest.mark.parametrize("format", ["JPEG", "TIFF", "PNG"])
def test_exif_orientation_is_applied_once(format):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it a quarter turn clockwise
    image = np.zeros((16, 32, 3), np.uint8)
    image[:, :16] = 255
    decoded = decode_image(encode(image, format, exif=exif), "x")
    assert decoded.shape == (32, 16, 3)
    assert decoded[:12].min() > 200 and decoded[20:].max() < 50


def test_first_page_is_taken():
    pages = [Image.new("RGB", (4, 4), colour) for colour in ("red", "lime")]
    for format in ("TIFF", "PNG"):
        assert decode_image(encode(pages[0], format, save_all=True, append_images=pages[1:]), "x")[0, 0].tolist() == [
            255,
            0,
            0,
        ]


def test_content_decides_not_the_ending(tmp_path):
    (tmp_path / "part.png").write_bytes(encode(gradient(), "BMP"))
    np.testing.assert_array_equal(read_image(tmp_path / "part.png"), gradient())


# --- what is refused ---------------------------------------------------------------------------------------------


def test_zero_bytes():
    assert refusal(b"") == "is empty (0 bytes); save or copy it again"


@pytest.mark.parametrize(
    "data", [b"hello, no image", b"GIF89a" + b"\0" * 50, b"\0" * 2000], ids=["text", "gif", "nulls"]
)
def test_not_an_image(data):
    message = refusal(data)
    assert message.startswith("is not an image") and ("zeros" in message) == (data == b"\0" * 2000)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.9])
def test_truncated(format, kept):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encode(noise, format)
    message = refusal(data[: max(16, int(len(data) * kept))])
    assert message.startswith("is damaged or truncated (") and message.endswith("; save or copy it again")


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("format", ["PNG", "JPEG", "BMP", "TIFF", "WEBP"])
def test_no_cut_anywhere_gives_other_pixels(format):
    data = encode(gradient(), format)
    for length in range(0, len(data), 1 + len(data) // 500):
        try:
            decoded = decode_image(data[:length], "x")
        except ImageError:
            continue
        np.testing.assert_array_equal(decoded, decode_image(data, "x"))  # only what follows the pixels was cut off


def test_corrupt_inside():
    data = bytearray(encode(gradient()))
    data[60:80] = b"\xff" * 20
    assert refusal(bytes(data)).startswith("is damaged or truncated (")


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "JPEG", "WEBP"])
def test_too_many_pixels_for_the_caller(format):
    message = refusal(encode(gradient(), format), max_pixels=2399)
    assert message == "claims 60x40 pixels, more than the 2399 allowed; crop or shrink it"
    decode_image(encode(gradient(), format), "x", max_pixels=2400)


def bombs() -> dict[str, bytes]:
    bmp = bytearray(encode(np.zeros((4, 4, 3), np.uint8), "BMP"))
    bmp[18:26] = struct.pack("<ii", 60000, 60000)
    jpeg = bytearray(encode(np.zeros((8, 8, 3), np.uint8), "JPEG"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 60000, 60000)
    tiff = encode(np.zeros((4321, 1, 3), np.uint8), "TIFF").replace(struct.pack("<H", 4321), struct.pack("<H", 60000))
    tiff = tiff.replace(struct.pack("<HHIH", 256, 4, 1, 1), struct.pack("<HHIH", 256, 4, 1, 60000))
    webp = bytearray(encode(np.zeros((4, 4, 4), np.uint8), "WEBP", lossless=True, exif=b"Exif\0\0II*\0"))
    assert webp[12:16] == b"VP8X"
    webp[24:30] = (29999).to_bytes(3, "little") * 2
    return {
        "png": png_claiming(60000, 60000),
        "bmp": bytes(bmp),
        "jpeg": bytes(jpeg),
        "tiff": tiff,
        "webp": bytes(webp),
    }


@pytest.mark.parametrize("format", ["png", "bmp", "jpeg", "tiff", "webp"])
def test_decompression_bomb_is_refused_by_its_header_alone(format, monkeypatch):
    data = bombs()[format]
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded before its size was judged"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    message = refusal(data)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000, "kB: the claimed size was allocated"
    if format == "webp":  # its reader may notice by itself that the frames do not fill what is claimed
        assert message.startswith(("claims 30000x30000 pixels", "is damaged or truncated ("))
    elif format == "tiff":
        assert message.startswith("claims ") and message.endswith(" 200000000 allowed; crop or shrink it")
    else:
        assert message == "claims 60000x60000 pixels, more than the 200000000 allowed; crop or shrink it"


@pytest.mark.parametrize("mode", ["F", "I", "CMYK", "LAB"])
def test_unsupported_pixel_format(mode):
    message = refusal(encode(Image.new(mode, (4, 4)), "TIFF"))
    assert message == f"pixel format {mode!r} is not supported; convert it to 8- or 16-bit gray or RGB"


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(ImageError, match=r"/none\.png: no such file$"):
        read_image(tmp_path / "none.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ImageError, match=r"/folder\.png: is a folder, expected an image file$"):
        read_image(tmp_path / "folder.png")


def test_permission_denied(tmp_path, monkeypatch):
    def denied(self):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(ImageError, match=r"/part\.png: cannot be read: Permission denied$"):
        read_image(tmp_path / "part.png")


def test_a_name_with_a_line_break_stays_on_one_line():
    with pytest.raises(ImageError) as caught:
        decode_image(b"", "a\nb.png")
    assert str(caught.value) == "a b.png: is empty (0 bytes); save or copy it again"


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(deadline=None)
@given(
    st.sampled_from(["PNG", "JPEG", "BMP", "TIFF", "WEBP"]),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=20),
    st.integers(0, 3000),
)
def test_damage_of_any_kind_is_an_image_error_or_an_image(format, changes, length):
    data = bytearray(encode(gradient(16, 16), format))
    for position, value in changes:
        data[position % len(data)] = value
    try:
        decoded = decode_image(bytes(data[:length]), "x", max_pixels=1_000_000)
    except ImageError as error:
        assert "\n" not in str(error)
    else:
        assert decoded.dtype == np.uint8 and decoded.ndim == 3 and decoded.shape[2] == 3


# --- masks -------------------------------------------------------------------------------------------------------


def test_mask_is_anything_not_zero(tmp_path):
    wanted = np.array([[False, True], [True, False]])
    palette = Image.fromarray(wanted.astype(np.uint8), "L").convert("P")
    palette.putpalette([0, 0, 0, 128, 0, 0])
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[..., :3], rgba[..., 3] = 255, wanted * 255
    for image in (
        wanted,  # 1 bit
        wanted.astype(np.uint8) * 255,
        wanted.astype(np.uint8),  # a label of 1
        wanted.astype(np.uint16),  # a label of 1 in 16 bits would round to 0 as a picture
        wanted[:, :, None] * np.array([0, 0, 9], np.uint8),
        palette,
        rgba,
    ):
        (tmp_path / "mask.png").write_bytes(encode(image))
        mask = read_mask(tmp_path / "mask.png")
        assert mask.dtype == bool
        np.testing.assert_array_equal(mask, wanted)


def test_mask_unreadable(tmp_path):
    (tmp_path / "mask.png").write_bytes(encode(gradient())[:100])
    with pytest.raises(ImageError, match=r"/mask\.png: is damaged or truncated \("):
        read_mask(tmp_path / "mask.png")


# --- size --------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(pixels, st.integers(1, 20), st.integers(1, 20))
def test_resize_gives_the_size_stays_in_range_and_treats_channels_alike(image, height, width):
    resized = resize_image(image, (height, width))
    assert resized.shape == (height, width, 3) and resized.dtype == np.uint8
    assert resized.min() >= image.min() and resized.max() <= image.max()
    np.testing.assert_array_equal(resize_image(image[:, :, ::-1].copy(), (height, width)), resized[:, :, ::-1])
    turned = resize_image(image.transpose(1, 0, 2).copy(), (width, height)).transpose(1, 0, 2)
    assert np.abs(turned.astype(int) - resized).max() <= 1  # the two passes round in the other order


@given(pixels)
def test_resize_to_the_same_size_is_the_input_itself(image):
    assert resize_image(image, image.shape[:2]) is image


def test_shrinking_averages_over_all_pixels():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(resize_image(stripes, (8, 8)).astype(int) - 127).max() < 10  # without antialiasing: 0 or 255


def test_resize_to_nothing():
    with pytest.raises(UsageError, match=r"^image size 0x4: expected a height and a width of at least 1 pixel$"):
        resize_image(gradient(), (0, 4))


# --- writing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("array", [gradient(), gradient()[:, :, 0]], ids=["rgb", "gray"])
def test_write_image_and_read_it_back(tmp_path, array):
    write_image(tmp_path / "new" / "deep" / "a.png", array)
    back = np.array(Image.open(tmp_path / "new" / "deep" / "a.png"))
    np.testing.assert_array_equal(back, array)


def test_write_image_where_a_file_is_in_the_way(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        DataError, match=r"/file/a\.png: cannot be written: .*; free some space or choose another folder$"
    ):
        write_image(tmp_path / "file" / "a.png", gradient())


def test_write_image_under_a_name_that_is_too_long_asks_for_a_shorter_one(tmp_path):
    with pytest.raises(DataError, match=r"x\.png: cannot be written: File name too long; shorten it$"):
        write_image(tmp_path / f"{'x' * 300}.png", gradient())


def test_write_image_on_a_full_disk_leaves_no_half_file(tmp_path, monkeypatch):
    class Full(io.BytesIO):
        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    def opened(self, mode):
        self.touch()
        return Full()

    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(DataError, match=r"/a\.png: cannot be written: No space left on device; free some space"):
        write_image(tmp_path / "a.png", gradient())
    assert not list(tmp_path.iterdir())
