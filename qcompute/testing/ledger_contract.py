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

# ruff: noqa: D102, PLR2004, S101 - these are tests: their names say what they show, in asserts about plain numbers

from __future__ import annotations

import asyncio
import re
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from qcompute.errors import Bug, StaleRow, StoreError
from qcompute.ledger.contract import Intake, Ledger, Page
from qcompute.miner.job import MOVES, Job, State, Verdict
from qcompute.protocol import FIRST_CURSOR
from qcompute.testing.ledger_records import (
    ALICE,
    BOB,
    SIGNED_URL,
    START_OF_TIME,
    SetClock,
    accepted,
    brought_to,
    failed,
    full_job,
    new_job,
    nonce,
    own_nonce,
    succeeded,
)
from qcompute.units import ExecutionId

WAIT_SECONDS = 20
"""Long enough for a loaded machine; nothing here waits for time to pass."""

_FORBIDDEN = [(before, after) for before in State for after in State if after not in MOVES[before]]
_ALLOWED = [(before, after) for before in State for after in MOVES[before]]


async def _close_many(ledger: Ledger, names: list[str]) -> list[Job]:
    return [await brought_to(ledger, name, State.CLOSED) for name in names]


async def _collect(ledger: Ledger, cursor: str, limit: int) -> tuple[list[str], str]:
    """Every id behind a cursor, page by page, and the last cursor."""
    ids: list[str] = []
    while True:
        page = await ledger.finished_after(cursor, limit)
        assert len(page.jobs) <= limit
        if not page.jobs:
            assert page.cursor == cursor
            return ids, cursor
        ids += [job.execution_id for job in page.jobs]
        cursor = page.cursor


class _Fixtures:
    @pytest.fixture
    def clock(self) -> SetClock:
        return SetClock()

    @pytest.fixture
    def ledger(self, clock: SetClock) -> Ledger:
        raise NotImplementedError(f"supply a ledger that reads {clock}")


