"""Jobs that wait are asked for together; those with no news are not taken, and only their time is written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from qcompute.errors import StoreError, Unavailable
from qcompute.miner import runner
from qcompute.miner.account import Account
from qcompute.miner.job import Job, State, Verdict
from qcompute.miner.providers.base import BaseExecutionStatus, JobHandle
from qcompute.miner.resting import REST, Resting
from qcompute.miner.runner import WaitStage, on_grid
from qcompute.units import ExecutionId, ProviderKey
from tests.unit.miner.scripted import START, Scene, Vendor


@dataclass
class Listing(Vendor):
    """Answers for many at once, each job by its name; one that it was told to fails all."""

    words: dict[str, BaseExecutionStatus] = field(default_factory=dict[str, BaseExecutionStatus])
    fail: bool = False
    lists: int = 0

    def poll_many(self, handles: Sequence[JobHandle]) -> list[BaseExecutionStatus]:
        self.lists += 1
        if self.fail:
            raise Unavailable("away", retry_after_seconds=30)
        return [self.words[handle.provider_job_id] for handle in handles]


@pytest.fixture
def vendor() -> Listing:
    return Listing()


@pytest.fixture
async def stage(scene: Scene, vendor: Listing) -> AsyncIterator[WaitStage]:
    account = Account(ProviderKey("scripted"), vendor, threads=2)
    yield WaitStage(scene.road, account, scene.circuits, held_seconds=600, unknown_seconds=300)
    await account.close(limit_seconds=1)


async def waits(scene: Scene, vendor: Listing, name: str, says: str, **changes: Any) -> Job:
    """A job that waits, and what its vendor will say of it."""
    vendor.words[name] = BaseExecutionStatus(status=says)
    handle = JobHandle(provider_job_id=name, device_id="dev").model_dump()
    return await scene.waiting(name, **({"handle": handle} | changes))


async def test_no_news_are_only_waited_on(scene: Scene, stage: WaitStage, vendor: Listing) -> None:
    """A status that is already in the row: the same version, another time, and the stage does not take it."""
    before = await waits(scene, vendor, "same", "RUNNING", vendor_status="RUNNING")
    await stage._fetch_rows()
    after = await scene.row("same")
    assert (after.version, after.due_at) == (before.version, scene.clock() + REST)
    assert (stage._backlog, stage._answers, vendor.lists) == ({}, {}, 1)
    assert stage._resting.next_due_at == scene.clock() + timedelta(seconds=2)


async def test_who_rests_is_asked_for_at_its_pace_and_not_written(
    scene: Scene, stage: WaitStage, vendor: Listing
) -> None:
    await waits(scene, vendor, "same", "RUNNING", vendor_status="RUNNING")
    await stage._fetch_rows()
    before = await scene.row("same")
    for lists in range(2, 6):
        scene.clock.pass_seconds(1)
        await stage._fetch_rows()
        assert vendor.lists == lists - 1, "it is asked for every two seconds"
        scene.clock.pass_seconds(1)
        await stage._fetch_rows()
        assert vendor.lists == lists
    assert await scene.row("same") == before


async def test_a_row_rests_again_when_its_rest_is_over(scene: Scene, stage: WaitStage, vendor: Listing) -> None:
    await waits(scene, vendor, "same", "RUNNING", vendor_status="RUNNING")
    await stage._fetch_rows()
    scene.clock.pass_seconds(REST.total_seconds())
    await stage._fetch_rows()
    assert (vendor.lists, (await scene.row("same")).due_at) == (2, scene.clock() + REST)


@pytest.mark.parametrize(("says", "verdict"), [("COMPLETED", Verdict.SUCCEEDED), ("CANCELLED", Verdict.CANCELLED)])
async def test_news_of_one_that_rests_are_acted_on_at_once(
    scene: Scene, stage: WaitStage, vendor: Listing, says: str, verdict: Verdict
) -> None:
    await waits(scene, vendor, "one", "RUNNING", vendor_status="RUNNING")
    await stage._fetch_rows()
    vendor.words["one"] = BaseExecutionStatus(status=says)
    scene.clock.pass_seconds(2)
    await stage._fetch_rows()
    await stage.handle(stage._backlog.pop(ExecutionId("one")))
    assert ((await scene.row("one")).verdict, vendor.lists) == (verdict, 2)
    scene.clock.pass_seconds(REST.total_seconds())
    await stage._fetch_rows()
    assert vendor.lists == 2, "nobody asks for it any more"


async def test_rows_that_rest_are_asked_for_at_once_after_a_restart(
    scene: Scene, stage: WaitStage, vendor: Listing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their rest was the word of a process that is dead; all are found, also those with news, and each once."""
    monkeypatch.setattr(runner, "POLLS_AT_ONCE", 2)
    for name in "abcde":
        await waits(scene, vendor, name, "RUNNING", vendor_status="RUNNING")
    await stage._fetch_rows()
    asked = vendor.lists
    vendor.words["e"] = BaseExecutionStatus(status="COMPLETED")
    scene.clock.pass_seconds(1)
    again = WaitStage(scene.road, stage._account, scene.circuits, held_seconds=600, unknown_seconds=300)
    await again._fetch_rows()
    assert (vendor.lists, sorted(again._backlog)) == (asked + 3, ["e"])
    await again._fetch_rows()
    assert vendor.lists == asked + 3


