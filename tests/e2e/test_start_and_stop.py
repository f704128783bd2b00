"""Starting and stopping: a part that dies ends the daemon with a code and a line, and settings are refused plainly."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from qcompute.local.service import Fault, FaultKind
from qcompute.miner.job import State
from qcompute.units import ExecutionId
from tests.crash.surroundings_judge import Answered, all_ended, damage, missing
from tests.e2e.gated_mock import SUBMITTING_SHOTS, WAITING_SHOTS, gate_of
from tests.scene import Scene, running_scene, until_true

_ROOT: Final = Path(__file__).resolve().parents[2]
GATED: Final = "tests.e2e.gated_mock:GatedMock"
KEPT: Final = {State.ACCEPTED: 25, State.SUBMITTING: 5, State.WAITING: 25, State.SETTLED: 45}
JOBS: Final = 100
SHUTDOWN_SECONDS: Final = 5
CLOSING_SECONDS: Final = 4
"""What closing adapter and ledger may take after the stop itself."""


async def test_sigterm_ends_well_with_jobs_under_way(tmp_path: Path) -> None:
    settings = {"QCOMPUTE_PROVIDERS__MOCK__RUN_SECONDS": "600", "QCOMPUTE_MINER__SHUTDOWN_SECONDS": "3"}
    async with running_scene(tmp_path, environment=settings) as scene:
        scene.add_jobs(5)
        scene.platform.circuits.faults.append(Fault("GET", FaultKind.DELAY, seconds=600, times=2))
        await scene.hand_over(5)
        await scene.until_in(State.WAITING, 3)
        assert await scene.miner.stop() == 0
        with sqlite3.connect(scene.miner.ledger_path) as ledger:
            states = dict(ledger.execute("SELECT state, count(*) FROM jobs GROUP BY state").fetchall())
        assert states == {"accepted": 2, "waiting": 3}


@asynccontextmanager
async def hundred_jobs_under_way(folder: Path) -> AsyncGenerator[tuple[Scene, list[ExecutionId]]]:
    """Every stage is busy and stays so: hosts and vendor keep a part of the jobs in each.

    With a vendor who is merely slow, all hundred had gone past him before this could look.
    """
    config = folder / "gated.toml"
    config.write_text(f'["providers"."{GATED}"]\nstate_path = "{folder / "vendor.sqlite3"}"\n')
    settings = {
        "QCOMPUTE_CONFIG": str(config),
        "PYTHONPATH": str(_ROOT),
        "QCOMPUTE_MINER__SHUTDOWN_SECONDS": str(SHUTDOWN_SECONDS),
    }
    async with running_scene(folder, provider=GATED, environment=settings) as scene:
        gone = scene.add_jobs(KEPT[State.ACCEPTED])
        for execution_id in gone:
            fault = Fault(f"GET /circuits/{execution_id}", FaultKind.DELAY, seconds=600, times=None)
            scene.platform.circuits.faults.append(fault)
        scene.platform.store.faults.append(Fault("PUT", FaultKind.DELAY, seconds=600, times=None))
        ids = [*gone, *scene.add_jobs(KEPT[State.SUBMITTING], SUBMITTING_SHOTS)]
        ids += scene.add_jobs(KEPT[State.WAITING], WAITING_SHOTS)
        ids += scene.add_jobs(KEPT[State.SETTLED])
        assert len(ids) == JOBS
        await scene.hand_over(JOBS)
        for state, count in KEPT.items():
            await scene.until_in(state, count)
        yield scene, ids


async def nothing_is_lost(scene: Scene, ids: list[ExecutionId]) -> None:
    """Start again with quick surroundings and let every job come to its end."""
    assert not [*damage(scene.miner.ledger_path), *missing(scene.miner.ledger_path, ids)]
    scene.platform.circuits.faults.clear()
    scene.platform.store.faults.clear()
    gate_of(scene.vendor_file).touch()
    await scene.restart()
    assert await all_ended(scene, Answered(accepted=ids)) == []


async def test_sigterm_with_100_jobs_under_way_ends_in_time_and_loses_nothing(tmp_path: Path) -> None:
    """Each step had its own limit, and a stop in which every one was used up took half as long again as it may."""
    async with hundred_jobs_under_way(tmp_path) as (scene, ids):
        began = time.monotonic()
        stopping = asyncio.create_task(scene.miner.stop())
        await until_true(lambda: "SIGTERM: stopping" in scene.miner.last_lines(1000), what="the stop has begun")
        gate_of(scene.vendor_file).touch()  # paid calls under way come back now, and are waited for
        assert await stopping == 0
        assert time.monotonic() - began < SHUTDOWN_SECONDS + CLOSING_SECONDS
        last = scene.platform.jobs.backend_reports[-1]
        assert (last["status"], last["accepting_jobs"]) == ("Offline", False)
        await nothing_is_lost(scene, ids)


async def test_a_second_signal_is_immediate_and_loses_nothing(tmp_path: Path) -> None:
    async with hundred_jobs_under_way(tmp_path) as (scene, ids):
        process = scene.miner.process
        assert process is not None
        process.send_signal(signal.SIGTERM)
        await until_true(lambda: "SIGTERM: stopping" in scene.miner.last_lines(1000), what="the stop has begun")
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            assert await process.wait() == 130
        assert time.monotonic() - began < SHUTDOWN_SECONDS / 2, "an orderly stop waits for the uploads that hang"
        await nothing_is_lost(scene, ids)


async def test_a_second_daemon_on_the_same_ledger_is_refused(tmp_path: Path) -> None:
    async with running_scene(tmp_path) as scene:
        first, port = scene.miner.process, scene.miner.axon_port
        second = await asyncio.create_subprocess_exec(
            *scene.miner.command(), env=scene.miner.full_environment(), stderr=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(30):
            _, err = await second.communicate()
        assert second.returncode == 2
        assert b"Traceback" not in err
        assert str(first.pid if first else 0).encode() in err
        assert (await scene.validator.visit()).success
        assert scene.miner.axon_port == port


async def test_a_port_that_is_taken_ends_with_code_2_and_the_setting(tmp_path: Path) -> None:
    async with running_scene(tmp_path) as scene:
        command = [*scene.miner.command(), "--neuron.full_path", str(tmp_path / "other")]
        command[command.index("--axon.port") + 1] = str(scene.miner.axon_port)
        second = await asyncio.create_subprocess_exec(
            *command, env=scene.miner.full_environment(), stderr=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(30):
            _, err = await second.communicate()
        assert second.returncode == 2, err.decode()
        assert b"--axon.port" in err
