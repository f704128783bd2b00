"""Removes what is old: jobs closed long ago, nonces of requests that would be stale, charges of past years."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from qcompute.errors import StoreError
from qcompute.ledger.contract import Ledger
from qcompute.miner.budget import CHARGES_KEPT

_log = logging.getLogger(__name__)

PURGE_SECONDS: Final = 3600.0

NONCES_KEPT: Final = timedelta(hours=3)
"""Requests this old are refused as stale, so their nonces may be forgotten; three hours, in case our clock is set back,
and no more, because a validator may use a new scope with each request."""


class Purge:
    """Closed jobs are kept for ``retention_days``."""

    def __init__(self, ledger: Ledger, *, retention_days: float, clock: Callable[[], datetime]) -> None:
        self._ledger = ledger
        self._kept = timedelta(days=retention_days)
        self._clock = clock

    async def run(self) -> None:
        """Remove at once and every hour, until cancelled."""
        while True:
            try:
                await self.once()
            except StoreError as error:
                # What is too old can wait for the next time; the stages decide how long a failing ledger is borne.
                _log.warning("nothing was removed: %s", error, extra={"action": "purge"})
            await asyncio.sleep(PURGE_SECONDS)

    async def once(self) -> None:
        """Remove what is too old now.

        Raises:
            StoreError: the database failed.
        """
        now = self._clock()
        await self._ledger.forget_nonces(int((now - NONCES_KEPT).timestamp()) * 1_000_000_000)
        await self._ledger.forget_charges(now - CHARGES_KEPT)
        removed = await self._ledger.purge(now - self._kept)
        if removed:
            _log.info("removed %d jobs closed long ago", removed, extra={"action": "purge"})
