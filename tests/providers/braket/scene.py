"""What the tests of Amazon Braket's adapter share."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from qcompute.circuits.measurement import MeasurementMap, Register
from qcompute.miner.providers.base import (
    JobHandle,
    JobReceipt,
    ProviderStatus,
)
from qcompute.miner.providers.braket import BraketAdapter
from qcompute.units import IdempotencyToken
from tests.doubles.braket import (
    FORTE,
)

Open = Callable[..., BraketAdapter]

BIT: MeasurementMap = MeasurementMap(registers=(Register(name="c0", size=1),), measured=((0, 0),))

UP = "OPENQASM 3.0;\nqubit[1] q;\nbit[1] b;\nx q[0];\nb[0] = measure q[0];\n"

LONG_AGO = datetime.now(UTC) - timedelta(hours=1)


def payload(source: str = UP, measurement: MeasurementMap = BIT) -> str:
    return json.dumps({"braket": {"source": source, "measurement": measurement.model_dump(mode="json")}})


def submitted(adapter: BraketAdapter, token: str = "token-1", device: str = FORTE, shots: int = 10) -> JobHandle:
    return adapter.submit(payload(), device, shots, token=IdempotencyToken(token))


def ended(adapter: BraketAdapter, handle: JobHandle) -> JobReceipt:
    deadline = time.monotonic() + 60
    while not ProviderStatus.of(adapter.poll(handle).status).is_terminal:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return adapter.get_job_receipt(handle)
