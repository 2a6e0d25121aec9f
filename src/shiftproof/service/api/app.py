"""The application: addresses, their guard, and errors as one line of JSON."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException

from shiftproof import __version__
from shiftproof.service import page
from shiftproof.service.api import health, history, inspect, login, models
from shiftproof.service.api.middleware import SecurityMiddleware, is_loopback
from shiftproof.service.errors import RequestError
from shiftproof.service.station import Station

LOG = logging.getLogger("shiftproof.service")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def create_app(station: Station) -> FastAPI:
    """The application of a station that is open and not started: it starts and stops with the application."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await station.start()
        try:
            yield
        finally:
            await station.stop()

    app = FastAPI(
        title="shiftproof station",
        version=__version__,
        description="Inspects images for defects and remembers every inspection.",
        lifespan=lifespan,
        docs_url=None,  # the usual pages load scripts from elsewhere; /openapi.json is what tools need
        redoc_url=None,
    )
    app.state.station = station
    for one in (inspect, history, models, health, login, page):
        app.include_router(one.router)
    app.mount("/static", page.static())
    settings = station.settings
    local = is_loopback(settings.host)
    hosts = {*_LOOPBACK, settings.host.lower(), *(name.lower() for name in settings.public_hosts)} if local else None
    app.add_middleware(SecurityMiddleware, token=settings.token, hosts=hosts)

    def refused(request: Request, status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
        """One line of JSON, and a page for who asks for one."""
        if "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/v1/"):
            return page.error_page(request, status, message, headers)
        return JSONResponse({"error": message}, status, headers)

    @app.exception_handler(RequestError)
    async def _(request: Request, error: RequestError) -> Response:
        return refused(request, error.status, str(error), error.headers)

    @app.exception_handler(HTTPException)
    async def _(request: Request, error: HTTPException) -> Response:
        return refused(request, error.status_code, str(error.detail), error.headers)

    @app.exception_handler(RequestValidationError)
    async def _(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return refused(request, 422, f"{place}: {first['msg']}")

    @app.exception_handler(DBAPIError)
    async def _(request: Request, error: DBAPIError) -> Response:
        LOG.error("the database: %s", " ".join(str(error.orig).split())[:200])
        return refused(request, 503, "the database cannot be reached: try again", {"Retry-After": "5"})

    @app.exception_handler(Exception)
    async def _(request: Request, error: Exception) -> Response:
        station.telemetry.errors.inc()
        return refused(request, 500, "a fault of the station; its log says more")

    return app