class IntakeContract(_Fixtures):
    """Requests and nonces."""

    async def test_an_accepted_job_is_a_row_due_at_once(self, ledger: Ledger) -> None:
        request = new_job("a")
        assert await ledger.accept(request, nonce(1)) is Intake.ACCEPTED
        expected = Job(
            execution_id=request.execution_id,
            validator_hotkey=request.validator_hotkey,
            shots=request.shots,
            configuration_data=request.configuration_data,
            received_at=request.received_at,
            deadline_at=request.deadline_at,
            due_at=request.received_at,
            input_data_url=request.input_data_url,
        )
        assert await ledger.get(request.execution_id) == expected
        assert await ledger.due(State.ACCEPTED, request.received_at, 10) == [expected]

    async def test_a_duplicate_leaves_the_row_as_it_is(self, ledger: Ledger) -> None:
        job = await accepted(ledger, "a")
        again = new_job("a", validator=BOB, url="https://else.example/")
        assert await ledger.accept(again, nonce(7, hotkey=BOB)) is Intake.DUPLICATE
        assert await ledger.get(job.execution_id) == job

    async def test_a_duplicate_of_a_closed_job_does_not_run_it_again(self, ledger: Ledger) -> None:
        job = await brought_to(ledger, "a", State.CLOSED)
        assert await ledger.accept(new_job("a"), nonce(7)) is Intake.DUPLICATE
        assert await ledger.get(job.execution_id) == job

    async def test_a_duplicate_uses_its_nonce_up(self, ledger: Ledger) -> None:
        await accepted(ledger, "a")
        await ledger.accept(new_job("a"), nonce(7))
        assert not await ledger.use_nonce(nonce(7))

    async def test_a_replay_stores_nothing(self, ledger: Ledger) -> None:
        await ledger.use_nonce(nonce(7))
        assert await ledger.accept(new_job("a"), nonce(7)) is Intake.REPLAYED
        assert await ledger.get(ExecutionId("a")) is None
        assert await ledger.count_by_state() == dict.fromkeys(State, 0)

    async def test_a_nonce_of_a_job_cannot_be_used_again(self, ledger: Ledger) -> None:
        await ledger.accept(new_job("a"), nonce(7))
        assert not await ledger.use_nonce(nonce(7))
        assert await ledger.accept(new_job("b"), nonce(7)) is Intake.REPLAYED

    async def test_one_of_many_concurrent_duplicates_is_accepted(self, ledger: Ledger) -> None:
        answers = await asyncio.gather(*(ledger.accept(new_job("a"), nonce(value)) for value in range(1, 21)))
        assert sorted(answers) == [Intake.ACCEPTED] + [Intake.DUPLICATE] * 19
        assert (await ledger.count_by_state())[State.ACCEPTED] == 1

    @pytest.mark.parametrize("strictly_growing", [True, False])
    async def test_one_of_many_concurrent_uses_of_a_nonce_passes(
        self, ledger: Ledger, *, strictly_growing: bool
    ) -> None:
        same = nonce(7, strictly_growing=strictly_growing)
        answers = await asyncio.gather(*(ledger.accept(new_job(f"j{number}"), same) for number in range(20)))
        assert sorted(answers) == [Intake.ACCEPTED] + [Intake.REPLAYED] * 19
        assert (await ledger.count_by_state())[State.ACCEPTED] == 1

    async def test_a_growing_nonce_must_exceed_the_greatest_of_its_scope(self, ledger: Ledger) -> None:
        assert await ledger.use_nonce(nonce(100))
        assert not await ledger.use_nonce(nonce(100))
        assert not await ledger.use_nonce(nonce(99))
        assert await ledger.use_nonce(nonce(101))
        assert not await ledger.use_nonce(nonce(100))

    async def test_concurrent_growing_nonces_pass_in_the_order_they_came(self, ledger: Ledger) -> None:
        values = [1, 2, 3, 3, 2, 5, 4, 6]
        answers = await asyncio.gather(*(ledger.use_nonce(nonce(value)) for value in values))
        assert answers == [True, True, True, False, False, True, False, True]

    async def test_scopes_and_hotkeys_are_apart(self, ledger: Ledger) -> None:
        assert await ledger.use_nonce(nonce(100))
        assert await ledger.use_nonce(nonce(1, scope="other"))
        assert await ledger.use_nonce(nonce(1, hotkey=BOB))

    async def test_a_nonce_that_need_not_grow_only_must_not_repeat(self, ledger: Ledger) -> None:
        assert await ledger.use_nonce(nonce(100, strictly_growing=False))
        assert await ledger.use_nonce(nonce(99, strictly_growing=False))
        assert not await ledger.use_nonce(nonce(100, strictly_growing=False))
        assert not await ledger.use_nonce(nonce(99, strictly_growing=False))
        assert await ledger.use_nonce(nonce(100, scope="other", strictly_growing=False))

    async def test_the_two_kinds_of_nonces_do_not_mix(self, ledger: Ledger) -> None:
        assert await ledger.use_nonce(nonce(100))
        assert await ledger.use_nonce(nonce(100, strictly_growing=False))
        assert await ledger.use_nonce(nonce(101))

    async def test_nonces_older_than_a_time_are_forgotten(self, ledger: Ledger) -> None:
        for value in (10, 20, 30):
            await ledger.use_nonce(nonce(value, scope=f"u{value}"))
            await ledger.use_nonce(nonce(value, strictly_growing=False))
        assert await ledger.forget_nonces(20) == 2
        assert await ledger.forget_nonces(20) == 0
        assert await ledger.use_nonce(nonce(10, scope="u10"))
        assert not await ledger.use_nonce(nonce(20, scope="u20"))
        assert not await ledger.use_nonce(nonce(20, strictly_growing=False))

    async def test_a_nonce_beyond_64_bits_is_a_bug_and_stores_nothing(self, ledger: Ledger) -> None:
        with pytest.raises(Bug):
            await ledger.accept(new_job("a"), nonce(2**63))
        with pytest.raises(Bug):
            await ledger.use_nonce(nonce(2**63))
        assert await ledger.get(ExecutionId("a")) is None

    @pytest.mark.parametrize(
        "changes",
        [
            {"received_at": datetime(2026, 11, 21)},  # noqa: DTZ001 - that is what must be refused
            {"configuration_data": {"device": object()}},
            {"shots": 2**63},
            {"execution_id": "\ud800"},
        ],
        ids=["naive time", "not JSON", "too many bits", "lone surrogate"],
    )
    async def test_a_job_that_cannot_be_stored_is_a_bug_that_keeps_its_nonce(
        self, ledger: Ledger, changes: dict[str, Any]
    ) -> None:
        with pytest.raises(Bug):
            await ledger.accept(replace(new_job("a"), **changes), nonce(7))
        assert await ledger.use_nonce(nonce(7))
        assert await ledger.count_by_state() == dict.fromkeys(State, 0)

    async def test_a_bad_request_harms_none_of_its_neighbours(self, ledger: Ledger) -> None:
        bad = replace(new_job("bad"), configuration_data={"device": object()})
        jobs = [new_job(f"j{number}") for number in range(10)]
        jobs.insert(5, bad)
        answers = await asyncio.gather(
            *(ledger.accept(job, own_nonce(job.execution_id)) for job in jobs), return_exceptions=True
        )
        assert isinstance(answers.pop(5), Bug)
        assert answers == [Intake.ACCEPTED] * 10

    async def test_what_a_stranger_may_put_into_the_configuration_comes_back(self, ledger: Ledger) -> None:
        odd: dict[str, Any] = {"text": "\ud800 grün \0", "deep": [[[{}]]], "": None, "number": -1.5e300}
        await ledger.accept(replace(new_job("a"), configuration_data=odd), nonce(1))
        job = await ledger.get(ExecutionId("a"))
        assert job is not None
        assert job.configuration_data == odd

    async def test_a_stored_job_is_not_changed_through_the_callers_objects(self, ledger: Ledger) -> None:
        request = new_job("a")
        await ledger.accept(request, nonce(1))
        request.configuration_data["device"] = "another"
        job = await ledger.get(request.execution_id)
        assert job is not None
        assert job.configuration_data["device"] == "sim"


