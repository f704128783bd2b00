"""The tests every ledger inherits.

A subclass supplies the fixture ``ledger``, an empty one whose clock is the fixture ``clock``::

    class TestMine(LedgerContract):
        @pytest.fixture
        async def ledger(self, clock: SetClock) -> AsyncIterator[Ledger]:
            ledger = MyLedger(clock=clock)
            yield ledger
            await ledger.close()

Needs ``pytest`` and ``pytest-asyncio`` in automatic mode.
"""

# ruff: noqa: D102 - these are tests: their names say what they show, in asserts about plain numbers

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from qcompute.errors import StaleRow, StoreError
from qcompute.ledger.contract import Intake, Ledger, OpenWork
from qcompute.miner.job import Job, State, Verdict
from qcompute.protocol import FIRST_CURSOR
from qcompute.testing.ledger_charges import MOCK, ChargeContract
from qcompute.testing.ledger_collecting import CollectContract, PurgeContract
from qcompute.testing.ledger_fixtures import Ear, LedgerFixtures, listening
from qcompute.testing.ledger_intake import DueContract, IntakeContract
from qcompute.testing.ledger_lanes import FenceContract, LaneContract, PollContract
from qcompute.testing.ledger_records import (
    START_OF_TIME,
    accepted,
    brought_to,
    new_job,
    nonce,
    own_nonce,
)
from qcompute.testing.ledger_saving import SaveContract
from qcompute.testing.ledger_splitting import SplitContract
from qcompute.units import DeviceId, ProviderKey


class ArrivalContract(LedgerFixtures):
    """Waking the stages."""

    @pytest.fixture
    async def new(self, ledger: Ledger) -> AsyncIterator[Ear]:
        """Hears of accepted jobs."""
        with listening(ledger, State.ACCEPTED) as ear:
            yield ear

    @pytest.fixture
    async def ready(self, ledger: Ledger) -> AsyncIterator[Ear]:
        """Hears of jobs that are ready."""
        with listening(ledger, State.READY) as ear:
            yield ear

    async def test_a_waiting_stage_wakes_when_a_job_is_accepted(self, ledger: Ledger, new: Ear) -> None:
        waiting = asyncio.create_task(new.until_heard())
        await asyncio.sleep(0)
        assert not waiting.done()
        await ledger.accept(new_job("a"), nonce(1))
        await waiting

    async def test_a_move_arrives_in_its_new_state_only(self, ledger: Ledger, new: Ear, ready: Ear) -> None:
        job = await accepted(ledger, "a")
        assert new.has_heard()
        assert not new.has_heard()
        await ledger.save(job, replace(job, state=State.READY))
        assert not new.has_heard()
        assert ready.has_heard()

    async def test_a_stay_arrives_when_it_makes_the_job_due_earlier(self, ledger: Ledger, new: Ear) -> None:
        job = await accepted(ledger, "a")
        assert new.has_heard()
        later = await ledger.save(job, replace(job, due_at=job.due_at + timedelta(seconds=9)))
        assert not new.has_heard()
        await ledger.save(later, job)
        assert new.has_heard()

    async def test_what_was_refused_does_not_arrive(self, ledger: Ledger, new: Ear, ready: Ear) -> None:
        job = await accepted(ledger, "a")
        assert new.has_heard()
        await ledger.accept(new_job("a"), nonce(7))
        await ledger.accept(new_job("b"), nonce(7))
        with pytest.raises(StaleRow):
            await ledger.save(replace(job, version=9), replace(job, state=State.READY))
        assert not new.has_heard()
        assert not ready.has_heard()

    async def test_whoever_listens_is_given_each_job_as_stored_before_its_writer_goes_on(self, ledger: Ledger) -> None:
        heard: list[Job] = []

        def hear(jobs: Sequence[Job] | None) -> None:
            heard.extend(jobs or ())

        with ledger.hearing(State.ACCEPTED, hear), ledger.hearing(State.SUBMITTING, hear, lane="mock"):
            job = await accepted(ledger, "a")
            assert heard == [job]
            ready = await ledger.save(job, replace(job, state=State.READY), circuit="c")
            submitting = await ledger.save(
                ready, replace(ready, state=State.SUBMITTING, provider=ProviderKey("mock"), handle={"at": (1, 2)})
            )
            assert heard == [job, submitting]
            await ledger.save(submitting, replace(submitting, state=State.SUBMITTING, provider=ProviderKey("ionq")))
        await accepted(ledger, "b")
        assert heard == [job, submitting], "of another lane, or after the end"


