"""The work of a lane: done while the lane is ours, dropped when it is lost, left in order at the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, nullcontext
from typing import ClassVar, Final

import pytest
from typing_extensions import override

from qcompute.errors import StoreError
from qcompute.ledger.claims import Claims, Tenure
from qcompute.miner import duty as duties
from qcompute.miner.duty import Duty, Part, Shift, SideTaskEnded
from qcompute.miner.job import Job, State
from qcompute.miner.stage import Stage
from tests.unit.miner.scripted import Scene

DEADLINE_SECONDS: Final = 20.0


class TakenAway(Claims):
    """Claims that are given and taken away by the test."""

    def __init__(self) -> None:
        self.free = True
        self.failures: list[StoreError] = []
        self.let_go_of: list[Tenure] = []
        self.taken = asyncio.Event()
        self.lost = asyncio.Event()
        self._fence = 0

    @override
    async def take(self, lane: str) -> Tenure | None:
        if self.failures:
            raise self.failures.pop(0)
        if not self.free:
            return None
        self._fence += 1
        self.lost.clear()
        self.taken.set()
        return Tenure(lane, self._fence)

    @override
    async def let_go(self, tenure: Tenure) -> None:
        self.let_go_of.append(tenure)

    @override
    def is_held(self, tenure: Tenure) -> bool:
        return tenure.fence == self._fence and not self.lost.is_set()

    @override
    async def wait_until_lost(self, tenure: Tenure) -> None:
        await self.lost.wait()

    @override
    def paid_call(self, tenure: Tenure) -> AbstractContextManager[None]:
        return nullcontext()


class Slow(Stage):
    """Holds each row until the test lets it end."""

    state: ClassVar[State] = State.READY

    def __init__(self, scene: Scene, tenure: Tenure) -> None:
        super().__init__(scene.road.under(tenure), concurrency=4)
        self.begun = asyncio.Event()
        self.release = asyncio.Event()
        self.ended: list[str] = []

    @override
    async def handle(self, job: Job) -> None:
        self.begun.set()
        await self.release.wait()
        self.ended.append(job.execution_id)


class World:
    """A duty over one slow stage, and the stages of each of its tenures."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.claims = TakenAway()
        self.stages: list[Slow] = []
        self.beside: list[tuple[str, Part]] = []
        self.begun = asyncio.Event()
        self.duty = Duty(self.claims, "lane", self._begin)
        self.running = asyncio.create_task(self.duty.run())

    async def _begin(self, tenure: Tenure) -> Shift:
        self.stages.append(Slow(self.scene, tenure))
        self.begun.set()
        return Shift([self.stages[-1]], self.beside)

    async def until_begun(self) -> Slow:
        """The stage of the tenure that has just begun."""
        await asyncio.wait_for(self.begun.wait(), DEADLINE_SECONDS)
        self.begun.clear()
        await asyncio.wait_for(self.stages[-1].begun.wait(), DEADLINE_SECONDS)
        return self.stages[-1]

    async def end(self) -> None:
        self.running.cancel()
        await asyncio.wait([self.running])


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duties, "TAKE_SECONDS", 0.01)
    monkeypatch.setattr(duties, "STORE_PAUSE_SECONDS", 0.01)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    scene = Scene()
    await scene.ready("job-1")
    made = World(scene)
    yield made
    await made.end()
    await scene.close()


async def test_a_lost_lane_drops_its_rows_and_new_stages_begin_when_it_is_ours_again(world: World) -> None:
    first = await world.until_begun()
    assert world.duty.is_ours
    world.claims.free = False
    world.claims.lost.set()
    while first.busy:  # noqa: ASYNC110 - the rows are dropped in the next turns of the loop
        await asyncio.sleep(0)
    assert not world.duty.is_ours
    assert first.ended == []
    world.claims.free = True
    second = await world.until_begun()
    assert second is not first
    assert second.road.tenure == Tenure("lane", 2)
    second.release.set()
    assert world.claims.let_go_of == [], "what was lost is another's: there is nothing to let go of"


async def test_a_busy_stage_ends_when_its_lane_is_lost(world: World) -> None:
    """A stage waits for its next row by ending two waits of its own, and took the duty's cancelling for one of them.

    It then worked on under a tenure that was over, and the duty waited for its end for ever.
    """
    stage = await world.until_begun()
    stage.release.set()  # the row stays where it is, so it is taken again and again
    for turns in range(50):
        world.claims.lost.set()
        world.stages[-1].release.set()
        await world.until_begun()
        for _ in range(turns):
            await asyncio.sleep(0)


async def test_a_stop_waits_for_the_rows_in_hand_and_then_lets_go(world: World) -> None:
    stage = await world.until_begun()
    stopping = asyncio.create_task(world.duty.stop())
    await asyncio.sleep(0)
    await world.duty.let_go()
    assert world.claims.let_go_of == [], "a row is still in hand"
    stage.release.set()
    await asyncio.wait_for(stopping, DEADLINE_SECONDS)
    assert stage.ended == ["job-1"]
    await world.duty.let_go()
    await world.duty.let_go()
    assert world.claims.let_go_of == [Tenure("lane", 1)]
    assert not world.running.done(), "it is the caller who ends it"


async def test_a_stop_while_standing_by_is_done_at_once() -> None:
    scene = Scene()
    world = World(scene)
    world.claims.free = False
    await asyncio.sleep(0)
    await asyncio.wait_for(world.duty.stop(), DEADLINE_SECONDS)
    await world.duty.let_go()
    assert world.stages == []
    assert world.claims.let_go_of == []
    await world.end()
    await scene.close()


async def test_a_database_that_fails_for_a_while_is_borne(world: World) -> None:
    world.claims.failures = [StoreError("away"), StoreError("away")]
    assert (await world.until_begun()).road.tenure == Tenure("lane", 1)


async def test_a_database_that_keeps_failing_ends_the_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duties, "STORE_PATIENCE_SECONDS", 0.0)
    scene = Scene()
    world = World(scene)
    world.claims.failures = [StoreError("away") for _ in range(20)]
    with pytest.raises(StoreError, match="away"):
        await asyncio.wait_for(world.running, DEADLINE_SECONDS)
    await scene.close()


async def test_a_part_that_dies_takes_the_duty_along() -> None:
    scene = Scene()
    world = World(scene)

    async def die() -> None:
        raise RuntimeError("broken")

    world.beside.append(("beside", die))
    with pytest.raises(ExceptionGroup) as caught:
        await asyncio.wait_for(world.running, DEADLINE_SECONDS)
    (error,) = caught.value.exceptions
    assert isinstance(error, SideTaskEnded)
    assert error.message == "side task beside died: RuntimeError: broken"
    await scene.close()
