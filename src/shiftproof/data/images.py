"""One image: bytes to RGB pixels, pixels to another size, pixels to a PNG. What cannot be read is refused."""

from __future__ import annotations

import contextlib
import errno
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import BmpImagePlugin, Image, ImageOps, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

from shiftproof.errors import DataError, ImageError, ImageFormatError, ImageSizeError, UsageError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
"""File name endings taken for images, lower case, with the dot. Content, not ending, decides how one is read."""

_FINEST_JPEG = {"quality": 100, "subsampling": 0}
_EXACTLY: dict[str, dict[str, Any]] = {".jpg": _FINEST_JPEG, ".jpeg": _FINEST_JPEG, ".webp": {"lossless": True}}
MAX_PIXELS = 200_000_000
"""The most pixels that an image may claim: 600 MB once decoded."""

# `Image.open` would also try formats that nobody inspects parts with (EPS runs a program), and holds every image
# against one limit for the whole process before its size can be seen. The first bytes say which reader is meant.
_READERS: tuple[tuple[tuple[bytes, ...], Callable[..., Any]], ...] = (
    ((b"\x89PNG\r\n\x1a\n",), PngImagePlugin.PngImageFile),
    ((b"\xff\xd8\xff",), JpegImagePlugin.jpeg_factory),
    ((b"BM",), BmpImagePlugin.BmpImageFile),
    ((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), TiffImagePlugin.TiffImageFile),
    ((b"RIFF",), WebPImagePlugin.WebPImageFile),
)
_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "I;16", "I;16L", "I;16B"})


