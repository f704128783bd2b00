"""The time of the road: the machine's, without its steps back.

When a row is due stands in the row, as a time. Were the machine's clock set back by an hour, every row written before
would lie still for that hour.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from qcompute.units import utc_now

_log = logging.getLogger(__name__)

PACE: Final = 0.5
"""How fast this clock runs while the machine's is behind it: a step back of an hour is made good in two."""

STEP: Final = timedelta(seconds=10)
"""A step of the machine's clock is told from this on; time services correct less without a step."""


class ForwardClock:
    """Called, it gives the time (aware UTC). It follows the machine's clock forward, and never goes back."""

    def __init__(
        self, *, wall: Callable[[], datetime] = utc_now, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._asked_at = monotonic()
        self._seen = self._shown = wall()

    def __call__(self) -> datetime:
        """The time now; later than at any call before."""
        now, wall = self._monotonic(), self._wall()
        passed = now - self._asked_at
        self._tell(wall - self._seen - timedelta(seconds=passed))
        self._asked_at, self._seen = now, wall
        self._shown = max(wall, self._shown + timedelta(seconds=PACE * passed))
        return self._shown

    def _tell(self, step: timedelta) -> None:
        if abs(step) >= STEP:
            way = "ahead" if step > timedelta(0) else "back"
            seconds = abs(step).total_seconds()
            _log.warning("the machine's clock was set %s by %.0f s", way, seconds, extra={"action": "clock"})