async def test_whoever_is_cancelled_rests_no_more(scene: Scene, stage: WaitStage, vendor: Listing) -> None:
    await waits(scene, vendor, "one", "RUNNING", vendor_status="RUNNING")
    await stage._fetch_rows()
    row = await scene.row("one")
    with scene.ledger.hearing(State.WAITING, stage._hear, lane=stage.lane):
        await scene.road.store(row, replace(row, cancel_requested_at=scene.clock(), due_at=scene.clock()))
    assert stage._resting.take(scene.clock() + REST, 10) == []
    await stage.handle(stage._backlog.pop(ExecutionId("one")))
    assert vendor.cancelled == ["one"]


async def test_an_operators_cancel_in_another_process_is_not_undone(
    scene: Scene, stage: WaitStage, vendor: Listing
) -> None:
    """We do not hear of it; what was said of the older row then changes nothing."""
    await waits(scene, vendor, "one", "RUNNING", vendor_status="RUNNING")
    await stage._fetch_rows()
    row = await scene.row("one")
    stored = await scene.road.store(row, replace(row, cancel_requested_at=scene.clock(), due_at=scene.clock()))
    vendor.words["one"] = BaseExecutionStatus(status="CANCELLED")
    scene.clock.pass_seconds(2)
    await stage._fetch_rows()
    assert (await scene.row("one")) == stored
    assert list(stage._backlog.values()) == [stored]
    stage._backlog.clear()


async def test_of_too_many_each_has_its_next_time_written(scene: Scene, stage: WaitStage, vendor: Listing) -> None:
    stage._resting = Resting(most=2)
    for name in "abc":
        await waits(scene, vendor, name, "RUNNING", vendor_status="RUNNING")
    await stage._fetch_rows()
    times = [(await scene.row(name)).due_at - scene.clock() for name in "abc"]
    assert sorted(times) == [timedelta(seconds=2), REST, REST]


async def test_news_are_acted_on_with_the_answer_that_brought_them(
    scene: Scene, stage: WaitStage, vendor: Listing
) -> None:
    """Another word, an end, a word nobody knows: each row is taken, and its vendor not asked again."""
    for name, says in (("new", "RUNNING"), ("done", "COMPLETED"), ("odd", "DELETED?")):
        await waits(scene, vendor, name, says, vendor_status="QUEUED")
    await stage._fetch_rows()
    taken = dict(stage._backlog)
    assert sorted(taken) == sorted(stage._answers) == ["done", "new", "odd"]
    for job in taken.values():
        await stage.handle(job)
    assert (vendor.lists, stage._answers) == (1, {})
    assert (await scene.row("new")).vendor_status == "RUNNING"
    assert (await scene.row("done")).verdict is Verdict.SUCCEEDED
    assert (await scene.row("odd")).error_code == "unknown_status"


async def test_an_answer_is_for_the_row_as_it_was_asked_for(scene: Scene, stage: WaitStage, vendor: Listing) -> None:
    """Somebody else changed the row meanwhile: what was said of the older one is not acted on."""
    await waits(scene, vendor, "moved", "CANCELLED", vendor_status="QUEUED")
    await stage._fetch_rows()
    vendor.words["moved"] = BaseExecutionStatus(status="COMPLETED")
    job = await scene.row("moved")
    await stage.handle(await scene.road.store(job, job))
    assert ((await scene.row("moved")).verdict, vendor.lists) == (Verdict.SUCCEEDED, 2)


