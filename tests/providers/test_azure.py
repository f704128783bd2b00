"""Azure Quantum against a double of its data plane and storage, through azure-quantum's own client."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest

from qcompute.circuits.measurement import MeasurementMap, Register
from qcompute.circuits.program import JobOptions
from qcompute.circuits.target import Dialect
from qcompute.connections.credentials import variable_of
from qcompute.errors import (
    AuthFailed,
    BadReply,
    CannotRun,
    ConfigError,
    QuotaSpent,
    Refused,
    SubmitUnknown,
    Unavailable,
    VendorError,
)
from qcompute.local.service import FaultKind
from qcompute.miner.providers import azure
from qcompute.miner.providers.base import (
    NOT_APPLICABLE,
    Absent,
    Device,
    Found,
    JobHandle,
    JobReceipt,
    Prepared,
    ProviderAdapter,
    ProviderStatus,
    Verb,
)
from qcompute.miner.providers.registry import open_adapter
from qcompute.testing.provider_contract import ASYMMETRIC, SHOTS, ProviderContract, compiled, compiler
from qcompute.units import IdempotencyToken
from tests.doubles.azure import ACCOUNT, KEY, KIT, WORKSPACE, AzureDouble, table
from tests.doubles.vendor import VendorJob

EMULATOR = "quantinuum.sim.h2-1e"
SIMULATOR = "ionq.simulator"
QVM = "rigetti.sim.qvm"
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)

PUT_JOB = r"PUT /subscriptions/.*/jobs/"
GET_JOB = r"GET /subscriptions/.*/jobs/"
STATUS = "GET " + WORKSPACE + "/providerStatus"


@pytest.fixture
def double() -> Iterator[AzureDouble]:
    with AzureDouble() as double:
        yield double


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable_of("azure"), KEY)


@pytest.fixture
def adapter(double: AzureDouble) -> Iterator[ProviderAdapter]:
    with opened(double) as adapter:
        yield adapter


@contextlib.contextmanager
def opened(double: AzureDouble, *devices: str, **more: Any) -> Iterator[ProviderAdapter]:
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


class _Contract(ProviderContract):
    name: ClassVar[str]
    secrets: ClassVar[tuple[str, ...]] = (KEY,)

    @pytest.fixture
    def adapter(self, double: AzureDouble) -> Iterator[ProviderAdapter]:
        with opened(double, self.name, prices={self.name: {"per_task": "1.5", "per_shot": "0.01"}}) as adapter:
            yield adapter


class TestQuantinuum(_Contract):
    """OpenQASM 2 in, registers out; with every fault of the contract on every call."""

    name: ClassVar[str] = EMULATOR
    calls: ClassVar[Mapping[Verb, str]] = KIT.calls

    @pytest.fixture
    def vendor(self, double: AzureDouble) -> AzureDouble:
        return double


class TestIonq(_Contract):
    """JSON gates in, probabilities over all qubits out."""

    name: ClassVar[str] = SIMULATOR


class TestQir(_Contract):
    """QIR in, shots out."""

    name: ClassVar[str] = QVM


# Which way in


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"access_key": None}, "set either access_key, or all of"),
        ({"tenant_id": "t"}, "set either access_key, or all of"),
        ({"access_key": None, "tenant_id": "t", "client_id": "c"}, "set either access_key, or all of"),
        ({"quantum_endpoint": "http://azure.example"}, "must begin with https"),
        ({"prices": {"a": {"currency": "USD"}, "b": {"currency": "EUR"}}}, "in one currency"),
        ({"devices": ["pasqal.qpu.fresnel"]}, "does not run circuits"),
        ({"subscription_id": "mine"}, "subscription_id"),
        ({"access_key": "not set anywhere"}, "access_key"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(double: AzureDouble, change: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(text)):
        open_adapter("azure", table(double) | change)


def test_the_endpoint_follows_from_the_location() -> None:
    given = {"subscription_id": str(uuid.uuid4()), "resource_group": "rg", "workspace": "ws", "location": "westeurope"}
    config = azure.AzureConfig.model_validate(given | {"access_key": "azure"})
    assert config.endpoint == "https://westeurope.quantum.azure.com"


def test_a_key_that_is_not_accepted_is_said(double: AzureDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable_of("azure"), "another-key")
    with opened(double) as adapter, pytest.raises(AuthFailed, match="Unauthorized: the access key is not valid"):
        adapter.list_devices()


def test_nothing_of_the_environment_is_believed(double: AzureDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    """azure-quantum's Workspace and requests read all of these; a proxy that is not there would show."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("AZURE_QUANTUM_CONNECTION_STRING", "nonsense")
    monkeypatch.setenv("AZURE_QUANTUM_WORKSPACE_NAME", "another")
    with opened(double, EMULATOR) as adapter:
        assert counts(ended(adapter, submit(adapter))) == {"010": SHOTS}


def test_a_service_principal_is_used_as_configured(double: AzureDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its token never goes over plain HTTP: azure-core sees to that, so this ends before the double."""
    monkeypatch.setenv(variable_of("azure_client"), "client-secret-value")
    monkeypatch.setenv("AZURE_AUTHORITY_HOST", "https://elsewhere.invalid")
    principal = {"access_key": None, "tenant_id": "tenant", "client_id": "client", "client_secret": "azure_client"}
    with opened(double, **principal) as adapter, pytest.raises(Unavailable, match="ServiceRequestError"):
        adapter.list_devices()
    assert not double.asked
