"""kill -9 with 20 jobs in each state: every job ends, and the vendor was asked for each exactly once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from qcompute.local.service import Fault, FaultKind
from qcompute.miner.job import State
from qcompute.protocol import ExecutionStatus
from tests.ledger.postgres_server import ledger_database, shared_server
from tests.scene import Scene, running_scene

JOBS = 20


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """What the daemon is told of its ledger. Three tests run on both stores; what else there is does not know them."""
    if request.param == "sqlite":
        yield {}
        return
    with ledger_database() as name:
        yield {"QCOMPUTE_LEDGER__URL": shared_server().url(name)}


async def all_end_once(scene: Scene, ids: list[str]) -> None:
    """What must hold whatever happened before."""
    await scene.collected(len(ids))
    rows = {row.execution_id: row for row in scene.validator.delivered}
    assert set(rows) == set(ids)
    assert {row.status for row in rows.values()} == {ExecutionStatus.COMPLETED}
    submits = scene.vendor_submits()
    assert len(submits) == len(ids), "the vendor must be paid once for each job"
    assert len({token for token, _ in submits}) == len(ids)
    jobs = await scene.jobs_in()
    assert jobs == dict.fromkeys(State, 0) | {State.CLOSED: len(ids)}, "no row may be stuck"
    assert all(execution.status == "Completed" for execution in scene.platform.jobs.executions.values())
    counted = {row.upload_data_id for row in rows.values()}
    assert len(counted) == len(ids)
    assert counted <= set(scene.platform.store.objects)


async def test_accepted(tmp_path: Path, store: dict[str, str]) -> None:
    """The host of the circuits does not answer: the jobs are on disk and nothing else."""
    async with running_scene(tmp_path, environment=store) as scene:
        hanging = Fault("GET /circuits", FaultKind.DELAY, seconds=3600, times=None)
        scene.platform.circuits.faults.append(hanging)
        ids = scene.add_jobs(JOBS)
        await scene.hand_over(JOBS)
        await scene.until_in(State.ACCEPTED, JOBS)
        await scene.miner.kill()
        scene.platform.circuits.faults.clear()
        await scene.restart()
        await all_end_once(scene, list(ids))


async def test_ready(tmp_path: Path) -> None:
    """Every vendor call takes three seconds, so routing is slow: circuits are stored, no device is chosen."""
    async with running_scene(tmp_path, environment={"QCOMPUTE_PROVIDERS__MOCK__LATENCY_SECONDS": "3"}) as scene:
        ids = scene.add_jobs(JOBS)
        await scene.hand_over(JOBS)
        await scene.until_in(State.READY, 1)
        await scene.miner.kill()
        await scene.restart(QCOMPUTE_PROVIDERS__MOCK__LATENCY_SECONDS="0")
        await all_end_once(scene, list(ids))


@pytest.mark.parametrize("idempotency", ["token", "client_id", "tag", "scan"])
async def test_submitting(tmp_path: Path, idempotency: str) -> None:
    """The process dies while paid calls are in flight: some reached the vendor, some did not, none comes twice."""
    mock = "QCOMPUTE_PROVIDERS__MOCK__"
    settings = {f"{mock}LATENCY_SECONDS": "0.7", f"{mock}IDEMPOTENCY": idempotency}
    async with running_scene(tmp_path, environment=settings) as scene:
        ids = scene.add_jobs(JOBS)
        await scene.hand_over(JOBS)
        await scene.until_in(State.SUBMITTING, 5)
        await scene.miner.kill()
        await scene.restart(**{f"{mock}LATENCY_SECONDS": "0"})
        await all_end_once(scene, list(ids))


async def test_submitting_when_every_answer_is_lost(tmp_path: Path, store: dict[str, str]) -> None:
    """Created at the vendor, the answer lost, and the process dead before it could look."""
    environment = store | {"QCOMPUTE_PROVIDERS__MOCK__LOSE_SUBMIT_ANSWERS": "1000"}
    async with running_scene(tmp_path, environment=environment) as scene:
        ids = scene.add_jobs(JOBS)
        await scene.hand_over(JOBS)
        await scene.until_in(State.SUBMITTING, JOBS)
        await scene.miner.kill()
        await scene.restart(QCOMPUTE_PROVIDERS__MOCK__LOSE_SUBMIT_ANSWERS="0")
        await all_end_once(scene, list(ids))


async def test_waiting(tmp_path: Path) -> None:
    """The vendor computes while the daemon is dead."""
    async with running_scene(tmp_path, environment={"QCOMPUTE_PROVIDERS__MOCK__RUN_SECONDS": "5"}) as scene:
        ids = scene.add_jobs(JOBS)
        await scene.hand_over(JOBS)
        await scene.until_in(State.WAITING, JOBS)
        await scene.miner.kill()
        await scene.restart()
        await all_end_once(scene, list(ids))


async def test_settled(tmp_path: Path, store: dict[str, str]) -> None:
    """Results are on disk, and the store of the uploads is down."""
    async with running_scene(tmp_path, environment=store) as scene:
        await scene.platform.store.stop()
        ids = scene.add_jobs(JOBS)
        await scene.hand_over(JOBS)
        await scene.until_in(State.SETTLED, JOBS)
        await scene.miner.kill()
        await scene.platform.store.start()
        await scene.restart()
        await all_end_once(scene, list(ids))
        assert len(scene.platform.store.puts) == JOBS


async def test_closed(tmp_path: Path) -> None:
    """What was delivered before the end is still there for validators, and for one that never came before."""
    async with running_scene(tmp_path) as scene:
        ids = scene.add_jobs(JOBS)
        await scene.hand_over(JOBS)
        await scene.until_in(State.CLOSED, JOBS)
        await scene.miner.kill()
        await scene.restart()
        await all_end_once(scene, list(ids))
        assert len(scene.platform.store.puts) == JOBS


async def test_held(tmp_path: Path) -> None:
    """A vendor that cannot look jobs up: what may be paid is held, never paid again, and ends after its deadline."""
    mock = "QCOMPUTE_PROVIDERS__MOCK__"
    settings = {
        f"{mock}LOSE_SUBMIT_ANSWERS": "1000",
        f"{mock}IDEMPOTENCY": "none",
        "QCOMPUTE_MINER__HELD_DEADLINE_SECONDS": "12",
    }
    async with running_scene(tmp_path, environment=settings) as scene:
        ids = scene.add_jobs(JOBS)
        await scene.hand_over(JOBS)
        await scene.until_in(State.HELD, JOBS)
        await scene.miner.kill()
        await scene.restart()
        await scene.collected(JOBS)
        rows = {row.execution_id: row for row in scene.validator.delivered}
        assert set(rows) == set(ids)
        assert {row.status for row in rows.values()} == {ExecutionStatus.FAILED}
        assert all("held" in (row.errorMessage or "") for row in rows.values())
        assert len(scene.vendor_submits()) == JOBS