class DueContract(_Fixtures):
    """What a stage is given to do."""

    async def test_due_jobs_come_longest_due_first_up_to_the_limit(self, ledger: Ledger) -> None:
        for name, seconds in (("c", 3), ("a", 1), ("b", 2), ("late", 9)):
            await accepted(ledger, name, received_at=START_OF_TIME + timedelta(seconds=seconds))
        now = START_OF_TIME + timedelta(seconds=3)
        assert [job.execution_id for job in await ledger.due(State.ACCEPTED, now, 10)] == ["a", "b", "c"]
        assert [job.execution_id for job in await ledger.due(State.ACCEPTED, now, 2)] == ["a", "b"]

    @pytest.mark.parametrize("limit", [0, -1])
    async def test_nothing_is_due_within_no_limit(self, ledger: Ledger, limit: int) -> None:
        await accepted(ledger, "a")
        assert await ledger.due(State.ACCEPTED, START_OF_TIME, limit) == []

    async def test_a_job_is_due_at_its_very_microsecond(self, ledger: Ledger) -> None:
        job = await accepted(ledger, "a")
        moment = timedelta(microseconds=1)
        assert await ledger.due(State.ACCEPTED, job.due_at - moment, 10) == []
        assert await ledger.due(State.ACCEPTED, job.due_at, 10) == [job]

    async def test_only_jobs_of_the_state_are_due(self, ledger: Ledger) -> None:
        for state in State:
            await brought_to(ledger, f"in-{state}", state)
        later = START_OF_TIME + timedelta(days=1)
        for state in State:
            assert [job.execution_id for job in await ledger.due(state, later, 10)] == [f"in-{state}"]

    async def test_the_next_due_time_is_the_earliest_of_the_state(self, ledger: Ledger) -> None:
        assert await ledger.next_due_at(State.ACCEPTED) is None
        for name, seconds in (("b", 2), ("a", 1)):
            await accepted(ledger, name, received_at=START_OF_TIME + timedelta(seconds=seconds))
        assert await ledger.next_due_at(State.ACCEPTED) == START_OF_TIME + timedelta(seconds=1)
        assert await ledger.next_due_at(State.READY) is None

    async def test_unknown_jobs_have_nothing(self, ledger: Ledger) -> None:
        unknown = ExecutionId("nobody")
        assert await ledger.get(unknown) is None
        assert await ledger.circuit(unknown) is None
        assert await ledger.outcome(unknown) is None
        assert await ledger.receipt(unknown) is None

    async def test_jobs_are_counted_by_state_and_by_validator(self, ledger: Ledger) -> None:
        assert await ledger.count_by_state() == dict.fromkeys(State, 0)
        assert await ledger.open_by_validator() == {}
        for state in State:
            await brought_to(ledger, f"alice-{state}", state)
        bobs = await brought_to(ledger, "bob", State.SETTLED, validator=BOB)
        expected = dict.fromkeys(State, 1) | {State.SETTLED: 2}
        assert await ledger.count_by_state() == expected
        assert await ledger.open_by_validator() == {ALICE: len(State) - 1, BOB: 1}
        await ledger.save(bobs, replace(bobs, state=State.CLOSED))
        assert await ledger.open_by_validator() == {ALICE: len(State) - 1}


