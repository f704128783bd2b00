"""From a dendrite to an uploaded result with each vendor's adapter in the daemon, against the vendor's double."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from qcompute.local.demo_jobs import ASYMMETRIC, BELL
from qcompute.protocol import ExecutionStatus
from qcompute.units import ExecutionId
from tests.doubles.kits import VENDORS, kit
from tests.scene import Scene, running_scene, until_true

OPENQASM_3: Final = (
    'OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit[4] q;\nbit[2] a;\nbit[2] b;\nx q[3];\nx q[0];\n'
    "a[1] = measure q[3];\nb[0] = measure q[1];\nb[1] = measure q[0];\n"
)
WIDE: Final = 'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[500];\ncreg c[500];\nx q;\nmeasure q -> c;\n'
SHOTS: Final = 100


@pytest.mark.parametrize("vendor", VENDORS)
async def test_a_dendrites_job_comes_back_as_an_uploaded_result(vendor: str, tmp_path: Path) -> None:
    kit_ = kit(vendor)
    with kit_.double() as double:
        environment = kit_.variables(double) | {"QCOMPUTE_CONFIG": str(kit_.settings_file(double, tmp_path))}
        async with running_scene(tmp_path, provider=vendor, environment=environment) as scene:
            options = {} if kit_.device is None else {"device": kit_.device}
            wanted = {
                scene.platform.jobs.add_job(ASYMMETRIC, SHOTS, options): {"010": SHOTS},
                scene.platform.jobs.add_job(OPENQASM_3, SHOTS, options): {"1010": SHOTS},
                scene.platform.jobs.add_job(BELL, SHOTS, options): None,
            }
            refused = scene.platform.jobs.add_job(WIDE, SHOTS, options)
            await scene.hand_over(4)
            await scene.collected(4)
            rows = {row.execution_id: row for row in scene.validator.delivered}
            for execution_id, counts in wanted.items():
                assert rows[execution_id].status == ExecutionStatus.COMPLETED, rows[execution_id].errorMessage
                uploaded = scene.platform.store.objects[rows[execution_id].upload_data_id or ""]
                if counts is None:
                    assert set(uploaded) == {"00", "11"}
                    assert sum(uploaded.values()) == SHOTS
                else:
                    assert uploaded == counts
            assert rows[refused].status == ExecutionStatus.FAILED
            assert "qubits" in (rows[refused].errorMessage or "")
            # A slow machine puts jobs that wait together into one vendor's job: what must agree is what we know of.
            assert double.created == len({await vendors_name(scene, execution_id) for execution_id in wanted})
            await told_of_the_devices(scene, next(iter(wanted)))
            assert not [value for value in kit_.secrets.values() if value in scene.miner.log.read_text()]


async def vendors_name(scene: Scene, execution_id: ExecutionId) -> str:
    """The id under which the vendor has the job."""
    async with aiohttp.ClientSession() as session, session.get(f"{scene.miner.operator_url}/jobs/{execution_id}") as r:
        return str((await r.json())["provider_job_id"])


async def told_of_the_devices(scene: Scene, execution_id: ExecutionId) -> None:
    """The job server knows the devices, and the operator what was submitted as what."""
    await until_true(lambda: bool(scene.platform.jobs.backend_reports), what="a report of the devices")
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{scene.miner.operator_url}/jobs/{execution_id}") as response:
            document: dict[str, Any] = await response.json()
        async with session.get(f"{scene.miner.operator_url}/receipts/{execution_id}") as response:
            receipt: dict[str, Any] = await response.json()
    assert document["prepared"]["measurement"]["measured"]
    assert receipt["provider_job_id"] == document["provider_job_id"]