async def test_who_cannot_be_asked_is_each_rows_answer(scene: Scene, stage: WaitStage, vendor: Listing) -> None:
    for name in ("one", "two"):
        await waits(scene, vendor, name, "RUNNING", vendor_status="RUNNING")
    vendor.fail = True
    await stage._fetch_rows()
    for job in list(stage._backlog.values()):
        await stage.handle(job)
    assert vendor.lists == 1
    for name in ("one", "two"):
        row = await scene.row(name)
        assert (row.state, row.error_code) == (State.WAITING, Unavailable.code)
        assert row.due_at >= scene.clock() + timedelta(seconds=30)


async def test_rows_with_a_problem_are_not_asked_for_together(scene: Scene, stage: WaitStage, vendor: Listing) -> None:
    """Past its deadline, to be cancelled, or failed before: each is handled by itself."""
    past = scene.clock()
    await waits(scene, vendor, "late", "RUNNING", vendor_status="RUNNING", deadline_at=past)
    await waits(scene, vendor, "cancel", "RUNNING", vendor_status="RUNNING", cancel_requested_at=past)
    await waits(scene, vendor, "failed", "RUNNING", vendor_status="RUNNING", error_code="unavailable", error="x")
    await stage._fetch_rows()
    assert (vendor.lists, sorted(stage._backlog), stage._answers) == (0, ["cancel", "failed", "late"], {})


