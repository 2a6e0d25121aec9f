"""The form in which a person shows the token, once for a session."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from shiftproof.service.api.dependencies import StationDependency
from shiftproof.service.api.login import local_path
from shiftproof.service.page.rendering import render

router = APIRouter()


@router.get("/login")
def login(request: Request, station: StationDependency, next: str = "/", wrong: str = "") -> Response:
    """Leads on at once where no token is needed."""
    if station.settings.token is None:
        return RedirectResponse(local_path(next), 303)
    answer: HTMLResponse = render(request, "login.html.j2", next=local_path(next), wrong=bool(wrong))
    return answer
