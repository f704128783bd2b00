"""What the tests of a ledger are given; `qcompute.testing.ledger_contract` puts them together."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
from contextlib import contextmanager

import pytest

from qcompute.ledger.contract import Ledger
from qcompute.miner.job import NOBODYS_LANE, Job, State
from qcompute.testing.ledger_records import SetClock

WAIT_SECONDS = 20
"""Long enough for a loaded machine; nothing here waits for time to pass."""


class Ear:
    """Listens to a lane as its stage does; `listening` makes one."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def hear(self, jobs: Sequence[Job] | None) -> None:
        """See `qcompute.ledger.contract.Hear`."""
        del jobs
        self._event.set()

    def has_heard(self) -> bool:
        """Whether anything has arrived since this was asked last."""
        heard = self._event.is_set()
        self._event.clear()
        return heard

    async def until_heard(self) -> None:
        """Wait for the next arrival, or for none when there was one since `has_heard`."""
        async with asyncio.timeout(WAIT_SECONDS):
            await self._event.wait()
        self._event.clear()


@contextmanager
def listening(ledger: Ledger, state: State, *, lane: str = NOBODYS_LANE) -> Generator[Ear]:
    """An ear at a lane."""
    ear = Ear()
    with ledger.hearing(state, ear.hear, lane=lane):
        yield ear


class LedgerFixtures:
    """A clock that the test sets, and the ledger that reads it."""

    @pytest.fixture
    def clock(self) -> SetClock:
        """The ledger's clock."""
        return SetClock()

    @pytest.fixture
    def ledger(self, clock: SetClock) -> Ledger:
        """An empty ledger, closed afterwards; to be supplied."""
        raise NotImplementedError(f"supply a ledger that reads {clock}")
