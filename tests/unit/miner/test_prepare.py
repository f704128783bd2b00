"""What a job is submitted with is what the router made ready, while that is fresh; later the device is asked again."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from qcompute.circuits.program import CompiledCircuit, JobOptions
from qcompute.errors import CannotRun
from qcompute.miner.circuit_cache import READY_SECONDS
from qcompute.miner.prepare import LookedAt, look_at, made_ready, prepare_again
from tests.unit.miner.scripted import Scene


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    yield scene
    await scene.close()


def looked(scene: Scene, circuit: CompiledCircuit) -> LookedAt:
    return look_at(scene.account, circuit, scene.vendor.devices[0], 100, JobOptions.of({}))


async def test_what_was_made_ready_is_used_until_it_is_old(scene: Scene) -> None:
    job = await scene.submitting()
    circuit = await scene.circuits.compiled(job)
    ready = await made_ready(scene.account, scene.circuits, job, circuit, looked(scene, circuit))
    scene.vendor.devices = []
    scene.clock.pass_seconds(READY_SECONDS)
    assert await prepare_again(scene.account, scene.circuits, job) == ready
    scene.clock.pass_seconds(1)
    with pytest.raises(CannotRun, match="not there any more"):
        await prepare_again(scene.account, scene.circuits, job)


async def test_what_is_ready_for_one_job_is_nothing_to_another(scene: Scene) -> None:
    job, other = await scene.submitting("a"), await scene.submitting("b")
    circuit = await scene.circuits.compiled(job)
    await made_ready(scene.account, scene.circuits, job, circuit, looked(scene, circuit))
    scene.vendor.devices = []
    with pytest.raises(CannotRun):
        await prepare_again(scene.account, scene.circuits, other)
