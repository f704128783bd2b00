"""Who may ask the operator port for anything: checks before every route, and headers on every answer.

A web page of a stranger, open in the operator's browser, can send requests to loopback. It cannot read the answers,
unless its own name is made to point here (DNS rebinding): so the name asked for must be one of ours. It can make the
browser send cookies and forms: so what changes anything must come from a page of ours.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Collection, Mapping
from http import HTTPStatus
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from qcompute.connections.credentials import Secret

COOKIE: Final = "qcompute_session"
SESSION_SECONDS: Final = 12 * 3600
"""A browser that showed the token need not show it again for so long, or until the daemon restarts."""

HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
"""On every answer that does not set its own."""

_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def is_loopback(host: str) -> bool:
    """Whether an address to bind can be reached from this machine only."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Sessions:
    """Whether a caller has shown the token: in a header each time, or once for a cookie.

    A cookie is the time of its end and our word for it. Nothing is kept of it; the key is new at each start.
    """

    def __init__(self, token: Secret | None, *, clock: Callable[[], float] = time.time) -> None:
        self._token = None if token is None else _digest(token.reveal())
        self._key = secrets.token_bytes(32)
        self._clock = clock

    @property
    def is_needed(self) -> bool:
        """Whether there is a token at all."""
        return self._token is not None

    def is_token(self, given: str) -> bool:
        """Whether this is the token; takes as long for every wrong one."""
        return self._token is not None and hmac.compare_digest(_digest(given), self._token)

    def cookie(self) -> str:
        """A new session, for whoever has just shown the token."""
        end = str(int(self._clock()) + SESSION_SECONDS)
        return f"{end}.{self._word(end)}"

    def is_session(self, cookie: str) -> bool:
        """Whether a cookie is one of ours, and not over."""
        end, _, word = cookie.partition(".")
        if not (end.isascii() and end.isdigit()) or len(end) > 12:  # noqa: PLR2004 - the year 33658
            return False
        return hmac.compare_digest(word.encode(), self._word(end).encode()) and self._clock() < int(end)

    def knows(self, headers: Headers) -> bool:
        """Whether the caller may ask for what is not for everybody."""
        if self._token is None:
            return True
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self.is_token(given.strip())
        return self.is_session(cookies_of(headers).get(COOKIE, ""))

    def _word(self, end: str) -> str:
        return hmac.new(self._key, end.encode(), hashlib.sha256).hexdigest()


def cookies_of(headers: Headers) -> dict[str, str]:
    """The cookies of a request."""
    pairs = (pair.strip().partition("=") for pair in headers.get("cookie", "").split(";"))
    return {name: value for name, _, value in pairs}


class Guard:
    """The checks in front of ``app``. ``hosts`` None lets every name in, as where a token is asked for.

    ``open_paths`` need no token; one that ends in a slash stands for all below it.
    """

    def __init__(
        self, app: ASGIApp, sessions: Sessions, *, hosts: Collection[str] | None, open_paths: Collection[str] = ()
    ) -> None:
        self._app = app
        self._sessions = sessions
        self._hosts = None if hosts is None else frozenset(name.lower() for name in hosts) | _LOOPBACK
        self._open = frozenset(path for path in open_paths if not path.endswith("/"))
        self._open_below = tuple(path for path in open_paths if path.endswith("/"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, with the headers every answer has."""

        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        answer = self._refusal(scope) or self._app
        await answer(scope, receive, sealed)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._hosts is not None and _name_of(host) not in self._hosts:
            return _refused(
                HTTPStatus.MISDIRECTED_REQUEST, "asked for under a name that is not ours: see operator.allowed_hosts"
            )
        if scope["method"] not in _READS and not _is_from_us(headers, host):
            return _refused(HTTPStatus.FORBIDDEN, "what changes anything is taken from this port's own pages only")
        if self._is_open(scope["path"]) or self._sessions.knows(headers):
            return None
        refusal = _refused(HTTPStatus.UNAUTHORIZED, "show the token: Authorization: Bearer … (setting operator.token)")
        refusal.headers["WWW-Authenticate"] = "Bearer"
        return refusal

    def _is_open(self, path: str) -> bool:
        return path in self._open or path.startswith(self._open_below)


def _is_from_us(headers: Headers, host: str) -> bool:
    """Whether a request that changes something comes from a page of ours, or from no page at all."""
    if headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        return False
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc.lower() == host.lower()


def _name_of(host: str) -> str:
    """The name in a ``Host`` header, without its port; empty for what is no host."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _refused(status: HTTPStatus, message: str) -> Response:
    return JSONResponse({"message": message}, status_code=status)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
