"""IBM: one POST for each job and no second one, whatever goes wrong; every word of IBM's read as what it means."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError

from qcompute.circuits.compiler import CircuitCompiler
from qcompute.circuits.measurement import MeasurementMap, Register
from qcompute.circuits.program import CompiledCircuit, JobOptions
from qcompute.circuits.sandbox import SandboxPool
from qcompute.circuits.settings import CircuitSettings
from qcompute.circuits.target import Dialect
from qcompute.connections.credentials import Secret
from qcompute.errors import (
    AuthFailed,
    BadReply,
    CannotRun,
    QComputeError,
    QuotaSpent,
    Refused,
    SandboxUnavailable,
    SubmitUnknown,
    Unavailable,
)
from qcompute.local.service import FaultKind
from qcompute.miner.providers.base import (
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
from qcompute.miner.providers.ibm import IbmAdapter, IbmConfig
from qcompute.testing.provider_contract import ASYMMETRIC, SHOTS, ProviderContract
from qcompute.units import IdempotencyToken, Money
from qcompute.vendor.ibm import api
from qcompute.vendor.kept import Kept
from qcompute.vendor.prices import Prices
from tests.doubles.ibm import API_KEY, CRN, KIT, QUANTUM_SECONDS, WORKER, IbmDouble
from tests.doubles.worker import Worker, shared

HEAD = 'OPENQASM 2.0;\ninclude "qelib1.inc";\n'
ONE = HEAD + "qreg q[1];\ncreg c[1];\nx q[0];\nmeasure q -> c;\n"
ZEROS = HEAD + "qreg q[2];\ncreg c[2];\nmeasure q -> c;\n"
AWKWARD = (
    'OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit[3] q;\nbit[1] data;\nbit[2] shape;\nbit[1] items;\n'
    "x q[1];\nshape[1] = measure q[1];\ndata[0] = measure q[2];\nshape[0] = measure q[0];\n"
)
POST_JOBS = "POST /api/v1/jobs$"
LONG_AGO = timedelta(minutes=5)


@pytest.fixture(scope="module")
def compiler() -> Iterator[CircuitCompiler]:
    made = CircuitCompiler(CircuitSettings())
    yield made
    made.close()


@pytest.fixture(scope="module")
def running() -> Iterator[IbmDouble]:
    with IbmDouble() as double:
        yield double


@pytest.fixture
def double(running: IbmDouble) -> IbmDouble:
    """The module's double as it was when it started, but for its jobs.

    A request that an earlier test gave up is processed all the same; seen late, it was once taken for this test's own.
    """
    deadline = time.monotonic() + 10.0
    while running.under_way and time.monotonic() < deadline:
        time.sleep(0.02)
    assert running.under_way == 0
    fresh = IbmDouble()
    kept = {"jobs", "configurations", "properties", "asked", "under_way"}
    for name, value in vars(fresh).items():
        if not name.startswith("_") and name not in kept:
            setattr(running, name, value)
    running.asked.clear()
    return running


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


@pytest.fixture(scope="module")
def shared_adapter(running: IbmDouble) -> Iterator[IbmAdapter]:
    made = IbmAdapter(config(running))
    yield made
    made.close()


@pytest.fixture(scope="module")
def impatient_adapter(running: IbmDouble) -> Iterator[IbmAdapter]:
    """For the contract: one for all of it, because each has a child of its own that imports IBM's package."""
    made = IbmAdapter(config(running, timeout_seconds=1.5, submit_timeout_seconds=1.5))
    yield made
    made.close()


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


@pytest.fixture
def account(shared_adapter: IbmAdapter, double: IbmDouble, compiler: CircuitCompiler) -> Account:
    return Account(shared_adapter, double, compiler)


@pytest.fixture
def opened(double: IbmDouble, compiler: CircuitCompiler) -> Iterator[Callable[..., Account]]:
    """Opens further accounts on the double, with other settings."""
    made: list[IbmAdapter] = []

    def open_one(**more: Any) -> Account:
        made.append(IbmAdapter(config(double, **more)))
        return Account(made[-1], double, compiler)

    yield open_one
    for adapter in made:
        adapter.close()


def counts(receipt: JobReceipt) -> dict[str, int]:
    assert receipt.results is not None, receipt.metadata
    return receipt.results["measurementCounts"]


class TestIbm(ProviderContract):
    secrets = (API_KEY,)
    calls: ClassVar[Mapping[Verb, str]] = KIT.calls

    @pytest.fixture
    def vendor(self, double: IbmDouble) -> IbmDouble:
        return double

    @pytest.fixture
    def adapter(self, impatient_adapter: IbmAdapter, double: IbmDouble) -> ProviderAdapter:
        del double  # it puts the module's double back to how it started
        return impatient_adapter


# ---- what is sent ----


