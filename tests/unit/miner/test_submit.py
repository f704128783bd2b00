"""The paid call is made once, whatever happens to its answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from qcompute.errors import AuthFailed, Refused, StoreError, SubmitUnknown, Unavailable
from qcompute.ledger.memory import MemoryLedger
from qcompute.miner.job import Job, State, Verdict
from qcompute.miner.providers.base import Absent, CannotTell, Found, Idempotency, JobHandle
from qcompute.miner.router import token_of
from qcompute.miner.strays import Strays
from qcompute.miner.submit import ACCOUNT_PAUSE_SECONDS, FIRST_LOOK_SECONDS, SubmitStage
from qcompute.units import ExecutionId
from tests.unit.miner.scripted import BELL, Scene


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    yield scene
    await scene.close()


def stage(scene: Scene) -> SubmitStage:
    return SubmitStage(
        scene.road, scene.account, scene.circuits, concurrency=4, held_seconds=600, second_look_seconds=60
    )


async def test_a_job_is_marked_on_disk_before_the_paid_call(scene: Scene) -> None:
    job = await scene.submitting()
    marks: list[object] = []
    assert isinstance(scene.ledger, MemoryLedger)
    rows = scene.ledger._rows
    scene.vendor.on_submit = lambda: marks.append(rows[job.execution_id]["submit_started_at"])
    await stage(scene).handle(job)
    row = await scene.row()
    assert row.state is State.WAITING
    assert row.provider_job_id == "vendor-1"
    assert marks == [int(scene.clock().timestamp() * 1_000_000)]
    assert scene.vendor.submits == [BELL]
    assert scene.vendor.tokens == [token_of(job)]


async def test_an_answer_that_did_not_come_is_looked_for_and_adopted(scene: Scene) -> None:
    scene.vendor.fail_submit = [SubmitUnknown("read timed out")]
    await stage(scene).handle(await scene.submitting())
    row = await scene.row()
    assert (row.state, row.error_code) == (State.SUBMITTING, "submit_unknown")
    assert row.due_at == scene.clock() + timedelta(seconds=FIRST_LOOK_SECONDS)

    scene.vendor.found = [Found(handles=[JobHandle(provider_job_id="theirs", device_id="dev")])]
    await stage(scene).handle(row)
    row = await scene.row()
    assert (row.state, row.provider_job_id) == (State.WAITING, "theirs")
    assert len(scene.vendor.submits) == 1


async def test_an_adapter_of_the_reference_that_raises_anything_may_have_been_paid(scene: Scene) -> None:
    scene.vendor.fail_submit = [ValueError("surprise")]
    await stage(scene).handle(await scene.submitting())
    scene.vendor.found = [CannotTell("this vendor has no search")]
    await stage(scene).handle(await scene.row())
    row = await scene.row()
    assert row.state is State.HELD
    assert "no search" in (row.error or "")
    assert len(scene.vendor.submits) == 1


async def test_after_a_crash_in_the_middle_the_job_is_looked_for_first(scene: Scene) -> None:
    crashed = await scene.submitting(submit_started_at=scene.clock(), submit_attempts=1)
    scene.vendor.found = [Found(handles=[JobHandle(provider_job_id="theirs", device_id="dev")])]
    await stage(scene).handle(crashed)
    assert (await scene.row()).provider_job_id == "theirs"
    assert scene.vendor.submits == []


async def test_absent_from_a_list_is_believed_only_the_second_time(scene: Scene) -> None:
    crashed = await scene.submitting(submit_started_at=scene.clock(), submit_attempts=1)
    scene.vendor.found = [Absent(), Absent()]
    submitting = stage(scene)
    await submitting.handle(crashed)
    row = await scene.row()
    assert row.submit_started_at is not None
    assert row.due_at == scene.clock() + timedelta(seconds=60)
    scene.clock.pass_seconds(60)
    await submitting.handle(row)
    row = await scene.row()
    assert row.submit_started_at is None
    await submitting.handle(row)
    assert (await scene.row()).state is State.WAITING
    assert len(scene.vendor.submits) == 1


async def test_a_look_that_failed_does_not_count_as_a_look(scene: Scene) -> None:
    """A failed look once raised the counter of looks, so one Absent sufficed to submit again."""
    crashed = await scene.submitting(submit_started_at=scene.clock(), submit_attempts=1)
    scene.vendor.found = [Unavailable("maintenance"), Absent(), Absent()]
    submitting = stage(scene)
    for _ in range(2):
        await submitting.handle(crashed)
        crashed = await scene.row()
        assert crashed.submit_started_at is not None
        scene.clock.pass_seconds(60)
    await submitting.handle(crashed)
    assert (await scene.row()).submit_started_at is None


async def test_a_handle_is_kept_through_a_database_that_fails_for_a_moment(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A vendor that cannot look a job up had it held when the disk was full just then, although it had answered."""
    scene.vendor.idempotency = Idempotency.NONE  # type: ignore[misc]
    job, save, fails = await scene.submitting(), scene.ledger.save, 2

    async def save_later(before: Job, after: Job, **parts: Any) -> Job:
        nonlocal fails
        if after.state is State.WAITING and fails:
            fails -= 1
            raise StoreError("the disk is full")
        return await save(before, after, **parts)

    monkeypatch.setattr(scene.ledger, "save", save_later)
    monkeypatch.setattr("qcompute.miner.submit.STORE_PAUSE_SECONDS", 0.0)
    await stage(scene).handle(job)
    row = await scene.row()
    assert (row.state, row.provider_job_id, fails) == (State.WAITING, "vendor-1", 0)
    assert len(scene.vendor.submits) == 1


