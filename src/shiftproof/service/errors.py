"""What a client is refused with: one line, an HTTP status, and headers that go with it."""

from __future__ import annotations

from collections.abc import Mapping

from shiftproof.errors import ShiftproofError


class RequestError(ShiftproofError):
    """A request that is not done as it was asked.

    Args:
        status: of HTTP, 400 to 599.
        message: one line that names the value, what was expected, and the mend.
        headers: of the answer, besides the usual.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None):
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