def test_what_is_sent_is_what_ibms_own_client_sends(account: Account) -> None:
    ready = [account.prepared(ASYMMETRIC.source), account.prepared(ONE)]
    handles = account.adapter.submit_many(ready, "ibm_manila", 50, token=IdempotencyToken("like-ibm"))
    ours = account.double.bodies[-1]
    client = Worker(WORKER)
    try:
        theirs = client.ask(
            {
                "task": "client",
                "url": account.double.url,
                "token": API_KEY,
                "instance": CRN,
                "backend": "ibm_manila",
                "tags": ours["tags"],
                "max_execution_seconds": ours["cost"],
                "circuits": [json.loads(one.payload)["ibm"]["qpy"] for one in ready],
                "shots": 50,
            }
        )
    finally:
        client.close()
    assert account.double.bodies[-1] is not ours
    # IBM's client also says how talkative the server's log shall be; WARNING is what the server does anyway.
    assert account.double.bodies[-1] == ours | {"log_level": "WARNING"}
    assert theirs["counts"] == [counts(account.ended(handle)) for handle in handles]


def test_the_version_is_the_one_ibms_client_speaks(account: Account) -> None:
    from qiskit_ibm_runtime.api.rest.base import RestAdapterBase  # noqa: PLC0415 - only its words are looked at

    assert RestAdapterBase._HEADER_API_VERSION == {"IBM-API-Version": api.API_VERSION}
    account.adapter.find(IdempotencyToken("nobody"), datetime.now(UTC))
    assert account.double.headers[-1]["IBM-API-Version"] == api.API_VERSION


def test_nothing_is_said_about_the_machine_it_runs_on(account: Account) -> None:
    account.ended(account.submit()[0])
    expected = {"Host", "Accept", "Accept-Encoding", "Connection", "User-Agent", "Service-CRN", "IBM-API-Version"}
    for headers in account.double.headers:
        assert set(headers) - expected <= {"Authorization", "Content-Type", "Content-Length"}
        assert headers["User-Agent"].startswith("qcompute/")
        assert API_KEY not in "".join(headers.values())


def test_the_environment_decides_nothing(
    monkeypatch: pytest.MonkeyPatch, double: IbmDouble, opened: Callable[..., Account]
) -> None:
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "IAM_URL", "QISKIT_IBM_URL"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("QISKIT_IBM_TOKEN", "another")
    assert opened().adapter.list_devices()
    assert double.asked_for("POST /identity/token") == 1


def test_a_job_is_tagged_capped_and_for_one_device(account: Account) -> None:
    account.submit(ONE, ZEROS, token="tagged")
    body = account.double.bodies[-1]
    assert body["tags"] == ["qc:tagged", "qcompute", "qcompute-pack-2"]
    assert (body["backend"], body["cost"], body["program_id"]) == ("ibm_manila", 300, "executor")
    assert body["params"]["quantum_program"]["shots"] == 100
    assert "private" not in body


def test_a_submit_is_one_request(account: Account) -> None:
    account.submit()
    account.double.asked.clear()
    ready = account.prepared(ONE)
    account.adapter.submit_many([ready], "ibm_manila", 10, token=IdempotencyToken("one"))
    assert [f"{one.method} {one.path}" for one in account.double.asked] == ["POST /api/v1/jobs"]


def test_rzz_angles_are_folded_into_what_the_device_takes(account: Account, opened: Callable[..., Account]) -> None:
    fractional = opened(use_fractional_gates=True)
    known = account.double.configurations["ibm_manila"]
    account.double.configurations["ibm_manila"] = known | {"basis_gates": ["rz", "sx", "x", "rx", "rzz", "cx"]}
    try:
        device = fractional.device()
        source = HEAD + "qreg q[2];\ncreg c[2];\nrx(0.5) q[0];\nrzz(4) q[0],q[1];\nmeasure q -> c;\n"
        plain, wanted = account.adapter.target(device, JobOptions()), fractional.adapter.target(device, JobOptions())
        assert plain is not None
        assert wanted is not None
        assert not {"rx", "rzz"} & set(plain.basis_gates or ())
        assert {"rx", "rzz"} <= set(wanted.basis_gates or ())
        [handle] = fractional.submit(source)
        params = account.double.bodies[-1]["params"]
        [gates] = shared(WORKER).ask({"task": "gates", "params": params})
        assert "rx" in [name for name, _ in gates]
        [angle] = [angles[0] for name, angles in gates if name == "rzz"]
        assert 0 <= angle <= math.pi / 2
        fractional.ended(handle)
    finally:
        account.double.configurations["ibm_manila"] = known


# ---- packs and results ----


def test_circuits_of_a_pack_come_back_each_to_its_own(account: Account) -> None:
    handles = account.submit(ASYMMETRIC.source, ONE, ZEROS, token="pack", shots=30)
    assert len({handle.provider_job_id for handle in handles}) == 1
    assert [handle.pack_index for handle in handles] == [0, 1, 2]
    receipts = [account.ended(handle) for handle in handles]
    assert [counts(receipt) for receipt in receipts] == [{"010": 30}, {"1": 30}, {"00": 30}]
    assert [receipt.shots for receipt in receipts] == [30, 30, 30]
    third = QUANTUM_SECONDS / 3 / 60 * 96
    assert [receipt.cost for receipt in receipts] == pytest.approx([third] * 3)
    assert (receipts[0].metadata or {})["circuits_in_job"] == 3


def test_registers_may_have_any_name_and_order(account: Account) -> None:
    """``data``, ``shape`` and ``items`` mean something to Qiskit's containers; ``items`` is never measured."""
    assert counts(account.ended(account.submit(AWKWARD, shots=20)[0])) == {"0100": 20}


