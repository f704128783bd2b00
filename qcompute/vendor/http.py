"""One HTTP client for vendors without an SDK of use: every outcome is an error of our tree, and nothing is sent twice.

The same failure means different things for a paid call and a free one. A connection that never came up is `Unavailable`
for both: the vendor cannot have processed it. Whatever goes wrong later is `Unavailable` for a free call, which may be
made again, and `SubmitUnknown` for a paid one, which may not.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final, NoReturn, TypeVar, cast

import httpx
from pydantic import BaseModel, ValidationError
from typing_extensions import override

from qcompute import __version__
from qcompute.connections.credentials import Secret
from qcompute.errors import (
    AuthFailed,
    BadReply,
    ConfigError,
    QuotaSpent,
    Refused,
    SubmitUnknown,
    Unavailable,
    VendorError,
)

Model = TypeVar("Model", bound=BaseModel)

USER_AGENT: Final = f"qcompute/{__version__}"
MAX_REPLY_BYTES: Final = 64 << 20
"""A million shots of twenty qubits are 40 MB of JSON; more is no result."""
MAX_TEXT: Final = 300
"""Characters kept of a vendor's own words."""

NOT_SENT: Final = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
    httpx.LocalProtocolError,
)
"""What is raised before a request has left this machine."""

_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e]+")
_SECONDS: Final = re.compile(r"[0-9]{1,9}")
_HEADER_VALUE: Final = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")

ErrorWords = Callable[[Mapping[str, Any]], tuple[str | None, str | None]]
"""Finds the vendor's own code and text in an error's JSON."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds for one call. ``read`` of a paid call is long: giving up early makes an unknown out of an answer.

    ``read`` bounds the wait for each piece of an answer, ``body`` how long a whole body may take once it has begun: a
    server that sends a byte now and then must not keep a thread for ever.
    """

    connect_seconds: float = 10.0
    read_seconds: float = 30.0
    paid_read_seconds: float = 120.0
    body_seconds: float = 300.0


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that was expected: its status, and its JSON (None for an empty body)."""

    status: int
    json: Any

    def read(self, model: type[Model], *, what: str) -> Model:
        """The JSON as ``model``; raises `BadReply` naming the field that is not as expected."""
        return read(model, self.json, what=what)


def usual_words(body: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """``code`` and ``message`` at the top or below ``error``; ``{"error": "text"}`` too."""
    error = body.get("error")
    inner: Mapping[str, Any] = cast("Mapping[str, Any]", error) if isinstance(error, Mapping) else body
    message = inner.get("message") or (error if isinstance(error, str) else None)
    code = inner.get("code")
    return (None if code is None else str(code)), (None if message is None else str(message))


class PerThread(httpx.BaseTransport):
    """A connection of its own for each thread that asks, kept open.

    Adapters are called from a fixed number of threads. One pool for all of them is locked by each, and looks at every
    idle connection, with a system call, before each request.
    """

    def __init__(self) -> None:
        self._own = threading.local()
        self._all: list[httpx.HTTPTransport] = []

    @override
    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send it over this thread's connection."""
        transport: httpx.HTTPTransport | None = getattr(self._own, "transport", None)
        if transport is None:
            transport = self._own.transport = httpx.HTTPTransport(retries=0, limits=httpx.Limits(max_connections=1))
            self._all.append(transport)
        return transport.handle_request(request)

    @override
    def close(self) -> None:
        """Close the connections of all threads."""
        for transport in self._all:
            transport.close()


