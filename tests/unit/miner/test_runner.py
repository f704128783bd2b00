"""Only a word the contract calls terminal ends a job, and a result is stored before anyone is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal

import pytest

from qcompute.errors import BadReply, Unavailable
from qcompute.miner.job import CostKind, State, Verdict
from qcompute.miner.runner import BAD_REPLY_TRIES, CANCEL_GRACE, HeldStage, WaitStage
from qcompute.protocol import ExecutionStatus
from qcompute.receipts import verify_receipt
from qcompute.units import ExecutionId, Money
from tests.unit.miner.scripted import Scene


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    yield scene
    await scene.close()


def stage(scene: Scene) -> WaitStage:
    return WaitStage(scene.road, scene.account, scene.circuits, held_seconds=600, unknown_seconds=300)


async def test_a_completed_job_is_settled_with_counts_and_a_receipt(scene: Scene) -> None:
    await stage(scene).handle(await scene.waiting())
    row = await scene.row()
    outcome = await scene.ledger.outcome(row.execution_id)
    receipt = await scene.ledger.receipt(row.execution_id)
    assert (row.state, row.verdict) == (State.SETTLED, Verdict.SUCCEEDED)
    assert outcome is not None
    assert outcome.counts == {"00": 60, "11": 40}
    assert outcome.shots_returned == 100
    assert receipt is not None
    assert verify_receipt(receipt).execution_id == "job-1"
    assert json.loads(receipt)["miner_hotkey"] == scene.signer.hotkey


@pytest.mark.parametrize("word", ["QUEUED", "RUNNING"])
async def test_a_job_that_has_not_ended_is_polled_again_later(scene: Scene, word: str) -> None:
    scene.vendor.status = word
    await stage(scene).handle(await scene.waiting())
    row = await scene.row()
    assert (row.state, row.vendor_status) == (State.WAITING, word)
    assert row.due_at == scene.clock() + timedelta(seconds=2)


async def test_an_unknown_word_is_not_a_failure_and_is_held_after_its_deadline(scene: Scene) -> None:
    scene.vendor.status = "DELETED?"
    waiting = stage(scene)
    await waiting.handle(await scene.waiting())
    row = await scene.row()
    assert (row.state, row.error_code) == (State.WAITING, "unknown_status")
    scene.clock.pass_seconds(301)
    await waiting.handle(row)
    row = await scene.row()
    assert row.state is State.HELD
    assert "DELETED?" in (row.error or "")


async def test_a_job_its_simulator_lost_is_submitted_again(scene: Scene) -> None:
    """A machine that died had its local simulations on its own disk: whoever took its account over found none of them.

    They were polled for an hour and then held, though running them again costs nothing.
    """
    scene.vendor.status, scene.vendor.message, scene.vendor.is_lost = "UNKNOWN", "no such job", True
    await stage(scene).handle(await scene.waiting())
    row = await scene.row()
    assert (row.state, row.error_code, row.error) == (State.SUBMITTING, "lost_job", "no such job")
    assert (row.submit_started_at, row.handle, row.provider_job_id, row.prepared) == (None, None, None, None)
    assert row.submit_attempts == 1


async def test_an_unknown_word_that_goes_away_is_forgotten(scene: Scene) -> None:
    waiting = stage(scene)
    scene.vendor.status = "WARMING"
    await waiting.handle(await scene.waiting())
    scene.clock.pass_seconds(200)
    scene.vendor.status = "RUNNING"
    await waiting.handle(await scene.row())
    scene.clock.pass_seconds(200)
    scene.vendor.status = "WARMING"
    await waiting.handle(await scene.row())
    assert (await scene.row()).state is State.WAITING


async def test_the_vendors_own_words_are_kept_for_the_user(scene: Scene) -> None:
    scene.vendor.status, scene.vendor.message = "FAILED", "laser 3 unlocked"
    await stage(scene).handle(await scene.waiting())
    row = await scene.row()
    outcome = await scene.ledger.outcome(row.execution_id)
    assert (row.verdict, row.error) == (Verdict.FAILED, "laser 3 unlocked")
    assert outcome is not None
    assert outcome.counts is None


async def test_how_it_ended_is_believed_even_without_a_receipt(scene: Scene) -> None:
    scene.vendor.status = "FAILED"
    scene.vendor.receipt_errors = [RuntimeError("purged")]
    await stage(scene).handle(await scene.waiting())
    assert (await scene.row()).verdict is Verdict.FAILED


async def test_counts_that_cannot_be_right_are_asked_for_again_and_then_held(scene: Scene) -> None:
    scene.vendor.counts = {"000": 100}
    waiting = stage(scene)
    await scene.waiting()
    for _ in range(BAD_REPLY_TRIES - 1):
        await waiting.handle(await scene.row())
        assert (await scene.row()).state is State.WAITING
    await waiting.handle(await scene.row())
    row = await scene.row()
    assert (row.state, row.error_code) == (State.HELD, BadReply.code)
    assert "3 bits" in (row.error or "")


async def test_a_vendor_that_cannot_be_asked_is_asked_later(scene: Scene) -> None:
    scene.vendor.receipt_errors = [Unavailable("maintenance", retry_after_seconds=40)]
    waiting = stage(scene)
    await waiting.handle(await scene.waiting())
    row = await scene.row()
    assert row.state is State.WAITING
    assert row.due_at >= scene.clock() + timedelta(seconds=40)
    scene.clock.pass_seconds(40)
    await waiting.handle(row)
    assert (await scene.row()).verdict is Verdict.SUCCEEDED


async def test_without_an_actual_cost_the_estimate_is_given_and_called_so(scene: Scene) -> None:
    await stage(scene).handle(await scene.waiting(estimate=Money(Decimal("1.30"), "USD")))
    outcome = await scene.ledger.outcome(ExecutionId("job-1"))
    assert outcome is not None
    assert outcome.cost == Money(Decimal("1.30"), "USD")
    assert outcome.cost_kind is CostKind.OUR_ESTIMATE


async def test_past_its_deadline_a_job_is_cancelled_at_the_vendor_until_it_ends(scene: Scene) -> None:
    scene.vendor.status = "RUNNING"
    waiting = stage(scene)
    await scene.waiting()
    scene.clock.pass_seconds(3 * 3600)
    for _ in range(3):
        await waiting.handle(await scene.row())
    assert scene.vendor.cancelled == ["vendor-1"] * 3, "a request to cancel is not a cancel"
    assert (await scene.row()).state is State.WAITING
    scene.clock.now += CANCEL_GRACE
    await waiting.handle(await scene.row())
    row = await scene.row()
    assert (row.verdict, row.error_code) == (Verdict.FAILED, "deadline")


async def test_a_cancel_the_vendor_did_not_hear_is_said_again(scene: Scene) -> None:
    """It was said once and taken for heard: a job nobody wanted any more went on, and was paid for."""
    scene.vendor.status = "RUNNING"
    scene.vendor.fail_cancel = [Unavailable("503"), None]
    await scene.waiting()
    scene.clock.pass_seconds(3 * 3600)
    waiting = stage(scene)
    for _ in range(3):
        await waiting.handle(await scene.row())
    assert scene.vendor.cancelled == ["vendor-1"] * 2
    assert scene.vendor.fail_cancel == []
    assert (await scene.row()).cancel_requested_at == scene.clock()


async def test_a_vendor_that_never_hears_does_not_keep_a_job_for_ever(scene: Scene) -> None:
    scene.vendor.status = "RUNNING"
    scene.vendor.fail_cancel = [Unavailable("503")] * 2
    await scene.waiting()
    scene.clock.pass_seconds(3 * 3600)
    waiting = stage(scene)
    await waiting.handle(await scene.row())
    assert (await scene.row()).state is State.WAITING
    scene.clock.pass_seconds(CANCEL_GRACE.total_seconds())
    await waiting.handle(await scene.row())
    row = await scene.row()
    assert (row.verdict, row.error_code) == (Verdict.FAILED, "deadline")


async def test_a_result_that_arrives_after_the_deadline_is_still_a_result(scene: Scene) -> None:
    await scene.waiting()
    scene.clock.pass_seconds(3 * 3600)
    await stage(scene).handle(await scene.row())
    assert (await scene.row()).verdict is Verdict.SUCCEEDED


async def test_a_held_job_ends_when_nobody_came(scene: Scene) -> None:
    scene.vendor.status = "??"
    waiting = stage(scene)
    await waiting.handle(await scene.waiting())
    scene.clock.pass_seconds(301)
    await waiting.handle(await scene.row())
    scene.clock.pass_seconds(601)
    held = await scene.row()
    assert held.due_at <= scene.clock()
    await HeldStage(scene.road).handle(held)
    row = await scene.row()
    assert (row.state, row.verdict, row.error_code) == (State.SETTLED, Verdict.FAILED, "submit_unknown")


async def test_rows_taken_together_are_polled_together_and_each_gets_its_own_answer(scene: Scene) -> None:
    jobs = [await scene.waiting(f"job-{number}") for number in range(20)]
    waiting = stage(scene)
    await asyncio.gather(*(waiting.handle(job) for job in jobs))
    for number in range(20):
        assert (await scene.row(f"job-{number}")).verdict is Verdict.SUCCEEDED


async def test_telemetry_hears_only_of_changes(scene: Scene) -> None:
    scene.vendor.status = "RUNNING"
    waiting = stage(scene)
    await scene.waiting()
    before = len(scene.told.changes)
    for _ in range(5):
        await waiting.handle(await scene.row())
    assert len(scene.told.changes) == before
    assert scene.told.changes[-1][2] is ExecutionStatus.RUNNING
