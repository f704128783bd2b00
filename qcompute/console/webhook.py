"""One webhook: where messages go, in which form, signed or not, and how often it is tried.

The URL is a secret, since whoever knows it can write there: no error and no log line shows it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import time
from http import HTTPStatus
from typing import Any, Final, assert_never
from urllib.parse import urlsplit

import aiohttp
from tenacity import AsyncRetrying, RetryError, retry_if_exception_type, stop_after_attempt, wait_exponential

from qcompute import __version__, meters
from qcompute.connections.credentials import Secret, named
from qcompute.console.guard import is_loopback
from qcompute.errors import ConfigError, DeliveryError
from qcompute.miner.watching import AlertFormat, AlertSettings

_log = logging.getLogger(__name__)

TRIES: Final = 5
FIRST_PAUSE_SECONDS: Final = 4.0
LONGEST_PAUSE_SECONDS: Final = 60.0
ANSWER_SECONDS: Final = 10.0


class _MayWork(DeliveryError):
    """Nobody took the message this time."""


class Webhook:
    """Where messages go."""

    def __init__(
        self,
        url: Secret,
        *,
        message_format: AlertFormat = AlertFormat.JSON,
        signature: Secret | None = None,
        first_pause_seconds: float = FIRST_PAUSE_SECONDS,
    ) -> None:
        _check(url)
        self._url = url
        self._format = message_format
        self._signature = signature
        self._first_pause = first_pause_seconds
        self._session: aiohttp.ClientSession | None = None

    async def send(self, document: dict[str, Any]) -> bool:
        """Send one message; False after it was tried `TRIES` times, or refused: then it is given up."""
        body = json.dumps(self._written(document)).encode()
        pauses = wait_exponential(multiplier=self._first_pause, max=LONGEST_PAUSE_SECONDS)
        try:
            async for trial in AsyncRetrying(
                stop=stop_after_attempt(TRIES), wait=pauses, retry=retry_if_exception_type(_MayWork)
            ):
                with trial:
                    await self._post(body)
        except RetryError as failed:
            self._given_up(str(failed.last_attempt.exception()))
            return False
        except DeliveryError as refused:
            self._given_up(refused.message)
            return False
        meters.alert_sent(delivered=True)
        return True

    async def close(self) -> None:
        """Let go of the connection. A no-op when there is none."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _written(self, document: dict[str, Any]) -> dict[str, Any]:
        match self._format:
            case AlertFormat.JSON:
                return document | {"version": __version__}
            case AlertFormat.SLACK:
                return {"text": f"qcompute {document['miner'][:8]}… {document['status']}: {document['text']}"}
            case _:
                assert_never(self._format)

    async def _post(self, body: bytes) -> None:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS))
        try:
            async with self._session.post(
                self._url.reveal(), data=body, headers=self._headers(body), allow_redirects=False
            ) as answer:
                status = answer.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            # Without its text and without the error itself: they show the URL.
            raise _MayWork(f"the webhook cannot be reached ({type(error).__name__})") from None
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS:
            raise _MayWork(f"the webhook answers {status}")
        if status >= HTTPStatus.MULTIPLE_CHOICES:
            raise DeliveryError(f"the webhook answers {status}")

    def _headers(self, body: bytes) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "User-Agent": f"qcompute/{__version__}"}
        if self._signature is None:
            return headers
        at = str(int(time.time()))
        word = hmac.new(self._signature.reveal().encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
        return headers | {"X-Qcompute-Timestamp": at, "X-Qcompute-Signature": f"sha256={word}"}

    def _given_up(self, why: str) -> None:
        meters.alert_sent(delivered=False)
        _log.error(
            "an alert was not delivered: %s; see the secret that alerts.webhook names", why, extra={"action": "alert"}
        )


def open_webhook(settings: AlertSettings) -> Webhook | None:
    """The webhook of the settings; None when there is none.

    Raises:
        ConfigError: a secret is missing, or the URL will not do; names the setting, never the URL.
    """
    if settings.webhook is None:
        return None
    signature = None if settings.signature is None else named(settings.signature)
    return Webhook(named(settings.webhook), message_format=settings.format, signature=signature)


def _check(url: Secret) -> None:
    try:
        parts = urlsplit(url.reveal())
        host = parts.hostname or ""
    except ValueError:
        raise ConfigError(f"the secret {url.name!r} (alerts.webhook) is no URL") from None
    if not host or not (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))):
        raise ConfigError(
            f"the secret {url.name!r} (alerts.webhook) is no URL that begins with https://, or with http:// for this "
            "machine itself"
        )
