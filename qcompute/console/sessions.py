"""Who is at the other end of a request: a session cookie, a token against forged forms, and the operator's sign-in.

One session serves the whole operator port. Looking is free on loopback while ``operator.token`` is not set; deciding
always needs the token. A browser's cookie is worth nothing to another site: it is SameSite, each form carries a token
of its session, and the browser must say that the request comes from this very page.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from qcompute.connections.credentials import Secret
from qcompute.errors import NotAllowed, Rejected

COOKIE: Final = "qcompute_session"
FORM_TOKEN: Final = "form_token"  # noqa: S105 - the name of a field

SESSION_SECONDS: Final = 12 * 3600.0
"""A browser that showed the token need not show it again for so long, or until it or the daemon is closed."""

MOST_SESSIONS: Final = 64
"""Signed-in browsers; who signed in longest ago has to again."""

MOST_FAILURES: Final = 10
FAILURE_SECONDS: Final = 60.0
"""So many wrong tokens in so many seconds are enough; then everybody waits."""

MAX_FORM_BYTES: Final = 16 * 1024

HTTP_FORBIDDEN: Final = 403
HTTP_TOO_LARGE: Final = 413
HTTP_TOO_MANY: Final = 429


class FormRefused(Rejected):
    """A form that this page did not send, or not in this session."""

    code = "form_refused"


@dataclass(frozen=True, slots=True)
class Session:
    """One browser. ``form_token`` belongs to it alone; ``is_new``: the cookie has to be set."""

    name: str
    form_token: str
    signed_in: bool
    is_new: bool


class Sessions:
    """All browsers' sessions. Those that are not signed in cost no memory: their cookie and a key say it all.

    ``to_look``: nothing but the sign-in is shown to whoever has not shown the token.
    """

    def __init__(self, token: Secret, *, to_look: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._token = _digest(token.reveal())
        self.to_look = to_look
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._signed_in: OrderedDict[str, float] = OrderedDict()
        self._failures: deque[float] = deque(maxlen=MOST_FAILURES)

    def may_look(self, connection: HTTPConnection) -> bool:
        """Whether a caller may be shown anything: by the token in a header each time, or by a session."""
        if not self.to_look:
            return True
        scheme, _, given = connection.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._is_token(given.strip())
        return self._is_signed_in(connection.cookies.get(COOKIE, ""))

    def of(self, request: HTTPConnection) -> Session:
        """The session of a request; a new one for a browser that has none."""
        name = request.cookies.get(COOKIE, "")
        is_new = not self._is_ours(name)
        return self._session(self._new_name() if is_new else name, is_new=is_new)

    def sign_in(self, token: str) -> Session:
        """A new session that may decide.

        Raises:
            NotAllowed: 403 for a wrong token; 429 after too many of them.
        """
        now = self._clock()
        full = len(self._failures) == MOST_FAILURES
        if full and now - self._failures[0] < FAILURE_SECONDS:
            raise NotAllowed("too many wrong tokens; wait a minute", status=HTTP_TOO_MANY)
        if not self._is_token(token):
            self._failures.append(now)
            raise NotAllowed("this is not the operator's token", status=HTTP_FORBIDDEN)
        # A new name: one that somebody else gave this browser must not become a signed-in one.
        name = self._new_name()
        self._signed_in[name] = now + SESSION_SECONDS
        while len(self._signed_in) > MOST_SESSIONS:
            self._signed_in.popitem(last=False)
        return self._session(name, is_new=True)

    def sign_out(self, session: Session) -> None:
        """Forget that the session was signed in; a no-op when it was not."""
        self._signed_in.pop(session.name, None)

    async def form(self, request: Request, session: Session) -> dict[str, str]:
        """The fields of a form that this page sent in this session.

        Raises:
            FormRefused: it came from elsewhere, has no right token, or is too large.
        """
        if not is_same_origin(request.headers):
            raise FormRefused("this form was not sent by this page")
        fields = dict(parse_qsl((await _body(request)).decode("utf-8", "replace"), keep_blank_values=True))
        given = fields.get(FORM_TOKEN, "") or request.headers.get("x-form-token", "")
        if session.is_new or not hmac.compare_digest(given.encode(), session.form_token.encode()):
            raise FormRefused("this form is of another session, or of before the daemon's last start: load it again")
        return fields

    def _session(self, name: str, *, is_new: bool) -> Session:
        return Session(name, self._made_of("form", name), self._is_signed_in(name), is_new)

    def _is_signed_in(self, name: str) -> bool:
        until = self._signed_in.get(name)
        if until is not None and until <= self._clock():
            del self._signed_in[name]
            until = None
        return until is not None

    def _is_token(self, given: str) -> bool:
        """Takes as long for every wrong one."""
        return hmac.compare_digest(_digest(given), self._token)

    def _new_name(self) -> str:
        chosen = secrets.token_urlsafe(24)
        return f"{chosen}.{self._made_of('session', chosen)}"

    def _is_ours(self, name: str) -> bool:
        chosen, _, proof = name.partition(".")
        return bool(proof) and hmac.compare_digest(proof.encode(), self._made_of("session", chosen).encode())

    def _made_of(self, what: str, name: str) -> str:
        return hmac.new(self._key, f"{what}:{name}".encode(), hashlib.sha256).hexdigest()


def keep(response: Response, session: Session, request: Request) -> None:
    """Give the browser its cookie, which no script may read and no other site may use."""
    secure = request.headers.get("x-forwarded-proto") == "https"
    response.set_cookie(COOKIE, session.name, path="/", httponly=True, samesite="strict", secure=secure)


def is_from_elsewhere(headers: Headers) -> bool:
    """Whether a browser says that a page of another server sent the request. A program says nothing."""
    if headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        return True
    origin = headers.get("origin")
    return origin is not None and _host_of(origin) != headers.get("host", "").lower()


def is_same_origin(headers: Headers) -> bool:
    """Whether a browser says that its own page of this server sent the request.

    Every browser of today says so with each POST; what says nothing is no browser and has no business with a form.
    """
    says = headers.get("sec-fetch-site", "same-origin" if "origin" in headers else "nothing")
    return says == "same-origin" and not is_from_elsewhere(headers)


async def _body(request: Request) -> bytes:
    got = bytearray()
    async for piece in request.stream():
        got += piece
        if len(got) > MAX_FORM_BYTES:
            raise FormRefused(f"a form here has at most {MAX_FORM_BYTES} bytes")
    return bytes(got)


def _host_of(origin: str) -> str | None:
    """Name and port of an origin; None for what is none, as ``null`` and ``http://[``."""
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None


def _digest(text: str) -> bytes:
    # JSON may carry half a surrogate pair, which strict encoding refuses with an error of ours.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
