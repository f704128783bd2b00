"""What the tests of IBM's adapter share."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any

from qcompute.circuits.compiler import CircuitCompiler
from qcompute.circuits.program import JobOptions
from qcompute.connections.credentials import Secret
from qcompute.miner.providers.base import (
    Device,
    JobHandle,
    JobReceipt,
    Prepared,
    ProviderAdapter,
    ProviderStatus,
)
from qcompute.miner.providers.ibm import IbmAdapter, IbmConfig
from qcompute.testing.provider_contract import SHOTS
from qcompute.units import IdempotencyToken
from qcompute.vendor.prices import Prices
from tests.doubles.ibm import API_KEY, CRN, IbmDouble

HEAD = 'OPENQASM 2.0;\ninclude "qelib1.inc";\n'

ONE = HEAD + "qreg q[1];\ncreg c[1];\nx q[0];\nmeasure q -> c;\n"

ZEROS = HEAD + "qreg q[2];\ncreg c[2];\nmeasure q -> c;\n"

LONG_AGO = timedelta(minutes=5)


def config(double: IbmDouble, **more: Any) -> IbmConfig:
    settings: dict[str, Any] = {
        "token": Secret("ibm", API_KEY),
        "instance": CRN,
        "devices": ("ibm_manila", "ibm_fez"),
        "prices": Prices(per_minute=Decimal(96)),
        "url": f"{double.url}/api/v1",
        "iam_url": double.url,
    }
    return IbmConfig.model_validate(settings | more)


@dataclass
class Account:
    """One adapter on the double, and what submits to it need."""

    adapter: IbmAdapter
    double: IbmDouble
    compiler: CircuitCompiler
    tokens: int = field(default=0)

    def device(self, name: str = "ibm_manila") -> Device:
        return next(device for device in self.adapter.list_devices() if device.device_id == name)

    def prepared(self, source: str, device: str = "ibm_manila") -> Prepared:
        return prepared(self.adapter, self.compiler, source, self.device(device))

    def submit(self, *sources: str, shots: int = 100, token: str = "t", device: str = "ibm_manila") -> list[JobHandle]:
        ready = [self.prepared(source, device) for source in sources or (ONE,)]
        return self.adapter.submit_many(ready, device, shots, token=IdempotencyToken(token))

    def ended(self, handle: JobHandle) -> JobReceipt:
        deadline = time.monotonic() + 60
        while not ProviderStatus.of(self.adapter.poll(handle).status).is_terminal:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return self.adapter.get_job_receipt(handle)

    def posted(self) -> int:
        return sum(one.method == "POST" and one.path.endswith("/jobs") for one in list(self.double.asked))


def prepared(adapter: ProviderAdapter, compiler: CircuitCompiler, source: str, device: Device) -> Prepared:
    """As the daemon does it: parsed, compiled for the device, prepared."""
    target = adapter.target(device, JobOptions())
    assert target is not None
    circuit = compiler.translate(compiler.compile(source), target, None)
    return adapter.prepare(circuit, device, SHOTS, JobOptions())


def counts(receipt: JobReceipt) -> dict[str, int]:
    assert receipt.results is not None, receipt.metadata
    return receipt.results["measurementCounts"]
