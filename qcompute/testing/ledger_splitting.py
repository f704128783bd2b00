"""Tests every ledger inherits: a job becomes one that waits for its parts, in one transaction or not at all."""

# ruff: noqa: D102, S101, PLR2004 - these are tests: their names say what they show, in asserts about plain numbers

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from dataclasses import replace

import pytest

from qcompute.errors import Bug, StaleRow
from qcompute.ledger.claims import Fenced, Tenure
from qcompute.ledger.contract import Intake, Ledger
from qcompute.miner.job import SPLIT_LANE, Job, State, Verdict
from qcompute.protocol import FIRST_CURSOR
from qcompute.testing.ledger_fixtures import LedgerFixtures, listening
from qcompute.testing.ledger_records import ALICE, START_OF_TIME, accepted, brought_to, new_job, nonce
from qcompute.units import ExecutionId, ProviderKey


async def _ready(ledger: Ledger, name: str) -> Job:
    job = await accepted(ledger, name)
    return await ledger.save(job, replace(job, state=State.READY, circuit_sha256="c" * 64), circuit="OPENQASM 3.0;")


def _waiting(job: Job) -> Job:
    return replace(job, state=State.WAITING, provider=ProviderKey(SPLIT_LANE))


def _parts(job: Job, *accounts: str) -> list[Job]:
    plain = replace(job, version=0, state=State.SUBMITTING, parent_id=job.execution_id, input_data_url=None)
    return [
        replace(
            plain,
            execution_id=ExecutionId(f"{job.execution_id}/{number}"),
            provider=ProviderKey(account),
            shots=job.shots // len(accounts),
        )
        for number, account in enumerate(accounts)
    ]


async def _closed(ledger: Ledger, job: Job) -> Job:
    job = await ledger.save(job, replace(job, state=State.WAITING)) if job.state is State.SUBMITTING else job
    job = await ledger.save(job, replace(job, state=State.SETTLED, verdict=Verdict.SUCCEEDED))
    return await ledger.save(job, replace(job, state=State.CLOSED))


