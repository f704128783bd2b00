"""A job whose adapter tells of its end is settled at once; whatever is not told is found by polling."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from qcompute.miner.account import TOLD_POLL_SECONDS, Account
from qcompute.miner.ends import EndedRows, EndNews
from qcompute.miner.job import Job, State, Verdict
from qcompute.miner.providers.base import BaseExecutionStatus, JobHandle
from qcompute.miner.runner import WaitStage
from qcompute.testing.ledger_fixtures import listening
from qcompute.units import ExecutionId, ProviderJobId, ProviderKey
from tests.unit.miner.scripted import Scene, Vendor


@dataclass
class Telling(Vendor):
    """Says that a job has ended when the test does; a poll that the test holds back answers what it was at the time."""

    tell: Callable[[str], None] = lambda _: None
    polled: threading.Event = field(default_factory=threading.Event)
    may_answer: threading.Event = field(default_factory=threading.Event)

    def on_end(self, tell: Callable[[str], None]) -> None:
        self.tell = tell

    def poll(self, handle: JobHandle) -> BaseExecutionStatus:
        answer = super().poll(handle)
        self.polled.set()
        assert self.may_answer.wait(5)
        return answer


@pytest.fixture
async def vendor(scene: Scene) -> AsyncIterator[Telling]:
    vendor = Telling()
    vendor.may_answer.set()
    account = Account(ProviderKey("scripted"), vendor, threads=2)
    stage = WaitStage(scene.road, account, scene.circuits, held_seconds=600, unknown_seconds=300)
    task = asyncio.create_task(stage.run())
    await asyncio.sleep(0)
    yield vendor
    async with asyncio.timeout(5):
        await stage.stop()
        await task
    await account.close(limit_seconds=1)


async def waits(scene: Scene, name: str = "vendor-1", *, seconds: float = 3600) -> Job:
    """A job that would be polled in an hour."""
    due_at = scene.clock() + timedelta(seconds=seconds)
    return await scene.waiting(due_at=due_at, provider_job_id=ProviderJobId(name))


async def told(vendor: Telling, name: str = "vendor-1") -> None:
    """From a thread of the adapter's own."""
    await asyncio.to_thread(vendor.tell, name)


async def settled(scene: Scene) -> Job:
    async with asyncio.timeout(5):
        with listening(scene.ledger, State.SETTLED) as ear:
            while (row := await scene.row()).state is not State.SETTLED:
                await ear.until_heard()
    return row


async def test_a_job_told_to_have_ended_is_settled_at_once_and_with_one_write(scene: Scene, vendor: Telling) -> None:
    """A simulation of five milliseconds was found by a poll after 200, and each poll in between was written down."""
    before = await waits(scene)
    await told(vendor)
    row = await settled(scene)
    assert (row.verdict, row.version, vendor.polls) == (Verdict.SUCCEEDED, before.version + 1, 1)


async def test_a_job_that_ends_before_its_row_waits_is_settled_at_once(scene: Scene, vendor: Telling) -> None:
    """The answer of a submit is on its way to the ledger while a short circuit has run already."""
    await told(vendor)
    await waits(scene)
    assert (await settled(scene)).verdict is Verdict.SUCCEEDED


async def test_an_end_told_while_a_poll_is_on_its_way_is_not_missed(scene: Scene, vendor: Telling) -> None:
    vendor.status = "RUNNING"
    vendor.may_answer.clear()
    await waits(scene, seconds=0)
    assert await asyncio.to_thread(vendor.polled.wait, 5)
    vendor.status = "COMPLETED"
    await told(vendor)
    vendor.may_answer.set()
    row = await settled(scene)
    assert (row.verdict, vendor.polls) == (Verdict.SUCCEEDED, 2)


async def test_what_is_told_of_others_changes_nothing(scene: Scene, vendor: Telling) -> None:
    """And what is told too soon is looked at once: a job that runs is not ended by words."""
    vendor.status = "RUNNING"
    await waits(scene)
    await told(vendor, "another")
    await told(vendor)
    assert await asyncio.to_thread(vendor.polled.wait, 5)
    with listening(scene.ledger, State.SETTLED):
        vendor.status = "COMPLETED"
        await told(vendor)
        await settled(scene)
    assert vendor.polls == 2


async def test_who_tells_is_polled_less(scene: Scene) -> None:
    account = Account(ProviderKey("telling"), Telling(), threads=1)
    assert account.tells_ends
    assert account.poll_interval_seconds == account.first_poll_seconds == TOLD_POLL_SECONDS
    assert not scene.account.tells_ends
    assert (scene.account.poll_interval_seconds, scene.account.first_poll_seconds) == (2.0, 0.5)
    await account.close(limit_seconds=1)


async def test_news_are_for_who_hears_and_many_come_together() -> None:
    """A stage that has just been replaced by that of a new tenure must not take its successor's news away."""
    news = EndNews()
    news.tell("nobody hears")
    first: list[list[str]] = []
    second: list[list[str]] = []
    with news.heard(lambda names: first.append(list(names))):
        for name in "abc":
            await asyncio.to_thread(news.tell, name)
        await asyncio.sleep(0)
    older = news.heard(lambda names: first.append(list(names)))
    with older:
        newer = news.heard(lambda names: second.append(list(names)))
        newer.__enter__()
    news.tell("d")
    await asyncio.sleep(0)
    newer.__exit__(None, None, None)
    news.tell("nobody hears")
    await asyncio.sleep(0)
    assert [name for names in first for name in names] == ["a", "b", "c"]
    assert second == [["d"]]


async def test_only_so_many_rows_are_remembered(scene: Scene) -> None:
    """Those that came first, which end first; the rest are polled."""
    job = await waits(scene)
    rows = EndedRows(most=2)
    jobs = [replace(job, execution_id=ExecutionId(name), provider_job_id=ProviderJobId(name)) for name in "abc"]
    assert not any(rows.waits(one) for one in jobs)
    rows.heard(["c", "b", "x", "y"])
    assert rows.take({ExecutionId("b")}) == []
    assert [one.execution_id for one in rows.take(())] == ["b"]
    assert rows.take(()) == []
    early = replace(jobs[0], provider_job_id=ProviderJobId("c"))
    assert not rows.waits(early), "of three told too early the oldest is forgotten"
    rows.forget(jobs[0])
    rows.heard(["a"])
    assert rows.take(()) == []
    assert not rows.waits(replace(job, provider_job_id=None))


async def test_an_adapter_with_new_credentials_is_heard_as_the_one_before() -> None:
    """What it told went nowhere after `qcompute connections rotate`, and each end was noticed by the next poll."""
    account = Account(ProviderKey("scripted"), Telling(), threads=1)
    renewed = Telling()
    await account.replace_adapter(renewed, limit_seconds=1)
    told: asyncio.Future[Sequence[str]] = asyncio.get_running_loop().create_future()
    with account.hearing_ends(told.set_result):
        renewed.tell("vendor-1")
        assert await asyncio.wait_for(told, 5) == ["vendor-1"]
    await account.close(limit_seconds=1)
