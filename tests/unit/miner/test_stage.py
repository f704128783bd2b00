"""The loop of a stage: nothing due is left lying, nothing is taken twice, one bad row does not stop the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import ClassVar

import pytest

from qcompute.errors import StoreError
from qcompute.miner import stage as stage_module
from qcompute.miner.job import Job, State
from qcompute.miner.road import Road
from qcompute.miner.stage import Stage
from qcompute.testing.ledger_fixtures import listening
from qcompute.units import ExecutionId
from tests.unit.miner.scripted import Scene


class Recorder(Stage):
    state: ClassVar[State] = State.ACCEPTED

    def __init__(self, road: Road, act: Callable[[Job], Awaitable[None]], *, concurrency: int = 4) -> None:
        super().__init__(road, concurrency=concurrency)
        self.seen: list[str] = []
        self._act = act

    async def handle(self, job: Job) -> None:
        self.seen.append(job.execution_id)
        await self._act(job)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    yield scene
    await scene.close()


async def finish(scene: Scene, job: Job) -> None:
    await scene.road.save(job, replace(job, state=State.READY))


async def running(stage: Stage) -> asyncio.Task[None]:
    return asyncio.create_task(stage.run())


async def stopped(stage: Stage, task: asyncio.Task[None]) -> None:
    async with asyncio.timeout(5):
        await stage.stop()
        await task


async def all_ready(scene: Scene, number: int) -> None:
    with listening(scene.ledger, State.READY) as ear:
        while (await scene.ledger.count_by_state())[State.READY] < number:
            await ear.until_heard()


async def test_rows_that_were_there_and_rows_that_arrive_are_each_handled_once(scene: Scene) -> None:
    for number in range(30):
        await scene.job(f"job-{number}")
    stage = Recorder(scene.road, lambda job: finish(scene, job))
    task = await running(stage)
    await all_ready(scene, 30)
    for number in range(30, 60):
        await scene.job(f"job-{number}")
    await all_ready(scene, 60)
    await stopped(stage, task)
    assert sorted(stage.seen) == sorted(f"job-{number}" for number in range(60))


async def test_no_more_rows_than_the_concurrency_are_in_hand(scene: Scene) -> None:
    most = 0

    async def act(job: Job) -> None:
        nonlocal most
        most = max(most, stage.busy)
        await asyncio.sleep(0)
        await finish(scene, job)

    stage = Recorder(scene.road, act, concurrency=3)
    for number in range(20):
        await scene.job(f"job-{number}")
    task = await running(stage)
    await all_ready(scene, 20)
    await stopped(stage, task)
    assert most == 3


async def test_a_slow_row_does_not_keep_others_waiting(scene: Scene) -> None:
    release = asyncio.Event()

    async def act(job: Job) -> None:
        if job.execution_id == "slow":
            await release.wait()
        await finish(scene, job)

    await scene.job("slow")
    stage = Recorder(scene.road, act)
    task = await running(stage)
    for number in range(10):
        await scene.job(f"job-{number}")
    await all_ready(scene, 10)
    release.set()
    await all_ready(scene, 11)
    await stopped(stage, task)


async def test_a_bug_in_one_row_is_tried_again_later_and_harms_no_other(scene: Scene) -> None:
    async def act(job: Job) -> None:
        if job.execution_id == "bad":
            raise ZeroDivisionError
        await finish(scene, job)

    await scene.job("bad")
    await scene.job("good")
    stage = Recorder(scene.road, act)
    task = await running(stage)
    await all_ready(scene, 1)
    await stopped(stage, task)
    bad = await scene.row("bad")
    assert (bad.state, bad.error_code, bad.attempts) == (State.ACCEPTED, "bug", 1)
    assert bad.due_at >= scene.clock() + timedelta(seconds=stage_module.BUG_PAUSE_SECONDS / 2)


async def test_a_row_somebody_else_moved_is_dropped_in_silence(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    async def act(job: Job) -> None:
        await finish(scene, job)
        await finish(scene, job)

    await scene.job()
    stage = Recorder(scene.road, act)
    task = await running(stage)
    await all_ready(scene, 1)
    await stopped(stage, task)
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")]


async def test_a_database_that_keeps_failing_ends_the_stage(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    async def due(*_: object, **__: object) -> list[Job]:
        raise StoreError("disk I/O error")

    monkeypatch.setattr(stage_module, "STORE_PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(stage_module, "STORE_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(scene.ledger, "due", due)
    stage = Recorder(scene.road, lambda job: finish(scene, job))
    with pytest.raises(StoreError):
        async with asyncio.timeout(5):
            await stage.run()


async def test_a_row_read_while_in_hand_is_not_handled_again_when_it_is_done(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """400 results finishing together were uploaded 418 times.

    A second look at the table showed rows that were in hand; those done before their turn came were handled again, as
    they had been before.
    """
    release = asyncio.Event()
    due = scene.ledger.due

    async def act(job: Job) -> None:
        await release.wait()
        await finish(scene, job)

    async def late(state: State, now: datetime, limit: int, *, lane: str, skip: frozenset[ExecutionId]) -> list[Job]:
        rows = await due(state, now, limit, lane=lane, skip=skip)
        release.set()
        while stage.busy:  # noqa: ASYNC110 - the rows in hand are done before the answer arrives
            await asyncio.sleep(0)
        return rows

    stage = Recorder(scene.road, act, concurrency=4)
    for number in range(3):
        await scene.job(f"job-{number}")
    await stage._look_for_rows()
    stage._start_rows()
    monkeypatch.setattr(scene.ledger, "due", late)
    await stage._look_for_rows()
    stage._start_rows()
    await stage.stop()
    assert stage.seen == ["job-0", "job-1", "job-2"]


async def counting_looks(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each look at the table brought, from now on."""
    looks: list[int] = []
    due = scene.ledger.due

    async def counted(state: State, now: datetime, limit: int, *, lane: str, skip: frozenset[ExecutionId]) -> list[Job]:
        rows = await due(state, now, limit, lane=lane, skip=skip)
        looks.append(len(rows))
        return rows

    monkeypatch.setattr(scene.ledger, "due", counted)
    return looks


