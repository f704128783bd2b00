"""Azure Quantum against a double of its data plane and storage, through azure-quantum's own client."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Generator, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest
from azure.identity import ClientSecretCredential

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
from qcompute.vendor.azure.service import AzureService
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
    config = azure.AzureConfig.model_validate(table(double) | principal)
    service = AzureService(config)
    assert isinstance(service._client._config.credential, ClientSecretCredential)
    service.close()
    with pytest.raises(ConfigError, match="access_key"):
        AzureService(config.model_copy(update={"client_secret": None}))


# Paid once


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "0"}])
@pytest.mark.parametrize("status", [500, 502, 503, 504, 408])
def test_a_failing_submit_is_sent_once(double: AzureDouble, status: int, headers: dict[str, str]) -> None:
    """azure-core would repeat a PUT up to ten times: without ``retry_total`` this sees more than one."""
    with opened(double, EMULATOR) as adapter:
        double.fault(PUT_JOB, FaultKind.STATUS, status=status, headers=headers, times=None)
        with pytest.raises(SubmitUnknown, match=str(status)):
            submit(adapter)
    assert double.asked_for("PUT " + WORKSPACE) == 1


@pytest.mark.parametrize("match", ["POST .*/storage/sasUri", f"PUT /{ACCOUNT}/"])
def test_what_fails_before_the_paid_call_leaves_nothing(double: AzureDouble, match: str) -> None:
    with opened(double, EMULATOR) as adapter:
        double.fault(match, FaultKind.STATUS, status=503, headers={"Retry-After": "7"}, times=None)
        with pytest.raises(Unavailable) as raised:
            submit(adapter)
        double.faults.clear()
        assert raised.value.retry_after_seconds == 7
        assert double.asked_for("PUT " + WORKSPACE) == 0
        assert sum(bool(re.search(match, f"{one.method} {one.path}")) for one in double.asked) == 1
        assert counts(ended(adapter, submit(adapter))) == {"010": SHOTS}


def test_what_an_earlier_try_uploaded_is_in_nobodys_way(double: AzureDouble) -> None:
    """azure-quantum's own submit dies here: "The specified blob already exists"."""
    with opened(double, EMULATOR) as adapter:
        double.fault(PUT_JOB, FaultKind.STATUS, status=400)
        with pytest.raises(Refused):
            submit(adapter)
        assert len(double.blobs) == 1
        assert counts(ended(adapter, submit(adapter))) == {"010": SHOTS}
    assert double.created == 1


def test_a_conflict_is_our_own_job(double: AzureDouble, adapter: ProviderAdapter) -> None:
    first, second = submit(adapter), submit(adapter)
    assert first.provider_job_id == second.provider_job_id
    assert [one.status for one in double.asked if one.method == "PUT" and WORKSPACE in one.path] == [201, 409]


def test_a_conflict_without_a_job_is_a_refusal(double: AzureDouble, adapter: ProviderAdapter) -> None:
    double.fault(PUT_JOB, FaultKind.STATUS, status=409)
    with pytest.raises(Refused) as raised:
        submit(adapter)
    assert raised.value.vendor_code == "http_409"


def test_a_conflict_that_cannot_be_looked_into_is_unknown(double: AzureDouble, adapter: ProviderAdapter) -> None:
    double.fault(PUT_JOB, FaultKind.STATUS, status=409)
    double.fault(GET_JOB, FaultKind.STATUS, status=503)
    with pytest.raises(SubmitUnknown, match="it says, but: azure answered 503"):
        submit(adapter)


@pytest.mark.parametrize("body", [b'{"id": "another"}', b"[1, 2]", b"7", b"[" * 100_000])
def test_an_answer_about_something_else_is_unknown(double: AzureDouble, body: bytes) -> None:
    with opened(double, EMULATOR) as adapter:
        double.fault(PUT_JOB, FaultKind.STATUS_AFTER, status=201, body=body)
        with pytest.raises(SubmitUnknown):
            submit(adapter)
        assert isinstance(adapter.find(IdempotencyToken("t"), LONG_AGO), Found)


def test_a_quota_that_is_used_up_stops_the_account(double: AzureDouble, adapter: ProviderAdapter) -> None:
    double.limits["quantinuum"] = 0
    with pytest.raises(QuotaSpent, match="InsufficientQuota: the quota of this provider is used up"):
        submit(adapter)
    double.fault(PUT_JOB, FaultKind.STATUS, status=402)
    with pytest.raises(QuotaSpent):
        submit(adapter)