async def test_a_clock_moved_forward_does_not_bring_the_second_look_forward(scene: Scene) -> None:
    """Two looks at a list are a minute apart so that it may lag; a day's jump once made that a moment."""
    crashed = await scene.submitting(submit_started_at=scene.clock(), submit_attempts=1)
    scene.vendor.found = [Absent(), Absent(), Absent()]
    submitting = stage(scene)
    seconds = scene.clock().timestamp()
    scene.account.monotonic = lambda: seconds
    await submitting.handle(crashed)
    scene.clock.pass_seconds(86400)
    await submitting.handle(await scene.row())
    row = await scene.row()
    assert row.submit_started_at is not None
    assert row.due_at == scene.clock() + timedelta(seconds=60)
    seconds += 60
    await submitting.handle(row)
    assert (await scene.row()).submit_started_at is None


async def test_with_a_token_one_look_is_enough(scene: Scene) -> None:
    scene.vendor.idempotency = Idempotency.TOKEN  # type: ignore[misc]
    crashed = await scene.submitting(submit_started_at=scene.clock(), submit_attempts=1)
    scene.vendor.found = [Absent()]
    await stage(scene).handle(crashed)
    assert (await scene.row()).submit_started_at is None


async def test_more_than_one_found_keeps_the_oldest_and_cancels_the_others(scene: Scene) -> None:
    crashed = await scene.submitting(submit_started_at=scene.clock(), submit_attempts=1)
    handles = [JobHandle(provider_job_id=name, device_id="dev") for name in ("oldest", "second", "third")]
    scene.vendor.found = [Found(handles=handles)]
    await stage(scene).handle(crashed)
    assert (await scene.row()).provider_job_id == "oldest"
    assert scene.vendor.cancelled == ["second", "third"]


async def test_provably_not_processed_may_be_submitted_again(scene: Scene) -> None:
    scene.vendor.fail_submit = [Unavailable("busy", retry_after_seconds=30)]
    await stage(scene).handle(await scene.submitting())
    row = await scene.row()
    assert (row.state, row.submit_started_at) == (State.SUBMITTING, None)
    assert row.due_at >= scene.clock() + timedelta(seconds=30)
    scene.clock.pass_seconds(30)
    await stage(scene).handle(row)
    assert (await scene.row()).state is State.WAITING
    assert (await scene.row()).submit_attempts == 2
    assert scene.vendor.looks == 0


async def test_a_refusal_ends_the_job_and_costs_nothing(scene: Scene) -> None:
    scene.vendor.fail_submit = [Refused("gate not supported")]
    await stage(scene).handle(await scene.submitting())
    row = await scene.row()
    outcome = await scene.ledger.outcome(row.execution_id)
    assert (row.state, row.verdict) == (State.SETTLED, Verdict.REFUSED)
    assert outcome is not None
    assert outcome.cost is None
    assert outcome.message == "gate not supported"


async def test_an_account_that_refuses_us_is_left_alone_for_a_while(scene: Scene) -> None:
    scene.vendor.fail_submit = [AuthFailed("bad key")]
    await stage(scene).handle(await scene.submitting())
    row = await scene.row()
    assert row.submit_started_at is None
    assert row.due_at >= scene.clock() + timedelta(seconds=ACCOUNT_PAUSE_SECONDS)


async def test_a_job_at_an_account_that_is_gone_is_held_and_not_submitted(scene: Scene) -> None:
    await scene.submitting("job-1", provider="ibm")
    await scene.waiting("job-2", provider="azure")
    await scene.waiting("job-3", provider=None)
    kept = await scene.waiting("job-4")
    await Strays(scene.road, {"scripted"}, held_seconds=60).look()
    for name, where in (("job-1", "account ibm"), ("job-2", "account azure"), ("job-3", "no account")):
        row = await scene.row(name)
        assert (row.state, row.error_code) == (State.HELD, "other_provider")
        assert where in (row.error or "")
    assert await scene.row("job-4") == kept
    assert scene.vendor.submits == []


async def test_a_job_past_its_deadline_is_not_paid_for(scene: Scene) -> None:
    job = await scene.submitting()
    scene.clock.pass_seconds(3 * 3600)
    await stage(scene).handle(job)
    assert (await scene.row()).verdict is Verdict.FAILED
    assert scene.vendor.submits == []


async def test_a_vendor_that_breaks_the_thread_pool_does_not_break_the_daemon(scene: Scene) -> None:
    """IBM's sampler raises a bare StopIteration, which cannot travel through a future."""
    scene.vendor.fail_submit = [StopIteration()]
    await stage(scene).handle(await scene.submitting())
    assert (await scene.row()).error_code == "submit_unknown"


