"""Telemetry datapoints: queued without waiting, sent in small batches, never worth a job.

The format is the reference's (wire document, section 3). A service that is down costs the oldest points and one line
in the log, however long it lasts.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import aiohttp

from qcompute.errors import DeliveryError
from qcompute.jobserver.settings import JobServerSettings
from qcompute.jobserver.token import TokenSource
from qcompute.jobserver.web import checked_base, failed, is_success, new_session, unreachable
from qcompute.units import Hotkey, utc_now

_log = logging.getLogger(__name__)

MAX_POINTS: Final = 1000
"""Points kept while the service is down; the oldest are dropped first."""
BATCH: Final = 10
"""Points in one POST: the service's own limit."""
PAUSE_SECONDS: Final = 1.0
"""Between two POSTs."""
LONGEST_PAUSE_SECONDS: Final = 60.0
FLUSH_POSTS: Final = 5
FLUSH_SECONDS: Final = 2.0
"""How long the end waits for what is still queued; the daemon allows three seconds."""
_UNAUTHORIZED: Final = 401
_NEVER_TAKEN: Final = frozenset({400, 413, 422})
"""The service does not understand a batch and never will: keeping it would hold up all others."""
_WHAT: Final = "POST datapoints"


class Telemetry:
    """A bounded queue of datapoints and the task that sends them. Without ``metrics_api_url`` it does nothing."""

    def __init__(
        self,
        settings: JobServerSettings,
        tokens: TokenSource,
        *,
        network: str,
        miner_hotkey: Hotkey,
        miner_uid: Callable[[], int | None],
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        url = settings.metrics_api_url
        self._url = checked_base(url, "METRICS_API_URL", settings) + "/v1/datapoints" if url else None
        self._settings = settings
        self._tokens = tokens
        self._headers = {"X-Service-Name": "bittensor.sn48.miner", "X-Network": network}
        self._hotkey = miner_hotkey
        self._uid = miner_uid
        self._clock = clock
        self._points: deque[dict[str, Any]] = deque()
        self._dropped = 0
        self._failures = 0
        self._some = asyncio.Event()
        self._sending = asyncio.Lock()
        self._stopped = False
        self._session: aiohttp.ClientSession | None = None

    @property
    def waiting(self) -> int:
        """Points not yet sent."""
        return len(self._points)

    def point(
        self,
        kind: str,
        *,
        number: float | None = None,
        text: str | None = None,
        attributes: dict[str, str] | None = None,
    ) -> None:
        """Queue one datapoint; never waits, never raises. A number that JSON cannot say is left out altogether."""
        if self._url is None or self._stopped or (number is not None and not math.isfinite(number)):
            return
        point: dict[str, Any] = {"type": kind, "timestamp": self._clock().isoformat()}
        if (uid := self._uid()) is not None:
            point["miner_uid"] = uid
        point["miner_hotkey"] = self._hotkey
        if number is not None:
            point["numeric_value"] = number
        if text is not None:
            point["string_value"] = text
        if attributes:
            point["attributes"] = dict(attributes)
        if len(self._points) >= MAX_POINTS:
            self._points.popleft()
            self._dropped += 1
        self._points.append(point)
        self._some.set()

    async def run(self) -> None:
        """Send until cancelled; after `stop` there is nothing left to send and it only waits."""
        while True:
            await self._some.wait()
            async with self._sending:
                pause_seconds = await self._send_batch()
            await asyncio.sleep(pause_seconds)

    async def stop(self) -> None:
        """Send what is waiting, a few batches and seconds at most, and close; the rest is dropped.

        Safe to call twice, and while `run` is still running.
        """
        try:
            async with asyncio.timeout(FLUSH_SECONDS), self._sending:
                for _ in range(FLUSH_POSTS):
                    await self._send_batch()
                    if self._failures or not self._points:
                        break
        except TimeoutError:
            pass
        finally:
            self._stopped = True
            if lost := len(self._points) + self._dropped:
                _log.info("telemetry ends; %d points were never sent", lost, extra={"action": "telemetry"})
            self._points.clear()
            self._dropped = 0
            if self._session is not None:
                await self._session.close()
                self._session = None

    async def _send_batch(self) -> float:
        """Send the oldest points; returns how long to leave the service alone, in seconds."""
        batch = [self._points[index] for index in range(min(BATCH, len(self._points)))]
        if not batch:
            self._some.clear()
            return 0.0
        try:
            taken = await self._post(batch)
        except DeliveryError as error:
            return self._note_failure(error)
        # While it was under way the oldest may have been dropped to make room; do not drop others for them.
        done = [self._points.popleft() for point in batch if self._points and self._points[0] is point]
        if not self._points:
            self._some.clear()
        if not taken:
            self._dropped += len(done)
            return self._note_failure(DeliveryError(f"{_WHAT}: the service does not take our points"))
        self._dropped -= len(batch) - len(done)
        self._note_success()
        return PAUSE_SECONDS

    def _note_failure(self, error: DeliveryError) -> float:
        self._failures += 1
        if self._failures == 1 and not self._stopped:
            _log.warning("telemetry cannot be sent: %s", error, extra={"action": "telemetry"})
        pause = min(PAUSE_SECONDS * 2 ** min(self._failures, 10), LONGEST_PAUSE_SECONDS)
        asked = min(error.retry_after_seconds or 0.0, LONGEST_PAUSE_SECONDS)
        return max(pause * random.uniform(0.5, 1.0), asked, PAUSE_SECONDS)  # noqa: S311 - spreading load

    def _note_success(self) -> None:
        """One line when an outage is over, or when a flood of points is and has cost some."""
        if self._failures or (self._dropped and not self._points):
            _log.info(
                "telemetry is sent again; %d points were dropped meanwhile",
                self._dropped,
                extra={"action": "telemetry"},
            )
            self._dropped = 0
        self._failures = 0

    async def _post(self, batch: list[dict[str, Any]]) -> bool:
        """Whether the service took the batch; False when it never will."""
        token = await self._tokens.get()
        if self._url is None or self._stopped:
            raise DeliveryError("telemetry is closed")
        if self._session is None:
            self._session = new_session(
                total_seconds=self._settings.request_timeout_seconds,
                connect_seconds=self._settings.connect_timeout_seconds,
            )
        headers = self._headers | {"Authorization": f"Bearer {token}"}
        try:
            async with self._session.post(
                self._url, json={"datapoints": batch}, headers=headers, allow_redirects=False
            ) as response:
                if response.status == _UNAUTHORIZED:
                    self._tokens.invalidate(token)
                if not is_success(response) and response.status not in _NEVER_TAKEN:
                    raise failed(_WHAT, response)
                return is_success(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise unreachable(_WHAT, error) from None
