"""What stands before every address: who asks, from which page, under which name, and headers on every answer."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import time
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "shiftproof_session"
SESSION_SECONDS = 12 * 3600
BODY_SECONDS = 20  # that a piece of such a request may take to come
BODY_BYTES = 64 * 1024  # of every request but an inspection's, which has limits of its own
_OPEN = ("/healthz", "/readyz", "/login")  # for all
_OPEN_BELOW = ("/static/",)
_UNSAFE = frozenset({"POST", "PUT", "PATCH", "DELETE"})
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}


class SecurityMiddleware:
    """Refuses before anything else is done.

    Args:
        app: what it guards.
        token: that clients show; None lets everyone in, as on loopback.
        hosts: names that a request may be for; None for any. On loopback this stops pages whose name was made to point here.
    """

    def __init__(self, app: ASGIApp, token: str | None, hosts: Iterable[str] | None):
        self._app, self._token = app, token
        self._hosts = None if hosts is None else frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Of ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        headers = Headers(scope=scope)
        refused = self._refused(scope, headers)
        if refused is not None:
            await refused(scope, receive, send_with_headers)
            return
        limited = receive if scope["path"].endswith("/inspect") else _limited(receive)
        await self._app(scope, limited, send_with_headers)

    def _refused(self, scope: Scope, headers: Headers) -> Response | None:
        host = headers.get("host", "")
        if self._hosts is not None and host_name(host) not in self._hosts:
            return _error(
                403, f"host {host[:80]!r} is not this station's: use its own address, or start it with --public-host"
            )
        if scope["method"] in _UNSAFE and not same_origin(headers):
            return _error(403, "the request comes from a page of another site")
        known = self._token is None or bearer(headers, self._token) or session(headers, self._token)
        scope["shiftproof_known"] = known
        if known or scope["path"] in _OPEN or scope["path"].startswith(_OPEN_BELOW):
            return None
        if scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
            return RedirectResponse(f"/login?next={quote(scope['path'])}", 303)
        return _error(401, "show the token: Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"})


def bearer(headers: Headers, token: str) -> bool:
    """Whether the request shows the token; takes the same time whatever it shows."""
    scheme, _, shown = headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and same_token(shown.strip(), token)


def same_token(shown: str, token: str) -> bool:
    """Whether two tokens are equal; takes the same time wherever they differ."""
    return hmac.compare_digest(hashlib.sha256(shown.encode()).digest(), hashlib.sha256(token.encode()).digest())


def new_session(token: str, now: float | None = None) -> str:
    """The content of a session's cookie: until when it holds, signed with the token."""
    until = str(int((time.time() if now is None else now) + SESSION_SECONDS))
    return f"{until}.{_signature(until, token)}"


def session(headers: Headers, token: str, now: float | None = None) -> bool:
    """Whether the request has a session that still holds."""
    try:
        cookies = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        return False
    until, _, signature = cookies[COOKIE].value.partition(".") if COOKIE in cookies else ("", "", "")
    if not (until.isascii() and until.isdigit() and len(until) < 15):
        return False
    signed = hmac.compare_digest(signature.encode(), _signature(until, token).encode())
    return signed and int(until) > (time.time() if now is None else now)


def same_origin(headers: Headers) -> bool:
    """Whether a request that changes something comes from the station's own page, or from no page at all."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc == headers.get("host", "")


def host_name(host: str) -> str:
    """A Host header without its port, in lower case.

    >>> host_name("LOCALHOST:8000"), host_name("[::1]:80"), host_name("::")
    ('localhost', '::1', '')
    """
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def is_loopback(host: str) -> bool:
    """Whether an address to listen on can be reached from this machine alone.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _signature(until: str, token: str) -> str:
    return hmac.new(b"shiftproof session " + token.encode(), until.encode(), hashlib.sha256).hexdigest()


def _limited(receive: Receive) -> Receive:
    received, more = 0, True

    async def limited() -> Message:
        nonlocal received, more
        if not more:  # what comes now is the end of the connection, for which a long answer may wait
            return await receive()
        try:
            async with asyncio.timeout(BODY_SECONDS):
                message = await receive()
        except TimeoutError as error:
            reason = "the request takes too long to come: send it again"
            raise HTTPException(408, reason, {"Connection": "close"}) from error
        more = bool(message.get("more_body"))
        received += len(message.get("body", b""))
        if received > BODY_BYTES:
            raise HTTPException(413, f"the request has more than {BODY_BYTES} bytes")
        return message

    return limited


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": message}, status, headers)
