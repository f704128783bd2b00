"""The tests of a ledger's beginning: requests, nonces, and what is due."""

# ruff: noqa: D102, PLR2004, S101 - these are tests: their names say what they show, in asserts about plain numbers

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from qcompute.errors import Bug
from qcompute.ledger.contract import Intake, Ledger
from qcompute.miner.job import Job, State
from qcompute.testing.ledger_fixtures import LedgerFixtures
from qcompute.testing.ledger_records import (
    ALICE,
    BOB,
    START_OF_TIME,
    accepted,
    brought_to,
    new_job,
    nonce,
    own_nonce,
)
from qcompute.units import ExecutionId


class IntakeContract(LedgerFixtures):
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


class DueContract(LedgerFixtures):
    """What a stage is given to do."""

    async def test_due_jobs_come_longest_due_first_up_to_the_limit(self, ledger: Ledger) -> None:
        for name, seconds in (("c", 3), ("a", 1), ("b", 2), ("late", 9)):
            await accepted(ledger, name, received_at=START_OF_TIME + timedelta(seconds=seconds))
        now = START_OF_TIME + timedelta(seconds=3)
        assert [job.execution_id for job in await ledger.due(State.ACCEPTED, now, 10)] == ["a", "b", "c"]
        assert [job.execution_id for job in await ledger.due(State.ACCEPTED, now, 2)] == ["a", "b"]
        left = await ledger.due(State.ACCEPTED, now, 2, skip={ExecutionId("a"), ExecutionId("nobody")})
        assert [job.execution_id for job in left] == ["b", "c"]

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
