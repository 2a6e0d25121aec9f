"""Reading what a client sends: held against every limit while it comes, so that nothing larger is ever in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect, Request

from shiftproof.service.errors import RequestError
from shiftproof.service.images import Upload
from shiftproof.service.settings import Limits

FIELD = "files"
_LONGEST_NAME = 255


class Budget:
    """Bytes of uploads that may be in memory at once.

    Args:
        total: how many.
    """

    def __init__(self, total: int):
        self.left = total

    def take(self, count: int) -> None:
        """Refuse (429) what would be too much."""
        if count > self.left:
            raise RequestError(429, "too many uploads at once: send it again in a moment", {"Retry-After": "1"})
        self.left -= count


async def read_uploads(request: Request, limits: Limits, budget: Budget) -> list[Upload]:
    """The files of a request: those of the multipart field ``files``, or its whole body.

    What was taken from the budget stays taken; the caller gives back the sum of the files' bytes.

    Raises:
        RequestError: 400 not what it says it is; 408 silence; 413 too large or too many; 415 another type; 429 no room.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if not (kind in (b"multipart/form-data", b"application/octet-stream") or kind.startswith(b"image/")):
        raise _unsupported(kind)
    chunks = _chunks(request, limits)
    taken = 0
    try:
        if kind == b"multipart/form-data":
            form = _Form(options.get(b"boundary", b""), limits)
            async for chunk in chunks:
                budget.take(len(chunk))
                taken += len(chunk)
                form.feed(chunk)
            uploads = form.end()
        else:
            body = bytearray()
            async for chunk in chunks:
                budget.take(len(chunk))
                taken += len(chunk)
                body += chunk
                _check_file(len(body), limits)
            uploads = [Upload(None, bytes(body))]
    except BaseException:
        budget.left += taken
        raise
    budget.left += taken - sum(len(upload.data) for upload in uploads)
    return uploads


async def _chunks(request: Request, limits: Limits) -> AsyncIterator[bytes]:
    """The body as it comes, unless it is longer than allowed, or does not come."""
    _check_body(_declared(request), limits)
    received, until = 0, asyncio.get_running_loop().time() + limits.duration
    stream = request.stream()
    while True:
        left = until - asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(min(limits.silence, left)):
                chunk = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            # Closed, because the rest would be taken for the next request.
            raise RequestError(
                408, "the request takes too long to come: send it again", {"Connection": "close"}
            ) from error
        except ClientDisconnect as error:
            raise RequestError(400, "the connection was closed in the middle of the request") from error
        received += len(chunk)
        _check_body(received, limits)
        yield chunk


def _unsupported(kind: bytes) -> RequestError:
    shown = kind.decode("latin-1")[:60] or "nothing"
    return RequestError(
        415, f"content type {shown!r}; expected multipart/form-data with field {FIELD!r}, or an image's bytes"
    )


def _declared(request: Request) -> int:
    value = request.headers.get("content-length", "0")
    return int(value) if value.isascii() and value.isdigit() else 0


def _check_body(count: int, limits: Limits) -> None:
    if count > limits.body_bytes:
        raise RequestError(413, f"the request has more than {limits.body_bytes} bytes: send fewer files at once")


def _check_file(count: int, limits: Limits) -> None:
    if count > limits.file_bytes:
        raise RequestError(413, f"a file has more than {limits.file_bytes} bytes: shrink or crop it")


class _Form:
    """Collects the files of a multipart body; other fields are left out."""

    def __init__(self, boundary: bytes, limits: Limits):
        self._limits = limits
        self._uploads: list[Upload] = []
        self._header, self._value, self._disposition = bytearray(), bytearray(), b""
        self._name: str | None = None
        self._content: bytearray | None = None
        self._ended = False
        callbacks: Any = {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._begin_content,
            "on_part_data": self._data,
            "on_part_end": self._end_part,
            "on_end": self._end,
        }
        if not boundary:
            raise RequestError(400, "multipart/form-data without a boundary: name it in the content type")
        try:
            self._parser = MultipartParser(boundary, callbacks)
        except FormParserError as error:
            raise _malformed(error) from error

    def feed(self, chunk: bytes) -> None:
        """Go on with what has come."""
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise _malformed(error) from error

    def end(self) -> list[Upload]:
        """The files, once all has come."""
        if not self._ended:
            raise RequestError(400, "the multipart body ends before its last boundary: send it again")
        if not self._uploads:
            raise RequestError(400, f"no file in field {FIELD!r}; expected one or more")
        return self._uploads

    def _begin(self) -> None:
        self._disposition, self._name, self._content = b"", None, None

    def _end_header(self) -> None:
        if bytes(self._header).lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _begin_content(self) -> None:
        _, options = parse_options_header(self._disposition)
        if options.get(b"name") != FIELD.encode():
            return
        if len(self._uploads) >= self._limits.files:
            raise RequestError(413, f"more than {self._limits.files} files in one request: send fewer at once")
        self._name = file_name(options.get(b"filename", b""))
        self._content = bytearray()

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._content is not None:
            _check_file(len(self._content) + end - start, self._limits)
            self._content += memoryview(data)[start:end]

    def _end_part(self) -> None:
        if self._content is not None:
            self._uploads.append(Upload(self._name, bytes(self._content)))

    def _end(self) -> None:
        self._ended = True


def file_name(name: bytes) -> str | None:
    r"""What a client calls a file: its last part, in printable characters, of limited length.

    >>> file_name(b"C:\\line\\part\x00 7.png"), file_name(b"../../etc/passwd"), file_name(b"..")
    ('part 7.png', 'passwd', '..')
    >>> file_name(b"") is None
    True
    """
    text = name.decode("utf-8", "replace").replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(character for character in text if character.isprintable())[:_LONGEST_NAME] or None


def _malformed(error: FormParserError) -> RequestError:
    return RequestError(400, f"the multipart body is malformed ({' '.join(str(error).split())[:120]}): send it again")