class VendorHttp:
    """A client of one vendor's API at ``base_url``. Thread-safe; follows no redirect, knows no proxy.

    ``headers`` may hold the credential; ``secrets`` are cut out of every text a vendor sends back.

    Raises:
        ConfigError: a header has characters that no header may have, as a credential copied with a line break has.
    """

    def __init__(
        self,
        vendor: str,
        base_url: str,
        *,
        headers: Mapping[str, str],
        secrets: Sequence[Secret] = (),
        timeouts: Timeouts | None = None,
        words: ErrorWords = usual_words,
    ) -> None:
        for name, value in headers.items():
            if not _HEADER_VALUE.fullmatch(value):  # neither httpx's error nor ours may show the value
                raise ConfigError(f"{vendor}: the value of the header {name} must be printable ASCII")
        self._vendor = vendor
        self._timeouts = timeouts or Timeouts()
        self._secrets = tuple(secrets)
        self._words = words
        self._client = httpx.Client(
            base_url=base_url,
            headers={"User-Agent": USER_AGENT, "Accept": "application/json", **headers},
            timeout=httpx.Timeout(self._timeouts.read_seconds, connect=self._timeouts.connect_seconds),
            trust_env=False,
            follow_redirects=False,
            transport=PerThread(),
        )

    def __repr__(self) -> str:
        return f"VendorHttp({self._vendor!r})"

    def get(self, path: str, *, params: Any = None, accept: Sequence[int] = ()) -> Reply:  # noqa: ANN401 - httpx's own
        """A free GET; statuses in ``accept`` are answers, not errors."""
        return self.call("GET", path, params=params, accept=accept)

    def call(
        self,
        method: str,
        path: str,
        *,
        paid: bool = False,
        body: Any = None,  # noqa: ANN401 - JSON
        params: Any = None,  # noqa: ANN401 - httpx's own
        headers: Mapping[str, str] | None = None,
        accept: Sequence[int] = (),
    ) -> Reply:
        """One request, sent once. 2xx and ``accept`` come back, everything else is raised.

        ``headers`` are of this call alone.

        Raises:
            Unavailable: provably not processed, or free: connection refused, 429, and for free calls 5xx and
                timeouts; ``retry_after_seconds`` is the vendor's wish.
            SubmitUnknown: a paid call that may have been processed.
            AuthFailed: 401 or 403. QuotaSpent: 402. Refused: any other 4xx; ``vendor_code`` is the vendor's, or
                ``http_<status>``.
            BadReply: a free call was answered with something that is not JSON, or with too much of it.
        """
        timeout = httpx.Timeout(
            self._timeouts.paid_read_seconds if paid else self._timeouts.read_seconds,
            connect=self._timeouts.connect_seconds,
        )
        try:
            with self._client.stream(
                method, path, json=body, params=params, headers=headers, timeout=timeout
            ) as response:
                content = self._content(response, paid=paid)
        except NOT_SENT as error:
            raise Unavailable(f"{self._vendor} cannot be reached ({type(error).__name__})") from None
        except (httpx.TransportError, httpx.DecodingError, httpx.InvalidURL, httpx.StreamError) as error:
            raise self._unclear(paid, f"no answer from {self._vendor} ({type(error).__name__})") from None
        return self._judged(response, content, paid=paid, accept=accept)

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def scrubbed(self, text: str) -> str:
        """A vendor's text, fit for a log: printable, short, without our secrets."""
        for secret in self._secrets:
            text = text.replace(secret.reveal(), "***")
        return _UNPRINTABLE.sub(" ", text).strip()[:MAX_TEXT]

    def _content(self, response: httpx.Response, *, paid: bool) -> bytes:
        content = bytearray()
        end = time.monotonic() + self._timeouts.body_seconds
        for chunk in response.iter_bytes():
            content += chunk
            if len(content) > MAX_REPLY_BYTES:
                message = f"{self._vendor} answered more than {MAX_REPLY_BYTES} bytes"
                raise SubmitUnknown(message) if paid else BadReply(message, field="body")
            if time.monotonic() > end:
                raise httpx.ReadTimeout("the body does not end")
        return bytes(content)

    def _judged(self, response: httpx.Response, content: bytes, *, paid: bool, accept: Sequence[int]) -> Reply:
        status = response.status_code
        if response.is_success or status in accept:
            return Reply(status, self._json(content, paid=paid, status=status))
        code, text = self._error_words(content)
        message = f"{self._vendor} answered {status}" + (f": {text}" if text else "")
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise AuthFailed(message, vendor_code=code)
        if status == HTTPStatus.PAYMENT_REQUIRED:
            raise QuotaSpent(message, vendor_code=code)
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            raise Unavailable(message, vendor_code=code, retry_after_seconds=retry_after_seconds(response.headers))
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.REQUEST_TIMEOUT:
            raise self._unclear(paid, message, code, retry_after_seconds(response.headers))
        if status >= HTTPStatus.BAD_REQUEST:
            raise Refused(message, vendor_code=code or f"http_{status}")
        raise self._unclear(paid, message, code)

    def _json(self, content: bytes, *, paid: bool, status: int) -> Any:  # noqa: ANN401 - JSON
        if not content:
            return None
        try:
            return json.loads(content)
        except (ValueError, RecursionError):  # the second for brackets nested thousands deep
            message = f"{self._vendor} answered {status} with something that is not JSON"
            if content.lstrip()[:1] == b"<":
                raise self._unclear(paid, f"{message} but a web page: maintenance?") from None
            if paid:
                raise SubmitUnknown(message) from None
            raise BadReply(message, field="body") from None

    def _error_words(self, content: bytes) -> tuple[str | None, str | None]:
        try:
            body = json.loads(content)
        except (ValueError, RecursionError):
            return None, None
        if not isinstance(body, dict):
            return None, None
        code, text = self._words(cast("dict[str, Any]", body))
        return (None if code is None else self.scrubbed(code)), (None if text is None else self.scrubbed(text))

    @staticmethod
    def _unclear(paid: bool, message: str, code: str | None = None, retry_after: float | None = None) -> VendorError:  # noqa: FBT001
        if paid:
            return SubmitUnknown(message, vendor_code=code)
        return Unavailable(message, vendor_code=code, retry_after_seconds=retry_after)


def read(model: type[Model], value: object, *, what: str) -> Model:
    """``value`` as ``model``, whose unknown fields are ignored.

    Raises:
        BadReply: it is not as expected; ``field`` and the message name the first place.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the whole"
        _bad(f"{what}: {place}: {first['msg']}", place)


def _bad(message: str, place: str) -> NoReturn:
    raise BadReply(message[:MAX_TEXT], field=place)


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """What ``Retry-After`` asks for, in seconds or as a date; None when it says nothing we understand."""
    text = headers.get("Retry-After", headers.get("retry-after", "")).strip()
    if not text:
        return None
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max((moment - datetime.now(UTC)).total_seconds(), 0.0)
