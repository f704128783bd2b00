"""Telemetry datapoints: queued without waiting, sent in small batches, never worth a job.

The format is the reference's (wire document, section 3). A service that is down costs the oldest points and one line
in the log, however long it lasts.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import aiohttp

from qcompute.errors import DeliveryError
from qcompute.jobserver.settings import JobServerSettings
from qcompute.jobserver.token import TokenSource
from qcompute.jobserver.web import checked_base, failed, is_success, new_session, read_bounded, unreachable
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
_UNAUTHORIZED: Final = 401
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
        """Queue one datapoint; never waits, never raises."""
        if self._url is None:
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
            point["attributes"] = attributes
        if len(self._points) >= MAX_POINTS:
            self._points.popleft()
            self._dropped += 1
        self._points.append(point)
        self._some.set()

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            await self._some.wait()
            sent = await self._send_batch()
            await asyncio.sleep(PAUSE_SECONDS if sent else self._pause_seconds())

    async def stop(self) -> None:
        """Send what is waiting, a few batches at most, and close; what cannot be sent at once is dropped."""
        for _ in range(FLUSH_POSTS):
            if not self._points or not await self._send_batch():
                break
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _pause_seconds(self) -> float:
        return min(PAUSE_SECONDS * 2 ** min(self._failures, 10), LONGEST_PAUSE_SECONDS)

    async def _send_batch(self) -> bool:
        batch = [self._points[index] for index in range(min(BATCH, len(self._points)))]
        try:
            await self._post(batch)
        except DeliveryError as error:
            self._failures += 1
            if self._failures == 1:
                _log.warning("telemetry cannot be sent: %s", error, extra={"action": "telemetry"})
            return False
        # While it was under way the oldest may have been dropped to make room; do not drop others for them.
        for point in batch:
            if self._points and self._points[0] is point:
                self._points.popleft()
        if not self._points:
            self._some.clear()
        if self._failures:
            _log.info(
                "telemetry is sent again; %d points were dropped meanwhile",
                self._dropped,
                extra={"action": "telemetry"},
            )
        self._failures = self._dropped = 0
        return True

    async def _post(self, batch: list[dict[str, Any]]) -> None:
        if self._url is None:
            return
        if self._session is None:
            self._session = new_session(
                total_seconds=self._settings.request_timeout_seconds,
                connect_seconds=self._settings.connect_timeout_seconds,
            )
        token = await self._tokens.get()
        headers = self._headers | {"Authorization": f"Bearer {token}"}
        try:
            async with self._session.post(
                self._url, json={"datapoints": batch}, headers=headers, allow_redirects=False
            ) as response:
                await read_bounded(response)
                if response.status == _UNAUTHORIZED:
                    self._tokens.invalidate(token)
                if not is_success(response):
                    raise failed(_WHAT, response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise unreachable(_WHAT, error) from None
