"""Who may ask the operator port for anything: checks before every route, and headers on every answer.

A web page of a stranger, open in the operator's browser, can send requests to loopback. It cannot read the answers,
unless its own name is made to point here (DNS rebinding): so the name asked for must be one of ours. It can make the
browser send cookies and forms: so what changes anything must come from a page of ours.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from http import HTTPStatus
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from qcompute.console.sessions import Sessions, is_from_elsewhere

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
        connection = HTTPConnection(scope)
        if self._hosts is not None and _name_of(connection.headers.get("host", "")) not in self._hosts:
            return _refused(
                HTTPStatus.MISDIRECTED_REQUEST, "asked for under a name that is not ours: see operator.allowed_hosts"
            )
        if scope["method"] not in _READS and is_from_elsewhere(connection.headers):
            return _refused(HTTPStatus.FORBIDDEN, "what changes anything is taken from this port's own pages only")
        if self._is_open(scope["path"]) or self._sessions.may_look(connection):
            return None
        refusal = _refused(HTTPStatus.UNAUTHORIZED, "show the token: Authorization: Bearer … (setting operator.token)")
        refusal.headers["WWW-Authenticate"] = "Bearer"
        return refusal

    def _is_open(self, path: str) -> bool:
        return path in self._open or path.startswith(self._open_below)


def _name_of(host: str) -> str:
    """The name in a ``Host`` header, without its port; empty for what is no host."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _refused(status: HTTPStatus, message: str) -> Response:
    return JSONResponse({"message": message}, status_code=status)
