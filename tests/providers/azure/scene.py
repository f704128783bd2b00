"""What the tests of Azure Quantum's adapter share."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator
from typing import Any

from qcompute.circuits.program import JobOptions
from qcompute.miner.providers import azure
from qcompute.miner.providers.base import (
    Device,
    JobHandle,
    JobReceipt,
    Prepared,
    ProviderAdapter,
    ProviderStatus,
)
from qcompute.miner.providers.registry import open_adapter
from qcompute.testing.provider_contract import ASYMMETRIC, SHOTS, compiler
from qcompute.units import IdempotencyToken
from tests.doubles.azure import WORKSPACE, AzureDouble, table
from tests.doubles.vendor import VendorJob

EMULATOR = "quantinuum.sim.h2-1e"

SIMULATOR = "ionq.simulator"

QVM = "rigetti.sim.qvm"

PUT_JOB = r"PUT /subscriptions/.*/jobs/"

GET_JOB = r"GET /subscriptions/.*/jobs/"

STATUS = "GET " + WORKSPACE + "/providerStatus"


@contextlib.contextmanager
def opened(double: AzureDouble, *devices: str, **more: Any) -> Generator[ProviderAdapter]:
    adapter = open_adapter("azure", table(double, *devices) | more)
    try:
        yield adapter
    finally:
        adapter.close()


def device(name: str) -> Device:
    return Device(device_id=name, provider="azure", device_type="SIMULATOR")


def prepared(adapter: ProviderAdapter, name: str = EMULATOR, source: Any = ASYMMETRIC) -> Prepared:
    target = adapter.target(device(name), JobOptions())
    assert target is not None
    return adapter.prepare(compiler().translate(source, target, None), device(name), SHOTS, JobOptions())


def submit(adapter: ProviderAdapter, token: str = "t", name: str = EMULATOR, source: Any = ASYMMETRIC) -> JobHandle:
    assert isinstance(adapter, azure.AzureAdapter)
    ready = prepared(adapter, name, source)
    return adapter.submit(ready.payload, name, SHOTS, token=IdempotencyToken(token))


def ended(adapter: ProviderAdapter, handle: JobHandle) -> JobReceipt:
    deadline = time.monotonic() + 60
    while not ProviderStatus.of(adapter.poll(handle).status).is_terminal:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return adapter.get_job_receipt(handle)


def counts(receipt: JobReceipt) -> dict[str, int]:
    assert receipt.results is not None
    return receipt.results["measurementCounts"]


def only_job(double: AzureDouble) -> VendorJob:
    (job,) = double.jobs.values()
    return job