def test_a_result_of_many_outcomes_is_counted_in_full(account: Account) -> None:
    source = HEAD + "qreg q[4];\ncreg c[4];\nh q;\nmeasure q -> c;\n"
    found = counts(account.ended(account.submit(source, shots=2000)[0]))
    assert sum(found.values()) == 2000
    assert len(found) == 16


def test_a_wide_device_runs_it_as_well(account: Account) -> None:
    [handle] = account.submit(ASYMMETRIC.source, shots=10, device="ibm_fez")
    assert counts(account.ended(handle)) == {"010": 10}


def test_one_circuit_may_be_submitted_alone_and_without_a_token(account: Account) -> None:
    ready = account.prepared(ONE)
    handle = account.adapter.submit(ready.payload)
    receipt = account.ended(handle)
    assert counts(receipt) == {"1": 1024}
    assert receipt.device_id == account.adapter.list_devices()[0].device_id


def test_the_receipt_says_when_and_what_it_cost(account: Account) -> None:
    receipt = account.ended(account.submit()[0])
    assert receipt.cost == pytest.approx(QUANTUM_SECONDS / 60 * 96)
    metadata, times = receipt.metadata or {}, receipt.timestamps or {}
    assert metadata["cost_kind"] == "our_estimate"
    assert metadata["quantum_seconds"] == QUANTUM_SECONDS
    assert (metadata["vendor_status"], metadata["usage_status"]) == ("Completed", "complete")
    assert datetime.fromisoformat(times["createdAt"]) <= datetime.fromisoformat(times["endedAt"])
    assert metadata["message"] is None


@pytest.mark.parametrize(
    ("seconds", "status", "cost"),
    [(None, "complete", None), (0.0, "pending", None), (2.5, "pending", 4.0), (0.0, "complete", 0.0)],
)
def test_the_cost_is_known_when_the_time_is(
    account: Account, seconds: float | None, status: str, cost: float | None
) -> None:
    account.double.quantum_seconds, account.double.usage_status = seconds, status
    receipt = account.ended(account.submit()[0])
    assert receipt.cost == cost
    assert counts(receipt) == {"1": 100}


@pytest.mark.parametrize("fault", [{"status": 404}, {"status": 200, "body": b'{"usage": 5}'}])
def test_a_result_is_not_lost_with_its_bill(account: Account, fault: dict[str, Any]) -> None:
    account.double.fault("/metrics$", FaultKind.STATUS, **fault)
    receipt = account.ended(account.submit()[0])
    assert (receipt.cost, counts(receipt)) == (None, {"1": 100})
    assert (receipt.timestamps or {}).keys() == {"createdAt", "endedAt"}


def test_without_prices_there_is_no_cost(account: Account, opened: Callable[..., Account]) -> None:
    [handle] = account.submit()
    account.ended(handle)
    assert opened(prices=None).ended(handle).cost is None


def test_estimates_follow_the_prices_up_to_the_cap(account: Account, opened: Callable[..., Account]) -> None:
    device, ready = account.device(), account.prepared(ONE)
    estimate = account.adapter.estimate(ready, device, 1000)
    assert estimate == Money(Decimal("3.76"), "USD")  # 2.35 s at 96 USD a minute
    capped = opened(max_execution_seconds=10).adapter.estimate(ready, device, 1_000_000)
    assert capped == Money(Decimal(16), "USD")
    unpriced = opened(prices=None).adapter
    assert unpriced.estimate(ready, device, 10) is None
    assert (unpriced.get_pricing(), unpriced.price_currency()) == (None, "USD")
    assert account.adapter.get_pricing() == {"perTask": 0.0, "perShot": 0.0, "perMinute": 96.0}
    euros = opened(prices=Prices(per_minute=Decimal(60), currency="EUR")).adapter
    assert euros.price_currency() == "EUR"


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (None, "schema version"),
        ({"schema_version": "v9.9"}, "v9.9"),
        ({"schema_version": "v2.0"}, "ValidationError"),
    ],
)
def test_a_result_that_is_not_understood_is_a_bad_reply(account: Account, result: object, words: str) -> None:
    [handle] = account.submit()
    account.ended(handle)
    account.double.jobs[handle.provider_job_id].result = result
    with pytest.raises(BadReply, match=words) as caught:
        account.adapter.get_job_receipt(handle)
    assert caught.value.field == "results"


def test_a_result_of_another_circuit_is_a_bad_reply(account: Account) -> None:
    [handle] = account.submit()
    account.ended(handle)
    other = MeasurementMap(registers=(Register(name="c0", size=2),), measured=((0, 0), (1, 1)))
    changes: list[tuple[dict[str, Any], str]] = [
        ({"pack_index": 1}, "1 circuits"),
        ({"measurement": other}, "c0"),
        ({"measurement": None}, "map is missing"),
    ]
    for change, words in changes:
        with pytest.raises(BadReply, match=words):
            account.adapter.get_job_receipt(handle.model_copy(update=change))


def test_a_job_that_is_gone_has_no_receipt(account: Account) -> None:
    with pytest.raises(BadReply, match="does not know"):
        account.adapter.get_job_receipt(JobHandle(provider_job_id="gone", device_id="ibm_manila"))