async def test_rows_of_other_stages_are_taken_without_a_look_at_the_table(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading each row back at each stage was a seventh of the daemon's work."""
    looks = await counting_looks(scene, monkeypatch)
    stage = Recorder(scene.road, lambda job: finish(scene, job))
    task = await running(stage)
    while not looks:  # noqa: ASYNC110 - the one look when it starts
        await asyncio.sleep(0)
    for number in range(200):
        await scene.job(f"job-{number}")
    await all_ready(scene, 200)
    await stopped(stage, task)
    assert sorted(stage.seen) == sorted(f"job-{number}" for number in range(200))
    assert sum(looks) < 5


async def test_what_is_heard_during_a_look_is_neither_missed_nor_taken_twice(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer may show the row, in an older version, or not."""
    due = scene.ledger.due
    arriving = ["only-heard", "seen-and-heard"]

    async def late(state: State, now: datetime, limit: int, *, lane: str, skip: frozenset[ExecutionId]) -> list[Job]:
        if arriving:
            await scene.job(arriving.pop())
        rows = await due(state, now, limit, lane=lane, skip=skip)
        if arriving:
            await scene.job(arriving.pop())
        return rows

    monkeypatch.setattr(scene.ledger, "due", late)
    stage = Recorder(scene.road, lambda job: finish(scene, job))
    task = await running(stage)
    await all_ready(scene, 2)
    await stopped(stage, task)
    assert sorted(stage.seen) == ["only-heard", "seen-and-heard"]


async def test_a_row_heard_of_in_a_newer_version_replaces_the_one_that_waits(scene: Scene) -> None:
    stage = Recorder(scene.road, lambda job: finish(scene, job))
    with scene.ledger.hearing(State.ACCEPTED, stage._hear):
        await scene.job("early")
        await stage._look_for_rows()
        later = replace(await scene.row("early"), due_at=scene.clock() - timedelta(seconds=5), attempts=7)
        stored = await scene.ledger.save(await scene.row("early"), later)
    stage._start_rows()
    await stage.stop()
    assert (await scene.row("early")).version == stored.version + 1


async def test_of_more_rows_than_fit_into_memory_each_is_handled_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_module, "MOST_HEARD", 5)
    release = asyncio.Event()

    async def act(job: Job) -> None:
        await release.wait()
        await finish(scene, job)

    stage = Recorder(scene.road, act, concurrency=2)
    task = await running(stage)
    for number in range(50):
        await scene.job(f"job-{number}")
    assert len(stage._backlog) <= 5
    release.set()
    await all_ready(scene, 50)
    await stopped(stage, task)
    assert sorted(stage.seen) == sorted(f"job-{number}" for number in range(50))


async def test_a_row_heard_of_before_it_is_due_is_taken_then(scene: Scene) -> None:
    job = await scene.job()
    await scene.road.store(job, replace(job, due_at=job.due_at + timedelta(seconds=5)))
    stage = Recorder(scene.road, lambda job: finish(scene, job))
    task = await running(stage)
    while stage._look_at < 1:  # noqa: ASYNC110 - the one look when it starts
        await asyncio.sleep(0)
    later = await scene.row()
    await scene.road.store(later, replace(later, due_at=job.due_at + timedelta(seconds=0.2)))
    assert stage.seen == []
    scene.clock.pass_seconds(0.2)
    await all_ready(scene, 1)
    await stopped(stage, task)


async def test_stopping_waits_for_the_rows_in_hand(scene: Scene) -> None:
    started, release = asyncio.Event(), asyncio.Event()

    async def act(job: Job) -> None:
        started.set()
        await release.wait()
        await finish(scene, job)

    await scene.job()
    stage = Recorder(scene.road, act)
    task = await running(stage)
    async with asyncio.timeout(5):
        await started.wait()
    stopping = asyncio.create_task(stage.stop())
    await asyncio.sleep(0)
    assert not stopping.done()
    release.set()
    async with asyncio.timeout(5):
        await stopping
        await task
    assert (await scene.row()).state is State.READY
