"""Rows in lanes that nobody here works on: their account was taken out of the settings, or renamed.

They may have been paid for, so they are held for the operator and not failed at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from qcompute.errors import StaleRow, StoreError
from qcompute.miner.job import NOBODYS_LANE, Job, State
from qcompute.miner.road import Road

_log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 30.0
"""Accounts come and go with ``qcompute connections``; rows of one that went are in no hurry."""

_BATCH: Final = 200
_WHENEVER: Final = datetime(9000, 1, 1, tzinfo=UTC)


class Strays:
    """Holds rows of accounts that are not in what ``known`` says at the time."""

    def __init__(self, road: Road, known: Callable[[], Awaitable[AbstractSet[str]]], *, held_seconds: float) -> None:
        self._road = road
        self._known = known
        self._held = timedelta(seconds=held_seconds)

    async def run(self) -> None:
        """Look at once and again from time to time, until cancelled."""
        while True:
            try:
                await self.look()
            except StoreError as error:
                # The stages decide how long a failing ledger is borne.
                _log.warning("stray jobs were not looked for: %s", error, extra={"action": "strays"})
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Hold every stray row there is."""
        known = await self._known()
        for state in (State.SUBMITTING, State.WAITING):
            for lane in {NOBODYS_LANE, *await self._road.ledger.lanes(state)} - known:
                while rows := await self._road.ledger.due(state, _WHENEVER, _BATCH, lane=lane):
                    await asyncio.gather(*(self._hold(job) for job in rows))

    async def _hold(self, job: Job) -> None:
        where = "no account" if job.provider is None else f"the account {job.provider}"
        text = f"this job is at {where}, which this miner does not have; set it up again, or end the job by hand"
        due_at = self._road.clock() + self._held
        held = replace(job, state=State.HELD, due_at=due_at, error_code="other_provider", error=text)
        try:
            await self._road.save(job, held)
        except StaleRow:
            return  # somebody else took it on meanwhile
