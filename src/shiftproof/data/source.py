"""One file's bytes to its values, as they are in the file: the format is known by its first bytes, damage is refused."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import BmpImagePlugin, Image, ImageOps, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from shiftproof.data.formats import (
    ZERO_TAIL,
    IncompleteError,
    check_bmp,
    check_jpeg,
    check_tiff,
    check_webp,
    check_webp_pixels,
    complete_png,
    refuse_torn_rows,
)
from shiftproof.data.tiff import (
    gray_depth,
    is_packed_gray,
    is_planar_16,
    read_packed_gray,
    read_planes,
)
from shiftproof.errors import ImageError, ImageFormatError, ImageSizeError, IncompleteImageError

MAX_PIXELS = 200_000_000
"""The most pixels that an image may claim: 600 MB once decoded."""


# `Image.open` would also try formats that nobody inspects parts with (EPS runs a program), and holds every image
# against one limit for the whole process before its size can be seen. The first bytes say which reader is meant.
_FORMATS: tuple[tuple[tuple[bytes, ...], str], ...] = (
    ((b"\x89PNG\r\n\x1a\n",), "PNG"),
    ((b"\xff\xd8\xff",), "JPEG"),
    ((b"BM",), "BMP"),
    ((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "TIFF"),
    ((b"RIFF",), "WebP"),
)
_READERS: dict[str, Callable[..., Any]] = {
    "PNG": PngImagePlugin.PngImageFile,
    "JPEG": JpegImagePlugin.jpeg_factory,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
}
_CHECKS: dict[str, Callable[[bytes, Mapping[int, Any]], None]] = {
    "JPEG": lambda data, tags: check_jpeg(data),
    "BMP": lambda data, tags: check_bmp(data),
    "TIFF": check_tiff,
    "WebP": lambda data, tags: check_webp(data),
}
_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "I;16", "I;16L", "I;16B"})


def read_bytes(path: Path | str) -> bytes:
    """The bytes of a file, or an :class:`~shiftproof.errors.ImageError` that says why there are none."""
    try:
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        raise refusal(path, "no such file") from error
    except IsADirectoryError as error:
        raise refusal(path, "is a folder, expected an image file") from error
    except OSError as error:
        raise refusal(path, f"cannot be read: {error.strerror or error}") from error


@dataclass
class Source:
    """A decoded, upright image with its values as they are in the file."""

    image: Image.Image
    values: NDArray[np.uint16] | None
    """What Pillow cannot decode as it is: uint16 [H, W] or [H, W, 3]."""
    bits: int
    pages: int
    orientation: int
    format: str
    """PNG, JPEG, BMP, TIFF or WebP."""
    tags: Mapping[int, Any]
    """Of a TIFF file."""


def load_source(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> Source:
    """The decoded, upright image in one of ``_MODES``; its header is judged before any pixel is allocated.

    Raises:
        ImageError: see :func:`decode_image`; damage that is found while decoding is another exception, for
            :func:`refusing_damage` to translate.
    """
    if not data:
        raise refusal(name, "is empty (0 bytes); save or copy it again")
    kind = next((kind for signatures, kind in _FORMATS if data.startswith(signatures)), None)
    if kind is None:
        expected = "expected PNG, JPEG, BMP, TIFF or WebP content"
        if not data[:16].strip(b"\0"):
            raise refusal(name, f"is not an image (its first bytes are zeros); {expected}", IncompleteImageError)
        raise refusal(name, f"is not an image; {expected}", ImageFormatError)
    if kind == "PNG":
        data = complete_png(data)
    image = _open(data, kind, name)
    width, height = image.size
    if width * height > max_pixels:
        reason = f"claims {width}x{height} pixels, more than the {max_pixels} allowed; crop or shrink it"
        raise refusal(name, reason, ImageSizeError)
    tags = image.tags if isinstance(image, _Unread) else getattr(image, "tag_v2", {})
    if image.mode not in _MODES:
        raise refusal(name, _unsupported(repr(image.mode)), ImageFormatError)
    _CHECKS.get(kind, lambda data, tags: None)(data, tags)
    if kind == "TIFF" and (is_packed_gray(tags) or is_planar_16(tags)):
        values = read_packed_gray(data, tags) if is_packed_gray(tags) else read_planes(data, tags)
    else:
        values = None
        image.load()
    if kind == "WebP":
        check_webp_pixels(data, np.asarray(image))
    if kind == "BMP":
        _refuse_torn_bmp(image, data)
    depth = _file_depth(data, kind, image.mode, tags)
    pages = 1 if kind == "JPEG" else _pages(image, kind, data)
    orientation = _orientation(tags.get(274) if isinstance(image, _Unread) else image.getexif().get(274))
    if values is None:
        ImageOps.exif_transpose(image, in_place=True)
    else:
        values = turn(values, orientation)
    return Source(image, values, depth, pages, orientation, kind, tags)


def turn(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn and mirror an array [H, W, ...] as an EXIF orientation says.

    >>> turn(np.array([[1, 2]]), 6).tolist()
    [[1], [2]]
    """
    if orientation in (5, 6, 7, 8):
        array = np.swapaxes(array, 0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return array


def read_orientation(path: Path) -> int:
    """The EXIF orientation of an image file, 1 where it has none or cannot be read."""
    try:
        return load_source(read_bytes(path), str(path)).orientation
    except Exception:  # noqa: BLE001 - whoever reads the image says why it cannot be
        return 1


@contextlib.contextmanager
def refusing_damage(name: str) -> Iterator[None]:
    """Damaged bytes make Pillow's readers raise nearly anything: all of it means that this one image is unreadable."""
    try:
        yield
    except ImageError:
        raise
    except Exception as error:
        reason = str(error) or type(error).__name__
        incomplete = isinstance(error, IncompleteError) or "truncated" in reason
        kind = IncompleteImageError if incomplete else ImageError
        raise refusal(name, f"is damaged or truncated ({reason}); save or copy it again", kind) from error


def refusal(name: Path | str, reason: str, kind: type[ImageError] = ImageError) -> ImageError:
    """An error about one image, on one line."""
    return kind(re.sub(r"[\r\n]+", " ", f"{name}: {reason}"))


def _open(data: bytes, kind: str, name: str) -> Image.Image:
    try:
        image: Image.Image = _READERS[kind](io.BytesIO(data))
    except SyntaxError as error:
        if kind == "TIFF" and "unknown pixel mode" in str(error):
            tags = TiffImagePlugin.ImageFileDirectory_v2(data[:8])
            file = io.BytesIO(data)
            file.seek(tags.next)
            tags.load(file)
            if is_packed_gray(tags):
                return _Unread(tags)
            bits, channels = tags.get(258, (1,)), tags.get(277, 1)
            what = f"of {channels} x {bits[0]} bits (photometric {tags.get(262)})"
            raise refusal(name, _unsupported(what), ImageFormatError) from error
        raise
    return image


class _Unread(Image.Image):
    """Stands for a TIFF page that is unpacked here, not by Pillow."""

    def __init__(self, tags: TiffImagePlugin.ImageFileDirectory_v2) -> None:
        super().__init__()
        self.tags = tags
        self._mode, self._size = "I;16", (tags[256], tags[257])


def _file_depth(data: bytes, kind: str, mode: str, tags: Mapping[int, Any]) -> int:
    if kind == "TIFF":
        return gray_depth(tags) if mode.startswith("I;16") else max(8, int(tags.get(258, (8,))[0]))
    if kind == "PNG":
        return max(8, data[24])  # IHDR's bit depth
    return 16 if mode.startswith("I;16") else 8


def _refuse_torn_bmp(image: Image.Image, data: bytes) -> None:
    """Refuse an uncompressed BMP that breaks off in the middle of a row; its rows are in the file from the bottom up."""
    if data.endswith(b"\0" * ZERO_TAIL) and image.mode in ("L", "RGB", "RGBA"):
        rows = np.asarray(image)
        rows = rows[:, :, :3] if rows.ndim == 3 else rows
        refuse_torn_rows(rows if int.from_bytes(data[22:26], "little", signed=True) < 0 else rows[::-1])


def _pages(image: Image.Image, kind: str, data: bytes) -> int:
    if kind == "TIFF":
        return _tiff_pages(data)
    return int(getattr(image, "n_frames", 1))


def _tiff_pages(data: bytes) -> int:
    """The number of pages; those after a damaged one are not counted."""
    try:
        with TiffImagePlugin.TiffImageFile(io.BytesIO(data)) as image:
            return image.n_frames
    except Exception:  # noqa: BLE001 - only of later pages: the first has been read
        return 1


def _orientation(value: Any) -> int:
    return value if value in range(1, 9) else 1


def _unsupported(what: str) -> str:
    return f"pixel format {what} is not supported; convert it to 8- or 16-bit gray or RGB"
