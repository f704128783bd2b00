"""kill -9 between a vendor's answer and our save, for each vendor: the daemon looks, adopts, and pays once."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcompute.local.demo_jobs import ASYMMETRIC
from qcompute.local.service import FaultKind
from qcompute.miner.providers.base import Verb
from qcompute.protocol import ExecutionStatus
from tests.doubles.kits import VENDORS, kit
from tests.scene import running_scene, until_true

SHOTS = 100


@pytest.mark.parametrize("vendor", VENDORS)
async def test_a_job_whose_answer_never_reached_the_disk_is_adopted(vendor: str, tmp_path: Path) -> None:
    """The vendor has created the job and lists it only after a while; the answer is still on its way at the kill."""
    kit_ = kit(vendor)
    with kit_.double() as double:
        double.list_lag_seconds = 1.0
        environment = kit_.variables(double) | {"QCOMPUTE_CONFIG": str(kit_.settings_file(double, tmp_path))}
        async with running_scene(tmp_path, provider=vendor, environment=environment) as scene:
            double.fault(kit_.calls[Verb.SUBMIT], FaultKind.LATE, seconds=3600)
            options = {} if kit_.device is None else {"device": kit_.device}
            execution_id = scene.platform.jobs.add_job(ASYMMETRIC, SHOTS, options)
            await scene.hand_over(1)
            await until_true(lambda: double.created == 1, what="the vendor has the job")
            await scene.miner.kill()
            double.faults.clear()
            await scene.restart()
            await scene.collected(1)
            (row,) = scene.validator.delivered
            assert (row.execution_id, row.status) == (execution_id, ExecutionStatus.COMPLETED), row.errorMessage
            assert scene.platform.store.objects[row.upload_data_id or ""] == {"010": SHOTS}
            assert double.created == 1, "the vendor must be paid once"
