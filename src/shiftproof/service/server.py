"""The program: a socket, a server, and its end."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Callable, Iterator

import uvicorn

from shiftproof.errors import ShiftproofError, UsageError
from shiftproof.service.api import create_app
from shiftproof.service.api.middleware import is_loopback
from shiftproof.service.connection import Connection
from shiftproof.service.settings import Settings
from shiftproof.service.station import Station
from shiftproof.signals import signal_handler

SHORTEST_TOKEN = 16  # characters
_FINISHING_SECONDS = 60  # that a graceful stop waits for answers that clients are slow to take
_CONNECTIONS = 1024
_BACKLOG = 512


def serve(settings: Settings, on_ready: Callable[[str, Station], None]) -> None:
    """Serve until SIGTERM or Ctrl-C; what was accepted is finished first.

    Args:
        settings: what to serve, and where.
        on_ready: is told the address and the station, once requests are taken.

    Raises:
        UsageError: no token where one is needed, or the port is taken. ShiftproofError: a model or the database.
    """
    check_token(settings)
    listening = listen(settings.host, settings.port)
    with contextlib.closing(listening):
        station = Station(settings)
        config = uvicorn.Config(
            create_app(station),
            http=Connection,
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
            limit_concurrency=_CONNECTIONS,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=_FINISHING_SECONDS,
        )
        logging.getLogger("uvicorn").setLevel(logging.WARNING)
        server = _Server(config, lambda: on_ready(address(settings.host, listening), station))
        server.run([listening])
    if not server.started:
        raise ShiftproofError("the station could not start: the lines above say why")


def check_token(settings: Settings) -> None:
    """Refuse to be reached from elsewhere without a token."""
    if settings.token is not None:
        if len(settings.token) < SHORTEST_TOKEN:
            raise UsageError(f"the token has {len(settings.token)} characters; expected {SHORTEST_TOKEN} or more")
        return
    if not is_loopback(settings.host):
        raise UsageError(
            f"--host {settings.host} can be reached from other machines: give --token-file with a secret that clients show"
        )
    if settings.public_hosts:
        raise UsageError("--public-host makes the station known beyond this machine: give --token-file as well")


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise UsageError(f"cannot listen on {host} port {port} ({reason}): choose another --port or --host") from error


def address(host: str, listening: socket.socket) -> str:
    """Where a browser finds it."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{shown}:{listening.getsockname()[1]}"


class _Server(uvicorn.Server):
    """Ends with 0 after a signal to stop, and says when it is ready."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]):
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started:
            self._on_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        with signal_handler(self.handle_exit):
            yield
