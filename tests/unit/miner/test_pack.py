"""Jobs of one validator share a vendor's submission where it takes several circuits; each ends by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import pytest

from qcompute.errors import Refused, StaleRow, SubmitUnknown, Unavailable
from qcompute.miner.account import Account
from qcompute.miner.job import Job, State, Verdict
from qcompute.miner.providers.base import Absent, Found, JobHandle, Limits, Prepared, Rate, Verb
from qcompute.miner.router import token_of, token_of_pack
from qcompute.miner.runner import WaitStage
from qcompute.miner.submit import SubmitStage
from qcompute.units import Hotkey, IdempotencyToken, ProviderKey
from tests.unit.miner.scripted import Scene, Vendor

OTHER = Hotkey("5FHneW46xGXgs5mUiveU4sbTyGBzmstUspZC92UhjJM694ty")


@dataclass
class Packing(Vendor):
    """Takes three circuits in one job."""

    packs: list[tuple[IdempotencyToken, int]] = field(default_factory=list[tuple[IdempotencyToken, int]])
    rate: float = 1000.0
    refuse_packs: bool = False

    def limits(self) -> Limits:
        return Limits(max_pack=3, rates={Verb.SUBMIT: Rate(self.rate)})

    def submit_many(
        self, prepared: Sequence[Prepared], device_id: str, shots: int, *, token: IdempotencyToken
    ) -> list[JobHandle]:
        del shots
        self.packs.append((token, len(prepared)))
        error = self.fail_submit.pop(0) if self.fail_submit else None
        if error is not None:
            raise error
        if self.refuse_packs and len(prepared) > 1:
            raise Refused("one of the circuits is not allowed")
        return [JobHandle(provider_job_id=f"vendor-{len(self.packs)}", device_id=device_id) for _ in prepared]


class PackingScene(Scene):
    def __init__(self) -> None:
        super().__init__()
        self.vendor: Packing = Packing()
        self.pack()

    def pack(self, rate: float = 1000.0) -> None:
        self.vendor.rate = rate
        self.account = Account(ProviderKey("scripted"), self.vendor, threads=2, clock=lambda: self.clock().timestamp())

    def stage(self) -> SubmitStage:
        return SubmitStage(
            self.road, self.account, self.circuits, concurrency=16, held_seconds=600, second_look_seconds=60
        )

    async def jobs(self, count: int) -> list[Job]:
        return [await self.submitting(f"job-{number}") for number in range(count)]


@pytest.fixture
async def scene() -> AsyncIterator[PackingScene]:
    scene = PackingScene()
    yield scene
    await scene.close()


async def test_jobs_taken_together_are_submitted_together_and_marked_first(scene: PackingScene) -> None:
    jobs = await scene.jobs(5)
    stage = scene.stage()
    await asyncio.gather(*(stage.handle(job) for job in jobs))
    assert [size for _, size in scene.vendor.packs] == [3, 2]
    assert scene.vendor.packs[0][0] == token_of_pack(jobs[:3])
    rows = [await scene.row(job.execution_id) for job in jobs]
    assert {row.state for row in rows} == {State.WAITING}
    assert [row.provider_job_id for row in rows] == ["vendor-1"] * 3 + ["vendor-2"] * 2
    assert [(row.handle or {})["pack_index"] for row in rows] == [0, 1, 2, 0, 1]
    assert all((row.prepared or {})["measurement"] for row in rows)


async def test_what_cannot_share_does_not(scene: PackingScene) -> None:
    """Another validator's circuit, other options: never in one vendor's job."""
    mine = await scene.submitting("mine")
    seeded = await scene.submitting("seeded", configuration_data={"seed": 1})
    stage = scene.stage()
    await asyncio.gather(stage.handle(mine), stage.handle(seeded))
    assert [size for _, size in scene.vendor.packs] == [1, 1]
    assert {token for token, _ in scene.vendor.packs} == {token_of(mine), token_of(seeded)}


async def test_a_refused_pack_is_submitted_one_by_one(scene: PackingScene) -> None:
    """One circuit the vendor does not like must not take the others with it."""
    scene.vendor.refuse_packs = True
    jobs = await scene.jobs(3)
    stage = scene.stage()
    await asyncio.gather(*(stage.handle(job) for job in jobs))
    again = [await scene.row(job.execution_id) for job in jobs]
    assert {(row.state, row.submit_started_at) for row in again} == {(State.SUBMITTING, None)}
    await asyncio.gather(*(stage.handle(job) for job in again))
    assert [size for _, size in scene.vendor.packs] == [3, 1, 1, 1]
    assert {(await scene.row(job.execution_id)).state for job in jobs} == {State.WAITING}


async def test_who_leaves_a_pack_while_it_waits_does_not_have_the_others_looked_for(scene: PackingScene) -> None:
    """The operator called one off while the pack waited for its turn: the others were marked, and never submitted.

    Each was then looked for as though it might be paid, a minute long; where the vendor cannot be asked for what it
    has, each was held for the operator. They are unmarked, and go together at the next turn.
    """
    first, *others = await scene.jobs(3)
    stage = scene.stage()
    tasks = [asyncio.create_task(stage.handle(job)) for job in (first, *others)]
    while not any(len(pack) == 3 for pack in stage._packer._open.values()):  # noqa: ASYNC110 - it has no event for it
        await asyncio.sleep(0.01)
    await scene.road.end_without_result(first, Verdict.CANCELLED, code="operator", message="gone", unsubmitted=True)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(one) for one in results} == {StaleRow}
    again = [await scene.row(job.execution_id) for job in others]
    assert {(row.state, row.submit_started_at) for row in again} == {(State.SUBMITTING, None)}
    assert scene.vendor.packs == []
    await asyncio.gather(*(stage.handle(job) for job in again))
    rows = [await scene.row(job.execution_id) for job in others]
    assert [(row.handle or {})["pack_index"] for row in rows] == [0, 1]
    assert (scene.vendor.packs, scene.vendor.looks) == ([(token_of_pack(others), 2)], 0)


async def test_a_refused_job_by_itself_is_refused(scene: PackingScene) -> None:
    scene.vendor.fail_submit = [Refused("this device is retired")]
    (job,) = await scene.jobs(1)
    await scene.stage().handle(job)
    row = await scene.row(job.execution_id)
    assert (row.verdict, row.error) == (Verdict.REFUSED, "this device is retired")


async def test_a_pack_whose_answer_was_lost_is_adopted_by_every_member(scene: PackingScene) -> None:
    scene.vendor.fail_submit = [SubmitUnknown("read timed out")]
    jobs = await scene.jobs(2)
    stage = scene.stage()
    await asyncio.gather(*(stage.handle(job) for job in jobs))
    scene.vendor.found = [Found(handles=[JobHandle(provider_job_id="theirs", device_id="dev")])] * 2
    for job in jobs:
        await stage.handle(await scene.row(job.execution_id))
    rows = [await scene.row(job.execution_id) for job in jobs]
    assert [row.provider_job_id for row in rows] == ["theirs", "theirs"]
    assert [(row.handle or {})["pack_index"] for row in rows] == [0, 1]
    assert len(scene.vendor.packs) == 1


async def test_a_lost_pack_that_never_was_is_submitted_anew(scene: PackingScene) -> None:
    scene.vendor.fail_submit = [SubmitUnknown("reset")]
    (job,) = await scene.jobs(1)
    stage = scene.stage()
    await stage.handle(job)
    scene.vendor.found = [Absent(), Absent()]
    for _ in range(3):
        await stage.handle(await scene.row(job.execution_id))
        scene.clock.pass_seconds(60)
    assert (await scene.row(job.execution_id)).state is State.WAITING
    assert {token for token, _ in scene.vendor.packs} == {token_of(job)}


async def test_a_busy_vendor_leaves_no_mark(scene: PackingScene) -> None:
    scene.vendor.fail_submit = [Unavailable("429", retry_after_seconds=60)]
    jobs = await scene.jobs(2)
    stage = scene.stage()
    await asyncio.gather(*(stage.handle(job) for job in jobs))
    assert {(await scene.row(job.execution_id)).submit_started_at for job in jobs} == {None}
    # The pause is the account's: nobody asks before it is over, and nobody is marked meanwhile.
    await stage.handle(await scene.row(jobs[0].execution_id))
    assert len(scene.vendor.packs) == 1
    assert (await scene.row(jobs[0].execution_id)).submit_attempts == 1


async def test_who_waits_for_a_turn_joins_and_who_stops_is_let_go_as_it_was(scene: PackingScene) -> None:
    scene.pack(rate=0.0001)
    stage = scene.stage()
    first, *others = await scene.jobs(3)
    await stage.handle(first)
    waiting = [asyncio.create_task(stage.handle(job)) for job in others]
    while len(stage._packer._open) == 0:  # noqa: ASYNC110 - the packer has no event for it
        await asyncio.sleep(0.01)
    stopping = asyncio.create_task(stage.stop())
    await asyncio.wait_for(asyncio.gather(stopping, *waiting), 5)
    assert [await scene.row(job.execution_id) for job in others] == others
    assert len(scene.vendor.packs) == 1
    late = await scene.submitting("late")
    await stage.handle(late)
    assert await scene.row("late") == late


async def test_the_runner_reads_each_by_its_own_handle(scene: PackingScene) -> None:
    jobs = await scene.jobs(2)
    stage = scene.stage()
    await asyncio.gather(*(stage.handle(job) for job in jobs))
    waiting = WaitStage(scene.road, scene.account, scene.circuits, held_seconds=60, unknown_seconds=60)
    rows = [await scene.row(job.execution_id) for job in jobs]
    await asyncio.gather(*(waiting.handle(row) for row in rows))
    assert {(await scene.row(job.execution_id)).verdict for job in jobs} == {Verdict.SUCCEEDED}
