"""A real dendrite of bittensor 10.5.0, in its own environment, gets its fields filled."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from qcompute.protocol import COLLECT_ONLY, FIRST_CURSOR
from tests.wire.axon_process import Axon, closed_job, running_axon

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-dendrite" / "bin" / "python"


async def query(axon: Axon, uri: str, **fields: Any) -> dict[str, Any]:
    """What the dendrite's synapse holds afterwards."""
    if not PYTHON.exists():
        pytest.fail("the old bittensor is not installed: run `make dendrite-env` (`make test` does it by itself)")
    nothing: dict[str, Any] = {
        "execution_id": COLLECT_ONLY,
        "shots": 0,
        "configuration_data": {},
        "input_data_url": "",
        "last_circuit": FIRST_CURSOR,
    }
    wish: dict[str, Any] = {
        "uri": uri,
        "host": "127.0.0.1",
        "port": axon.server.port,
        "axon_hotkey": axon.signer.hotkey,
        "synapse": nothing | fields,
    }
    process = await asyncio.create_subprocess_exec(
        str(PYTHON),
        str(Path(__file__).with_name("dendrite_client.py")),
        json.dumps(wish),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(90):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()[-2000:]
    return json.loads(out.decode().strip().splitlines()[-1])


async def test_a_new_job_is_taken_and_is_on_the_ledger() -> None:
    async with running_axon() as axon:
        after = await query(
            axon,
            "//wire-validator",
            execution_id="dendrite-job-1",
            shots=100,
            input_data_url="https://circuits.test/1.qasm?sig=x",
            configuration_data={"seed": 3},
        )
        assert after["success"] is True
        assert after["dendrite"]["status_code"] == 200
        assert after["dendrite"]["status_message"] == "Success"
        assert after["execution_status"] == "Pending"
        assert await axon.has("dendrite-job-1")


async def test_finished_jobs_are_collected() -> None:
    async with running_axon() as axon:
        await closed_job(axon, "done-1")
        await closed_job(axon, "done-2")
        after = await query(axon, "//wire-validator")
        assert after["success"] is True
        assert [row["execution_id"] for row in after["finished_executions"]] == ["done-1", "done-2"]
        assert after["finished_executions"][0]["status"] == "Completed"
        assert after["finished_executions"][0]["upload_data_id"] == "up-done-1"
        again = await query(axon, "//wire-validator", last_circuit=after["last_circuit"])
        assert again["finished_executions"] == []
        assert again["last_circuit"] == after["last_circuit"]


async def test_a_refusal_reaches_the_user() -> None:
    async with running_axon() as axon:
        after = await query(axon, "//wire-validator", execution_id="bad-1", shots=-5, input_data_url="https://x.test/1")
        assert after["success"] is False
        assert "shots" in after["error_message"]
        assert after["dendrite"]["status_code"] == 200
        assert not await axon.has("bad-1")


async def test_a_stranger_is_told_that_it_is_blacklisted() -> None:
    async with running_axon() as axon:
        after = await query(axon, "//wire-stranger", execution_id="bad-2", shots=1, input_data_url="https://x.test/1")
        assert after["success"] is False
        assert after["dendrite"]["status_code"] == 403
        assert after["dendrite"]["status_message"] == "Forbidden. Key is blacklisted: Unrecognized hotkey."
        assert not await axon.has("bad-2")
