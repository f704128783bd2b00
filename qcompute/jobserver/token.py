"""The bearer token every platform call carries: asked for with a claim the hotkey signed, when first needed.

The claim is the platform's own: base64 of JSON with the hotkey, the time, and a signature over the hotkey's ss58 text
(wire document, section 3). The token service being down delays deliveries and nothing else.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from qcompute.chain.contract import Signer
from qcompute.errors import DeliveryError
from qcompute.jobserver.settings import JobServerSettings
from qcompute.jobserver.web import checked_base, failed, is_success, new_session, read_object, unreachable

_log = logging.getLogger(__name__)

EARLY_SECONDS: Final = 60.0
"""A token is renewed when less than this is left of it, or a fifth of its life if that is shorter."""

FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 60.0
_WHAT: Final = "GET token"


@dataclass(frozen=True, slots=True)
class _Token:
    text: str = field(repr=False)
    renew_at: float


class TokenSource:
    """One token for all callers. Callers that need one at the same time share one request.

    ``is_logged``: what goes wrong is written to the log; not for a caller who tells it himself.
    """

    def __init__(
        self,
        settings: JobServerSettings,
        signer: Signer,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        unix: Callable[[], float] = time.time,
        is_logged: bool = True,
    ) -> None:
        self._is_logged = is_logged
        self._url = checked_base(settings.tensorauth_url, "TENSORAUTH_URL", settings) + "/token"
        self._settings = settings
        self._signer = signer
        self._monotonic = monotonic
        self._unix = unix
        self._session: aiohttp.ClientSession | None = None
        self._token: _Token | None = None
        self._asking: asyncio.Task[_Token] | None = None
        self._failures = 0
        self._silent_until = 0.0

    async def get(self) -> str:
        """A token that is good for a while.

        Raises:
            DeliveryError: the token service cannot be had now; within a pause after a failure it is not even asked.
        """
        if self._token is not None and self._monotonic() < self._token.renew_at:
            return self._token.text
        if self._asking is None:
            if (left := self._silent_until - self._monotonic()) > 0:
                raise DeliveryError("the token service failed a moment ago", retry_after_seconds=left)
            self._asking = asyncio.create_task(self._renew())
            self._asking.add_done_callback(self._asked)
        asking = self._asking
        try:
            # Shielded: one caller that gives up must not take the answer away from the others.
            return (await asyncio.shield(asking)).text
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if asking.cancelled() and caller is not None and not caller.cancelling():
                raise DeliveryError("the client was closed") from None
            raise

    def invalidate(self, text: str) -> None:
        """The platform refused this token: the next `get` asks for a new one. A newer token is left alone."""
        if self._token is not None and self._token.text == text:
            self._token = None

    async def close(self) -> None:
        """Close the connection; safe to call twice."""
        if (asking := self._asking) is not None:
            asking.cancel()
            await asyncio.wait([asking])
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _asked(self, task: asyncio.Task[_Token]) -> None:
        self._asking = None
        if not task.cancelled():
            task.exception()  # heard here even when every caller has gone

    async def _renew(self) -> _Token:
        try:
            self._token = await self._ask()
        except DeliveryError as error:
            self._failures += 1
            pause = min(FIRST_PAUSE_SECONDS * 2 ** min(self._failures - 1, 10), LONGEST_PAUSE_SECONDS)
            pause = max(pause * random.uniform(0.5, 1.0), min(error.retry_after_seconds or 0.0, LONGEST_PAUSE_SECONDS))  # noqa: S311 - spreading load
            self._silent_until = self._monotonic() + pause
            if self._failures == 1 and self._is_logged:
                _log.warning("no token: %s; deliveries wait", error, extra={"action": "token"})
            raise
        if self._failures:
            _log.info("the token service answers again", extra={"action": "token"})
        self._failures = 0
        return self._token

    async def _ask(self) -> _Token:
        if self._session is None:
            self._session = new_session(
                total_seconds=self._settings.request_timeout_seconds,
                connect_seconds=self._settings.connect_timeout_seconds,
            )
        asked_at = self._monotonic()
        headers = {"Authorization": f"Bearer {self._claim()}"}
        try:
            async with self._session.get(self._url, headers=headers, allow_redirects=False) as response:
                if not is_success(response):
                    raise failed(_WHAT, response)
                return _read(await read_object(response, _WHAT), asked_at)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise unreachable(_WHAT, error) from None

    def _claim(self) -> str:
        hotkey = self._signer.hotkey
        claim = {
            "hotkey": hotkey,
            "timestamp": str(int(self._unix())),
            "signature": base64.b64encode(self._signer.sign(hotkey.encode())).decode(),
            "subnet": self._settings.subnet,
        }
        return base64.b64encode(json.dumps(claim).encode()).decode()


def _read(answer: dict[str, Any], asked_at: float) -> _Token:
    text, lifetime = answer.get("access_token"), _seconds(answer.get("expires_in"))
    # What would not go into a header must not get that far: aiohttp's error would show it.
    if not isinstance(text, str) or not text or not text.isascii() or not text.isprintable() or lifetime is None:
        raise DeliveryError(f"{_WHAT} answered something that is not a token")
    return _Token(text, asked_at + lifetime - min(EARLY_SECONDS, lifetime / 5))


def _seconds(value: object) -> float | None:
    """A number of seconds, also written as text; None for anything else."""
    if not isinstance(value, int | float | str):
        return None
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return None
    return seconds if math.isfinite(seconds) else None