class SaveContract(_Fixtures):
    """Moving jobs along."""

    async def test_every_field_comes_back_as_it_was_saved(self, ledger: Ledger) -> None:
        job = await accepted(ledger, "a")
        stored = await ledger.save(job, full_job(job))
        assert stored == replace(full_job(job), version=1)
        assert await ledger.get(job.execution_id) == stored
        assigned = {"closed_at", "cursor_seq"}
        assert all(getattr(stored, field.name) is not None for field in fields(stored) if field.name not in assigned)

    async def test_fields_can_be_emptied_again(self, ledger: Ledger) -> None:
        job = await accepted(ledger, "a")
        full = await ledger.save(job, full_job(job))
        emptied = replace(job, version=full.version, input_data_url=None)
        assert await ledger.save(full, emptied) == replace(emptied, version=2)
        assert await ledger.get(job.execution_id) == replace(emptied, version=2)

    async def test_times_of_other_zones_come_back_as_the_same_time_in_utc(self, ledger: Ledger) -> None:
        job = await accepted(ledger, "a")
        elsewhere = job.due_at.astimezone(datetime.strptime("+0530", "%z").tzinfo)
        stored = await ledger.save(job, replace(job, due_at=elsewhere))
        assert stored.due_at == elsewhere
        assert stored.due_at.tzinfo is UTC

    @pytest.mark.parametrize(("before", "after"), _ALLOWED)
    async def test_an_allowed_move_is_made(self, ledger: Ledger, before: State, after: State) -> None:
        job = await brought_to(ledger, "a", before)
        stored = await ledger.save(job, replace(job, state=after, verdict=Verdict.FAILED))
        assert (stored.state, stored.version) == (after, job.version + 1)
        assert await ledger.get(job.execution_id) == stored

    @pytest.mark.parametrize(("before", "after"), _FORBIDDEN)
    async def test_any_other_move_is_a_bug_that_writes_nothing(
        self, ledger: Ledger, before: State, after: State
    ) -> None:
        job = await brought_to(ledger, "a", before)
        moved = replace(job, state=after, verdict=Verdict.FAILED)
        with pytest.raises(Bug):
            await ledger.save(job, moved, circuit="c", outcome=failed(), receipt="r")
        assert await ledger.get(job.execution_id) == job
        assert await ledger.circuit(job.execution_id) is None
        assert await ledger.outcome(job.execution_id) is None
        assert await ledger.receipt(job.execution_id) is None

    @pytest.mark.parametrize("changes", [{"execution_id": "b"}, {"validator_hotkey": BOB}])
    async def test_a_job_does_not_become_another(self, ledger: Ledger, changes: dict[str, Any]) -> None:
        job = await accepted(ledger, "a")
        with pytest.raises(Bug):
            await ledger.save(job, replace(job, **changes))
        assert await ledger.get(job.execution_id) == job

    async def test_a_job_without_a_verdict_is_not_closed(self, ledger: Ledger) -> None:
        job = await accepted(ledger, "a")
        settled = await ledger.save(job, replace(job, state=State.SETTLED))
        with pytest.raises(Bug):
            await ledger.save(settled, replace(settled, state=State.CLOSED))
        assert (await ledger.finished_after("", 10)).jobs == []

    async def test_an_old_version_is_stale_and_writes_nothing(self, ledger: Ledger) -> None:
        job = await accepted(ledger, "a")
        newer = await ledger.save(job, replace(job, attempts=1))
        with pytest.raises(StaleRow):
            await ledger.save(job, replace(job, attempts=5), circuit="c", outcome=failed(), receipt="r")
        assert await ledger.get(job.execution_id) == newer
        assert await ledger.circuit(job.execution_id) is None
        assert await ledger.outcome(job.execution_id) is None
        assert await ledger.receipt(job.execution_id) is None

    async def test_a_row_in_another_state_than_thought_is_stale(self, ledger: Ledger) -> None:
        job = await accepted(ledger, "a")
        with pytest.raises(StaleRow):
            await ledger.save(replace(job, state=State.READY), replace(job, state=State.SUBMITTING))

    async def test_a_row_that_is_not_there_is_stale(self, ledger: Ledger) -> None:
        job = replace(await accepted(ledger, "a"), execution_id=ExecutionId("b"))
        with pytest.raises(StaleRow):
            await ledger.save(job, replace(job, attempts=1))
        assert await ledger.get(job.execution_id) is None

    async def test_one_of_many_concurrent_saves_wins(self, ledger: Ledger) -> None:
        job = await accepted(ledger, "a")
        answers = await asyncio.gather(
            *(ledger.save(job, replace(job, attempts=number)) for number in range(1, 11)), return_exceptions=True
        )
        stored = await ledger.get(job.execution_id)
        assert [answer for answer in answers if answer == stored] == [stored]
        assert sum(isinstance(answer, StaleRow) for answer in answers) == 9

    async def test_a_stale_save_harms_none_of_its_neighbours(self, ledger: Ledger) -> None:
        jobs = [await accepted(ledger, f"j{number}") for number in range(5)]
        await ledger.save(jobs[2], replace(jobs[2], attempts=1))
        answers = await asyncio.gather(
            *(ledger.save(job, replace(job, attempts=9)) for job in jobs), return_exceptions=True
        )
        assert isinstance(answers.pop(2), StaleRow)
        assert [answer.attempts for answer in answers if isinstance(answer, Job)] == [9, 9, 9, 9]

    async def test_parts_are_stored_with_the_move(self, ledger: Ledger) -> None:
        job = await accepted(ledger, "a")
        ready = await ledger.save(job, replace(job, state=State.READY), circuit="OPENQASM 3.0;\n// ψ")
        await ledger.save(
            ready,
            replace(ready, state=State.SETTLED, verdict=Verdict.SUCCEEDED),
            outcome=succeeded(),
            receipt='{"a":1}',
        )
        assert await ledger.circuit(job.execution_id) == "OPENQASM 3.0;\n// ψ"
        assert await ledger.outcome(job.execution_id) == succeeded()
        assert await ledger.receipt(job.execution_id) == '{"a":1}'

    async def test_an_outcome_may_have_nothing_in_it(self, ledger: Ledger) -> None:
        job = await accepted(ledger, "a")
        await ledger.save(job, replace(job, attempts=1), outcome=failed())
        assert await ledger.outcome(job.execution_id) == failed()

    async def test_a_part_saved_again_replaces_the_first(self, ledger: Ledger) -> None:
        job = await accepted(ledger, "a")
        once = await ledger.save(job, replace(job, attempts=1), circuit="1", outcome=failed("1"), receipt="1")
        await ledger.save(once, replace(once, attempts=2), circuit="2", outcome=succeeded(), receipt="2")
        assert await ledger.circuit(job.execution_id) == "2"
        assert await ledger.outcome(job.execution_id) == succeeded()
        assert await ledger.receipt(job.execution_id) == "2"

    async def test_parts_not_given_stay(self, ledger: Ledger) -> None:
        job = await accepted(ledger, "a")
        once = await ledger.save(job, replace(job, attempts=1), circuit="1", outcome=failed(), receipt="1")
        await ledger.save(once, replace(once, attempts=2))
        assert await ledger.circuit(job.execution_id) == "1"
        assert await ledger.outcome(job.execution_id) == failed()
        assert await ledger.receipt(job.execution_id) == "1"

    async def test_the_url_stays_until_the_circuit_is_stored(self, ledger: Ledger) -> None:
        job = await accepted(ledger, "a")
        tried = await ledger.save(job, replace(job, attempts=1))
        assert tried.input_data_url == SIGNED_URL
        ready = await ledger.save(tried, replace(tried, state=State.READY), circuit="c")
        assert ready.input_data_url is None
        assert await ledger.get(job.execution_id) == ready

    async def test_the_url_is_wiped_when_the_job_settles_without_a_circuit(self, ledger: Ledger) -> None:
        job = await accepted(ledger, "a")
        settled = await ledger.save(job, replace(job, state=State.SETTLED, verdict=Verdict.REFUSED))
        assert settled.input_data_url is None
        assert await ledger.get(job.execution_id) == settled

    async def test_another_url_can_be_stored(self, ledger: Ledger) -> None:
        job = await accepted(ledger, "a")
        moved = await ledger.save(job, replace(job, input_data_url="https://else.example/?sig=2"))
        assert moved.input_data_url == "https://else.example/?sig=2"
        assert await ledger.get(job.execution_id) == moved

    async def test_text_for_people_loses_what_no_database_takes(self, ledger: Ledger) -> None:
        job = await accepted(ledger, "a")
        stored = await ledger.save(
            job, replace(job, error="bad \ud800 text", vendor_status="\udfff"), outcome=failed("\ud800!")
        )
        assert (stored.error, stored.vendor_status) == ("bad ? text", "?")
        assert await ledger.get(job.execution_id) == stored
        assert await ledger.outcome(job.execution_id) == failed("?!")

    async def test_a_circuit_that_cannot_be_stored_exactly_is_a_bug_that_writes_nothing(self, ledger: Ledger) -> None:
        job = await accepted(ledger, "a")
        with pytest.raises(Bug):
            await ledger.save(job, replace(job, state=State.READY), circuit="\ud800")
        assert await ledger.get(job.execution_id) == job

    async def test_numbers_of_a_vendor_beyond_64_bits_do_not_lose_a_result(self, ledger: Ledger) -> None:
        job = await accepted(ledger, "a")
        outcome = replace(succeeded(), metadata={"ticks": 2**70, "name": "\ud800"})
        await ledger.save(job, replace(job, state=State.SETTLED), outcome=outcome)
        stored = await ledger.outcome(job.execution_id)
        assert stored is not None
        assert stored.counts == succeeded().counts
        assert stored.metadata == {"ticks": 2**70, "name": "\ud800"}


