"""The tests of moving jobs along."""

# ruff: noqa: D102, PLR2004, S101 - these are tests: their names say what they show, in asserts about plain numbers

from __future__ import annotations

import asyncio
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from qcompute.errors import Bug, StaleRow
from qcompute.ledger.contract import Ledger
from qcompute.miner.job import MOVES, Job, State, Verdict
from qcompute.testing.ledger_fixtures import LedgerFixtures
from qcompute.testing.ledger_records import (
    BOB,
    SIGNED_URL,
    accepted,
    brought_to,
    failed,
    full_job,
    succeeded,
)
from qcompute.units import ExecutionId, ProviderJobId

_FORBIDDEN = [(before, after) for before in State for after in State if after not in MOVES[before]]
_ALLOWED = [(before, after) for before in State for after in State if after in MOVES[before]]


class SaveContract(LedgerFixtures):
    """Moving jobs along."""

    async def test_every_field_comes_back_as_it_was_saved(self, ledger: Ledger) -> None:
        job = await accepted(ledger, "a")
        stored = await ledger.save(job, full_job(job))
        assert stored == replace(full_job(job), version=1)
        assert await ledger.get(job.execution_id) == stored
        assigned = {"closed_at", "cursor_seq"}
        assert all(getattr(stored, field.name) is not None for field in fields(stored) if field.name not in assigned)

    async def test_jobs_are_found_by_what_they_are_at_their_vendor(self, ledger: Ledger) -> None:
        for name in ("b", "a", "c"):
            job = await accepted(ledger, name)
            vendors = ProviderJobId("other" if name == "c" else "v-1")
            await ledger.save(job, replace(job, provider_job_id=vendors))
        assert [job.execution_id for job in await ledger.at_vendor(ProviderJobId("v-1"))] == ["a", "b"]
        assert await ledger.at_vendor(ProviderJobId("nobody's")) == []

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
