"""A daemon of today started on the ledger of an earlier schema brings every job in it to its end, and pays once."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from qcompute.local.demo_jobs import BELL
from qcompute.miner.job import State
from qcompute.protocol import ExecutionStatus
from tests.ledger.old_ledgers import EARLIER, lay_down
from tests.scene import running_scene


@pytest.mark.parametrize("revision", EARLIER)
async def test_jobs_of_an_earlier_schema_go_on_where_they_were(revision: str, tmp_path: Path) -> None:
    async with running_scene(tmp_path) as scene:
        assert await scene.miner.stop() == 0
        for file in scene.miner.ledger_path.parent.glob("ledger.sqlite3*"):
            file.unlink()
        lay_down(revision, scene.miner.ledger_path, url=scene.platform.circuits.add("old", BELL))
        with closing(sqlite3.connect(scene.vendor_file)) as cloud, cloud:
            cloud.execute(
                "INSERT INTO jobs (job_id, token, device_id, shots, num_clbits, sha, created) VALUES (?,?,?,?,?,?,?)",
                ("vendor-job-waiting", "its-token", "mock_qpu_1", 100, 1, "abc", time.time()),
            )
        await scene.restart()
        # The one that is held may have been submitted, so it waits for its operator.
        await scene.collected(len(State) - 1)
        delivered = {row.execution_id: row.status for row in scene.validator.delivered}
        assert delivered == {f"job-{state}": ExecutionStatus.COMPLETED for state in State if state is not State.HELD}
        assert (await scene.jobs_in())[State.HELD] == 1
        assert len(scene.vendor_submits()) == 3, "accepted, ready and submitting; the others were paid for already"
