"""A real dendrite of bittensor 10, run in an environment of its own: one query, the synapse afterwards as JSON.

``python dendrite_client.py '<json>'`` with uri (of the validator's key), host, port, axon_hotkey and the synapse's
fields. bittensor 10 cannot be installed beside 11, so this file must import nothing of qcompute.
"""

# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false, reportGeneralTypeIssues=false

from __future__ import annotations

import asyncio
import json
import sys
from enum import Enum
from typing import Any, Optional

WISH = json.loads(sys.argv[1])
sys.argv = sys.argv[:1]  # bittensor reads the command line

import bittensor as bt  # noqa: E402
from bittensor.utils import networking  # noqa: E402
from bittensor_wallet import Keypair  # noqa: E402
from pydantic import BaseModel  # noqa: E402


class ExecutionStatus(str, Enum):  # noqa: UP042 - as the reference has it
    PENDING = "Pending"
    QUEUED = "Queued"
    RUNNING = "Running"
    COMPLETED = "Completed"
    FAILED = "Failed"


class ExecutionData(BaseModel):
    execution_id: str
    shots: int
    upload_data_id: Optional[str]  # noqa: UP045 - as the reference has it
    execution_data: Optional[object]  # noqa: UP045
    status: ExecutionStatus
    errorMessage: Optional[str] = None  # noqa: N815, UP045


class CircuitSynapse(bt.Synapse):
    execution_id: str
    shots: int
    configuration_data: dict[str, Any]
    input_data_url: str
    success: bool = False
    error_message: Optional[str] = None  # noqa: UP045
    last_circuit: str
    rate_limited: Optional[bool] = False  # noqa: UP045
    execution_status: ExecutionStatus = ExecutionStatus.PENDING
    finished_executions: list[ExecutionData] = []  # noqa: RUF012 - pydantic copies it


async def main() -> None:
    keypair = Keypair.create_from_uri(WISH["uri"])
    axon = bt.AxonInfo(
        version=1,
        ip=WISH["host"],
        port=WISH["port"],
        ip_type=4,
        hotkey=WISH["axon_hotkey"],
        coldkey=WISH["axon_hotkey"],
    )
    networking.get_external_ip = lambda: "192.0.2.9"  # it would ask servers on the internet
    dendrite = bt.Dendrite(wallet=keypair)
    synapse = CircuitSynapse(**WISH["synapse"])
    reply = await dendrite.forward([axon], synapse, deserialize=False, timeout=10.0)
    await dendrite.aclose_session()
    print(json.dumps(reply[0].model_dump(mode="json")))  # noqa: T201 - the way out of this process


asyncio.run(main())
