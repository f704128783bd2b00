"""Starting and stopping: a part that dies ends the daemon with a code and a line, and settings are refused plainly."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from pathlib import Path

from qcompute.local.service import Fault, FaultKind
from qcompute.miner.job import State
from tests.scene import running_scene


async def test_sigterm_ends_well_with_jobs_under_way(tmp_path: Path) -> None:
    settings = {"QCOMPUTE_PROVIDERS__MOCK__RUN_SECONDS": "600"}
    async with running_scene(tmp_path, environment=settings) as scene:
        scene.add_jobs(5)
        scene.platform.circuits.faults.append(Fault("GET", FaultKind.DELAY, seconds=600, times=2))
        await scene.hand_over(5)
        await scene.until_in(State.WAITING, 3)
        assert await scene.miner.stop() == 0
        with sqlite3.connect(scene.miner.ledger_path) as ledger:
            states = dict(ledger.execute("SELECT state, count(*) FROM jobs GROUP BY state").fetchall())
        assert states == {"accepted": 2, "waiting": 3}


async def test_a_second_signal_is_immediate(tmp_path: Path) -> None:
    async with running_scene(tmp_path) as scene:
        scene.platform.jobs.faults.append(Fault("PATCH", FaultKind.DELAY, seconds=600, times=None))
        process = scene.miner.process
        assert process is not None
        process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(5):
            assert await process.wait() in (130, 0)


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