class CollectContract(_Fixtures):
    """What validators collect."""

    async def test_closing_numbers_jobs_and_says_when(self, ledger: Ledger, clock: SetClock) -> None:
        first = await brought_to(ledger, "a", State.CLOSED)
        clock.move(5)
        second = await brought_to(ledger, "b", State.CLOSED)
        assert (first.cursor_seq, first.closed_at) == (1, START_OF_TIME)
        assert (second.cursor_seq, second.closed_at) == (2, START_OF_TIME + timedelta(seconds=5))
        assert await ledger.get(second.execution_id) == second

    async def test_numbers_and_times_given_by_the_caller_do_not_count(self, ledger: Ledger) -> None:
        job = await accepted(ledger, "a")
        forged = {"cursor_seq": 77, "closed_at": START_OF_TIME - timedelta(days=9)}
        settled = await ledger.save(job, replace(job, state=State.SETTLED, verdict=Verdict.FAILED, **forged))
        assert (settled.cursor_seq, settled.closed_at) == (None, None)
        closed = await ledger.save(settled, replace(settled, state=State.CLOSED, **forged))
        assert (closed.cursor_seq, closed.closed_at) == (1, START_OF_TIME)

    async def test_concurrent_closings_are_numbered_without_gaps_in_the_order_collected(self, ledger: Ledger) -> None:
        settled = [await brought_to(ledger, f"j{number}", State.SETTLED) for number in range(40)]
        closed = await asyncio.gather(*(ledger.save(job, replace(job, state=State.CLOSED)) for job in settled))
        by_number = sorted(closed, key=lambda job: job.cursor_seq or 0)
        assert [job.cursor_seq for job in by_number] == list(range(1, 41))
        times = [job.closed_at for job in by_number]
        assert times == sorted(set(times), key=lambda time: time or START_OF_TIME)
        page = await ledger.finished_after(FIRST_CURSOR, 100)
        assert [job.execution_id for job in page.jobs] == [job.execution_id for job in by_number]

    async def test_a_finished_job_carries_what_validators_are_told(self, ledger: Ledger) -> None:
        job = await brought_to(ledger, "a", State.WAITING)
        settled = await ledger.save(job, replace(full_job(job), state=State.SETTLED, verdict=Verdict.REFUSED))
        closed = await ledger.save(settled, replace(settled, state=State.CLOSED))
        (finished,) = (await ledger.finished_after(FIRST_CURSOR, 10)).jobs
        assert all(getattr(finished, field.name) == getattr(closed, field.name) for field in fields(finished))

    async def test_only_closed_jobs_are_finished_and_whoever_sent_them(self, ledger: Ledger) -> None:
        for state in State:
            await brought_to(ledger, f"in-{state}", state)
        await brought_to(ledger, "bobs", State.CLOSED, validator=BOB)
        assert await _collect(ledger, FIRST_CURSOR, 10) == (
            ["in-closed", "bobs"],
            (await ledger.finished_after("", 10)).cursor,
        )

    @pytest.mark.parametrize(
        "cursor",
        [
            FIRST_CURSOR,
            "",
            "garbage",
            "v1:42",
            "12.5",
            "1795224720636113030",
            "2026-13-45 99:99:99",
            "\0",
            "|||",
            "٢٠٢٦-١١-٢١ ٠٢:٤٦:٥١",  # noqa: RUF001 - digits, but not those of a time
            "2026-11-21",
        ],
    )
    async def test_text_without_a_leading_time_starts_from_the_beginning(self, ledger: Ledger, cursor: str) -> None:
        assert await ledger.finished_after(cursor, 10) == Page([], cursor)
        await _close_many(ledger, ["a", "b"])
        assert (await _collect(ledger, cursor, 1))[0] == ["a", "b"]

    async def test_the_cursor_begins_with_the_time_and_is_no_number(self, ledger: Ledger, clock: SetClock) -> None:
        clock.move(0.25)
        await _close_many(ledger, ["a", "b"])
        cursor = (await ledger.finished_after(FIRST_CURSOR, 10)).cursor
        assert re.fullmatch(r"2026-11-21 02:46:51\.250001\|[0-9a-z]+\|2", cursor)
        with pytest.raises(ValueError, match="float"):
            float(cursor)

    async def test_pages_follow_one_another_exactly(self, ledger: Ledger) -> None:
        names = [f"j{number:02}" for number in range(23)]
        await _close_many(ledger, names)
        assert (await _collect(ledger, FIRST_CURSOR, 7))[0] == names

    async def test_pages_never_exceed_their_limit(self, ledger: Ledger) -> None:
        await _close_many(ledger, ["a", "b", "c"])
        assert [len((await ledger.finished_after("", limit)).jobs) for limit in (1, 2, 3, 4)] == [1, 2, 3, 3]
        assert await ledger.finished_after(FIRST_CURSOR, 0) == Page([], FIRST_CURSOR)
        assert await ledger.finished_after(FIRST_CURSOR, -1) == Page([], FIRST_CURSOR)

    async def test_a_cursor_with_nothing_behind_it_stays(self, ledger: Ledger, clock: SetClock) -> None:
        await _close_many(ledger, ["a"])
        cursor = (await ledger.finished_after(FIRST_CURSOR, 10)).cursor
        clock.move(10)
        for current in (cursor, "2026-11-21 02:46:55"):
            assert await ledger.finished_after(current, 10) == Page([], current)

    async def test_two_results_in_one_second_are_both_delivered(self, ledger: Ledger) -> None:
        """The reference's cursor counts whole seconds and loses the second of them."""
        await _close_many(ledger, ["a"])
        first = await ledger.finished_after(FIRST_CURSOR, 10)
        await _close_many(ledger, ["b"])
        second = await ledger.finished_after(first.cursor, 10)
        assert [job.execution_id for job in first.jobs + second.jobs] == ["a", "b"]

    async def test_a_cursor_of_the_reference_is_read_from_the_start_of_its_second(
        self, ledger: Ledger, clock: SetClock
    ) -> None:
        clock.move(-0.000_001)
        await _close_many(ledger, ["before"])
        clock.now = START_OF_TIME
        await _close_many(ledger, ["start"])
        clock.move(0.9)
        await _close_many(ledger, ["same second"])
        clock.move(5)
        await _close_many(ledger, ["later"])
        for cursor in (
            "2026-11-21 02:46:51",
            "2026-11-21T02:46:51",
            "2026-11-21 02:46:51.999999",
            " 2026-11-21 02:46:51",
        ):
            assert (await _collect(ledger, cursor, 2))[0] == ["start", "same second", "later"]

    async def test_a_cursor_of_another_ledger_is_read_by_its_time(self, ledger: Ledger, clock: SetClock) -> None:
        await _close_many(ledger, ["a"])
        clock.move(60)
        await _close_many(ledger, ["b"])
        other = "2026-11-21 02:47:51.700000|0123456789ab|1"
        assert (await _collect(ledger, other, 10))[0] == ["b"]

    async def test_a_foreign_cursor_from_the_future_loses_nothing(self, ledger: Ledger, clock: SetClock) -> None:
        """Another machine's clock was wrong; ours would otherwise deliver nothing until it gets there."""
        await _close_many(ledger, ["a"])
        for cursor in ("2099-01-01 00:00:00", "2099-01-01 00:00:00.000000|0123456789ab|9"):
            assert (await _collect(ledger, cursor, 10))[0] == ["a"]
        clock.move(3600)
        await _close_many(ledger, ["b"])
        assert (await _collect(ledger, "2099-01-01 00:00:00", 10))[0] == ["a", "b"]

    async def test_a_cursor_ahead_of_a_ledger_from_a_backup_is_read_by_its_time(
        self, ledger: Ledger, clock: SetClock
    ) -> None:
        """The ledger was brought back from a backup: numbers a validator has seen are given again to other jobs."""
        await _close_many(ledger, ["a", "b"])
        ledger_id = (await ledger.finished_after("", 10)).cursor.split("|")[1]
        clock.move(60)
        await _close_many(ledger, ["c", "d", "e"])
        seen_before_the_restore = f"2026-11-21 02:47:21.000000|{ledger_id}|4"
        assert (await _collect(ledger, seen_before_the_restore, 10))[0] == ["c", "d", "e"]

    async def test_a_cursor_of_ours_that_was_tampered_with_is_harmless(self, ledger: Ledger) -> None:
        await _close_many(ledger, ["a"])
        ledger_id = (await ledger.finished_after("", 10)).cursor.split("|")[1]
        for cursor in (
            f"2026-02-31 00:00:00.000000|{ledger_id}|1",
            f"2026-11-21 02:46:51.000000|{ledger_id}|{'9' * 200}",
            f"2026-11-21 02:46:51.000000|{ledger_id}|-1",
            f"2026-11-21 02:46:51.000000|{ledger_id}|0",
        ):
            assert (await _collect(ledger, cursor, 10))[0] == ["a"]

    async def test_a_clock_stepping_back_neither_loses_nor_reorders(self, ledger: Ledger, clock: SetClock) -> None:
        await _close_many(ledger, ["a"])
        seen = (await ledger.finished_after(FIRST_CURSOR, 10)).cursor
        clock.move(-3600)
        await _close_many(ledger, ["b", "c"])
        page = await ledger.finished_after(seen, 10)
        assert [job.execution_id for job in page.jobs] == ["b", "c"]
        assert page.jobs[0].closed_at < page.jobs[1].closed_at
        assert seen < page.cursor
        assert (await _collect(ledger, "2026-11-21 02:46:51", 10))[0] == ["a", "b", "c"]

    async def test_a_foreign_cursor_of_a_time_our_jobs_know_is_read_by_it_though_the_clock_stepped_back(
        self, ledger: Ledger, clock: SetClock
    ) -> None:
        await _close_many(ledger, ["a"])
        clock.move(10)
        await _close_many(ledger, ["b"])
        clock.move(-3600)
        assert (await _collect(ledger, "2026-11-21 02:47:01", 10))[0] == ["b"]

    async def test_nothing_is_lost_while_jobs_keep_closing(self, ledger: Ledger) -> None:
        settled = [await brought_to(ledger, f"j{number:03}", State.SETTLED) for number in range(60)]
        seen: list[str] = []

        async def visit() -> None:
            cursor = FIRST_CURSOR
            while len(seen) < len(settled):
                page = await ledger.finished_after(cursor, 4)
                seen.extend(job.execution_id for job in page.jobs)
                cursor = page.cursor
                await asyncio.sleep(0)

        async with asyncio.timeout(WAIT_SECONDS), asyncio.TaskGroup() as group:
            group.create_task(visit())
            for job in settled:
                group.create_task(ledger.save(job, replace(job, state=State.CLOSED)))
                await asyncio.sleep(0)
        assert sorted(seen) == sorted(job.execution_id for job in settled)