async def test_a_vendor_that_cannot_be_asked_until_the_deadline_leaves_the_job_to_its_operator(scene: Scene) -> None:
    """The look was repeated for ever, and the validator never told."""
    crashed = await scene.submitting(submit_started_at=scene.clock(), submit_attempts=1)
    scene.vendor.found = [Unavailable("the vendor is away")] * 2
    await stage(scene).handle(crashed)
    assert (await scene.row()).state is State.SUBMITTING
    scene.clock.now = crashed.deadline_at
    await stage(scene).handle(await scene.row())
    row = await scene.row()
    assert (row.state, row.error) == (State.HELD, "it may have been submitted, and the vendor is away")
    assert scene.vendor.submits == []


RESTORED = {"restored": True}
"""What `qcompute.ledger.restore` leaves in a row that was not submitted when the copy was made."""


async def test_a_job_submitted_after_the_copy_is_found_and_read_as_it_was_submitted(scene: Scene) -> None:
    """A restore forgets how the result is read with all else: it is made ready again, for the device it ran on."""
    scene.vendor.devices.append(scene.vendor.devices[0].model_copy(update={"device_id": "other"}))
    job = await scene.submitting(submit_started_at=scene.clock(), prepared=RESTORED)
    scene.vendor.found = [Found(handles=[JobHandle(provider_job_id="theirs", device_id="other")])]
    await stage(scene).handle(job)
    row = await scene.row()
    assert (row.state, row.provider_job_id, row.device_id) == (State.WAITING, "theirs", "other")
    assert row.handle is not None
    assert row.handle["measurement"]["measured"] == [[0, 0], [1, 1]]
    assert (row.prepared or {}).keys() == {"measurement", "translation", "pack_index"}
    assert scene.vendor.submits == []


async def test_a_restored_job_whose_device_is_gone_is_held_with_the_vendor_s_id(scene: Scene) -> None:
    job = await scene.submitting(submit_started_at=scene.clock(), prepared=RESTORED)
    scene.vendor.found = [Found(handles=[JobHandle(provider_job_id="theirs", device_id="gone")])]
    await stage(scene).handle(job)
    row = await scene.row()
    assert (row.state, row.error_code) == (State.HELD, "restored")
    assert "theirs" in (row.error or "")


async def test_a_restored_job_that_is_absent_is_submitted_once(scene: Scene) -> None:
    scene.vendor.idempotency = Idempotency.TOKEN  # type: ignore[misc]
    job = await scene.submitting(submit_started_at=scene.clock(), prepared=RESTORED)
    scene.vendor.found = [Absent()]
    await stage(scene).handle(job)
    await stage(scene).handle(await scene.row())
    row = await scene.row()
    assert row.state is State.WAITING
    assert "restored" not in (row.prepared or {})
    assert len(scene.vendor.submits) == 1


async def test_where_there_are_packs_a_restored_job_that_is_absent_is_held(scene: Scene) -> None:
    """Since the copy it may have gone out in a pack, under a token made of jobs nobody knows any more."""
    scene.account.limits = replace(scene.account.limits, max_pack=10)
    job = await scene.submitting(submit_started_at=scene.clock(), prepared=RESTORED)
    scene.vendor.found = [Absent()]
    await stage(scene).handle(job)
    row = await scene.row()
    assert (row.state, row.error_code) == (State.HELD, "restored")
    assert scene.vendor.submits == []


async def test_submits_that_never_happened_are_no_looks(scene: Scene) -> None:
    """The vendor was away twice, the third call was cut by a crash, and its list was behind: it was read only once.

    Tries before the mark were counted as looks after it, so the job was submitted, and paid, a second time at once.
    """
    scene.vendor.fail_submit = [Unavailable("away"), Unavailable("away")]
    await stage(scene).handle(await scene.submitting())
    await stage(scene).handle(await scene.row())
    attempts: list[object] = []
    assert isinstance(scene.ledger, MemoryLedger)
    rows = scene.ledger._rows
    scene.vendor.on_submit = lambda: attempts.append(rows[ExecutionId("job-1")]["attempts"])
    assert (await scene.row()).attempts == 2
    await stage(scene).handle(await scene.row())
    assert attempts == [0]


async def test_a_look_that_raises_anything_is_no_look_and_ends_at_the_deadline(scene: Scene) -> None:
    """An adapter's find raised KeyError: taken for a bug of ours it counted as a look, and went on for ever."""
    scene.vendor.found = [KeyError("items"), KeyError("items")]
    job = await scene.submitting(submit_started_at=scene.clock())
    await stage(scene).handle(job)
    row = await scene.row()
    assert (row.state, row.attempts, row.error_code) == (State.SUBMITTING, 0, "find_failed")
    scene.clock.now = job.deadline_at
    await stage(scene).handle(row)
    row = await scene.row()
    assert (row.state, row.error_code) == (State.HELD, "submit_unknown")
    assert scene.vendor.submits == []
