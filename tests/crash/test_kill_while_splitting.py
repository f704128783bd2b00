"""A job in two parts, the daemon killed around every step of it: one result, two payments, nothing lost or doubled."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import cast

import pytest

from qcompute.local.demo_jobs import ASYMMETRIC
from qcompute.protocol import ExecutionStatus
from qcompute.testing.crash_points import CrashPoint
from tests.crash.lives import CrashingMiner
from tests.scene import running_scene, until_true

SHOTS = 101
SPLIT = {"split": {"kind": "shots", "parts": 2}}
QUICK = {
    "QCOMPUTE_PROVIDERS__MOCK__RUN_SECONDS": "0.2",
    "QCOMPUTE_PROVIDERS__MOCK__POLL_INTERVAL_SECONDS": "0.1",
    "QCOMPUTE_MINER__SECOND_LOOK_SECONDS": "0.4",
}


@pytest.mark.parametrize(
    "point",
    [
        "save ready>waiting:before#1",
        "save ready>waiting:after#1",
        "save submitting>submitting mark:after#1",
        "submit:after#1",
        "submit:after#2",
        "save waiting>settled:after#1",
        "save settled>closed:after#1",
        "save settled>closed:after#2",
        "PUT upload:after#1",
    ],
)
async def test_a_split_job_outlives_a_kill(tmp_path: Path, point: str) -> None:
    class Doomed(CrashingMiner):
        fatal = CrashPoint.parse(point)
        compiled = tmp_path.parent / "compiled.json"

    async with running_scene(tmp_path, environment=QUICK, miner_process=Doomed) as scene:
        miner = cast("CrashingMiner", scene.miner)
        execution_id = scene.platform.jobs.add_job(ASYMMETRIC, SHOTS, SPLIT)
        await scene.hand_over(1)
        await until_true(lambda: miner.process is not None and miner.process.returncode is not None, what="the kill")
        assert miner.journals[-1].killed_at == Doomed.fatal
        miner.fatal = None
        await scene.restart()
        await scene.collected(1)
        (row,) = {one.execution_id: one for one in scene.validator.delivered}.values()
        assert (row.execution_id, row.status) == (execution_id, ExecutionStatus.COMPLETED), row.errorMessage
        assert sum(scene.platform.store.objects[row.upload_data_id or ""].values()) == SHOTS
        submits = scene.vendor_submits()
        assert len({token for token, _ in submits}) == len({job for _, job in submits}) == 2
        with sqlite3.connect(miner.ledger_path) as ledger:
            parts = ledger.execute("SELECT shots, state FROM jobs WHERE parent_id IS NOT NULL ORDER BY 1").fetchall()
        assert [shots for shots, _ in parts] == [50, 51]
