"""A connection that is closed when its client dawdles or sends a head without end: uvicorn itself would wait for ever."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS = 20.0  # for a request's line and headers, and for what still comes after its answer
HEAD_BYTES = 64 * 1024


class Connection(HttpToolsProtocol):
    """Between two requests, a client has a time and a number of bytes for its next head; a body has limits of its own."""

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self._deadline: asyncio.TimerHandle | None = None
        self._head = 0  # bytes of the head so far

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The clock runs from the beginning."""
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """The clock stops."""
        self._stop_watching()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """The clock stops when a request is there, and runs again when something comes after its answer."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_watching()
            self._head = 0
            return
        self._watch()
        self._head += len(data)
        answered = self.cycle is not None  # then this may be what is left of a body that was refused
        if self._head > HEAD_BYTES and not answered and not self.transport.is_closing():
            self.send_400_response("The head of the request is too long.")

    def _watch(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _stop_watching(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
