"""Who is at the other end of a request: a session cookie, a token against forged forms, and the operator's sign-in.

Looking is free on loopback, as it is on the rest of the operator port. Deciding about jobs can cost money, and all
users of the machine reach a loopback port, so it always needs a token: that of ``operator.token``, or where there is
none one in a file for the daemon's user alone (ADR 0014 says the same of the unix socket). A browser's cookie is worth
nothing to another site: it is SameSite, each form carries a token of its session, and the browser must say that the
request comes from this very page.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from starlette.requests import Request
from starlette.responses import Response

from qcompute.errors import ConfigError, NotAllowed, Rejected

COOKIE: Final = "qcompute_dashboard"
"""Not the port's own cookie, which is for reading only."""
FORM_TOKEN: Final = "form_token"  # noqa: S105 - the name of a field

SIGNED_IN_SECONDS: Final = 12 * 3600.0
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


def operator_token(file: Path) -> str:
    """The token kept in ``file``, made at the first call, for its owner alone.

    Raises:
        ConfigError: it cannot be read or written, or others may read it.
    """
    try:
        with suppress(FileExistsError):
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as made:
                made.write(f"{secrets.token_urlsafe(32)}\n")
        if file.stat().st_mode & 0o077:
            raise ConfigError(f"others may read the operator's token {file}: chmod 600 it, or remove it for a new one")
        token = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the operator's token {file} cannot be used ({type(error).__name__})") from error
    if not token:
        raise ConfigError(f"the operator's token {file} is empty: remove it, and a new one is made")
    return token


class Sessions:
    """All browsers' sessions. Those that are not signed in cost no memory: their cookie and a key say it all."""

    def __init__(self, token: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._token = token
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._signed_in: OrderedDict[str, float] = OrderedDict()
        self._failures: deque[float] = deque(maxlen=MOST_FAILURES)

    def of(self, request: Request) -> Session:
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
        if not hmac.compare_digest(token.encode(), self._token.encode()):
            self._failures.append(now)
            raise NotAllowed("this is not the operator's token", status=HTTP_FORBIDDEN)
        # A new name: one that somebody else gave this browser must not become a signed-in one.
        name = self._new_name()
        self._signed_in[name] = now + SIGNED_IN_SECONDS
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
        if not is_same_origin(request):
            raise FormRefused("this form was not sent by this page")
        fields = dict(parse_qsl((await _body(request)).decode("utf-8", "replace"), keep_blank_values=True))
        given = fields.get(FORM_TOKEN, "") or request.headers.get("x-form-token", "")
        if session.is_new or not hmac.compare_digest(given.encode(), session.form_token.encode()):
            raise FormRefused("this form is of another session, or of before the daemon's last start: load it again")
        return fields

    def _session(self, name: str, *, is_new: bool) -> Session:
        until = self._signed_in.get(name)
        if until is not None and until < self._clock():
            del self._signed_in[name]
            until = None
        return Session(name, self._made_of("form", name), until is not None, is_new)

    def _new_name(self) -> str:
        chosen = secrets.token_urlsafe(24)
        return f"{chosen}.{self._made_of('session', chosen)}"

    def _is_ours(self, name: str) -> bool:
        chosen, _, proof = name.partition(".")
        return bool(proof) and hmac.compare_digest(proof.encode(), self._made_of("session", chosen).encode())

    def _made_of(self, what: str, name: str) -> str:
        return hmac.new(self._key, f"{what}:{name}".encode(), hashlib.sha256).hexdigest()


def keep(response: Response, session: Session) -> None:
    """Give the browser its cookie, which no script may read and no other site may use."""
    response.set_cookie(COOKIE, session.name, path="/dashboard", httponly=True, samesite="strict")


def is_same_origin(request: Request) -> bool:
    """Whether a browser says that its own page of this server sent the request.

    Every browser of today says so with each POST; what says nothing is no browser and has no business here.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None and site != "same-origin":
        return False
    origin = request.headers.get("origin")
    if origin is None:
        return site == "same-origin"
    return urlsplit(origin).netloc == request.headers.get("host", "")


async def _body(request: Request) -> bytes:
    got = bytearray()
    async for piece in request.stream():
        got += piece
        if len(got) > MAX_FORM_BYTES:
            raise FormRefused(f"a form here has at most {MAX_FORM_BYTES} bytes")
    return bytes(got)
