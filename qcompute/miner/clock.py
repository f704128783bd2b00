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

STEP_SECONDS: Final = 10.0
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
        moved = (wall - self._seen).total_seconds()
        if abs(moved - passed) >= STEP_SECONDS:
            self._tell(moved - passed)
        # A job asks some twenty times on its road, and nearly always the two go together.
        is_together = self._shown is self._seen and moved >= PACE * passed
        self._shown = wall if is_together else max(wall, self._shown + timedelta(seconds=PACE * passed))
        self._asked_at, self._seen = now, wall
        return self._shown

    def _tell(self, step_seconds: float) -> None:
        way = "ahead" if step_seconds > 0 else "back"
        _log.warning("the machine's clock was set %s by %.0f s", way, abs(step_seconds), extra={"action": "clock"})
