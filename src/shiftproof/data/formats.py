"""Whether the bytes of an image file are all there: end markers, checksums and lengths, format by format.

Decoders are lenient: many fill up what is missing. A copy that has stalled often has its full length already, with zeros
at its end, and half a part must not be judged as a whole one. Each check raises an
:class:`IncompleteError` that names the cause.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
ZERO_TAIL = 16
"""So many zero bytes do not end compressed pixels: an encoder's last bytes are hardly ever all zero."""
LOSSLESS_WEBP_ZERO_TAIL = 6
FLAT_BLOCK_BYTES = 8
"""No lossy WebP spends more zero bytes on a block of 16 x 16 pixels of one colour."""
_COPY = "as an interrupted copy leaves them"
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_KEPT_TEXT = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0", b"Raw profile type APP1\0")  # may hold an orientation
_COMPRESSED = frozenset({5, 7, 8, 32773, 32946, 34925, 50000, 50001})
"""Values of TIFF's tag Compression whose data never end in zeros: LZW, JPEG, Deflate, PackBits, LZMA, Zstandard, WebP."""


class IncompleteError(ValueError):
    """What is missing of a file."""


def complete_png(data: bytes) -> bytes:
    """Check the chunks of a PNG file, and return it without texts, which can be too large for the decoder.

    The checksums of chunks that matter for pixels are compared; texts with an EXIF orientation are kept.
    """
    kept, position = [PNG_SIGNATURE], len(PNG_SIGNATURE)
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if not kind.isalpha():
            raise IncompleteError(_no_chunk(data, position))
        if end > len(data):
            break
        body = data[position + 8 : end - 4]
        critical = not kind[0] & 0x20
        if critical and zlib.crc32(body, zlib.crc32(kind)) != struct.unpack_from(">I", data, end - 4)[0]:
            raise IncompleteError(f"checksum of the {kind.decode()} chunk at byte {position} does not match")
        if kind not in (b"tEXt", b"zTXt", b"iTXt", b"iCCP") or body.startswith(_KEPT_TEXT):
            kept.append(data[position:end])
        if kind == b"IEND":
            return b"".join(kept)
        position = end
    raise IncompleteError(f"the file ends after {len(data)} bytes without its end chunk IEND")


def check_jpeg(data: bytes) -> None:
    """Check that a JPEG file has a scan and ends in its end-of-image marker; what follows that does not matter."""
    position, scans = 2, 0
    while (position := data.find(b"\xff", position)) >= 0:
        while data[position : position + 1] == b"\xff":
            position += 1
        marker = data[position : position + 1]
        position += 1
        if marker == b"\xd9" and scans:
            return
        if not marker or marker in b"\x00\x01\xd0\xd1\xd2\xd3\xd4\xd5\xd6\xd7\xd8\xd9":
            continue
        position += int.from_bytes(data[position : position + 2], "big")
        if marker == b"\xda":
            scans += 1
            found = _MARKER.search(data, position)
            position = found.start() if found else len(data)
    raise IncompleteError(f"no end-of-image marker in {len(data)} bytes{_zeros_said(data)}")


def check_webp(data: bytes) -> None:
    """Check the lengths of a WebP file's chunks, and that its lossless pixels do not end in zeros."""
    for kind, start, length in _webp_chunks(data):
        if kind in (b"VP8L", b"ANMF"):
            _refuse_zero_tail(data[start : start + length], "its pixels", LOSSLESS_WEBP_ZERO_TAIL)