class SplitContract(LedgerFixtures):
    """Jobs in parts."""

    async def test_a_job_and_its_parts_change_together(self, ledger: Ledger) -> None:
        job = await _ready(ledger, "a")
        parts = _parts(job, "left", "right")
        stored = await ledger.split(job, _waiting(job), parts)
        assert stored == await ledger.get(job.execution_id) == replace(_waiting(job), version=job.version + 1)
        assert await ledger.parts(job.execution_id) == parts
        assert await ledger.due(State.SUBMITTING, job.due_at, 10, lane="left") == parts[:1]
        assert await ledger.due(State.SUBMITTING, job.due_at, 10, lane="right") == parts[1:]
        assert await ledger.due(State.WAITING, job.due_at, 10, lane=SPLIT_LANE) == [stored]
        assert await ledger.parts(parts[0].execution_id) == []

    async def test_a_part_has_the_circuit_of_the_whole(self, ledger: Ledger) -> None:
        job = await _ready(ledger, "a")
        parts = _parts(job, "left")
        assert await ledger.circuit(parts[0].execution_id) is None
        await ledger.split(job, _waiting(job), parts)
        assert await ledger.circuit(parts[0].execution_id) == await ledger.circuit(job.execution_id) == "OPENQASM 3.0;"

    async def test_the_stages_of_all_lanes_wake(self, ledger: Ledger) -> None:
        job = await _ready(ledger, "a")
        lanes = [(State.SUBMITTING, "left"), (State.SUBMITTING, "right"), (State.WAITING, SPLIT_LANE)]
        with ExitStack() as stack:
            ears = [stack.enter_context(listening(ledger, state, lane=lane)) for state, lane in lanes]
            await ledger.split(job, _waiting(job), _parts(job, "left", "right"))
            assert all(ear.has_heard() for ear in ears)

    async def test_of_two_who_split_a_job_one_does(self, ledger: Ledger) -> None:
        job = await _ready(ledger, "a")
        answers = await asyncio.gather(
            ledger.split(job, _waiting(job), _parts(job, "left", "right")),
            ledger.split(job, _waiting(job), _parts(job, "left", "right")),
            return_exceptions=True,
        )
        assert [type(answer) for answer in answers] == [Job, StaleRow]
        assert len(await ledger.parts(job.execution_id)) == 2

    @pytest.mark.parametrize("fault", ["stale", "fenced", "moved", "there", "twice", "stranger", "paid", "grandchild"])
    async def test_what_is_refused_writes_nothing(self, ledger: Ledger, fault: str) -> None:
        job = await _ready(ledger, "a")
        before, after, parts, tenure = job, _waiting(job), _parts(job, "left", "right"), None
        expected: type[Exception] = Bug
        match fault:
            case "stale":
                before, expected = replace(job, version=9), StaleRow
            case "fenced":
                tenure, expected = Tenure("@road", 7), Fenced
            case "moved":
                after = replace(after, state=State.HELD)
            case "there":
                await accepted(ledger, "a/1")
            case "twice":
                parts[1] = parts[0]
            case "stranger":
                parts[1] = replace(parts[1], parent_id=ExecutionId("b"))
            case "paid":
                parts[1] = replace(parts[1], submit_started_at=START_OF_TIME)
            case _:
                before = replace(job, parent_id=ExecutionId("z"))
        counts = await ledger.count_by_state()
        with pytest.raises(expected):
            await ledger.split(before, after, parts, tenure=tenure)
        assert await ledger.get(job.execution_id) == job
        assert await ledger.parts(job.execution_id) == []
        assert await ledger.count_by_state() == counts

    async def test_an_id_that_is_taken_is_a_duplicate_to_the_request_that_comes_later(self, ledger: Ledger) -> None:
        job = await _ready(ledger, "a")
        await ledger.split(job, _waiting(job), _parts(job, "left"))
        assert await ledger.accept(new_job("a/0"), nonce(9)) is Intake.DUPLICATE

    async def test_validators_never_see_parts(self, ledger: Ledger) -> None:
        job = await _ready(ledger, "a")
        whole = await ledger.split(job, _waiting(job), _parts(job, "left", "right"))
        for part in await ledger.parts(job.execution_id):
            await _closed(ledger, part)
        page = await ledger.finished_after(FIRST_CURSOR, 1)
        assert (page.jobs, page.cursor) == ([], FIRST_CURSOR)
        await _closed(ledger, whole)
        await brought_to(ledger, "b", State.CLOSED)
        page = await ledger.finished_after(FIRST_CURSOR, 1)
        assert [row.execution_id for row in page.jobs] == ["a"]
        page = await ledger.finished_after(page.cursor, 2)
        assert [row.execution_id for row in page.jobs] == ["b"]

    async def test_a_job_in_parts_is_one_in_a_validator_s_share(self, ledger: Ledger) -> None:
        job = await _ready(ledger, "a")
        whole = await ledger.split(job, _waiting(job), _parts(job, "left", "right"))
        assert await ledger.open_by_validator() == {ALICE: 1}
        counts = await ledger.count_by_state()
        assert (counts[State.SUBMITTING], counts[State.WAITING], counts[State.READY]) == (2, 1, 0)
        for part in await ledger.parts(job.execution_id):
            await _closed(ledger, part)
        assert await ledger.open_by_validator() == {ALICE: 1}
        await _closed(ledger, whole)
        assert await ledger.open_by_validator() == {}
        assert (await ledger.count_by_state())[State.CLOSED] == 3

    async def test_parts_are_removed_in_the_order_they_were_closed(self, ledger: Ledger) -> None:
        job = await _ready(ledger, "a")
        whole = await ledger.split(job, _waiting(job), _parts(job, "left"))
        (part,) = await ledger.parts(job.execution_id)
        closed = await _closed(ledger, part)
        await _closed(ledger, whole)
        assert closed.closed_at is not None
        assert await ledger.purge(closed.closed_at.replace(year=closed.closed_at.year + 1)) == 2
        assert await ledger.get(part.execution_id) is None

    async def test_a_part_stays_while_its_whole_waits_for_others(self, ledger: Ledger) -> None:
        """It was removed when it was old, and the job ended well with the counts of the parts that were left."""
        job = await _ready(ledger, "a")
        whole = await ledger.split(job, _waiting(job), _parts(job, "left", "right"))
        left, right = await ledger.parts(job.execution_id)
        await _closed(ledger, left)
        late = await brought_to(ledger, "b", State.CLOSED)
        assert late.closed_at is not None
        much_later = late.closed_at.replace(year=late.closed_at.year + 1)
        assert await ledger.purge(much_later) == 0
        assert len(await ledger.parts(job.execution_id)) == 2
        await _closed(ledger, right)
        await _closed(ledger, whole)
        assert await ledger.purge(much_later) == 4
