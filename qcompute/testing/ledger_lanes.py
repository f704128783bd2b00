"""Tests every ledger inherits: whose work a row is, and that nobody writes under a tenure that is over."""

# ruff: noqa: D102, S101, PLR2004 - these are tests: their names say what they show, in asserts about plain numbers

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from qcompute.errors import StaleRow
from qcompute.ledger.claims import Fenced, Tenure
from qcompute.ledger.contract import Ledger
from qcompute.miner.job import NOBODYS_LANE, Job, State
from qcompute.testing.ledger_fixtures import WAIT_SECONDS, LedgerFixtures
from qcompute.testing.ledger_records import brought_to
from qcompute.units import ExecutionId, ProviderKey


async def _at(ledger: Ledger, name: str, account: str | None, state: State = State.WAITING) -> Job:
    job = await brought_to(ledger, name, State.READY)
    provider = None if account is None else ProviderKey(account)
    job = await ledger.save(job, replace(job, state=State.SUBMITTING, provider=provider))
    return job if state is State.SUBMITTING else await ledger.save(job, replace(job, state=state))


async def _names(ledger: Ledger, state: State, at: datetime, lane: str) -> list[str]:
    return [job.execution_id for job in await ledger.due(state, at, 10, lane=lane)]


class LaneContract(LedgerFixtures):
    """Rows of several accounts."""

    async def test_each_account_sees_its_own_rows(self, ledger: Ledger) -> None:
        job = await _at(ledger, "a", "ibm")
        await _at(ledger, "b", "ionq")
        await _at(ledger, "c", "ibm", State.SUBMITTING)
        await _at(ledger, "d", None)
        assert await _names(ledger, State.WAITING, job.due_at, "ibm") == ["a"]
        assert await _names(ledger, State.WAITING, job.due_at, "ionq") == ["b"]
        assert await _names(ledger, State.SUBMITTING, job.due_at, "ibm") == ["c"]
        assert await _names(ledger, State.WAITING, job.due_at, NOBODYS_LANE) == ["d"]
        assert await ledger.lanes(State.WAITING) == {"ibm", "ionq"}
        assert await ledger.lanes(State.SUBMITTING) == {"ibm"}
        assert await ledger.lanes(State.READY) == set()

    @pytest.mark.parametrize("state", [State.HELD, State.SETTLED])
    async def test_rows_that_left_their_account_are_nobodys(self, ledger: Ledger, state: State) -> None:
        job = await _at(ledger, "a", "ibm", state)
        assert job.provider == "ibm"
        assert await _names(ledger, state, job.due_at, NOBODYS_LANE) == ["a"]
        assert await ledger.lanes(state) == set()

    async def test_the_next_one_due_is_that_of_the_lane(self, ledger: Ledger) -> None:
        job = await _at(ledger, "a", "ibm")
        await ledger.save(job, replace(job, due_at=job.due_at + timedelta(seconds=5)))
        assert await ledger.next_due_at(State.WAITING, lane="ibm") == job.due_at + timedelta(seconds=5)
        assert await ledger.next_due_at(State.WAITING, lane="ionq") is None
        assert await ledger.next_due_at(State.WAITING) is None

    async def test_only_the_stage_of_the_lane_wakes(self, ledger: Ledger) -> None:
        waiting = {
            lane: asyncio.create_task(ledger.wait_for_arrival(State.SUBMITTING, WAIT_SECONDS, lane=lane))
            for lane in ("ibm", "ionq")
        }
        await _at(ledger, "a", "ionq", State.SUBMITTING)
        await waiting["ionq"]
        assert not waiting["ibm"].done()
        waiting["ibm"].cancel()
        await asyncio.wait([waiting["ibm"]])

    async def test_a_job_that_goes_to_another_account_wakes_that_one(self, ledger: Ledger) -> None:
        job = await _at(ledger, "a", "ibm", State.SUBMITTING)
        waiting = asyncio.create_task(ledger.wait_for_arrival(State.SUBMITTING, WAIT_SECONDS, lane="ionq"))
        await asyncio.sleep(0)
        await ledger.save(job, replace(job, provider=ProviderKey("ionq")))
        await waiting
        assert await _names(ledger, State.SUBMITTING, job.due_at, "ibm") == []
        assert await _names(ledger, State.SUBMITTING, job.due_at, "ionq") == ["a"]


class FenceContract(LedgerFixtures):
    """Writes in the name of a tenure."""

    @staticmethod
    async def _taken(ledger: Ledger, lane: str) -> Tenure:
        tenure = await ledger.claims.take(lane)
        assert tenure is not None
        return tenure

    async def test_the_holder_writes(self, ledger: Ledger) -> None:
        tenure = await self._taken(ledger, "ibm")
        assert ledger.claims.is_held(tenure)
        job = await _at(ledger, "a", "ibm", State.SUBMITTING)
        stored = await ledger.save(job, replace(job, attempts=1), tenure=tenure)
        assert await ledger.get(ExecutionId("a")) == stored

    async def test_a_tenure_never_taken_writes_nothing(self, ledger: Ledger) -> None:
        job = await _at(ledger, "a", "ibm", State.SUBMITTING)
        for tenure in (Tenure("ibm", 1), Tenure("ibm", 0)):
            with pytest.raises(Fenced, match="ibm"):
                await ledger.save(job, replace(job, attempts=1), tenure=tenure)
        assert await ledger.get(ExecutionId("a")) == job

    async def test_only_its_own_lane_counts(self, ledger: Ledger) -> None:
        await self._taken(ledger, "ionq")
        tenure = await self._taken(ledger, "ibm")
        job = await _at(ledger, "a", "ibm", State.SUBMITTING)
        stale = Tenure("ibm", tenure.fence + 1)
        answers = await asyncio.gather(
            ledger.save(job, replace(job, attempts=1), tenure=stale),
            ledger.save(job, replace(job, attempts=2), tenure=tenure),
            return_exceptions=True,
        )
        assert isinstance(answers[0], Fenced)
        assert not isinstance(answers[1], BaseException)
        assert answers[1].attempts == 2

    async def test_a_stale_row_is_stale_in_any_name(self, ledger: Ledger) -> None:
        tenure = await self._taken(ledger, "ibm")
        job = await _at(ledger, "a", "ibm", State.SUBMITTING)
        await ledger.save(job, replace(job, attempts=1), tenure=tenure)
        with pytest.raises(StaleRow):
            await ledger.save(job, replace(job, attempts=2), tenure=tenure)

    async def test_fences_grow(self, ledger: Ledger) -> None:
        first = await self._taken(ledger, "ibm")
        await ledger.claims.let_go(first)
        second = await self._taken(ledger, "ibm")
        assert second.fence > first.fence
        job = await _at(ledger, "a", "ibm", State.SUBMITTING)
        with pytest.raises(Fenced):
            await ledger.save(job, replace(job, attempts=1), tenure=first)
        await ledger.save(job, replace(job, attempts=1), tenure=second)