def read_image(path: Path | str, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Read an image file as 8-bit RGB.

    Args:
        path: a PNG, JPEG, BMP, TIFF or WebP file, whatever its name ends in.
        max_pixels: the most pixels that the header may claim; more is refused before anything is decoded.

    Returns:
        uint8 [H, W, 3], as :func:`decode_image` documents.

    Raises:
        ImageError: one line that names the file and why it cannot be read.
    """
    return decode_image(read_bytes(path), str(path), max_pixels=max_pixels)


def read_bytes(path: Path | str) -> bytes:
    """The bytes of a file, or an :class:`~shiftproof.errors.ImageError` that says why there are none."""
    try:
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        raise _refusal(path, "no such file") from error
    except IsADirectoryError as error:
        raise _refusal(path, "is a folder, expected an image file") from error
    except OSError as error:
        raise _refusal(path, f"cannot be read: {error.strerror or error}") from error


def decode_image(data: bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode an encoded image to 8-bit RGB.

    - Gray becomes three equal channels; palettes are looked up; of several pages or frames the first is taken.
    - Transparency is composited over black, so that colours hidden below transparent pixels never count.
    - 16-bit gray becomes ``round(value / 257)``: the full range, never the image's own, which would hide a change of
      light. Pillow hands over 16-bit *colour* as its high byte, at most one level away from that.
    - The image is turned as its EXIF orientation says.
    - Float, 32-bit integer, CMYK and other pixel formats are refused: their range is not known.

    Args:
        data: the content of a PNG, JPEG, BMP, TIFF or WebP file.
        name: what to call the image in an error.
        max_pixels: the most pixels that the header may claim; more is refused before anything is decoded.

    Returns:
        uint8 [H, W, 3].

    Raises:
        ImageError: empty, truncated, damaged, not an image, too many pixels, or a pixel format that is not supported.

    >>> decode_image(b"", "part.png")
    Traceback (most recent call last):
    shiftproof.errors.ImageError: part.png: is empty (0 bytes); save or copy it again
    """
    with _refusing_damage(name):
        image = _load(data, name, max_pixels)
        if image.mode.startswith("I;16"):
            gray = (np.asarray(image).astype(np.uint32) + 128) // 257
            return np.repeat(gray.astype(np.uint8)[:, :, None], 3, axis=2)
        if image.has_transparency_data:
            black = Image.new("RGBA", image.size, (0, 0, 0, 255))
            image = Image.alpha_composite(black, image.convert("RGBA"))
        return np.array(image.convert("RGB"))


def read_mask(path: Path | str) -> NDArray[np.bool_]:
    """Read a ground-truth mask: bool [H, W], True where any colour is not zero and the pixel is not transparent.

    Raises:
        ImageError: as :func:`read_image`.
    """
    with _refusing_damage(str(path)):
        image = _load(read_bytes(path), str(path), MAX_PIXELS)
        if image.mode.startswith("I;16"):  # as they are: at 8 bits a label of 1 would vanish
            return np.asarray(image) != 0
        rgba = np.asarray(image.convert("RGBA"))
        return (rgba[:, :, :3] != 0).any(axis=2) & (rgba[:, :, 3] != 0)


def resize_image(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize with Pillow's bilinear filter, which averages over all source pixels when it shrinks (no aliasing).

    Args:
        image: uint8 [H, W, 3].
        size: (height, width) wanted, each at least 1.

    Returns:
        uint8 [height, width, 3]; the input itself if it has that size already.

    >>> resize_image(np.full((4, 6, 3), 7, np.uint8), (2, 3)).tolist()[0]
    [[7, 7, 7], [7, 7, 7], [7, 7, 7]]
    """
    height, width = size
    if height < 1 or width < 1:
        raise UsageError(f"image size {height}x{width}: expected a height and a width of at least 1 pixel")
    if image.shape[:2] == (height, width):
        return image
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def write_image(path: Path | str, array: NDArray[np.uint8]) -> None:
    """Write uint8 [H, W, 3] (RGB) or [H, W] (gray) as the file's ending says, as exactly as that can; folders are made.

    Raises:
        DataError: the disk is full, the place is read-only, a file is in the way; no half-written file stays behind.
    """
    path, buffer = Path(path), io.BytesIO()
    suffix = path.suffix.lower()
    options = _EXACTLY.get(suffix, {})
    Image.fromarray(array).save(buffer, format=Image.registered_extensions()[suffix], **options)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        target = path.open("wb")
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        with target:
            target.write(buffer.getbuffer())
    except OSError as error:
        path.unlink(missing_ok=True)
        raise _unwritable(path, error) from error


def _load(data: bytes, name: str, max_pixels: int) -> Image.Image:
    """The decoded, upright Pillow image in one of ``_MODES``; its header is judged before any pixel is allocated."""
    if not data:
        raise _refusal(name, "is empty (0 bytes); save or copy it again")
    reader = next((reader for signatures, reader in _READERS if data.startswith(signatures)), None)
    if reader is None:
        raise _refusal(name, "is not an image; expected PNG, JPEG, BMP, TIFF or WebP content", ImageFormatError)
    image: Image.Image = reader(io.BytesIO(data))
    width, height = image.size
    if width * height > max_pixels:
        reason = f"claims {width}x{height} pixels, more than the {max_pixels} allowed; crop or shrink it"
        raise _refusal(name, reason, ImageSizeError)
    if image.mode not in _MODES:
        reason = f"pixel format {image.mode!r} is not supported; convert it to 8- or 16-bit gray or RGB"
        raise _refusal(name, reason, ImageFormatError)
    image.load()
    ImageOps.exif_transpose(image, in_place=True)
    return image


@contextlib.contextmanager
def _refusing_damage(name: str) -> Iterator[None]:
    """Damaged bytes make Pillow's readers raise nearly anything: all of it means that this one image is unreadable."""
    try:
        yield
    except ImageError:
        raise
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise _refusal(name, f"is damaged or truncated ({reason}); save or copy it again") from error


def _refusal(name: Path | str, reason: str, kind: type[ImageError] = ImageError) -> ImageError:
    return kind(re.sub(r"[\r\n]+", " ", f"{name}: {reason}"))


def _unwritable(path: Path, error: OSError) -> DataError:
    mend = "shorten it" if error.errno == errno.ENAMETOOLONG else "free some space or choose another folder"
    return DataError(f"{path}: cannot be written: {error.strerror or error}; {mend}")
