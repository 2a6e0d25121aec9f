"""One image: bytes to RGB pixels, pixels to another size, pixels to a PNG. What cannot be read is refused."""

from __future__ import annotations

import errno
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shiftproof.data.masks import read_mask
from shiftproof.data.source import MAX_PIXELS, Source, load_source, read_bytes, refusal, refusing_damage
from shiftproof.data.tiff import is_white_zero
from shiftproof.errors import DataError, ImageFormatError, UsageError

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "Decoded",
    "ImageInfo",
    "decode",
    "decode_image",
    "read_bytes",
    "read_decoded",
    "read_image",
    "read_mask",
    "resize_image",
    "to_8_bits",
    "write_image",
]

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
"""File name endings taken for images, lower case, with the dot. Content, not ending, decides how one is read."""

_FINEST_JPEG = {"quality": 100, "subsampling": 0}
_EXACTLY: dict[str, dict[str, Any]] = {".jpg": _FINEST_JPEG, ".jpeg": _FINEST_JPEG, ".webp": {"lossless": True}}


def read_decoded(path: Path | str, *, bits: int | None = None) -> Decoded:
    """As :func:`read_image`, and what the file says about the image."""
    return decode(read_bytes(path), str(path), bits=bits)


def read_image(path: Path | str, *, max_pixels: int = MAX_PIXELS, bits: int | None = None) -> NDArray[np.uint8]:
    """Read an image file as 8-bit RGB.

    Args:
        path: a PNG, JPEG, BMP, TIFF or WebP file, whatever its name ends in.
        max_pixels: the most pixels that the header may claim; more is refused before anything is decoded.
        bits: of the values in a 16-bit file whose tags say nothing else.

    Returns:
        uint8 [H, W, 3], as :func:`decode_image` documents.

    Raises:
        ImageError: one line that names the file and why it cannot be read.
    """
    return decode_image(read_bytes(path), str(path), max_pixels=max_pixels, bits=bits)


@dataclass(frozen=True)
class ImageInfo:
    """What a file says about its image, beside the pixels that are used."""

    width: int
    """As the image is shown, upright."""
    height: int
    gray: bool
    """True if its three channels are equal."""
    bits: int
    """Of each channel in the file: 8, 16, or what its tags or the caller say."""
    brightest: int
    """The greatest value in the file's own units, 0 to ``2 ** bits - 1``."""
    constant: bool
    """Every pixel is the same."""
    pages: int
    """Pages or frames; the first is read."""
    orientation: int
    """EXIF orientation, 1 to 8; the image is turned by it, 1 leaves it as it is."""
    unused_alpha: bool
    """Its transparency says that nothing is visible, and is ignored."""


@dataclass(frozen=True)
class Decoded:
    """An image and what its file says about it."""

    pixels: NDArray[np.uint8]
    """[H, W, 3]."""
    info: ImageInfo


def decode_image(data: bytes, name: str, *, max_pixels: int = MAX_PIXELS, bits: int | None = None) -> NDArray[np.uint8]:
    """Decode an encoded image to 8-bit RGB.

    - Gray becomes three equal channels; palettes are looked up; of several pages or frames the first is taken.
    - Transparency is composited over black, so that colours hidden below transparent pixels never count. Transparency
      that is total is none: camera programs leave the fourth byte at zero.
    - Gray of more than 8 bits becomes ``round(255 * value / (2 ** bits - 1))``: the full range of its depth, never the
      image's own, which would hide a change of light. The depth is that of the file's tags, or ``bits``. Pillow hands
      over 16-bit *colour* as its high byte, at most one level away from that.
    - The image is turned as its EXIF orientation says.
    - Float, 32-bit integer, CMYK and other pixel formats are refused: their range is not known.
    - A file that is not all there is refused, although its decoder would fill it up.

    Args:
        data: the content of a PNG, JPEG, BMP, TIFF or WebP file.
        name: what to call the image in an error.
        max_pixels: the most pixels that the header may claim; more is refused before anything is decoded.
        bits: of the values in a 16-bit file whose tags say nothing else: 12 for a camera's 12 bits in 16.

    Returns:
        uint8 [H, W, 3].

    Raises:
        ImageError: empty, truncated, damaged, not an image, too many pixels, a pixel format that is not supported, or
            values that need more than ``bits``.

    >>> decode_image(b"", "part.png")
    Traceback (most recent call last):
    shiftproof.errors.ImageError: part.png: is empty (0 bytes); save or copy it again
    """
    return decode(data, name, max_pixels=max_pixels, bits=bits).pixels