# ---- what goes wrong at a submit ----


def test_created_and_then_502_is_one_job_and_found(account: Account) -> None:
    account.submit()
    before = account.double.created
    account.double.asked.clear()
    account.double.fault(POST_JOBS, FaultKind.STATUS_AFTER, status=502, times=None)
    with pytest.raises(SubmitUnknown):
        account.submit(token="lost-502")
    assert (account.double.created - before, account.posted()) == (1, 1)
    answer = account.adapter.find(IdempotencyToken("lost-502"), datetime.now(UTC) - LONG_AGO)
    assert isinstance(answer, Found)
    measurement = account.prepared(ONE).measurement
    [handle] = answer.handles
    assert counts(account.ended(handle.model_copy(update={"measurement": measurement}))) == {"1": 100}


@pytest.mark.parametrize(
    ("kind", "more", "created"),
    [
        (FaultKind.DROP_AFTER, {}, 1),
        (FaultKind.TRUNCATE, {}, 1),
        (FaultKind.DROP_BEFORE, {}, 0),
        (FaultKind.STATUS, {"status": 500}, 0),
        (FaultKind.STATUS, {"status": 503}, 0),
        (FaultKind.STATUS, {"status": 307, "headers": {"Location": "/api/v1/jobs"}}, 0),
        (FaultKind.STATUS, {"status": 200, "body": b'{"id": ""}'}, 0),
        (FaultKind.STATUS, {"status": 200, "body": b"<html>maintenance</html>"}, 0),
    ],
)
def test_a_submit_without_a_clear_answer_is_unknown_and_not_repeated(
    account: Account, kind: FaultKind, more: dict[str, Any], created: int
) -> None:
    account.submit()
    before, token = account.double.created, f"unclear-{time.time_ns()}"
    account.double.asked.clear()
    account.double.fault(POST_JOBS, kind, times=None, **more)
    with pytest.raises(SubmitUnknown):
        account.submit(token=token)
    assert (account.double.created - before, account.posted()) == (created, 1)
    found = account.adapter.find(IdempotencyToken(token), datetime.now(UTC) - LONG_AGO)
    assert isinstance(found, Found if created else Absent)


def test_a_submit_waits_no_longer_than_it_was_told(opened: Callable[..., Account]) -> None:
    account = opened(submit_timeout_seconds=0.2)
    account.submit()
    ordered = account.double.fault(POST_JOBS, FaultKind.DELAY, seconds=1.0, times=9)
    began = time.monotonic()
    with pytest.raises(SubmitUnknown):
        account.submit(token="slow")
    assert time.monotonic() - began < 1.0
    assert ordered.times == 8


def test_a_free_request_waits_no_longer_than_it_was_told(opened: Callable[..., Account]) -> None:
    account = opened(timeout_seconds=0.2)
    account.double.fault("GET /api/v1/backends", FaultKind.DELAY, seconds=1.0)
    with pytest.raises(Unavailable):
        account.adapter.list_devices()


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, {"errors": [{"code": 8054, "message": "no such gate"}]}, Refused),
        (400, {"errors": [{"code": 4317, "message": "your time is used up"}]}, QuotaSpent),
        (403, {"errors": [{"code": 4317, "message": "your time is used up"}]}, QuotaSpent),
        (400, {"errors": [{"code": 3458, "message": "3 jobs are waiting"}]}, Unavailable),
        (402, {}, QuotaSpent),
        (403, {"error": {"code": 1200, "message": "not allowed"}}, AuthFailed),
        (404, {"errors": []}, Refused),
        (409, {"errors": [{"code": 1, "message": "usage exceeds instance limit"}]}, QuotaSpent),
        (429, {}, Unavailable),
    ],
)
def test_a_refusal_says_what_ibm_said(
    account: Account, status: int, body: dict[str, Any], error: type[QComputeError]
) -> None:
    account.submit()
    account.double.asked.clear()
    headers = {"Retry-After": "17"} if status == 429 else {}
    account.double.fault(
        POST_JOBS, FaultKind.STATUS, status=status, body=json.dumps(body).encode(), headers=headers, times=None
    )
    with pytest.raises(error) as caught:
        account.submit()
    assert account.posted() == 1
    if isinstance(caught.value, Unavailable):
        assert caught.value.retry_after_seconds == (17.0 if status == 429 else 60.0)
    if isinstance(caught.value, Refused) and body["errors"]:
        assert (caught.value.vendor_code, "no such gate" in caught.value.message) == ("8054", True)


def test_an_ibm_that_is_not_there_is_unavailable(double: IbmDouble) -> None:
    adapter = IbmAdapter(config(double, url="http://127.0.0.1:9/api/v1"))
    with pytest.raises(Unavailable):
        adapter.list_devices()
    adapter.close()


def test_what_was_not_prepared_is_refused_before_anything_is_sent(account: Account) -> None:
    account.adapter.list_devices()
    account.double.asked.clear()
    plain = account.adapter.prepare(ASYMMETRIC, account.device(), 10, JobOptions())
    silent: dict[str, Any] = {"qpy": "", "measurement": {"registers": [], "measured": []}}
    for payload in (plain.payload, '{"ibm": {}}', '{"ibm"', json.dumps({"ibm": silent})):
        with pytest.raises(CannotRun):
            account.adapter.submit(payload, "ibm_manila", 10)
    good = account.prepared(ONE).payload
    with pytest.raises(Refused, match="no device"):
        account.adapter.submit(good, "ibm_nowhere", 10)
    with pytest.raises(CannotRun):
        account.adapter.submit(good.replace('"qpy": "', '"qpy": "AAAA'), "ibm_manila", 10)
    assert account.posted() == 0


