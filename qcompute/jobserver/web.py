"""What all calls to the platform share: sessions without ambient state, bounded answers, errors without contents."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, cast

import aiohttp

from qcompute.errors import ConfigError, DeliveryError
from qcompute.jobserver.settings import JobServerSettings, address_fault, plain_text_fault

MAX_ANSWER_BYTES: Final = 65536
LONGEST_RETRY_AFTER_SECONDS: Final = 3600.0
_SUCCESS: Final = range(200, 300)


def checked_base(url: str, variable: str, settings: JobServerSettings) -> str:
    """``url`` without its trailing slash.

    Raises:
        ConfigError: not an http(s) URL, one with more than host and path, or plain http to another machine that is
            not listed. The text names the variable, never the URL.
    """
    # The settings were checked when they were read; those of a program that puts them together itself were not.
    if (fault := address_fault(url) or plain_text_fault(url, settings.allow_http_hosts)) is not None:
        raise ConfigError(f"{variable} {fault}")
    return url.rstrip("/")


class ConnectionLost(aiohttp.ClientConnectionError):
    """The connection was cut before an answer came; whether the request was processed is not known."""


async def _one_request(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep aiohttp from sending a GET or PUT again by itself, which it does once after these two errors."""
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
        raise ConnectionLost from None


def new_session(*, total_seconds: float, connect_seconds: float) -> aiohttp.ClientSession:
    """A session that carries nothing from one call to the next but connections. Make it inside the event loop.

    One call is one request: it follows no proxy settings of the environment and repeats nothing.
    """
    return aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=total_seconds, sock_connect=connect_seconds),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        headers={"User-Agent": "qcompute"},
        middlewares=(_one_request,),
    )


async def read_object(response: aiohttp.ClientResponse, what: str) -> dict[str, Any]:
    """The JSON object in the body, of which no more than `MAX_ANSWER_BYTES` are read.

    Raises:
        DeliveryError: it is longer, or something else; the text says nothing of what it is.
    """
    data = bytearray()
    async for chunk in response.content.iter_chunked(16384):
        data += chunk
        if len(data) > MAX_ANSWER_BYTES:
            raise DeliveryError(f"{what} answered more than {MAX_ANSWER_BYTES} bytes", status=response.status)
    try:
        answer: Any = json.loads(data)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise DeliveryError(f"{what} answered something that is not a JSON object", status=response.status)
    return cast("dict[str, Any]", answer)


def is_success(response: aiohttp.ClientResponse) -> bool:
    """Whether the status is 2xx."""
    return response.status in _SUCCESS


def failed(what: str, response: aiohttp.ClientResponse) -> DeliveryError:
    """The error for an answer that is not 2xx: what was called and the status, never the contents."""
    pause = retry_after_seconds(response.headers.get("Retry-After", ""))
    return DeliveryError(f"{what} answered {response.status}", status=response.status, retry_after_seconds=pause)


def unreachable(what: str, error: BaseException) -> DeliveryError:
    """The error for no answer at all; aiohttp's own texts may carry the URL, so only its kind is told."""
    kind = "timed out" if isinstance(error, TimeoutError) else f"failed ({type(error).__name__})"
    return DeliveryError(f"{what} {kind}")


def retry_after_seconds(text: str) -> float | None:
    """The pause a ``Retry-After`` asks for, in seconds or as a date, bounded; None when it cannot be read."""
    if text.isdecimal():
        return min(float(text), LONGEST_RETRY_AFTER_SECONDS)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max((moment - datetime.now(UTC)).total_seconds(), 0.0), LONGEST_RETRY_AFTER_SECONDS)
