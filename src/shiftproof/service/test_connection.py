"""Clients that dawdle, at the connection and in the middle of a body."""

from __future__ import annotations

import asyncio

import pytest
import uvicorn
from starlette.requests import Request
from uvicorn.server import ServerState

from shiftproof.service import connection
from shiftproof.service.connection import Connection
from shiftproof.service.errors import RequestError
from shiftproof.service.settings import Limits
from shiftproof.service.uploads import Budget, read_uploads

ANSWER = b"200 OK"


async def _answer(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def talk(*said: bytes) -> tuple[bytes, float]:
    """Say something, piece by piece, and listen until the station closes; what it said, and after how many seconds."""

    async def run():
        loop = asyncio.get_running_loop()
        config = uvicorn.Config(_answer, lifespan="off", log_config=None, timeout_keep_alive=30)
        config.load()
        server = await loop.create_server(lambda: Connection(config, ServerState(), {}), "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            started = loop.time()
            for piece in said:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.05)
            heard = await asyncio.wait_for(reader.read(), 20)
            writer.close()
            return heard, loop.time() - started

    return asyncio.run(run())


REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    ("said", "answers"),
    [
        ((), 0),
        ((b"GET / HT",), 0),
        ((b"GET / HTTP/1.1\r\nHost: x\r\nA: ", b"b", b"b"), 0),
        ((REQUEST, b"GET / HT"), 1),
        ((REQUEST, REQUEST, b"GET"), 2),
        ((b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n", b"half"), 1),  # goes on after its answer
    ],
)
def test_who_does_not_finish_a_head_is_cut_off(said, answers, monkeypatch):
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.4)
    heard, seconds = talk(*said)
    assert heard.count(ANSWER) == answers
    assert 0.35 < seconds < 10


def test_a_head_without_end_is_refused():
    heard, _ = talk(b"GET / HTTP/1.1\r\nA: " + b"a" * connection.HEAD_BYTES, b"b")
    assert heard.startswith(b"HTTP/1.1 400")


def read(pieces, limits, pause=0.0):
    """Read uploads that come in pieces with pauses; and what is left of the budget."""
    budget = Budget(1000)

    async def receive():
        if not pieces:
            await asyncio.sleep(60)
        await asyncio.sleep(pause)
        return {"type": "http.request", "body": pieces.pop(0), "more_body": True}

    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", b"image/png")]}
    with pytest.raises(RequestError) as refused:
        asyncio.run(read_uploads(Request(scope, receive), limits, budget))
    return refused.value, budget.left


def test_a_body_that_stops_or_drips_is_given_up():
    for pieces, limits, pause in (
        ([b"x"], Limits(silence=0.05), 0.0),
        ([b"x"] * 1000, Limits(silence=5, duration=0.2), 0.02),
    ):
        refusal, left = read(pieces, limits, pause)
        assert (refusal.status, refusal.headers["Connection"], left) == (408, "close", 1000)
