"""The whole daemon on a Postgres ledger, from the validator's request to the upload."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp

from qcompute.miner.job import State
from qcompute.protocol import ExecutionStatus
from tests.ledger.postgres_server import PASSWORD, PostgresServer, empty_database, shared_server
from tests.scene import Scene, running_scene

JOBS = 10


def on(server: PostgresServer, database: str) -> dict[str, str]:
    """What the daemon is told of its ledger; the password, full of what a URL gives a meaning to, by name."""
    return {
        "QCOMPUTE_LEDGER__URL": server.url_without_password(database),
        "QCOMPUTE_LEDGER__PASSWORD_SECRET": "ledger",
        "QCOMPUTE_SECRET_LEDGER": PASSWORD,
    }


async def run_jobs(scene: Scene, count: int, *, before: int = 0) -> None:
    ids = scene.add_jobs(count)
    await scene.hand_over(count)
    await scene.collected(before + count)
    rows = {row.execution_id: row for row in scene.validator.delivered}
    assert set(ids) <= set(rows)
    assert {rows[name].status for name in ids} == {ExecutionStatus.COMPLETED}
    assert {rows[name].upload_data_id for name in ids} <= set(scene.platform.store.objects)
    assert len(scene.vendor_submits()) == before + count


async def qcompute(scene: Scene, environment: dict[str, str], *arguments: str) -> dict[str, Any]:
    """What one command on the scene's ledger answers, run as its operator would."""
    folder = scene.miner.folder
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "qcompute.console", *arguments, "--json"),
        *("--neuron.full_path", str(folder / "data"), "--provider", "mock"),
        cwd=Path(__file__).parents[2],
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, err) == (0, b""), err
    return json.loads(out)


async def look_beside_the_daemon(scene: Scene, environment: dict[str, str], ids: set[str]) -> None:
    """Lists, exports and receipts say the same while the daemon has its lock and its lanes, and hold nothing up."""
    listed, exported, receipts = await asyncio.gather(
        qcompute(scene, environment, "jobs", "list", "--state", "closed"),
        qcompute(scene, environment, "jobs", "export"),
        qcompute(scene, environment, "receipts", "export"),
    )
    assert {job["execution_id"] for job in listed["jobs"]} == ids
    assert {job["execution_id"] for job in exported["jobs"]} == ids
    assert receipts["count"] == len(ids)


async def test_jobs_run_from_the_request_to_the_upload_and_survive_a_restart(tmp_path: Path) -> None:
    server = shared_server()
    with empty_database() as database:
        async with running_scene(tmp_path, environment=on(server, database)) as scene:
            await run_jobs(scene, JOBS)
            await look_beside_the_daemon(
                scene, on(server, database), {row.execution_id for row in scene.validator.delivered}
            )
            assert await scene.miner.stop() == 0
            from_ledger = await qcompute(scene, on(server, database), "budget")
            assert (from_ledger["from"], from_ledger["accounts"][0]["account"]) == ("ledger", "mock")
            await scene.restart()
            await run_jobs(scene, JOBS, before=JOBS)
            assert await scene.jobs_in() == dict.fromkeys(State, 0) | {State.CLOSED: 2 * JOBS}
            assert not scene.miner.ledger_path.exists(), "no SQLite file is made beside it"
            log = scene.miner.log.read_text()
            assert PASSWORD not in log
        assert server.run_sql(database, "SELECT count(*) FROM receipts") == [(2 * JOBS,)]


async def test_a_server_that_restarts_is_borne(tmp_path: Path) -> None:
    """Requests are refused meanwhile and brought again; what was accepted goes on by itself."""
    server = PostgresServer()
    server.start()
    try:
        database = server.create()
        async with running_scene(tmp_path, environment=on(server, database)) as scene:
            await run_jobs(scene, JOBS)
            ids = scene.add_jobs(JOBS)
            await scene.hand_over(JOBS)
            await asyncio.to_thread(server.crash)
            server.start()
            await scene.collected(2 * JOBS)
            assert {row.execution_id for row in scene.validator.delivered} >= set(ids)
            assert len(scene.vendor_submits()) == 2 * JOBS
            async with aiohttp.ClientSession() as session, session.get(f"{scene.miner.operator_url}/health") as answer:
                assert answer.status == 200
    finally:
        server.remove()


def test_check_config_shows_the_host_and_not_the_password(tmp_path: Path) -> None:
    server = shared_server()
    root = Path(__file__).parents[2]
    job_server = ["--jobserver.url", "https://jobs.example", "--jobserver.tensorauth_url", "https://tokens.example"]
    arguments = ["--check-config", "--ledger.url", server.url("db"), *job_server]
    said = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, str(root / "neurons" / "miner.py"), *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert f'"postgresql://***@127.0.0.1:{server.port}/db"' in said.stdout + said.stderr
    assert "%40" not in said.stdout + said.stderr