class PurgeContract(_Fixtures):
    """The end of retention."""

    async def test_jobs_closed_before_a_time_are_removed_with_their_parts(
        self, ledger: Ledger, clock: SetClock
    ) -> None:
        job = await accepted(ledger, "old")
        settled = await ledger.save(
            job,
            replace(job, state=State.SETTLED, verdict=Verdict.FAILED),
            circuit="c",
            outcome=failed(),
            receipt="r",
        )
        await ledger.save(settled, replace(settled, state=State.CLOSED))
        clock.move(10)
        kept = await brought_to(ledger, "kept", State.CLOSED)
        assert await ledger.purge(clock.now) == 1
        assert await ledger.purge(clock.now) == 0
        assert await ledger.get(job.execution_id) is None
        assert await ledger.circuit(job.execution_id) is None
        assert await ledger.outcome(job.execution_id) is None
        assert await ledger.receipt(job.execution_id) is None
        assert await ledger.get(kept.execution_id) == kept
        assert (await ledger.count_by_state())[State.CLOSED] == 1

    async def test_jobs_that_are_not_closed_stay_however_old(self, ledger: Ledger, clock: SetClock) -> None:
        for state in State:
            await brought_to(ledger, f"in-{state}", state)
        clock.move(365 * 86400)
        assert await ledger.purge(clock.now) == 1
        assert await ledger.count_by_state() == dict.fromkeys(State, 1) | {State.CLOSED: 0}
        assert await ledger.open_by_validator() == {ALICE: len(State) - 1}

    async def test_a_number_is_not_given_again(self, ledger: Ledger, clock: SetClock) -> None:
        await _close_many(ledger, ["a", "b"])
        cursor = (await ledger.finished_after("", 10)).cursor
        clock.move(10)
        await ledger.purge(clock.now)
        closed = await brought_to(ledger, "c", State.CLOSED)
        assert closed.cursor_seq == 3
        assert (await _collect(ledger, cursor, 10))[0] == ["c"]
        assert (await _collect(ledger, FIRST_CURSOR, 10))[0] == ["c"]

    async def test_a_purged_job_may_come_again(self, ledger: Ledger, clock: SetClock) -> None:
        await _close_many(ledger, ["a"])
        clock.move(10)
        await ledger.purge(clock.now)
        assert await ledger.accept(new_job("a"), nonce(7)) is Intake.ACCEPTED
        assert await ledger.circuit(ExecutionId("a")) is None


