"""The time of the road: the machine's, without its steps back.

When a row is due stands in the row, as a time. Were the machine's clock set back by an hour, every row written before
would lie still for that hour.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from qcompute.units import utc_now

PACE: Final = 0.5
"""How fast this clock runs while the machine's is behind it: a step back of an hour is made good in two."""


class ForwardClock:
    """Called, it gives the time (aware UTC). It follows the machine's clock forward, and never goes back."""

    def __init__(
        self, *, wall: Callable[[], datetime] = utc_now, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._asked_at = monotonic()
        self._shown = wall()

    def __call__(self) -> datetime:
        """The time now; later than at any call before."""
        now = self._monotonic()
        passed = timedelta(seconds=PACE * (now - self._asked_at))
        self._asked_at = now
        self._shown = max(self._wall(), self._shown + passed)
        return self._shown