def test_the_job_says_whose_it_is(double: AzureDouble, adapter: ProviderAdapter) -> None:
    handle = submit(adapter, "token-1")
    request = only_job(double).request
    assert handle.provider_job_id == str(uuid.uuid5(azure.JOB_NAMESPACE, "token-1")) == only_job(double).job_id
    assert request["name"] == "qcompute-token-1"
    assert request["tags"] == ["qcompute", "qcompute:token-1"]
    assert request["metadata"]["qcompute_token"] == "token-1"
    assert MeasurementMap.model_validate_json(request["metadata"]["measurement"]) == handle.measurement
    assert request["inputParams"] == {"shots": SHOTS}
    assert request["inputDataUri"].endswith("/inputData")
    assert "sig=" not in request["inputDataUri"]
    assert (request["providerId"], request["target"]) == ("quantinuum", EMULATOR)


def test_qir_names_its_entry_and_its_profile(double: AzureDouble, adapter: ProviderAdapter) -> None:
    submit(adapter, name=QVM)
    entry: dict[str, Any] = {
        "entryPoint": "ENTRYPOINT__main",
        "arguments": [],
        "target_profile": "Base",
        "shots": SHOTS,
    }
    assert only_job(double).request["inputParams"] == entry


def test_a_found_job_is_read_without_our_ledger(adapter: ProviderAdapter) -> None:
    submit(adapter, "lost")
    answer = adapter.find(IdempotencyToken("lost"), LONG_AGO)
    assert isinstance(answer, Found)
    assert counts(ended(adapter, answer.handles[0])) == {"010": SHOTS}


def test_a_long_map_stays_out_of_the_metadata(double: AzureDouble, adapter: ProviderAdapter) -> None:
    width = 500
    measurement = MeasurementMap(
        registers=(Register(name="c", size=width),), measured=tuple((bit, bit % 3) for bit in range(width))
    )
    envelope = {"dialect": "openqasm2", "text": ASYMMETRIC.source, "measurement": measurement.model_dump(mode="json")}
    assert isinstance(adapter, azure.AzureAdapter)
    adapter.submit(json.dumps({"azure": envelope}), EMULATOR, 10, token=IdempotencyToken("t"))
    assert set(only_job(double).request["metadata"]) == {"qcompute_token"}


def test_an_adapter_of_the_reference_gives_plain_text(double: AzureDouble, adapter: ProviderAdapter) -> None:
    """No token, no map: a job of its own each time, and a result only for whoever knows what was measured."""
    first, second = adapter.submit(ASYMMETRIC.source, EMULATOR), adapter.submit(ASYMMETRIC.source, EMULATOR)
    assert first.provider_job_id != second.provider_job_id
    assert {job.shots for job in double.jobs.values()} == {azure.DEFAULT_SHOTS}
    with pytest.raises(BadReply, match="which qubits") as raised:
        ended(adapter, first)
    assert raised.value.field == "measurement"
    known = MeasurementMap(registers=ASYMMETRIC.registers, measured=ASYMMETRIC.measured)
    assert counts(adapter.get_job_receipt(first.model_copy(update={"measurement": known}))) == {"010": 1000}


def test_without_a_device_it_is_the_first(double: AzureDouble, adapter: ProviderAdapter) -> None:
    adapter.submit('{"qubits": 1, "circuit": []}', None, 5)
    assert only_job(double).device == adapter.list_devices()[0].device_id == SIMULATOR


# How a job is


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("Queued", "QUEUED"),
        ("Waiting", "QUEUED"),
        ("Executing", "RUNNING"),
        ("CancellationRequested", "RUNNING"),
        ("Cancelling", "RUNNING"),
        ("Finishing", "RUNNING"),
        ("Completed", "COMPLETED"),
        ("Succeeded", "COMPLETED"),
        ("Failed", "FAILED"),
        ("Cancelled", "CANCELLED"),
        ("Pondering", "UNKNOWN"),
        ("succeeded", "UNKNOWN"),
        ("", "UNKNOWN"),
    ],
)
def test_every_word_has_its_status(double: AzureDouble, adapter: ProviderAdapter, word: str, status: str) -> None:
    handle = submit(adapter)
    ended(adapter, handle)
    only_job(double).word = word
    answer = adapter.poll(handle)
    assert answer.status == status
    assert answer.message == (f"azure says {word!r}" if status == "UNKNOWN" else None)
    assert answer.eta_seconds == (5 if status == "QUEUED" else None)
    with opened(double, EMULATOR) as fresh:
        receipt = fresh.get_job_receipt(handle)
        assert receipt.status == status
        assert (receipt.results is None) == (status != "COMPLETED")
        assert fresh.poll(handle).eta_seconds is None  # it has not asked for the targets yet


def test_every_word_of_the_sdk_is_in_the_table() -> None:
    from azure.quantum import JobStatus  # noqa: PLC0415 - the SDK, not our module

    assert {status.value for status in JobStatus} == set(azure.STATUS)


