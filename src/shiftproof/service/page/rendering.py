"""How every screen is rendered: templates, how values are written, static files, refusals as pages."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import jinja2
from fastapi import Request
from fastapi.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from shiftproof import __version__
from shiftproof.report.page import number, percent, score
from shiftproof.service.station import Station
from shiftproof.service.store.records import format_time

_STATIC = Path(__file__).parent / "static"
_CURRENT = {"Cache-Control": "no-cache"}  # asked for again each time, and sent again only when changed


class _Static(StaticFiles):
    def file_response(self, full_path: Any, stat_result: Any, scope: Scope, status_code: int = 200) -> Response:
        response = super().file_response(full_path, stat_result, scope, status_code)
        response.headers.update(_CURRENT)
        return response


def static() -> StaticFiles:
    """The page's style sheet, scripts and icon."""
    return _Static(directory=_STATIC)


def palette_css() -> Response:
    """The style sheet that is shared with the reports."""
    text = resources.files("shiftproof.report").joinpath("templates/palette.css").read_text(encoding="utf-8")
    return Response(text, media_type="text/css", headers=_CURRENT)


def render(request: Request, template: str, *, status: int = 200, **context: Any) -> HTMLResponse:
    """Render a template of this package; what every screen shows is put in here."""
    station: Station = request.app.state.station
    known = request.scope.get("shiftproof_known", False)
    shown = _ENVIRONMENT.get_template(template).render(
        place=request.url.path,
        names=list(station.queues),
        problems=station.problems if known else {},
        drifting=[name for name, one in station.drift_trackers.items() if known and one.found],
        signed_in=known and station.settings.token is not None,
        **context,
    )
    return HTMLResponse(shown, status)


def error_page(request: Request, status: int, message: str, headers: Mapping[str, str] | None = None) -> HTMLResponse:
    """What was refused, for a person."""
    response = render(request, "error.html.j2", status=status, code=status, message=message)
    response.headers.update(headers or {})
    return response


def address(path: str, **parameters: object) -> str:
    """An address of this station with a query of what is given; None, False and empty text are left out.

    >>> address("/models/a b", verdict="good", before=None)
    '/models/a%20b?verdict=good'
    """
    given = {name: "yes" if value is True else value for name, value in parameters.items() if value}
    return quote(path) + ("?" + urlencode(given) if given else "")


def clock(time: datetime) -> str:
    """A time for people, where no script puts it into their zone.

    >>> clock(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    '2026-01-02 03:04:05 UTC'
    """
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def memory(count: int) -> str:
    """Bytes as a person says them.

    >>> memory(900), memory(104857), memory(23_000_000)
    ('900 B', '105 kB', '23.0 MB')
    """
    if count < 1000:
        return f"{count} B"
    return f"{count / 1000:.0f} kB" if count < 1_000_000 else f"{count / 1_000_000:.1f} MB"


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("shiftproof.service.page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "clock": clock,
        "memory": memory,
        "moment": format_time,
        "number": number,
        "percent": percent,
        "score": score,
    }
    environment.globals |= {"address": address, "program": __version__}
    return environment


_ENVIRONMENT = _environment()
