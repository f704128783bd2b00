"""How fast an account may be asked: a token bucket for each verb, and pauses the vendor asks for.

Buckets belong to the account, not to the job: a vendor that bears five submissions a minute bears five, whoever they
are for. A vendor's ``Retry-After`` stops one verb of the whole account, so that a thousand waiting jobs do not each
find out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from qcompute.errors import Unavailable
from qcompute.miner.providers.base import Rate, Verb

Clock = Callable[[], float]


class TokenBucket:
    """``burst`` calls at once, then ``per_second`` on average. Turns are given in the order they are asked for."""

    def __init__(self, rate: Rate, clock: Clock = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._tokens = float(rate.burst)
        self._at = clock()

    async def take(self) -> None:
        """Wait for a turn. Whoever is cancelled while waiting gives the turn back."""
        pause = self._reserved()
        if pause <= 0:
            return
        try:
            await asyncio.sleep(pause)
        except asyncio.CancelledError:
            self._tokens += 1
            raise

    def _reserved(self) -> float:
        """Takes a turn and returns in how many seconds it comes."""
        now = self._clock()
        self._tokens = min(self._tokens + (now - self._at) * self._rate.per_second, float(self._rate.burst))
        self._at = now
        self._tokens -= 1
        return -self._tokens / self._rate.per_second


class Pace:
    """The buckets and pauses of one account."""

    def __init__(self, rates: Mapping[Verb, Rate], clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._buckets = {verb: TokenBucket(rate, clock) for verb, rate in rates.items()}
        self._paused_until: dict[Verb, float] = {}

    async def turn(self, verb: Verb) -> None:
        """Wait until this verb may be used.

        Raises:
            Unavailable: the vendor asked for a pause that is not over; nothing was sent.
        """
        self._check(verb)
        if (bucket := self._buckets.get(verb)) is not None:
            await bucket.take()
            self._check(verb)

    def pause(self, verb: Verb, seconds: float) -> None:
        """Let nobody use this verb for so long; a shorter pause never cuts a longer one."""
        self._paused_until[verb] = max(self._paused_until.get(verb, 0.0), self._clock() + seconds)

    def _check(self, verb: Verb) -> None:
        left = self._paused_until.get(verb, 0.0) - self._clock()
        if left > 0:
            raise Unavailable(f"the vendor asked for a pause of {verb}s", retry_after_seconds=left)