def check_webp_pixels(data: bytes, pixels: NDArray[np.uint8]) -> None:
    """Check that zeros at the end of lossy WebP pixels [H, W, channels] are needed: areas of one colour are coded so."""
    for kind, start, length in _webp_chunks(data):
        part = data[start : start + length]
        zeros = len(part) - len(part.rstrip(b"\0"))
        if kind == b"VP8 " and zeros >= ZERO_TAIL:
            rows = pixels.reshape(len(pixels), -1, pixels.shape[-1]).astype(np.int16)
            uneven = np.flatnonzero((np.ptp(rows, axis=1) > 2).any(axis=1))
            even = len(pixels) - (int(uneven[-1]) + 1 if len(uneven) else 0)
            blocks = (even // 16 + 1) * (pixels.shape[1] // 16 + 1)
            if zeros > FLAT_BLOCK_BYTES * blocks:
                raise IncompleteError(f"the last {zeros} bytes of its pixels are zeros, {_COPY}")


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and length of each chunk's content."""
    end = 8 + int.from_bytes(data[4:8], "little")
    if end > len(data):
        raise IncompleteError(f"the file ends after {len(data)} of {end} bytes")
    position = 12
    while position + 8 <= end:
        kind, length = struct.unpack_from("<4sI", data, position)
        if kind == b"\0\0\0\0":
            raise IncompleteError(_no_chunk(data[:end], position))
        if position + 8 + length > end:
            raise IncompleteError(f"the chunk at byte {position} is longer than the file")
        yield kind, position + 8, length
        position += 8 + length + length % 2


def check_bmp(data: bytes) -> None:
    """Check that run-length encoded pixels of a BMP file have their end marker, where zeros follow instead."""
    header, compression = struct.unpack_from("<I12xI", data, 14) if len(data) >= 34 else (0, 0)
    if header >= 40 and compression in (1, 2) and len(data) - len(data.rstrip(b"\0")) >= ZERO_TAIL:
        raise IncompleteError(f"no end-of-bitmap marker{_zeros_said(data)}")


def check_tiff(data: bytes, tags: Mapping[int, Any]) -> None:
    """Check that every strip or tile of a TIFF page is in the file, and that none ends in zeros or breaks off."""
    tables = tags.get(347)
    if 0 in tags or (isinstance(tables, bytes) and not tables.endswith(b"\xff\xd9")):
        raise IncompleteError(f"its directory is not complete{_zeros_said(data)}")
    compression, parts = tags.get(259, 1), sorted(_strips(tags))
    for start, size in parts:
        if start + size > len(data):
            raise IncompleteError(f"its pixels end at byte {start + size} of a file of {len(data)}")
        part = data[start : start + size]
        if compression == 7 and not part.rstrip(b"\0").endswith(b"\xff\xd9"):
            raise IncompleteError(f"no end-of-image marker in the part at byte {start}{_zeros_said(part)}")
        if compression in _COMPRESSED:
            _refuse_zero_tail(part, f"the part at byte {start}", ZERO_TAIL)
    bits, samples = tags.get(258, (1,)), 1 if tags.get(284, 1) == 2 else tags.get(277, 1)
    pixel = bits[0] * samples // 8
    row = pixel * (tags.get(322) if 324 in tags else tags.get(256, 0))
    if compression == 1 and bits[0] % 8 == 0 and row:
        whole = b"".join(data[start : start + size] for start, size in parts)
        rows = np.frombuffer(whole, np.uint8, count=len(whole) // row * row)
        refuse_torn_rows(rows.reshape(-1, row // pixel, pixel))


def refuse_torn_rows(rows: NDArray[Any]) -> None:
    """Refuse uncompressed pixels that break off in the middle of a row and are zero from there to the end of the file.

    Black at the edge of a picture is no fault: the row before the break must show that pixels were to follow. A break
    exactly between two rows looks like a black edge, and cannot be told apart.

    Args:
        rows: [H, W] or [H, W, channels], in the order in which they are in the file.
    """
    height, width = rows.shape[:2]
    if not height or rows[-1].any():
        return
    lit: NDArray[np.bool_] = (rows.reshape(height, width, -1) != 0).any(axis=2)
    lit_rows = np.flatnonzero(lit.any(axis=1))
    if not len(lit_rows) or lit_rows[-1] == height - 1 or lit_rows[-1] == 0:
        return  # all black, or not ending in a black row, or without a row before it
    last = int(lit_rows[-1])
    after = int(np.flatnonzero(lit[last])[-1]) + 1
    missing = width - after
    if missing >= max(4, width // 50) and lit[last, :after].mean() > 0.9 and lit[last - 1, after:].mean() > 0.9:
        share = ((height - 1 - last) * width + missing) / (height * width)
        raise IncompleteError(f"the last {share:.0%} of its pixels are zeros from the middle of a row on, {_COPY}")


def _strips(tags: Mapping[int, Any]) -> Iterator[tuple[int, int]]:
    for offsets, sizes in ((273, 279), (324, 325)):
        if offsets in tags and sizes in tags:
            yield from zip(tags[offsets], tags[sizes], strict=False)


def _refuse_zero_tail(data: bytes, what: str, most: int) -> None:
    zeros = len(data) - len(data.rstrip(b"\0"))
    if zeros >= most:
        raise IncompleteError(f"the last {zeros} bytes of {what} are zeros, {_COPY}")


def _no_chunk(data: bytes, position: int) -> str:
    if not data[position:].strip(b"\0"):
        return f"the last {len(data) - position} bytes are zeros, {_COPY}"
    return f"no chunk at byte {position}, where one has to begin"


def _zeros_said(data: bytes) -> str:
    zeros = len(data) - len(data.rstrip(b"\0"))
    return f"; the last {zeros} bytes are zeros, {_COPY}" if zeros >= ZERO_TAIL else ""
