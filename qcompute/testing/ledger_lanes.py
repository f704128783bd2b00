"""Tests every ledger inherits: whose work a row is, and that nobody writes under a tenure that is over."""

# ruff: noqa: D102, S101, PLR2004 - these are tests: their names say what they show, in asserts about plain numbers

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from qcompute.errors import StaleRow
from qcompute.ledger.claims import Fenced, Tenure
from qcompute.ledger.contract import Ledger, Postponed
from qcompute.miner.job import NOBODYS_LANE, Job, State, Verdict
from qcompute.testing.ledger_fixtures import LedgerFixtures, listening
from qcompute.testing.ledger_records import START_OF_TIME, SetClock, brought_to
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
        with (
            listening(ledger, State.SUBMITTING, lane="ibm") as ibm,
            listening(ledger, State.SUBMITTING, lane="ionq") as ionq,
        ):
            await _at(ledger, "a", "ionq", State.SUBMITTING)
            assert ionq.has_heard()
            assert not ibm.has_heard()

    async def test_a_job_that_goes_to_another_account_wakes_that_one(self, ledger: Ledger) -> None:
        job = await _at(ledger, "a", "ibm", State.SUBMITTING)
        with listening(ledger, State.SUBMITTING, lane="ionq") as ionq:
            await ledger.save(job, replace(job, provider=ProviderKey("ionq")))
            assert ionq.has_heard()
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


class PollContract(LedgerFixtures):
    """Asking for many jobs that wait."""

    async def test_only_jobs_with_nothing_the_matter_are_polled_in_bulk(self, ledger: Ledger, clock: SetClock) -> None:
        good = await waiting(ledger, "good", submitted_at=clock.now - timedelta(seconds=90))
        for name, changes in {
            "tried": {"attempts": 1},
            "troubled": {"error_code": "unavailable"},
            "cancelled": {"cancel_requested_at": clock.now},
            "late": {"deadline_at": clock.now},
            "nameless": {"handle": None},
            "later": {"due_at": clock.now + timedelta(seconds=1)},
            "elsewhere": {"provider": ProviderKey("ionq")},
        }.items():
            await waiting(ledger, name, **changes)
        await waiting(ledger, "in-hand")
        (poll,) = await ledger.polls_due(clock.now, 10, lane="mock", skip={ExecutionId("in-hand")})
        assert (poll.execution_id, poll.version, poll.vendor_status) == ("good", good.version, good.vendor_status)
        assert poll.age_seconds == 90.0
        assert json.loads(poll.handle) == good.handle
        assert len(await ledger.polls_due(clock.now, 1, lane="mock")) == 1

    async def test_a_postponed_job_is_the_same_but_for_its_time(self, ledger: Ledger, clock: SetClock) -> None:
        job = await waiting(ledger, "a")
        later = clock.now + timedelta(seconds=60)
        await ledger.postpone([Postponed(job.execution_id, job.version, later)])
        assert await ledger.get(job.execution_id) == replace(job, due_at=later)
        assert await ledger.polls_due(clock.now, 10, lane="mock") == []
        assert await ledger.next_due_at(State.WAITING, lane="mock") == later
        stored = await ledger.save(job, replace(job, vendor_status="RUNNING"))
        assert stored.version == job.version + 1, "its version was not touched"

    async def test_a_job_is_postponed_to_its_deadline_at_most(self, ledger: Ledger, clock: SetClock) -> None:
        job = await waiting(ledger, "a", deadline_at=clock.now + timedelta(seconds=30))
        await ledger.postpone([Postponed(job.execution_id, job.version, clock.now + timedelta(seconds=60))])
        assert await ledger.next_due_at(State.WAITING, lane="mock") == job.deadline_at

    async def test_a_job_that_changed_meanwhile_is_not_postponed(self, ledger: Ledger, clock: SetClock) -> None:
        """An operator's cancel makes it due at once; that must stand."""
        job = await waiting(ledger, "a")
        newer = await ledger.save(job, replace(job, cancel_requested_at=clock.now))
        gone = await waiting(ledger, "gone")
        ended = await ledger.save(gone, replace(gone, state=State.SETTLED, verdict=Verdict.FAILED))
        later = clock.now + timedelta(seconds=60)
        await ledger.postpone(
            [
                Postponed(job.execution_id, job.version, later),
                Postponed(gone.execution_id, gone.version, later),
                Postponed(ExecutionId("never"), 1, later),
            ]
        )
        assert await ledger.get(job.execution_id) == newer
        assert await ledger.get(gone.execution_id) == ended

    async def test_under_a_tenure_that_is_over_nothing_is_postponed(self, ledger: Ledger, clock: SetClock) -> None:
        job = await waiting(ledger, "a")
        old = await ledger.claims.take("mock")
        assert old is not None
        await ledger.postpone([Postponed(job.execution_id, job.version, clock.now)], tenure=old)
        over = replace(old, fence=old.fence - 1)
        with pytest.raises(Fenced):
            await ledger.postpone([Postponed(job.execution_id, job.version, clock.now + timedelta(1))], tenure=over)
        assert await ledger.next_due_at(State.WAITING, lane="mock") == clock.now


async def waiting(ledger: Ledger, name: str, **changes: Any) -> Job:  # noqa: ANN401 - columns
    """A job that waits in the lane ``mock``, due now."""
    job = await brought_to(ledger, name, State.SUBMITTING)
    after = replace(
        job, state=State.WAITING, provider=ProviderKey("mock"), handle={"provider_job_id": name}, due_at=START_OF_TIME
    )
    return await ledger.save(job, replace(after, vendor_status="QUEUED", **changes))
