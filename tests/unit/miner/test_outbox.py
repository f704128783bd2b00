"""A result is delivered at least once, on as few upload URLs as possible, and a failed upload is never a failed job."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from qcompute.errors import DeliveryError, UploadRefused
from qcompute.miner.job import Job, State, Verdict
from qcompute.miner.outbox import OutboxStage
from qcompute.miner.runner import WaitStage
from tests.unit.miner.scripted import Scene, Server


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    yield scene
    await scene.close()


async def settled(scene: Scene) -> Job:
    waiting = WaitStage(scene.road, scene.account, scene.circuits, held_seconds=600, unknown_seconds=300)
    await waiting.handle(await scene.waiting())
    return await scene.row()


def outbox(scene: Scene, server: Server) -> OutboxStage:
    return OutboxStage(scene.road, server, concurrency=4, longest_pause_seconds=60)


async def test_a_result_is_uploaded_and_then_collectable(scene: Scene) -> None:
    server = Server()
    job = await settled(scene)
    assert (await scene.ledger.finished_after("", 10)).jobs == []
    await outbox(scene, server).handle(job)
    page = await scene.ledger.finished_after("", 10)
    assert [(done.execution_id, done.upload_id) for done in page.jobs] == [("job-1", "up-1")]
    assert server.puts == [("up-1", {"00": 60, "11": 40})]
    assert server.failed == []


async def test_a_host_that_is_down_costs_time_and_not_another_upload_id(scene: Scene) -> None:
    server = Server(errors=[DeliveryError("connection refused")] * 5)
    stage = outbox(scene, server)
    await settled(scene)
    for _ in range(6):
        await stage.handle(await scene.row())
    row = await scene.row()
    assert row.state is State.CLOSED
    assert server.slots == 1
    assert server.puts == [("up-1", {"00": 60, "11": 40})]
    assert server.failed == []
    assert (row.error, row.error_code) == (None, None)


async def test_an_expired_url_is_replaced_at_once(scene: Scene) -> None:
    server = Server(errors=[UploadRefused("expired", status=403)])
    await outbox(scene, server).handle(await settled(scene))
    assert server.puts == [("up-2", {"00": 60, "11": 40})]
    assert (await scene.row()).upload_id == "up-2"


async def test_a_store_that_refuses_every_url_is_asked_again_later(scene: Scene) -> None:
    server = Server(errors=[UploadRefused("no", status=403), UploadRefused("no", status=403)])
    stage = outbox(scene, server)
    await stage.handle(await settled(scene))
    row = await scene.row()
    assert row.state is State.SETTLED
    assert row.due_at > scene.clock()
    await stage.handle(row)
    assert (await scene.row()).upload_id == "up-3"


async def test_retry_after_is_honoured_up_to_a_bound(scene: Scene) -> None:
    server = Server(errors=[DeliveryError("busy", status=503, retry_after_seconds=86400)])
    await outbox(scene, server).handle(await settled(scene))
    pause = (await scene.row()).due_at - scene.clock()
    assert pause == timedelta(seconds=300)


async def test_a_failed_job_is_reported_with_its_own_reason_even_after_trouble(scene: Scene) -> None:
    """The reason of the job's failure was once overwritten by that of the delivery's."""
    scene.vendor.status, scene.vendor.message = "FAILED", "laser 3 unlocked"
    server = Server(errors=[DeliveryError("connection refused")])
    stage = outbox(scene, server)
    await stage.handle(await settled(scene))
    await stage.handle(await scene.row())
    assert server.failed == [("job-1", "laser 3 unlocked")]
    row = await scene.row()
    assert (row.state, row.verdict, row.error) == (State.CLOSED, Verdict.FAILED, "laser 3 unlocked")
    assert server.puts == []