class ArrivalContract(_Fixtures):
    """Waking the stages."""

    @staticmethod
    async def _arrives(ledger: Ledger, state: State) -> bool:
        """Whether an arrival is already known, without waiting."""
        waiting = asyncio.create_task(ledger.wait_for_arrival(state, WAIT_SECONDS))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        known = waiting.done()
        waiting.cancel()
        await asyncio.wait([waiting])
        return known

    async def test_a_waiting_stage_wakes_when_a_job_is_accepted(self, ledger: Ledger) -> None:
        waiting = asyncio.create_task(ledger.wait_for_arrival(State.ACCEPTED, WAIT_SECONDS))
        await asyncio.sleep(0)
        assert not waiting.done()
        await ledger.accept(new_job("a"), nonce(1))
        async with asyncio.timeout(WAIT_SECONDS / 2):
            await waiting

    async def test_an_arrival_before_the_wait_is_not_missed_and_told_once(self, ledger: Ledger) -> None:
        await accepted(ledger, "a")
        assert await self._arrives(ledger, State.ACCEPTED)
        assert not await self._arrives(ledger, State.ACCEPTED)

    async def test_a_move_arrives_in_its_new_state_only(self, ledger: Ledger) -> None:
        job = await accepted(ledger, "a")
        assert await self._arrives(ledger, State.ACCEPTED)
        await ledger.save(job, replace(job, state=State.READY))
        assert not await self._arrives(ledger, State.ACCEPTED)
        assert await self._arrives(ledger, State.READY)

    async def test_a_stay_arrives_when_it_makes_the_job_due_earlier(self, ledger: Ledger) -> None:
        job = await accepted(ledger, "a")
        assert await self._arrives(ledger, State.ACCEPTED)
        later = await ledger.save(job, replace(job, due_at=job.due_at + timedelta(seconds=9)))
        assert not await self._arrives(ledger, State.ACCEPTED)
        await ledger.save(later, job)
        assert await self._arrives(ledger, State.ACCEPTED)

    async def test_what_was_refused_does_not_arrive(self, ledger: Ledger) -> None:
        job = await accepted(ledger, "a")
        assert await self._arrives(ledger, State.ACCEPTED)
        await ledger.accept(new_job("a"), nonce(7))
        await ledger.accept(new_job("b"), nonce(7))
        with pytest.raises(StaleRow):
            await ledger.save(replace(job, version=9), replace(job, state=State.READY))
        assert not await self._arrives(ledger, State.ACCEPTED)
        assert not await self._arrives(ledger, State.READY)

    @pytest.mark.parametrize("seconds", [0, -1, 0.001])
    async def test_a_wait_ends_with_its_time(self, ledger: Ledger, seconds: float) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            await ledger.wait_for_arrival(State.HELD, seconds)


class CloseContract(_Fixtures):
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
            ledger.get(job.execution_id),
            ledger.circuit(job.execution_id),
            ledger.outcome(job.execution_id),
            ledger.receipt(job.execution_id),
            ledger.finished_after(FIRST_CURSOR, 1),
            ledger.count_by_state(),
            ledger.open_by_validator(),
            ledger.purge(START_OF_TIME),
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


class LedgerContract(
    IntakeContract, DueContract, SaveContract, CollectContract, PurgeContract, ArrivalContract, CloseContract
):
    """All of the above: what a ledger must do."""