class CloseContract(LedgerFixtures):
    """The end."""

    async def test_closing_finishes_the_writes_under_way(self, ledger: Ledger) -> None:
        writes = [asyncio.create_task(ledger.accept(new_job(f"j{n}"), own_nonce(f"j{n}"))) for n in range(50)]
        await asyncio.sleep(0)
        await ledger.close()
        assert [await write for write in writes] == [Intake.ACCEPTED] * 50

    async def test_closing_twice_is_closing_once(self, ledger: Ledger) -> None:
        await asyncio.gather(ledger.close(), ledger.close())
        await ledger.close()

    async def test_every_call_after_the_end_is_refused(self, ledger: Ledger) -> None:
        job = await accepted(ledger, "a")
        await ledger.close()
        calls = [
            ledger.accept(new_job("b"), nonce(9)),
            ledger.use_nonce(nonce(9)),
            ledger.forget_nonces(9),
            ledger.due(State.ACCEPTED, START_OF_TIME, 1),
            ledger.next_due_at(State.ACCEPTED),
            ledger.save(job, replace(job, attempts=1)),
            ledger.split(job, job, []),
            ledger.parts(job.execution_id),
            ledger.get(job.execution_id),
            ledger.circuit(job.execution_id),
            ledger.outcome(job.execution_id),
            ledger.receipt(job.execution_id),
            ledger.finished_after(FIRST_CURSOR, 1),
            ledger.count_by_state(),
            ledger.open_by_validator(),
            ledger.purge(START_OF_TIME),
            ledger.charged_by_day(MOCK, START_OF_TIME),
            ledger.open_charges(MOCK),
            ledger.forget_charges(START_OF_TIME),
        ]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(answer) for answer in answers] == [StoreError] * len(calls)

    async def test_a_cancelled_caller_leaves_the_ledger_sound(self, ledger: Ledger) -> None:
        call = asyncio.create_task(ledger.accept(new_job("a"), nonce(1)))
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])
        assert await ledger.accept(new_job("b"), nonce(2)) is Intake.ACCEPTED
        counts = await ledger.count_by_state()
        assert counts[State.ACCEPTED] == len(await ledger.due(State.ACCEPTED, START_OF_TIME, 10))


class OpenWorkContract(LedgerFixtures):
    """What is to be done, in figures."""

    async def test_open_jobs_are_counted_by_state_account_and_device(self, ledger: Ledger) -> None:
        assert await ledger.open_work() == []
        early, late = START_OF_TIME, START_OF_TIME + timedelta(seconds=5)
        await accepted(ledger, "a", received_at=late)
        await accepted(ledger, "b", received_at=early)
        await brought_to(ledger, "c", State.CLOSED)
        ready = await brought_to(ledger, "d", State.READY)
        placed = replace(ready, state=State.SUBMITTING, provider=MOCK, device_id=DeviceId("sim"))
        await ledger.save(ready, placed)
        settled = await accepted(ledger, "e")
        await ledger.save(
            settled, replace(settled, state=State.SETTLED, verdict=Verdict.FAILED, provider=MOCK, settled_at=late)
        )
        found = {one.state: one for one in await ledger.open_work()}
        assert found == {
            State.ACCEPTED: OpenWork(State.ACCEPTED, None, None, 2, early, None),
            State.SUBMITTING: OpenWork(State.SUBMITTING, MOCK, DeviceId("sim"), 1, early, None),
            State.SETTLED: OpenWork(State.SETTLED, MOCK, None, 1, early, late),
        }


class LedgerContract(
    IntakeContract,
    DueContract,
    SaveContract,
    ChargeContract,
    CollectContract,
    PurgeContract,
    LaneContract,
    FenceContract,
    SplitContract,
    PollContract,
    ArrivalContract,
    OpenWorkContract,
    CloseContract,
):
    """All of the above: what a ledger must do."""