def decode(data: bytes, name: str, *, max_pixels: int = MAX_PIXELS, bits: int | None = None) -> Decoded:
    """As :func:`decode_image`, and what the file says about the image."""
    with refusing_damage(name):
        source = load_source(data, name, max_pixels)
        values, unused_alpha = _values(source, name)
        depth, brightest = source.bits, int(values.max())
        if depth == 16 and values.dtype == np.uint8:
            brightest *= 257  # Pillow has kept the high byte
        if bits is not None and depth == 16:
            depth = _checked_depth(bits, brightest, source.image.mode, name)
        if values.dtype == np.uint16:
            values = to_8_bits(values, depth)
        gray = values.ndim == 2
        pixels = np.repeat(values[:, :, None], 3, axis=2) if gray else values
        info = ImageInfo(
            width=pixels.shape[1],
            height=pixels.shape[0],
            gray=gray or _is_gray(pixels),
            bits=depth,
            brightest=brightest,
            constant=bool((pixels == pixels[0, 0]).all()),
            pages=source.pages,
            orientation=source.orientation,
            unused_alpha=unused_alpha,
        )
        return Decoded(pixels, info)


def to_8_bits(values: NDArray[np.uint16], bits: int) -> NDArray[np.uint8]:
    """Scale values of 0 to ``2 ** bits - 1`` to 0 to 255.

    >>> to_8_bits(np.array([0, 2048, 4095], np.uint16), 12).tolist()
    [0, 128, 255]
    """
    greatest = (1 << bits) - 1
    return ((values.astype(np.uint32) * 255 + greatest // 2) // greatest).astype(np.uint8)


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


def _values(source: Source, name: str) -> tuple[NDArray[Any], bool]:
    """Gray [H, W] or RGB [H, W, 3], uint8 or uint16, without transparency; and whether that was unused."""
    if source.values is not None or source.image.mode.startswith("I;16"):
        values = source.values if source.values is not None else np.asarray(source.image).astype(np.uint16)
        if is_white_zero(source.tags):
            values = np.uint16((1 << source.bits) - 1) - values
        return values, False
    image, unused = source.image, False
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        unused = rgba.getchannel("A").getextrema() == (0, 0)
        if not unused:
            image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), rgba)
        elif image.mode in ("RGBA", "LA"):
            image = image.convert("RGBA")
            image.putalpha(255)
        else:
            image = rgba
    if image.mode in ("1", "L", "LA"):
        return np.array(image.convert("L")), unused
    return np.array(image.convert("RGB")), unused


def _checked_depth(bits: int, brightest: int, mode: str, name: str) -> int:
    if not mode.startswith("I;16"):
        raise refusal(
            name,
            f"16-bit colour is read by its high byte, which leaves {bits - 8} of {bits} bits; convert it to 8-bit colour",
            ImageFormatError,
        )
    if brightest >= 1 << bits:
        raise refusal(name, f"holds the value {brightest}, more than {bits} bits; choose a larger --bits, or none")
    return bits


def _is_gray(pixels: NDArray[np.uint8]) -> bool:
    few = pixels[::16, ::16]
    return bool((few == few[:, :, :1]).all() and (pixels == pixels[:, :, :1]).all())


def _unwritable(path: Path, error: OSError) -> DataError:
    mend = "shorten it" if error.errno == errno.ENAMETOOLONG else "free some space or choose another folder"
    return DataError(f"{path}: cannot be written: {error.strerror or error}; {mend}")
