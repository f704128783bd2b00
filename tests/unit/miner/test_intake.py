"""A request is answered from the ledger alone, and ``success`` is said only of jobs that are on disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from qcompute.axon.contract import Caller, Scheme, VerifiedRequest
from qcompute.errors import NotAllowed
from qcompute.miner.budget import Budgets
from qcompute.miner.intake import JobIntake
from qcompute.miner.job import Nonce, State
from qcompute.miner.limits import MinerSettings
from qcompute.miner.outbox import OutboxStage
from qcompute.miner.runner import WaitStage
from qcompute.protocol import COLLECT_ONLY, CircuitSynapse, ExecutionStatus
from qcompute.units import Hotkey
from tests.unit.miner.scripted import VALIDATOR, Scene, Server


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    yield scene
    await scene.close()


def intake(scene: Scene, **settings: Any) -> JobIntake:
    budgets = Budgets([scene.budget])
    return JobIntake(scene.ledger, scene.told, MinerSettings(**settings), budgets=budgets, clock=scene.clock)


def request(execution_id: str, nonce: int, /, *, validator: Hotkey = VALIDATOR, **changes: Any) -> VerifiedRequest:
    fields: dict[str, Any] = {
        "execution_id": execution_id,
        "shots": 100,
        "configuration_data": {},
        "input_data_url": "https://circuits.test/bell.qasm",
        "last_circuit": "0000-00-00 00:00:00",
    }
    return VerifiedRequest(
        Caller(validator, 1, Scheme.DENDRITE),
        Nonce(validator, "uuid-1", nonce),
        CircuitSynapse.model_validate(fields | changes),
    )


async def test_a_job_is_on_disk_when_success_is_said(scene: Scene) -> None:
    reply = await intake(scene)(request("job-1", 1, configuration_data={"seed": 7, "theirs": "kept"}))
    row = await scene.row()
    assert reply.success
    assert (row.state, row.validator_hotkey, row.shots) == (State.ACCEPTED, VALIDATOR, 100)
    assert row.configuration_data == {"seed": 7, "theirs": "kept"}


async def test_the_same_job_again_is_success_and_stays_one_job(scene: Scene) -> None:
    take = intake(scene)
    replies = await asyncio.gather(*(take(request("job-1", nonce)) for nonce in range(1, 20)), return_exceptions=True)
    assert all(getattr(reply, "success", False) for reply in replies)
    assert (await scene.ledger.count_by_state())[State.ACCEPTED] == 1


async def test_a_used_nonce_is_refused_and_nothing_is_stored(scene: Scene) -> None:
    take = intake(scene)
    await take(request(COLLECT_ONLY, 5))
    with pytest.raises(NotAllowed):
        await take(request("job-1", 5))
    with pytest.raises(NotAllowed):
        await take(request(COLLECT_ONLY, 5))
    with pytest.raises(NotAllowed):
        await take(request("job-1", 5, shots=0))
    assert await scene.ledger.get((await scene.job("other")).execution_id) is not None
    assert (await scene.ledger.count_by_state())[State.ACCEPTED] == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shots": 0}, "shots"),
        ({"shots": -5}, "shots"),
        ({"shots": 10**9}, "shots"),
        ({"input_data_url": ""}, "input_data_url"),
        ({"configuration_data": {"optimization_level": 9}}, "configuration_data.optimization_level"),
        ({"configuration_data": {"seed": "seven"}}, "configuration_data.seed"),
        ({"execution_id": "../../etc/passwd"}, "execution_id"),
        ({"execution_id": ""}, "execution_id"),
    ],
)
async def test_what_can_never_run_is_refused_in_words_for_the_user(
    scene: Scene, changes: dict[str, Any], words: str
) -> None:
    reply = await intake(scene)(request("job-1", 1, **changes))
    assert not reply.success
    assert words in (reply.error_message or "")
    assert (await scene.ledger.count_by_state())[State.ACCEPTED] == 0


async def test_a_full_miner_says_so_but_never_of_a_job_it_has(scene: Scene) -> None:
    take = intake(scene, max_inflight=2, queue_slack=0, validator_share=1.0)
    assert (await take(request("job-1", 1))).success
    assert (await take(request("job-2", 2))).success
    refused = await take(request("job-3", 3))
    assert not refused.success
    assert "full" in (refused.error_message or "")
    assert (await take(request("job-2", 4))).success


async def test_one_validator_cannot_shut_out_another(scene: Scene) -> None:
    other = Hotkey("5FCDS7pLH9rbg6ykComP4YUfbJwj9DDvhbFEQs3QbQSwXPss")
    take = intake(scene, max_inflight=4, queue_slack=0, validator_share=0.5)
    assert (await take(request("job-1", 1))).success
    assert (await take(request("job-2", 2))).success
    assert "share" in ((await take(request("job-3", 3))).error_message or "")
    assert (await take(request("job-4", 1, validator=other))).success


async def test_a_stopping_miner_takes_nothing_new_and_still_hands_out_results(scene: Scene) -> None:
    await closed(scene, "job-1")
    take = intake(scene)
    take.close("this miner is shutting down")
    assert (await take(request("job-9", 1))).error_message == "this miner is shutting down"
    assert [row.execution_id for row in (await take(request(COLLECT_ONLY, 2))).finished] == ["job-1"]


async def test_only_closed_jobs_are_collected_each_once_by_a_moving_cursor(scene: Scene) -> None:
    for number in range(5):
        await closed(scene, f"job-{number}")
    await scene.waiting("job-open")
    take, cursor, seen = intake(scene, page_size=2), "0000-00-00 00:00:00", list[str]()
    for nonce in range(1, 5):
        reply = await take(request(COLLECT_ONLY, nonce, last_circuit=cursor))
        seen += [row.execution_id for row in reply.finished]
        cursor = reply.last_circuit
        assert len(reply.finished) <= 2
    assert seen == [f"job-{number}" for number in range(5)]


async def test_rows_say_what_the_reference_expects(scene: Scene) -> None:
    await closed(scene, "good")
    scene.vendor.status, scene.vendor.message = "FAILED", "laser 3 unlocked"
    await closed(scene, "bad")
    good, bad = (await intake(scene)(request(COLLECT_ONLY, 1))).finished
    assert (good.status, good.upload_data_id, good.errorMessage) == (ExecutionStatus.COMPLETED, "up-1", None)
    assert good.execution_data == {"provider_job_id": "vendor-1"}
    assert (bad.status, bad.upload_data_id, bad.errorMessage) == (ExecutionStatus.FAILED, None, "laser 3 unlocked")


async def closed(scene: Scene, name: str) -> None:
    waiting = WaitStage(scene.road, scene.account, scene.circuits, held_seconds=600, unknown_seconds=300)
    await waiting.handle(await scene.waiting(name, provider_job_id="vendor-1"))
    outbox = OutboxStage(scene.road, Server(), concurrency=1, longest_pause_seconds=60)
    await outbox.handle(await scene.row(name))