def test_checks_name_the_limit(account: Account) -> None:
    device = account.device()
    with pytest.raises(CannotRun, match="measures nothing"):
        account.adapter.check(ASYMMETRIC.model_copy(update={"measured": ()}), device, 10)
    with pytest.raises(CannotRun, match="100000 shots"):
        account.adapter.check(ASYMMETRIC, device, 100_001)


def test_without_a_child_process_nothing_is_sent(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    ready = account.prepared(ONE)

    def none(self: SandboxPool, request: dict[str, Any]) -> dict[str, Any]:
        del self, request
        raise SandboxUnavailable

    monkeypatch.setattr(SandboxPool, "call", none)
    account.double.asked.clear()
    with pytest.raises(Unavailable):
        account.adapter.submit(ready.payload, "ibm_manila", 10)
    assert account.posted() == 0


# ---- the log-in ----


def test_an_ended_access_token_is_replaced_when_reading(account: Account) -> None:
    [handle] = account.submit()
    account.ended(handle)
    account.double.revoke()
    assert account.adapter.poll(handle).status == ProviderStatus.COMPLETED
    assert account.double.asked_for("POST /identity/token") <= 2


def test_an_ended_access_token_at_a_submit_sends_nothing_twice(account: Account) -> None:
    account.submit()
    before = account.double.created
    account.double.asked.clear()
    account.double.revoke()
    with pytest.raises(Unavailable, match="access token"):
        account.submit(token="revoked")
    assert (account.posted(), account.double.created - before) == (1, 0)
    account.submit(token="revoked")
    assert account.double.created - before == 1


def test_a_token_that_ends_soon_is_replaced_in_time(opened: Callable[..., Account], double: IbmDouble) -> None:
    double.token_seconds = 59
    account = opened()
    account.adapter.list_devices()
    account.adapter.find(IdempotencyToken("t"), datetime.now(UTC))
    assert double.asked_for("POST /identity/token") == 2


def test_a_wrong_key_or_instance_is_an_auth_failure(opened: Callable[..., Account], double: IbmDouble) -> None:
    with pytest.raises(AuthFailed, match="API key"):
        opened(token=Secret("ibm", "a-wrong-key")).adapter.list_devices()
    other = CRN.replace("0123", "9999")
    with pytest.raises(AuthFailed, match="401"):
        opened(instance=other).adapter.list_devices()
    assert (double.asked_for("POST /identity/token"), double.asked_for("GET /api/v1/backends")) == (2, 1)


@pytest.mark.parametrize(
    ("kind", "more", "seconds"),
    [
        (FaultKind.STATUS, {"status": 503, "headers": {"Retry-After": "5"}}, 5.0),
        (FaultKind.STATUS, {"status": 429, "headers": {"Retry-After": "9"}}, 9.0),
        (FaultKind.STATUS, {"status": 302, "headers": {"Location": "/"}}, None),
        (FaultKind.STATUS, {"status": 200, "body": b"<html>"}, None),
        (FaultKind.DROP_BEFORE, {}, None),
    ],
)
def test_a_log_in_that_fails_sends_nothing_and_never_the_key(
    opened: Callable[..., Account], double: IbmDouble, kind: FaultKind, more: dict[str, Any], seconds: float | None
) -> None:
    account = opened()
    double.fault("POST /identity/token", kind, times=None, **more)
    with pytest.raises(Unavailable, match="log-in") as caught:
        account.adapter.find(IdempotencyToken("t"), datetime.now(UTC))
    assert caught.value.retry_after_seconds == seconds
    assert double.headers == []
    assert double.asked_for("/api/v1") == 0


def test_a_log_in_without_a_token_is_a_bad_reply(opened: Callable[..., Account], double: IbmDouble) -> None:
    double.fault("POST /identity/token", FaultKind.STATUS, status=200, body=b'{"expires_in": 3600}')
    with pytest.raises(BadReply, match="access_token"):
        opened().adapter.list_devices()


def test_threads_log_in_once(opened: Callable[..., Account], double: IbmDouble) -> None:
    account = opened()
    threads = [
        threading.Thread(target=account.adapter.find, args=(IdempotencyToken("t"), datetime.now(UTC))) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert double.asked_for("POST /identity/token") == 1
    assert double.asked_for("GET /api/v1/jobs") == 5


# ---- status words ----


@pytest.mark.parametrize(
    ("word", "code", "status", "message"),
    [
        ("Queued", None, "QUEUED", None),
        ("Running", None, "RUNNING", None),
        ("Completed", None, "COMPLETED", None),
        ("Failed", 1517, "FAILED", "the reason"),
        ("Cancelled", None, "CANCELLED", "the reason"),
        ("Cancelled", 1305, "FAILED", "max_execution_time: the reason"),
        ("Failed", 1305, "FAILED", "max_execution_time: the reason"),
        ("Cancelled - Ran too long", None, "FAILED", "max_execution_time: Cancelled - Ran too long"),
        ("CANCELLED - RAN TOO LONG", None, "FAILED", "max_execution_time: CANCELLED - RAN TOO LONG"),
        ("Resting", None, "UNKNOWN", "IBM says 'Resting'"),
        ("Running", 1305, "RUNNING", None),
        ("", None, "UNKNOWN", "IBM says ''"),
    ],
)
def test_each_word_of_ibms(account: Account, word: str, code: int | None, status: str, message: str | None) -> None:
    [handle] = account.submit()
    account.ended(handle)
    job = account.double.jobs[handle.provider_job_id]
    account.double.end(job, word, "the reason" if message and "the reason" in message else None, code)
    told = account.adapter.poll(handle)
    assert (told.status, told.message) == (status, message)
    receipt = account.adapter.get_job_receipt(handle)
    assert (receipt.status, (receipt.metadata or {})["message"]) == (status, message)
    assert (receipt.results is not None) == (status == "COMPLETED")


def test_a_failed_job_keeps_ibms_reason_and_its_cost(account: Account) -> None:
    with account.double.hold():
        [handle] = account.submit()
        job = account.double.jobs[handle.provider_job_id]
        job.started = time.time()
        account.double.end(job, "Failed", "Error code 6073: the pulse\ncompiler\x00 says no", 6073)
    receipt = account.ended(handle)
    assert receipt.status == ProviderStatus.FAILED
    assert (receipt.metadata or {})["message"] == "Error code 6073: the pulse compiler  says no"
    assert receipt.cost == pytest.approx(QUANTUM_SECONDS / 60 * 96)
    assert receipt.results is None


def test_a_status_beside_the_state_is_read_too() -> None:
    assert api.Job.model_validate({"id": "j", "status": "Queued"}).word == "Queued"
    assert api.Job.model_validate({"id": "j"}).word == ""


def test_many_are_asked_for_at_once_and_packs_once(account: Account) -> None:
    done = account.submit(ONE, ZEROS, token="ended")
    account.ended(done[0])
    with account.double.hold():
        waiting = [handle for number in range(3) for handle in account.submit(ONE, ZEROS, token=f"w{number}")]
        account.double.asked.clear()
        told = account.adapter.poll_many([*waiting, *done])
        asked = [f"{one.method} {one.path}" for one in account.double.asked]
        assert [one.status for one in told[:6]] == ["QUEUED"] * 6
        assert [one.status for one in told[6:]] == ["COMPLETED"] * 2
        assert asked == ["GET /api/v1/jobs", f"GET /api/v1/jobs/{done[0].provider_job_id}"]


def test_a_list_that_lags_only_costs_requests(account: Account) -> None:
    account.double.list_lag_seconds = 3600.0
    with account.double.hold():
        handles = [account.submit(token=f"lag{number}")[0] for number in range(2)]
        assert [one.status for one in account.adapter.poll_many(handles)] == ["QUEUED"] * 2
        assert account.adapter.find(IdempotencyToken("lag0"), datetime.now(UTC)) == Absent()


def test_no_handles_are_no_request(account: Account) -> None:
    account.double.asked.clear()
    assert account.adapter.poll_many([]) == []
    assert account.double.asked == []


@pytest.mark.parametrize("fault", [{"status": 503}, {"status": 429, "headers": {"Retry-After": "3"}}])
def test_polling_trouble_is_unavailable(account: Account, fault: dict[str, Any]) -> None:
    [handle] = account.submit()
    account.double.fault("GET /api/v1/jobs/", FaultKind.STATUS, **fault)
    with pytest.raises(Unavailable):
        account.adapter.poll(handle)


def test_a_job_id_is_never_a_path(account: Account) -> None:
    strange = JobHandle(provider_job_id="../backends", device_id="ibm_manila")
    assert account.adapter.poll(strange).status == ProviderStatus.UNKNOWN


def test_a_pack_is_cancelled_as_a_whole_and_an_end_stays_an_end(account: Account) -> None:
    with account.double.hold():
        first, second = account.submit(ONE, ZEROS)
        account.adapter.cancel(first)
        assert [one.status for one in account.adapter.poll_many([first, second])] == ["CANCELLED"] * 2
        account.adapter.cancel(second)
    receipt = account.adapter.get_job_receipt(second)
    assert (receipt.status, receipt.results, receipt.cost) == ("CANCELLED", None, 0.0)


# ---- finding ----


def test_all_jobs_of_a_token_are_found_oldest_first_over_pages(account: Account) -> None:
    account.double.page_limit = 2
    token = f"many-{time.time_ns()}"
    made = [account.submit(token=token)[0] for _ in range(5)]
    account.double.asked.clear()
    answer = account.adapter.find(IdempotencyToken(token), datetime.now(UTC) - LONG_AGO)
    assert isinstance(answer, Found)
    assert [one.provider_job_id for one in answer.handles] == [one.provider_job_id for one in made]
    assert [one.device_id for one in answer.handles] == ["ibm_manila"] * 5
    assert account.double.asked_for("GET /api/v1/jobs") == 3


def test_a_server_that_ignores_the_tag_gives_us_nobody_elses_job(account: Account) -> None:
    stranger = {"id": "d1", "backend": "ibm_manila", "status": "Running", "tags": ["qc:other"], "created": "2026"}
    untagged = {"id": "d2", "status": "Running"}
    body = json.dumps({"jobs": [stranger, untagged], "count": 2}).encode()
    account.double.fault("GET /api/v1/jobs$", FaultKind.STATUS, status=200, body=body)
    assert account.adapter.find(IdempotencyToken("mine"), datetime.now(UTC)) == Absent()


# ---- devices ----


def test_devices_come_from_one_request(opened: Callable[..., Account], double: IbmDouble) -> None:
    double.devices["mock_manila"] = ("online", "available")
    account = opened(devices=())
    assert [device.device_id for device in account.adapter.list_devices()] == ["ibm_fez", "ibm_manila"]
    assert account.adapter.list_devices()[0].device_type == "QPU"
    account.adapter.get_availability("ibm_fez")
    account.adapter.get_availability("ibm_manila")
    assert double.asked_for("GET /api/v1/backends") == 1


def test_only_devices_that_are_named_are_offered(
    opened: Callable[..., Account], caplog: pytest.LogCaptureFixture
) -> None:
    adapter = opened(devices=("ibm_fez", "ibm_typo")).adapter
    assert [device.device_id for device in adapter.list_devices()] == ["ibm_fez"]
    assert "ibm_typo" in caplog.text
    assert adapter.get_capability("ibm_manila") is None
    assert adapter.get_availability("ibm_manila") is None


def test_an_account_without_devices_has_nothing_to_say(opened: Callable[..., Account]) -> None:
    adapter = opened(devices=("ibm_typo",)).adapter
    assert (adapter.list_devices(), adapter.list_capabilities()) == ([], [])
    assert (adapter.get_capability(), adapter.get_availability()) == (None, None)


@pytest.mark.parametrize(
    ("status", "internal", "expected"),
    [
        (("online", "available"), False, ("ONLINE", True)),
        (("online", ""), False, ("ONLINE", True)),
        (("online", "internal"), False, ("MAINTENANCE", False)),
        (("online", "internal"), True, ("ONLINE", True)),
        (("internal", ""), False, ("MAINTENANCE", False)),
        (("internal", ""), True, ("ONLINE", True)),
        (("paused", "calibration"), False, ("MAINTENANCE", False)),
        (("maintenance", ""), False, ("MAINTENANCE", False)),
        (("offline", ""), False, ("OFFLINE", False)),
        (("dreaming", ""), False, (None, False)),
    ],
)
def test_each_state_of_a_device(
    opened: Callable[..., Account],
    double: IbmDouble,
    status: tuple[str, str],
    internal: bool,  # noqa: FBT001
    expected: tuple[str | None, bool],
) -> None:
    word, reason = status
    double.devices["ibm_manila"] = status
    told = opened(include_internal=internal).adapter.get_availability("ibm_manila")
    assert told is not None
    assert (told.availability, told.is_available) == expected
    assert told.status_msg == (f"{word}: {reason}" if reason else word)
    assert told.pending_jobs == 0


def test_an_instance_at_its_limit_is_offline(opened: Callable[..., Account], double: IbmDouble) -> None:
    double.limit_reached = True
    told = opened().adapter.get_availability()
    assert told is not None
    assert (told.availability, told.is_available) == ("OFFLINE", False)
    assert "usage limit" in (told.status_msg or "")


def test_a_key_without_the_right_to_see_the_usage_is_enough(opened: Callable[..., Account], double: IbmDouble) -> None:
    double.fault("GET /api/v1/instances/usage", FaultKind.STATUS, status=403)
    told = opened().adapter.get_availability()
    assert told is not None
    assert told.is_available


def test_capabilities_are_the_last_calibration(account: Account) -> None:
    capability = account.adapter.get_capability("ibm_fez")
    assert capability is not None
    extras = capability.extras or {}
    assert capability.num_qubits == 156
    assert capability.basis_gates == ["cz", "id", "rz", "sx", "x"]
    assert len(extras["t1_seconds"]) == len(extras["t2_seconds"]) == 156
    assert 1e-6 < extras["t1_seconds"][0] < 1e-2
    assert 0 < extras["one_qubit_error"] < extras["two_qubit_error"] < 0.5
    assert 0 < extras["readout_error"] < 0.5
    assert 1e-9 < extras["one_qubit_seconds"] < extras["two_qubit_seconds"] < 1e-5
    assert extras["max_shots"] == 100_000
    assert extras["calibrated_at"].startswith("2025")
    assert (extras["can_measure_mid_circuit"], extras["can_branch"], extras["can_reset"]) == (True, True, True)
    assert (1, 2) in extras["coupling_map"]
    assert (0, 1) not in extras["coupling_map"]  # this one has an error of 1
    assert extras["faulty_qubits"] == []


def test_what_is_broken_is_not_compiled_to(opened: Callable[..., Account], double: IbmDouble) -> None:
    account = opened()
    account.adapter.get_capability("ibm_manila")
    good = double.properties["ibm_manila"]
    assert good is not None
    broken = json.loads(json.dumps(good))
    broken["qubits"][4].append({"name": "operational", "unit": "", "value": 0, "date": "2026-01-01"})
    for gate in broken["gates"]:
        if gate["gate"] == "sx" and gate["qubits"] == [0]:
            gate["parameters"].append({"name": "operational", "unit": "", "value": 0})
        if gate["gate"] == "cx" and set(gate["qubits"]) == {1, 2}:
            gate["parameters"] = [{"name": "gate_error", "unit": "", "value": 1}]
    double.properties["ibm_manila"] = broken
    try:
        target = opened().adapter.target(account.device(), JobOptions())
    finally:
        double.properties["ibm_manila"] = good
    assert target is not None
    assert target.dialect is Dialect.QPY
    assert target.faulty_qubits == (0, 4)
    assert (1, 2) not in (target.coupling_map or ())
    assert (2, 3) in (target.coupling_map or ())
    assert (target.num_qubits, target.can_reset, target.can_branch) == (5, True, True)


def test_a_device_that_says_little_has_little(opened: Callable[..., Account], double: IbmDouble) -> None:
    double.devices["ibm_plain"] = ("online", "")
    double.configurations["ibm_plain"] = {"n_qubits": 3, "basis_gates": ["cx", "u"]}
    answers: list[dict[str, Any] | None] = [None, {}]
    for properties in answers:
        double.properties["ibm_plain"] = properties
        account = opened(devices=("ibm_plain",))
        capability = account.adapter.get_capability()
        assert capability is not None
        unknown = {name for name, value in (capability.extras or {}).items() if value is None}
        assert {"coupling_map", "t1_seconds", "two_qubit_error", "max_shots", "calibrated_at"} <= unknown
        target = account.adapter.target(account.device("ibm_plain"), JobOptions())
        assert target is not None
        assert (target.coupling_map, target.can_branch, target.can_measure_mid_circuit) == (None, False, False)
        account.adapter.check(ASYMMETRIC, account.device("ibm_plain"), 10**9)


def test_what_was_known_is_used_when_ibm_does_not_answer(
    opened: Callable[..., Account], double: IbmDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = opened()
    devices, capability = account.adapter.list_devices(), account.adapter.get_capability("ibm_manila")
    now = time.monotonic()
    monkeypatch.setattr("qcompute.vendor.kept.time.monotonic", lambda: now + 7200)
    double.fault("GET /api/v1/backends", FaultKind.STATUS, status=503, times=None)
    assert account.adapter.list_devices() == devices
    assert account.adapter.get_capability("ibm_manila") == capability
    with pytest.raises(Unavailable):
        account.adapter.get_availability("ibm_manila")


def test_calibrations_are_read_again_after_an_hour(
    opened: Callable[..., Account], double: IbmDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = opened()
    for _ in range(3):
        account.adapter.get_capability("ibm_manila")
    assert double.asked_for("/backends/ibm_manila/") == 2
    now = time.monotonic()
    monkeypatch.setattr("qcompute.vendor.kept.time.monotonic", lambda: now + 3601)
    account.adapter.get_capability("ibm_manila")
    assert double.asked_for("/backends/ibm_manila/") == 4


def test_nothing_is_kept_of_what_failed() -> None:
    answers = iter([BadReply("no"), 5])

    def fetch() -> int:
        answer = next(answers)
        if isinstance(answer, BadReply):
            raise answer
        return answer

    kept = Kept(fetch, 60.0)
    with pytest.raises(BadReply):
        kept.get(or_old=True)
    assert (kept.get(), kept.get()) == (5, 5)


# ---- settings ----


def test_limits_are_ibms(account: Account, opened: Callable[..., Account]) -> None:
    limits = account.adapter.limits()
    rate = limits.rates[Verb.SUBMIT]
    assert (rate.per_second * 60, rate.burst) == (pytest.approx(5), 5)
    assert (limits.max_pack, limits.max_running_jobs) == (20, None)
    assert opened(max_pack=1, max_running_jobs=3).adapter.limits().max_running_jobs == 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"instance": "my-instance"},
        {"instance": "crn:v1:bluemix:public"},
        {"url": "http://quantum.cloud.ibm.com/api/v1"},
        {"iam_url": "http://iam.example.org"},
        {"max_execution_seconds": 0},
        {"account": "x"},
    ],
)
def test_settings_that_cannot_be_right_are_refused(double: IbmDouble, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        config(double, **wrong)
    assert API_KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("region", "url"),
    [
        ("us-east", "https://quantum.cloud.ibm.com/api/v1"),
        ("eu-de", "https://eu-de.quantum.cloud.ibm.com/api/v1"),
    ],
)
def test_each_region_has_its_own_host_as_in_ibms_client(region: str, url: str) -> None:
    from qiskit_ibm_runtime.api.utils import default_runtime_url_resolver  # noqa: PLC0415 - only its words

    crn = CRN.replace("us-east", region)
    assert api.api_url(crn) == url == default_runtime_url_resolver("https://cloud.ibm.com", crn)


def test_a_circuit_without_a_translation_is_passed_on_as_it_is(account: Account) -> None:
    assert isinstance(ASYMMETRIC, CompiledCircuit)
    assert account.adapter.prepare(ASYMMETRIC, account.device(), 5, JobOptions()).payload == ASYMMETRIC.source