async def test_those_that_are_still_to_be_asked_for_are_not_taken_one_by_one(
    scene: Scene, stage: WaitStage, vendor: Listing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More were due than one round asked for, and every other one of a hundred thousand went the long way.

    Each then cost a task, a whole row and a commit, six times what asking together costs.
    """
    monkeypatch.setattr(runner, "POLLS_AT_ONCE", 2)
    names = [f"job-{number}" for number in range(7)]
    for name in names:
        await waits(scene, vendor, name, "QUEUED", vendor_status="QUEUED")
    await stage._fetch_rows()
    assert (stage._backlog, stage._answers, vendor.lists) == ({}, {}, 4)
    assert [(await scene.row(name)).due_at > scene.clock() for name in names] == [True] * 7


async def test_news_come_before_more_questions(
    scene: Scene, stage: WaitStage, vendor: Listing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "POLLS_AT_ONCE", 2)
    monkeypatch.setattr(runner, "BATCH", 3)
    monkeypatch.setattr(runner, "OTHERS_AHEAD", 0)
    for name in "abcdefg":
        await waits(scene, vendor, name, "COMPLETED", vendor_status="QUEUED")
    await stage._fetch_rows()
    assert (sorted(stage._backlog), stage._look_at, vendor.lists) == (["a", "b", "c", "d"], 0.0, 2)
    stage._backlog.clear()


async def test_however_many_are_due_the_others_come_to_their_turn(
    scene: Scene, stage: WaitStage, vendor: Listing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "POLLS_AT_ONCE", 2)
    monkeypatch.setattr(runner, "ROUNDS_AT_ONCE", 2)
    await waits(scene, vendor, "late", "RUNNING", vendor_status="RUNNING", deadline_at=scene.clock())
    for name in "abcdefg":
        await waits(scene, vendor, name, "QUEUED", vendor_status="QUEUED")
    await stage._fetch_rows()
    assert "late" in stage._backlog
    assert (vendor.lists, stage._look_at) == (2, 0.0)
    stage._backlog.clear()


def test_a_poll_a_moment_late_does_not_skip_the_next_one() -> None:
    """The next whole interval after now and a pause was the one after the next: jobs were polled half as often."""
    interval = 5.0
    asked_at = on_grid(START, interval)
    for _ in range(10):
        due_at = on_grid(asked_at + timedelta(seconds=interval, milliseconds=80), interval)
        assert due_at - asked_at < timedelta(seconds=interval, milliseconds=80)
        asked_at = due_at + timedelta(milliseconds=80)
    assert asked_at < on_grid(START, interval) + timedelta(seconds=10 * interval + 1)


async def test_a_failing_database_does_not_let_who_ended_rest_on(
    scene: Scene, stage: WaitStage, vendor: Listing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The news came, the word that the row is due did not arrive, and the job was asked for again ten minutes later."""
    await waits(scene, vendor, "one", "RUNNING", vendor_status="RUNNING")
    await stage._fetch_rows()
    vendor.words["one"] = BaseExecutionStatus(status="COMPLETED")
    scene.clock.pass_seconds(2)
    with monkeypatch.context() as broken:
        broken.setattr(scene.ledger, "postpone", fails)
        with pytest.raises(StoreError):
            await stage._fetch_rows()
    scene.clock.pass_seconds(2)
    await stage._fetch_rows()
    assert sorted(stage._backlog) == ["one"]
    stage._backlog.clear()


async def test_who_was_to_be_asked_for_when_the_database_failed_is_asked_for_later(
    scene: Scene, stage: WaitStage, vendor: Listing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taken to be asked for and dropped by the error, they rested for the ten minutes written in their rows."""
    await waits(scene, vendor, "one", "RUNNING", vendor_status="RUNNING")
    await stage._fetch_rows()
    scene.clock.pass_seconds(2)
    with monkeypatch.context() as broken:
        broken.setattr(scene.ledger, "polls_due", fails)
        with pytest.raises(StoreError):
            await stage._fetch_rows()
    scene.clock.pass_seconds(2)
    await stage._fetch_rows()
    assert vendor.lists == 2


async def fails(*_: Any, **__: Any) -> None:
    raise StoreError("the server closed the connection")


@dataclass
class Odd(Listing):
    """Answers what no adapter may."""

    answer: Any = None

    def poll_many(self, handles: Sequence[JobHandle]) -> list[BaseExecutionStatus]:
        del handles
        return self.answer


@pytest.mark.parametrize("answer", [None, [None], [], ({} for _ in range(1)), ["RUNNING"]])
async def test_an_adapter_that_answers_nonsense_does_not_end_the_daemon(scene: Scene, answer: Any) -> None:
    """Its answers are looked at in the stage's own loop, and what that raises ended the process, at each restart."""
    vendor = Odd(answer=answer)
    account = Account(ProviderKey("scripted"), vendor, threads=1)
    stage = WaitStage(scene.road, account, scene.circuits, held_seconds=600, unknown_seconds=300)
    await waits(scene, vendor, "one", "RUNNING", vendor_status="RUNNING")
    await stage._fetch_rows()
    await stage.handle(stage._backlog.pop(ExecutionId("one")))
    row = await scene.row("one")
    assert (row.state, row.error_code) == (State.WAITING, "poll_failed")
    scene.clock.pass_seconds(60)
    await asyncio.wait_for(stage.handle(row), 5)
    assert (await scene.row("one")).attempts == 2
    await account.close(limit_seconds=1)


async def test_who_lost_the_account_in_the_middle_of_a_round_stops_quietly(
    scene: Scene, stage: WaitStage, vendor: Listing
) -> None:
    """Another process has it: what is written is refused, and that ended the whole daemon, other accounts and all."""
    tenure = await scene.ledger.claims.take(stage.lane)
    assert tenure is not None
    stage.road = scene.road.under(tenure)
    await waits(scene, vendor, "one", "RUNNING", vendor_status="RUNNING")
    await scene.ledger.claims.take(stage.lane)
    before = await scene.row("one")
    await stage._fetch_rows()
    assert await scene.row("one") == before
    stage._backlog.clear()


async def test_rows_are_found_at_once_that_a_process_with_a_clock_ahead_let_rest(
    scene: Scene, stage: WaitStage, vendor: Listing
) -> None:
    """Two machines' clocks differ by seconds, and jobs were not asked for until ten minutes after the takeover.

    Their rows rested a moment longer than was looked for.
    """
    await waits(scene, vendor, "one", "RUNNING", vendor_status="RUNNING")
    scene.clock.pass_seconds(5)
    await stage._fetch_rows()
    scene.clock.pass_seconds(-5)
    vendor.words["one"] = BaseExecutionStatus(status="COMPLETED")
    again = WaitStage(scene.road, stage._account, scene.circuits, held_seconds=600, unknown_seconds=300)
    await again._fetch_rows()
    assert vendor.lists == 2