def test_why_a_job_failed_is_told_without_secrets(double: AzureDouble, adapter: ProviderAdapter) -> None:
    with double.hold():
        handle = submit(adapter)
        job = only_job(double)
        job.word, job.ended = "Failed", time.time()
        job.failure = f"CompileError: line 3\x1b[31m https://a/b?sv=1&sig=abc%2Fdef&se=2 {KEY} " + "x" * 1000
        answer = adapter.poll(handle)
        assert answer.status == ProviderStatus.FAILED
        assert answer.message is not None
        assert answer.message.startswith("CompileError: line 3 [31m https://a/b?sv=1&sig=***&se=2 *** xxx")
        assert len(answer.message) == 300
        receipt = adapter.get_job_receipt(handle)
        assert (receipt.metadata or {})["message"] == answer.message
        assert (receipt.status, receipt.results, receipt.cost) == ("FAILED", None, None)


def test_a_failed_circuit_is_failed(double: AzureDouble, adapter: ProviderAdapter) -> None:
    receipt = ended(adapter, adapter.submit("OPENQASM 2.0; nonsense", EMULATOR, 10))
    assert receipt.status == ProviderStatus.FAILED
    assert only_job(double).failure is not None
    assert "RuntimeError" in (receipt.metadata or {})["message"]


def test_a_failure_without_words_has_no_message(double: AzureDouble, adapter: ProviderAdapter) -> None:
    handle = submit(adapter)
    ended(adapter, handle)
    only_job(double).request["errorData"] = {"code": "", "message": ""}
    assert adapter.poll(handle).message is None


@pytest.mark.parametrize("change", [{"status": 7}, {"creationTime": "soon"}])
def test_a_job_of_another_shape_names_the_field(
    double: AzureDouble, adapter: ProviderAdapter, change: dict[str, Any]
) -> None:
    handle = submit(adapter)
    body = {"id": handle.provider_job_id, **change}
    double.fault(GET_JOB, FaultKind.STATUS, status=200, body=json.dumps(body).encode())
    with pytest.raises(BadReply) as raised:
        adapter.poll(handle)
    assert next(iter(change)) in raised.value.field


# Many at once


def test_a_few_jobs_are_asked_for_one_by_one(double: AzureDouble, adapter: ProviderAdapter) -> None:
    handles = [submit(adapter, f"t{number}") for number in range(azure.ONE_BY_ONE)]
    adapter.poll_many(handles)
    assert double.filters == []


def test_many_jobs_are_read_from_a_list(double: AzureDouble, adapter: ProviderAdapter) -> None:
    handles = [submit(adapter, f"t{number}") for number in range(6)]
    for handle in handles:
        ended(adapter, handle)
    double.page = 2
    before = double.asked_for("GET " + WORKSPACE + "/jobs/")
    assert [answer.status for answer in adapter.poll_many(handles)] == ["COMPLETED"] * 6
    assert double.asked_for("GET " + WORKSPACE + "/jobs/") == before
    day = (datetime.now(UTC) - timedelta(days=1)).date().isoformat()
    assert double.filters == [f"startswith(Name, 'qcompute-') and CreationTime ge {day}"] * 3


def test_a_list_is_left_once_all_are_seen(double: AzureDouble, adapter: ProviderAdapter) -> None:
    older = [submit(adapter, f"old{number}") for number in range(6)]
    newer = [submit(adapter, f"new{number}") for number in range(5)]
    double.page = 5
    adapter.poll_many(newer)
    assert len(double.filters) == 1
    assert ended(adapter, older[0]).status == ProviderStatus.COMPLETED


