"""A token for a session: what a page's user does once, so that the token is in no address and no script sees it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse

from shiftproof.service.api.dependencies import StationDependency
from shiftproof.service.api.middleware import COOKIE, SESSION_SECONDS, new_session, same_token

router = APIRouter(include_in_schema=False)


@router.post("/login")
def login(
    request: Request,
    station: StationDependency,
    token: Annotated[str, Form(max_length=1000)],
    next: Annotated[str, Form(max_length=1000)] = "/",
) -> RedirectResponse:
    """Leads on to ``next`` with a session, or back to ``/login?wrong=1``."""
    expected = station.settings.token
    if expected is None:
        return RedirectResponse(local_path(next), 303)
    if not same_token(token, expected):
        return RedirectResponse("/login?wrong=1", 303)
    answer = RedirectResponse(local_path(next), 303)
    secure = request.url.scheme == "https"
    answer.set_cookie(
        COOKIE, new_session(expected), max_age=SESSION_SECONDS, httponly=True, samesite="strict", secure=secure
    )
    return answer


@router.post("/logout")
def logout() -> RedirectResponse:
    """Ends the session in this browser."""
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE)
    return answer


def local_path(path: str) -> str:
    """A path of this station; anything that a browser would take for another site leads home.

    >>> local_path("/history?limit=5"), local_path("//elsewhere"), local_path("https://elsewhere")
    ('/history?limit=5', '/', '/')
    """
    fine = path.startswith("/") and not path.startswith("//") and "\\" not in path and path.isprintable()
    return path if fine else "/"