def test_what_a_list_does_not_show_is_asked_for(
    double: AzureDouble, adapter: ProviderAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list lags, ends early, or is of jobs whose age nobody knows: it never makes a job unknown."""
    monkeypatch.setattr(azure, "MAX_PAGES", 2)
    handles = [submit(adapter, f"t{number}") for number in range(6)]
    for handle in handles:
        ended(adapter, handle)
    double.page = 2
    without_age = [JobHandle(provider_job_id=one.provider_job_id, device_id=EMULATOR) for one in handles]
    assert [answer.status for answer in adapter.poll_many(without_age)] == ["COMPLETED"] * 6
    assert double.filters == ["startswith(Name, 'qcompute-')"] * 2
    double.list_lag_seconds = 3600
    stranger = JobHandle(provider_job_id="never-existed", device_id=EMULATOR)
    words = [answer.status for answer in adapter.poll_many([*handles[:4], stranger, handles[5]])]
    assert words == ["COMPLETED"] * 4 + ["UNKNOWN", "COMPLETED"]


# Results


@pytest.mark.parametrize("name", [EMULATOR, SIMULATOR, QVM])
def test_a_circuit_s_result_is_the_same_whatever_it_is_written_in(adapter: ProviderAdapter, name: str) -> None:
    """Entangled, with a bit never written and one qubit read from the far end."""
    source = compiled(
        'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[4];\ncreg a[2];\ncreg b[3];\n'
        "x q[3];\nh q[0];\ncx q[0], q[1];\nrz(0.3) q[1];\ncu1(0.7) q[1], q[3];\nsdg q[2];\nswap q[2], q[3];\n"
        "measure q[0] -> b[2];\nmeasure q[1] -> a[0];\nmeasure q[2] -> b[0];\n",
        (("a", 2), ("b", 3)),
        ((0, 1), (2, 2), (4, 0)),
    ).model_copy(update={"num_qubits": 4})
    receipt = ended(adapter, submit(adapter, name=name, source=source))
    assert set(counts(receipt)) == {"00100", "10101"}
    assert sum(counts(receipt).values()) == SHOTS
    assert (receipt.metadata or {})["counts_source"] == ("sampled" if name == SIMULATOR else "measured")


def test_quantinuum_measures_amid_the_circuit_resets_and_branches(adapter: ProviderAdapter) -> None:
    source = compiled(
        'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[2];\ncreg a[1];\ncreg b[1];\n'
        "x q[0];\nmeasure q[0] -> a[0];\nif (a == 1) x q[1];\nreset q[0];\nmeasure q[1] -> b[0];\n",
        (("a", 1), ("b", 1)),
        ((0, 0), (1, 1)),
    )
    assert counts(ended(adapter, submit(adapter, source=source))) == {"11": SHOTS}
    with pytest.raises(CannotRun):
        submit(adapter, name=SIMULATOR, source=source)
    with pytest.raises(CannotRun):
        submit(adapter, name=QVM, source=source)


@pytest.mark.parametrize("mark", ["2", "-"])
def test_shots_that_lost_a_qubit_are_discarded_and_counted(
    double: AzureDouble, adapter: ProviderAdapter, mark: str
) -> None:
    double.lost = (7, mark)
    receipt = ended(adapter, submit(adapter))
    assert counts(receipt) == {"010": SHOTS - 7}
    assert (receipt.metadata or {})["shots_discarded"] == 7
    assert receipt.shots == SHOTS


def test_a_receipt_says_when_and_for_how_much(adapter: ProviderAdapter) -> None:
    receipt = ended(adapter, submit(adapter))
    metadata, times = receipt.metadata or {}, receipt.timestamps or {}
    assert (receipt.cost, metadata["currency"], metadata["cost_kind"]) == (1.25, "USD", "vendor_estimate")
    assert metadata["cost_events"][0]["dimension_name"] == "1Q gate shots"
    assert times["createdAt"] < times["startedAt"] < times["endedAt"]
    assert times["executionDuration"] > 0
    assert metadata["output_format"] == "honeywell.quantum-results.v1"


@pytest.mark.parametrize("cost", [None, {"currencyCode": "", "estimatedTotal": 0}, {"currencyCode": "USD"}])
def test_a_cost_nobody_named_is_not_known(double: AzureDouble, adapter: ProviderAdapter, cost: Any) -> None:
    """And one that cannot be read does not stand in the way of the result."""
    double.cost = cost
    receipt = ended(adapter, submit(adapter))
    assert receipt.cost is None
    assert "cost_kind" not in (receipt.metadata or {})


def test_a_cancelled_job_says_when(double: AzureDouble, adapter: ProviderAdapter) -> None:
    with double.hold():
        handle = submit(adapter)
        adapter.cancel(handle)
        adapter.cancel(handle)
        receipt = ended(adapter, handle)
    assert [one.status for one in double.asked if one.path.endswith(":cancel")] == [204, 409]
    assert "endedAt" in (receipt.timestamps or {})
    assert "executionDuration" not in (receipt.timestamps or {})


def test_a_result_is_fetched_once(double: AzureDouble, adapter: ProviderAdapter) -> None:
    handle = submit(adapter)
    first = ended(adapter, handle)
    double.blobs.clear()
    assert adapter.get_job_receipt(handle) == first
    assert double.asked_for(f"GET /{ACCOUNT}") == 1


def test_only_so_many_receipts_are_kept(adapter: ProviderAdapter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(azure, "KEPT_RECEIPTS", 2)
    handles = [submit(adapter, f"t{number}") for number in range(3)]
    receipts = [ended(adapter, handle) for handle in handles]
    assert isinstance(adapter, azure.AzureAdapter)
    assert list(adapter._receipts) == [handle.provider_job_id for handle in handles[1:]]
    assert [adapter.get_job_receipt(handle) for handle in handles] == receipts


def test_a_receipt_of_a_job_that_runs_is_not_kept(double: AzureDouble, adapter: ProviderAdapter) -> None:
    with double.hold():
        handle = submit(adapter)
        assert adapter.get_job_receipt(handle).status == ProviderStatus.QUEUED
    assert counts(ended(adapter, handle)) == {"010": SHOTS}


def test_there_is_no_receipt_of_a_job_azure_does_not_know(adapter: ProviderAdapter) -> None:
    with pytest.raises(Refused, match="no such job"):
        adapter.get_job_receipt(JobHandle(provider_job_id="never-existed", device_id=EMULATOR))


@pytest.mark.parametrize("seconds", [-10.0, 60.0])
def test_a_permission_that_ends_is_renewed_before_it_is_used(
    double: AzureDouble, adapter: ProviderAdapter, seconds: float
) -> None:
    handle = submit(adapter)
    while not ProviderStatus.of(adapter.poll(handle).status).is_terminal:
        time.sleep(0.02)
    double.sas_seconds = seconds
    asked = double.asked_for("POST " + WORKSPACE + "/storage/sasUri")
    with contextlib.suppress(AuthFailed):  # where the new one has ended as well
        adapter.get_job_receipt(handle)
    assert double.asked_for("POST " + WORKSPACE + "/storage/sasUri") == asked + 1
    assert double.asked_for(f"GET /{ACCOUNT}") == 1
    double.sas_seconds = 3600
    assert counts(adapter.get_job_receipt(handle)) == {"010": SHOTS}


def test_a_permission_that_is_refused_is_renewed(double: AzureDouble, adapter: ProviderAdapter) -> None:
    handle = submit(adapter)
    double.fault(f"GET /{ACCOUNT}/", FaultKind.STATUS, status=403)
    assert counts(ended(adapter, handle)) == {"010": SHOTS}
    assert double.asked_for(f"GET /{ACCOUNT}") == 2


def test_a_result_without_a_permission_is_read_with_a_new_one(double: AzureDouble, adapter: ProviderAdapter) -> None:
    double.output_uri_has_sas = False
    assert counts(ended(adapter, submit(adapter))) == {"010": SHOTS}


@pytest.mark.parametrize(("uri", "field"), [(None, "outputDataUri"), ("https://storage.invalid/", "outputDataUri")])
def test_a_result_that_is_nowhere_is_a_bad_reply(
    double: AzureDouble, adapter: ProviderAdapter, uri: str | None, field: str
) -> None:
    handle = submit(adapter)
    body = {"id": handle.provider_job_id, "status": "Succeeded", "outputDataUri": uri}
    double.fault(GET_JOB, FaultKind.STATUS, status=200, body=json.dumps(body).encode())
    with pytest.raises(BadReply) as raised:
        adapter.get_job_receipt(handle)
    assert raised.value.field == field


def test_a_result_that_is_not_there_yet_is_asked_for_again(double: AzureDouble, adapter: ProviderAdapter) -> None:
    handle = submit(adapter)
    double.fault(f"GET /{ACCOUNT}/", FaultKind.STATUS, status=404)
    with pytest.raises(Refused, match="404"):
        ended(adapter, handle)
    assert counts(adapter.get_job_receipt(handle)) == {"010": SHOTS}


# What there is


def test_only_targets_that_run_circuits_are_offered(double: AzureDouble, adapter: ProviderAdapter) -> None:
    names = [one.device_id for one in adapter.list_devices()]
    assert names == [SIMULATOR, "ionq.qpu.forte-1", EMULATOR, "quantinuum.qpu.h2-1", "quantinuum.qpu.helios-1", QVM]
    kinds = {one.device_id: (one.vendor, one.device_type) for one in adapter.list_devices()}
    assert kinds[SIMULATOR] == ("ionq", "SIMULATOR")
    assert kinds["quantinuum.qpu.h2-1"] == ("quantinuum", "QPU")
    del double.targets[SIMULATOR]
    time.sleep(0.25)
    assert adapter.get_availability(SIMULATOR) is not None
    assert [one.device_id for one in adapter.list_devices()] == names


def test_an_empty_workspace_has_nothing(double: AzureDouble) -> None:
    double.targets.clear()
    with opened(double) as adapter:
        assert adapter.list_devices() == []
        assert adapter.get_capability() is None
        assert adapter.get_availability() is None
        assert adapter.get_pricing() is None
        with pytest.raises(Refused):
            adapter.submit("x")


def test_the_targets_are_asked_for_once_in_a_while(double: AzureDouble) -> None:
    with opened(double, status_seconds=60) as adapter:
        for one in adapter.list_devices():
            adapter.get_availability(one.device_id)
            adapter.get_capability(one.device_id)
            adapter.target(one, JobOptions())
        assert double.asked_for(STATUS) == 1
    with opened(double, status_seconds=1e-9) as adapter:
        adapter.list_capabilities()
        assert double.asked_for(STATUS) == 2
        adapter.get_availability()
        assert double.asked_for(STATUS) == 3
        double.fault(STATUS, FaultKind.STATUS, status=503, times=None)
        with pytest.raises(Unavailable):
            adapter.get_availability()
        assert adapter.get_capability(EMULATOR) is not None


@pytest.mark.parametrize(
    ("word", "availability", "available"),
    [
        ("Available", "ONLINE", True),
        ("Degraded", "DEGRADED", True),
        ("Unavailable", "OFFLINE", False),
        ("Resting", None, False),
    ],
)
def test_availability_has_azures_words(
    double: AzureDouble, adapter: ProviderAdapter, word: str, availability: str | None, available: object
) -> None:
    double.targets[EMULATOR] = {"currentAvailability": word, "averageQueueTime": 61}
    answer = adapter.get_availability(EMULATOR)
    assert answer is not None
    assert (answer.availability, answer.is_available) == (availability, available)
    assert (answer.status_msg, answer.queue_seconds) == (f"{word}, about 61 s in the queue", 61)


def test_a_queue_nobody_measured_is_not_guessed(double: AzureDouble, adapter: ProviderAdapter) -> None:
    double.targets[EMULATOR] = {"averageQueueTime": None}
    answer = adapter.get_availability(EMULATOR)
    assert answer is not None
    assert (answer.status_msg, answer.queue_seconds) == ("Available", None)
    with double.hold():
        assert adapter.poll(submit(adapter)).eta_seconds is None


def test_a_device_that_is_not_in_the_workspace_is_offline(double: AzureDouble) -> None:
    with opened(double, "iqm.garnet") as adapter:
        answer = adapter.get_availability("iqm.garnet")
        assert answer is not None
        assert (answer.availability, answer.is_available) == ("OFFLINE", False)
        capability = adapter.get_capability("iqm.garnet")
        assert capability is not None
        assert capability.num_qubits is None
        assert (capability.extras or {})["max_shots"] is None
        assert (capability.extras or {})["coupling_map"] is None
        with pytest.raises(Refused, match="InvalidTarget"):
            submit(adapter, name="iqm.garnet")
        assert adapter.get_capability(EMULATOR) is None


def test_what_a_target_can_do_is_said_as_far_as_it_is_known(double: AzureDouble, adapter: ProviderAdapter) -> None:
    double.targets["ionq.qpu.forte-1"] = {"numQubits": 0}
    double.targets["quantinuum.qpu.h2-1"] = {"numQubits": 55, "targetProfile": "Adaptive_RI"}
    told, known = adapter.get_capability("quantinuum.qpu.h2-1"), adapter.get_capability("ionq.qpu.forte-1")
    assert told is not None
    assert known is not None
    assert (told.num_qubits, known.num_qubits) == (55, 35)
    assert told.extras == {
        "native_gates": None,
        "coupling_map": NOT_APPLICABLE,
        "t1_seconds": None,
        "t2_seconds": None,
        "readout_error": None,
        "one_qubit_error": None,
        "two_qubit_error": None,
        "max_shots": 10_000,
        "calibrated_at": None,
        "can_measure_mid_circuit": True,
        "can_branch": True,
        "target_profile": "Adaptive_RI",
        "input_format": "honeywell.openqasm.v1",
    }
    assert (known.extras or {})["can_measure_mid_circuit"] is False
    assert "cnot" in (known.basis_gates or [])


@pytest.mark.parametrize(
    ("name", "dialect"),
    [
        ("quantinuum.qpu.h2-1", Dialect.OPENQASM_2),
        ("quantinuum.qpu.helios-1", Dialect.QIR),
        ("ionq.qpu.forte-1", Dialect.IONQ_JSON),
        (QVM, Dialect.QIR),
        ("iqm.garnet", Dialect.QIR),
    ],
)
def test_a_target_s_name_says_what_it_takes(adapter: ProviderAdapter, name: str, dialect: Dialect) -> None:
    target = adapter.target(device(name), JobOptions())
    assert target is not None
    assert target.dialect is dialect
    takes_all = dialect is Dialect.OPENQASM_2
    assert (target.can_reset, target.can_measure_mid_circuit, target.can_branch) == (takes_all,) * 3


def test_an_operator_may_say_what_a_target_takes(double: AzureDouble) -> None:
    with opened(double, EMULATOR, dialects={EMULATOR: "qir"}) as adapter:
        assert counts(ended(adapter, submit(adapter))) == {"010": SHOTS}
        assert only_job(double).request["inputDataFormat"] == "qir.v1"


def test_limits_are_held_before_anything_is_paid(adapter: ProviderAdapter) -> None:
    adapter.check(ASYMMETRIC, device("ionq.qpu.forte-1"), 10_000)
    adapter.check(ASYMMETRIC, device(EMULATOR), 1_000_000)
    with pytest.raises(CannotRun, match="at most 10000 shots") as raised:
        adapter.check(ASYMMETRIC, device("ionq.qpu.forte-1"), 10_001)
    assert raised.value.reason == "too_many_shots"


def test_a_circuit_that_was_not_translated_goes_nowhere(adapter: ProviderAdapter) -> None:
    assert json.loads(adapter.prepare(ASYMMETRIC, device(EMULATOR), 1, JobOptions()).payload)["azure"]["text"]
    for name in (SIMULATOR, QVM):
        with pytest.raises(CannotRun, match="not translated") as raised:
            adapter.prepare(ASYMMETRIC, device(name), 1, JobOptions())
        assert raised.value.reason == "untranslated"


def test_prices_are_the_operators_and_in_one_currency(double: AzureDouble, adapter: ProviderAdapter) -> None:
    assert adapter.get_pricing(EMULATOR) is None
    assert adapter.price_currency() == "USD"
    prices = {EMULATOR: {"per_task": "1", "per_shot": "0.5", "currency": "EUR"}}
    with opened(double, EMULATOR, SIMULATOR, prices=prices) as priced:
        assert priced.get_pricing() == {"perTask": 1.0, "perShot": 0.5, "perMinute": 0.0}
        assert priced.get_pricing(SIMULATOR) is None
        estimate = priced.estimate(prepared(priced), device(EMULATOR), 10)
        assert estimate is not None
        assert (estimate.amount, estimate.currency) == (6, "EUR")


# The road to Azure


def test_a_page_of_maintenance_is_no_bad_reply(double: AzureDouble, adapter: ProviderAdapter) -> None:
    double.fault(STATUS, FaultKind.STATUS, status=200, body=b" <html>", content_type="text/html")
    with pytest.raises(Unavailable, match="maintenance"):
        adapter.list_devices()
    double.fault(STATUS, FaultKind.STATUS, status=200, body=b"soon", content_type="text/plain")
    with pytest.raises(BadReply):
        adapter.list_devices()
    double.fault(STATUS, FaultKind.STATUS, status=418, body=b"[1]")
    with pytest.raises(Refused) as raised:
        adapter.list_devices()
    assert raised.value.vendor_code == "http_418"


def test_a_redirect_is_not_followed(double: AzureDouble, adapter: ProviderAdapter) -> None:
    """The key goes to no host but the operator's."""
    double.fault(STATUS, FaultKind.STATUS, status=307, headers={"Location": f"{double.url}/elsewhere"})
    with pytest.raises(Unavailable, match="307"):
        adapter.list_devices()
    assert double.asked_for("/elsewhere") == 0


def test_a_service_that_is_not_there_is_unavailable(double: AzureDouble, adapter: ProviderAdapter) -> None:
    ready = prepared(adapter)
    double.call(double.stop())
    with pytest.raises(Unavailable, match="cannot be reached"):
        adapter.poll(JobHandle(provider_job_id="x", device_id=EMULATOR))
    with pytest.raises(Unavailable, match="cannot be reached"):
        adapter.submit(ready.payload, EMULATOR, SHOTS)


def test_a_body_that_does_not_end_is_left(
    double: AzureDouble, adapter: ProviderAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qcompute.vendor.azure.service.BODY_SECONDS", 0.2)
    double.fault(STATUS, FaultKind.DRIP, seconds=0.05)
    began = time.monotonic()
    with pytest.raises(Unavailable, match="does not end"):
        adapter.list_devices()
    assert time.monotonic() - began < 30  # the whole body would take 90 s, and requests waits for blocks of 4096
    monkeypatch.setattr("qcompute.vendor.azure.service.BODY_SECONDS", 60)
    ready = prepared(adapter)
    monkeypatch.setattr("qcompute.vendor.azure.service.MAX_REPLY_BYTES", 150)  # a permission fits, a job does not
    monkeypatch.setattr(AzureDouble, "permitted", lambda self, *_: f"{self.url}/x")  # pyright: ignore[reportUnknownLambdaType, reportUnknownMemberType, reportUnknownArgumentType]
    double.fault("PUT /x", FaultKind.STATUS, status=201)
    double.fault(PUT_JOB, FaultKind.STATUS, status=201, body=b" " * 200)
    with pytest.raises(SubmitUnknown, match="does not end"):
        adapter.submit(ready.payload, EMULATOR, SHOTS)


def all_errors() -> list[type[BaseException]]:
    import azure.identity  # noqa: PLC0415 - the SDK, not our module
    import azure.storage.blob  # noqa: PLC0415
    from azure.core.exceptions import AzureError  # noqa: PLC0415

    assert azure.identity
    assert azure.storage.blob
    found: list[type[BaseException]] = []
    new: list[type[BaseException]] = [AzureError]
    while new:
        found += new
        new = [below for one in new for below in one.__subclasses__() if below not in found]
    return sorted(set(found), key=lambda one: one.__name__)


class Answer:
    """As little of a response as azure-core's exceptions look at."""

    def __init__(self, status: int, body: str = "", **headers: str) -> None:
        self.status_code = status
        self.reason = "because"
        self.headers = headers
        self.request = "a request"
        self._body = body

    def text(self, encoding: str | None = None) -> str:
        del encoding
        return self._body


def made(kind: Any, status: int | None) -> Any:
    """An exception of this kind, as azure-core makes it; some insist on an answer."""
    answer = None if status is None else Answer(status, '{"error": {"code": "C", "message": "https://x?sig=abc"}}')
    parameters = inspect.signature(kind.__init__).parameters
    given: dict[str, Any] = {
        "message": "about https://x?sig=abc",
        "response": answer,
        "history": [],
        "parts": [],
        "scopes": [],
    }
    if answer is None and parameters.get("response") and parameters["response"].default is inspect.Parameter.empty:
        given["response"] = Answer(200)
    return kind(**{name: value for name, value in given.items() if name in parameters or _is_open(kind, name)})


def _is_open(kind: Any, name: str) -> bool:
    """Whether an argument its own signature hides is handed on to `HttpResponseError`."""
    from azure.core.exceptions import HttpResponseError  # noqa: PLC0415

    return name == "response" and issubclass(kind, HttpResponseError) and kind.__name__ == "TooManyRedirectsError"


def test_every_exception_of_azure_core_is_one_of_ours(adapter: ProviderAdapter) -> None:
    """All subclasses there are, free and paid, with and without an answer; none shows a URL's permission."""
    from azure.core.exceptions import ClientAuthenticationError, HttpResponseError  # noqa: PLC0415

    assert isinstance(adapter, azure.AzureAdapter)
    kinds = all_errors()
    assert len(kinds) > 15
    for kind in kinds:
        statuses = (None, 200, 304, 400, 404, 409, 500, 503) if issubclass(kind, HttpResponseError) else (None,)
        for status in statuses:
            error = made(kind, status)
            free = adapter._service.mapped(error, paid=False)
            paid = adapter._service.mapped(error, paid=True)
            assert isinstance(free, VendorError)
            assert not isinstance(free, SubmitUnknown), (kind, status)
            assert "abc" not in f"{free} {paid} {paid.vendor_code}"
            got = error.status_code if isinstance(error, HttpResponseError) else None
            said_no = got is not None and 400 <= got < 500
            no_token = (got is None or got < 400) and isinstance(error, ClientAuthenticationError)
            assert isinstance(paid, SubmitUnknown) == (not said_no and not no_token), (kind, status)


def test_only_a_connection_that_never_came_up_is_provably_unpaid(adapter: ProviderAdapter) -> None:
    """azure-core promises "no request was sent" for TLS failures amid an answer, too."""
    import requests  # noqa: PLC0415 - comes with the SDK
    from azure.core.exceptions import ServiceRequestError, ServiceRequestTimeoutError  # noqa: PLC0415
    from urllib3.connection import HTTPConnection  # noqa: PLC0415
    from urllib3.connectionpool import HTTPConnectionPool  # noqa: PLC0415
    from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NewConnectionError, SSLError  # noqa: PLC0415

    assert isinstance(adapter, azure.AzureAdapter)
    pool, connection = HTTPConnectionPool("127.0.0.1"), HTTPConnection("127.0.0.1")

    def judged(kind: Any, cause: Exception | None) -> VendorError:
        assert isinstance(adapter, azure.AzureAdapter)
        return adapter._service.mapped(kind("x", error=cause), paid=True)

    wrapped = requests.ConnectionError(MaxRetryError(pool, "/", NewConnectionError(connection, "refused")))
    timed_out = requests.ConnectTimeout(MaxRetryError(pool, "/", ConnectTimeoutError("slow")))
    for kind, cause in (
        (ServiceRequestError, NewConnectionError(connection, "refused")),
        (ServiceRequestError, wrapped),
        (ServiceRequestTimeoutError, timed_out),
        (ServiceRequestTimeoutError, ConnectTimeoutError("slow")),
    ):
        assert isinstance(judged(kind, cause), Unavailable)
    cut = requests.exceptions.SSLError(MaxRetryError(pool, "/", SSLError("EOF in violation of protocol")))
    for cause in (cut, requests.ConnectionError(), None):
        assert isinstance(judged(ServiceRequestError, cause), SubmitUnknown)


def test_a_storage_s_refusal_keeps_its_code(double: AzureDouble, adapter: ProviderAdapter) -> None:
    double.fault(
        f"PUT /{ACCOUNT}/", FaultKind.STATUS, status=403, body=b"<Error/>", headers={"x-ms-error-code": "OutOfReach"}
    )
    with pytest.raises(AuthFailed, match="azure answered 403: OutOfReach") as raised:
        submit(adapter)
    assert raised.value.vendor_code == "OutOfReach"


# What it drags in


def test_a_daemon_with_it_loads_no_qiskit(double: AzureDouble) -> None:
    """Qiskit crashes in threads and costs 200 MB; azure-quantum alone does not need it, nor numpy."""
    code = (
        "import sys\n"
        "from qcompute.miner.providers.registry import open_adapter\n"
        "from qcompute.miner.providers.base import JobHandle\n"
        f"adapter = open_adapter('azure', {table(double)!r})\n"
        "assert adapter.list_devices()\n"
        "assert adapter.poll(JobHandle(provider_job_id='x', device_id='y')).status == 'UNKNOWN'\n"
        "adapter.close()\n"
        "print(*[name for name in ('qiskit', 'numpy', 'qsharp', 'qdk', 'cirq') if name in sys.modules])\n"
    )
    done = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-W", "error", "-c", code],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout.strip(), done.returncode) == ("", 0), done.stderr
