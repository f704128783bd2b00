"""IonQ over its REST API: the contract with every fault, and what is IonQ's own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any, ClassVar, cast

import httpx
import pytest
from pydantic import ValidationError

from qcompute.circuits.measurement import MeasurementMap, Register
from qcompute.circuits.program import JobOptions
from qcompute.circuits.target import Dialect
from qcompute.connections.credentials import Secret
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
from qcompute.miner.providers import ionq
from qcompute.miner.providers.base import (
    NOT_APPLICABLE,
    Absent,
    CannotTell,
    Device,
    Found,
    JobHandle,
    ProviderAdapter,
    ProviderStatus,
    Verb,
)
from qcompute.miner.providers.ionq import IonqAdapter, IonqConfig
from qcompute.miner.providers.registry import open_adapter
from qcompute.testing.provider_contract import ASYMMETRIC, ProviderContract
from qcompute.units import IdempotencyToken
from tests.doubles.ionq import MEASURED, SIMULATED, IonqDouble
from tests.providers.ionq_scene import (
    KEY,
    PROGRAM,
    QPU,
    Adapters,
    adapters_of,
    conforms,
    description,
    device_of,
    ended,
    facts_of,
    get,
    look,
    named,
    stored,
    submitted,
    translated,
)


@pytest.fixture
def double() -> Iterator[IonqDouble]:
    with IonqDouble(KEY) as made:
        yield made


@pytest.fixture
def adapters(double: IonqDouble) -> Iterator[Adapters]:
    with adapters_of(double) as make:
        yield make


@pytest.fixture
def adapter(adapters: Adapters) -> IonqAdapter:
    return adapters()


class _Contract(ProviderContract):
    secrets: ClassVar[tuple[str, ...]] = (KEY,)
    calls: ClassVar[Mapping[Verb, str]] = {
        Verb.SUBMIT: r"POST /v0\.4/jobs$",
        Verb.POLL: r"GET /v0\.4/jobs/[^/]+$",
        Verb.RECEIPT: r"GET /v0\.4/jobs/[^/]+(/artifacts/.+|/cost)$",
        Verb.CANCEL: r"PUT /v0\.4/jobs/[^/]+/status/cancel$",
    }
    backend: ClassVar[str]

    @pytest.fixture
    def vendor(self, double: IonqDouble) -> IonqDouble:
        return double

    @pytest.fixture
    def adapter(self, adapters: Adapters) -> ProviderAdapter:
        return adapters(backends=(self.backend,), timeout_seconds=1.0)


class TestQuantumComputer(_Contract):
    backend = QPU


class TestSimulator(_Contract):
    backend = "simulator"


# ---- the double against IonQ's own description ----


def test_the_doubles_answers_are_as_ionq_describes_them(double: IonqDouble, adapters: Adapters) -> None:
    double.formats = (*MEASURED, "shots.json.v1", "histogram.json.v1", *SIMULATED)
    adapter = adapters(session_cost_limit_usd=Decimal(50))
    handle = submitted(adapter)
    conforms(get(double, f"/jobs/{handle.provider_job_id}"), named("SingleCircuitJob"))
    ended(adapter, handle)
    job = get(double, f"/jobs/{handle.provider_job_id}")
    conforms(job, named("SingleCircuitJob"))
    conforms(get(double, "/jobs"), named("GetJobsResponse"))
    conforms(get(double, f"/jobs/{handle.provider_job_id}/cost"), named("GetJobCostResponse"))
    conforms(get(double, "/jobs/estimate", backend=QPU), named("GetJobEstimateResponse"))
    conforms(get(double, f"/sessions/{job['session_id']}"), named("Session"))
    for form, artifact in job["results"].items():
        schema = "".join(part.capitalize() for part in form.split("."))
        conforms(get(double, f"/jobs/{handle.provider_job_id}/artifacts/{artifact['id']}"), named(schema))
    conforms(get(double, "/jobs/none"), named("Error"))
    conforms(get(double, "/jobs/estimate", backend="none"), named("BadRequestError"))
    responses = description()["components"]["responses"]
    conforms(get(double, "/backends"), responses["ListBackends"]["content"]["application/json"]["schema"])


def test_the_doubles_calibration_is_as_described_but_for_fractions_of_seconds(double: IonqDouble) -> None:
    """The description says whole seconds for gates of microseconds."""
    schema = description()["components"]["responses"]["ListCharacterizations"]["content"]["application/json"]["schema"]
    answer = get(double, f"/backends/{QPU}/characterizations")
    timing = answer["characterizations"][0]["timing"]
    timing.update({name: round(seconds) for name, seconds in timing.items()})
    conforms(answer, schema)


def test_a_cancelled_and_a_failed_job_are_as_described(double: IonqDouble, adapter: IonqAdapter) -> None:
    with double.hold():
        handle = submitted(adapter)
        conforms(
            httpx.put(
                f"{double.base}/jobs/{handle.provider_job_id}/status/cancel", headers={"Authorization": f"apiKey {KEY}"}
            ).json(),
            named("JobCanceledResponse"),
        )
    double.fails_with = "the trap is empty"
    failed = submitted(adapter)
    ended(adapter, failed)
    conforms(get(double, f"/jobs/{failed.provider_job_id}"), named("SingleCircuitJob"))


@pytest.mark.parametrize(
    ("device_id", "options"),
    [
        (QPU, {}),
        ("simulator", {}),
        ("simulator", {"noise": {"model": "aria-1", "seed": 3}}),
    ],
)
def test_what_we_send_is_as_ionq_describes_it(
    double: IonqDouble, adapters: Adapters, device_id: str, options: dict[str, Any]
) -> None:
    adapter = adapters(session_cost_limit_usd=Decimal(50))
    prepared = translated(adapter, device_of(adapter, device_id), **options)
    handle = adapter.submit(prepared.payload, device_id, 1000, token=IdempotencyToken("t" * 64))
    body = double.jobs[handle.provider_job_id].request
    conforms(body, named("CircuitJobCreationPayload"))
    assert body["type"] == "ionq.qasm3.v1"
    assert body["name"] == body["metadata"]["qcompute_token"] == "t" * 64
    assert body.get("noise") == options.get("noise")
    assert ("session_id" in body) == (device_id == QPU)
    assert handle.measurement == prepared.measurement


# ---- devices ----


def test_quantum_computers_come_first_and_retired_ones_not_at_all(adapter: IonqAdapter) -> None:
    assert [(one.device_id, one.device_type) for one in adapter.list_devices()] == [
        (QPU, "QPU"),
        ("simulator", "SIMULATOR"),
    ]
    assert adapter.get_availability("qpu.aria-1") is None
    assert adapter.get_capability("qpu.aria-1") is None


def test_the_operators_own_list_says_which_and_in_which_order(adapters: Adapters) -> None:
    adapter = adapters(backends=("simulator", QPU, "qpu.gone"))
    assert [one.device_id for one in adapter.list_devices()] == ["simulator", QPU]
    assert [one.device_id for one in adapters(backends=("simulator",)).list_devices()] == ["simulator"]


def test_all_devices_are_asked_for_at_once(
    double: IonqDouble, adapter: IonqAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    for device in adapter.list_devices() * 3:
        adapter.get_availability(device.device_id)
        adapter.target(device, JobOptions())
        adapter.check(ASYMMETRIC, device, 100)
    assert double.asked_for("GET /v0.4/backends") == 1
    monkeypatch.setattr(ionq, "_AVAILABLE_SECONDS", 0.0)
    adapter.get_availability()
    adapter.list_devices()
    assert double.asked_for("GET /v0.4/backends") == 2


@pytest.mark.parametrize(
    ("told", "word", "is_available"),
    [
        ({"status": "available", "degraded": False}, "ONLINE", True),
        ({"status": "available", "degraded": True}, "DEGRADED", True),
        ({"status": "unavailable", "degraded": False}, "OFFLINE", False),
        ({"status": "unavailable", "degraded": True}, "OFFLINE", False),
        ({"status": "calibrating", "degraded": False}, None, None),
    ],
)
def test_each_word_for_availability(
    double: IonqDouble, adapter: IonqAdapter, told: dict[str, Any], word: str | None, is_available: Any
) -> None:
    double.backends[1] |= told
    seen = adapter.get_availability(QPU)
    assert seen is not None
    assert (seen.availability, seen.is_available, seen.pending_jobs) == (word, is_available, None)
    assert told["status"] in (seen.status_msg or "")


def test_the_time_in_the_queue_is_told_where_it_is_known(
    double: IonqDouble, adapter: IonqAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ionq, "_AVAILABLE_SECONDS", 0.0)
    seen = adapter.get_availability(QPU)
    assert seen is not None
    assert seen.status_msg == "available, average time in the queue 0:19:41 (h:mm:ss)"
    assert seen.queue_seconds == pytest.approx(1181, abs=1)
    double.backends[1]["average_queue_time"] = None
    seen = adapter.get_availability(QPU)
    assert seen is not None
    assert (seen.status_msg, seen.queue_seconds) == ("available", None)


def test_a_calibration_is_read_once_an_hour(double: IonqDouble, adapter: IonqAdapter) -> None:
    capability = adapter.get_capability(QPU)
    assert capability is not None
    assert capability.num_qubits == 36
    extras = capability.extras or {}
    assert extras["native_gates"] == ["gpi", "gpi2", "zz"]
    assert extras["coupling_map"] == [[0, 1], [0, 2], [10, 9]]
    assert extras["t1_seconds"] == [100.0] * 36
    assert extras["t2_seconds"] == [1.0] * 36
    assert [extras[name] for name in ("readout_error", "one_qubit_error", "two_qubit_error")] == [
        0.0038,
        0.0002,
        0.006,
    ]
    assert extras["calibrated_at"] == "2026-06-16T00:00:00Z"
    assert extras["can_measure_mid_circuit"] is None
    assert extras["can_branch"] is False
    adapter.list_capabilities()
    assert double.asked_for("characterizations") == 1


def test_a_simulator_has_no_calibration_and_is_not_asked_for_one(double: IonqDouble, adapter: IonqAdapter) -> None:
    capability = adapter.get_capability("simulator")
    assert capability is not None
    assert capability.extras is not None
    assert capability.extras["t1_seconds"] == capability.extras["native_gates"] == NOT_APPLICABLE
    assert double.asked_for("characterizations") == 0


@pytest.mark.parametrize("how", ["null", "404", "503", "nonsense"])
def test_a_device_without_calibration_is_described_all_the_same(
    double: IonqDouble, adapter: IonqAdapter, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ionq, "_DEVICES_SECONDS", 0.0)
    if how == "null":
        double.characterized = False
    elif how == "nonsense":
        double.fault("characterizations", FaultKind.STATUS, status=200, body=b'{"characterizations": [7]}')
    else:
        double.fault("characterizations", FaultKind.STATUS, status=int(how))
    capability = adapter.get_capability(QPU)
    assert capability is not None
    assert capability.num_qubits == 36
    assert (capability.extras or {})["t1_seconds"] is None
    adapter.get_capability(QPU)
    asked_again = double.asked_for("characterizations") == 2
    assert asked_again == (how != "null"), "an answer is kept for an hour, a failure is not"


def test_a_calibration_may_have_holes(double: IonqDouble, adapter: IonqAdapter) -> None:
    body = json.dumps({"characterizations": [None, {"fidelity": {"spam": {"median": 0.99}, "2q": None}}]}).encode()
    double.fault("characterizations", FaultKind.STATUS, status=200, body=body)
    extras = (adapter.list_capabilities()[0]).extras or {}
    assert extras["readout_error"] == 0.01
    for name in ("one_qubit_error", "two_qubit_error", "t1_seconds", "coupling_map", "calibrated_at"):
        assert extras[name] is None


def test_mid_circuit_measurement_is_only_where_the_operator_knows_it(adapters: Adapters) -> None:
    adapter = adapters(mid_circuit_backends=(QPU,))
    able, other = (adapter.target(one, JobOptions()) for one in adapter.list_devices())
    assert able is not None
    assert other is not None
    assert (able.can_measure_mid_circuit, able.can_reset, able.can_branch) == (True, True, False)
    assert (other.can_measure_mid_circuit, other.can_reset, other.can_branch) == (False, False, False)
    assert able.dialect is Dialect.OPENQASM_3
    assert (able.num_qubits, other.num_qubits) == (36, 29)
    assert able.basis_gates is not None
    assert "ccx" not in able.basis_gates
    capability = adapter.get_capability(QPU)
    assert capability is not None
    assert (capability.extras or {})["can_measure_mid_circuit"] is True


def test_a_device_that_is_gone_has_no_width_to_check(adapter: IonqAdapter) -> None:
    gone = Device(device_id="qpu.gone", provider="ionq", device_type="QPU")
    adapter.check(ASYMMETRIC, gone, 100)
    target = adapter.target(gone, JobOptions())
    assert target is not None
    assert target.num_qubits is None


def test_too_many_shots_are_refused_with_the_limit(adapter: IonqAdapter) -> None:
    device = device_of(adapter, QPU)
    adapter.check(ASYMMETRIC, device, 1_000_000)
    with pytest.raises(CannotRun, match="1000000"):
        adapter.check(ASYMMETRIC, device, 1_000_001)


# ---- submit ----


def test_plain_openqasm_3_is_enough(adapter: IonqAdapter) -> None:
    """As an adapter written for the reference miner is called: no token, no options, no device."""
    program = PROGRAM.replace("bit[1] a;\nbit[2] b;", "bit[3] c;").replace("a[0]", "c[0]")
    program = program.replace("b[1]", "c[2]").replace("b[0]", "c[1]")
    handle = adapter.submit(program)
    assert handle.device_id == QPU
    assert ended(adapter, handle).status == ProviderStatus.COMPLETED
    receipt = adapter.get_job_receipt(handle)
    assert (receipt.results, receipt.shots) == ({"measurementCounts": {"010": 1024}}, 1024)


def test_openqasm_2_is_refused_before_anything_is_sent(double: IonqDouble, adapter: IonqAdapter) -> None:
    with pytest.raises(Refused):
        adapter.submit(ASYMMETRIC.source, QPU, 100)
    assert double.asked_for("POST") == 0


def test_without_a_backend_nothing_is_sent(double: IonqDouble, adapter: IonqAdapter) -> None:
    double.backends.clear()
    with pytest.raises(Refused):
        adapter.submit(PROGRAM)
    assert adapter.get_capability() is None


def test_what_ionq_did_not_like_is_named(adapter: IonqAdapter) -> None:
    with pytest.raises(Refused, match=r"\"backend\" was invalid\. \(backend\)") as raised:
        adapter.submit(PROGRAM, "qpu.gone", 100)
    assert raised.value.vendor_code == "Bad Request"


def test_an_answer_without_an_id_may_be_a_job(double: IonqDouble, adapter: IonqAdapter) -> None:
    double.fault("POST", FaultKind.STATUS, status=201, body=b'{"status": "submitted"}')
    with pytest.raises(SubmitUnknown):
        submitted(adapter)


def test_a_key_that_is_not_valid_any_more_stops_everything_but_the_list_of_backends(
    double: IonqDouble, adapter: IonqAdapter
) -> None:
    handle = submitted(adapter)
    double.key = "another"
    calls: list[Callable[[], object]] = [
        lambda: submitted(adapter),
        lambda: adapter.poll(handle),
        lambda: adapter.poll_many([handle, handle]),
        lambda: adapter.cancel(handle),
        lambda: adapter.get_job_receipt(handle),
        lambda: look(adapter, "token-1"),
    ]
    for call in calls:
        with pytest.raises(AuthFailed):
            call()
    assert adapter.list_devices()
    assert double.created == 1


def test_a_long_description_of_the_result_stays_at_home(double: IonqDouble, adapter: IonqAdapter) -> None:
    """IonQ may refuse metadata that is too long; the daemon has its own copy."""
    wide = MeasurementMap(
        registers=tuple(Register(name=f"register_{n}", size=2) for n in range(20)),
        measured=tuple((n, n) for n in range(40)),
    )
    content = {"program": PROGRAM, "measurement": wide.model_dump(mode="json"), "mid_circuit": False, "body": {}}
    payload = json.dumps({"ionq": content})
    handle = adapter.submit(payload.replace('{"ionq": ', '{"ionq":'), QPU, 100, token=IdempotencyToken("wide"))
    assert handle.measurement == wide
    noted = double.jobs[handle.provider_job_id].request["metadata"]
    assert noted == {"qcompute_token": "wide", "qcompute_shots": "100"}


# ---- sessions ----


def test_jobs_of_a_quantum_computer_share_one_session_with_the_limit(double: IonqDouble, adapters: Adapters) -> None:
    adapter = adapters(session_cost_limit_usd=Decimal("120.50"))
    for number in range(3):
        submitted(adapter, token=f"token-{number}")
    submitted(adapter, "simulator")
    (session,) = double.sessions.values()
    assert (session["backend"], session["settings"]) == (QPU, {"cost_limit": {"value": 120.5, "unit": "usd"}})
    sessions = [job.request.get("session_id") for job in double.jobs.values()]
    assert sessions == [session["id"]] * 3 + [None]


@pytest.mark.parametrize("kind", [FaultKind.DROP_AFTER, FaultKind.STATUS_AFTER])
def test_a_session_whose_creation_got_no_answer_is_left_alone(
    double: IonqDouble, adapters: Adapters, kind: FaultKind
) -> None:
    adapter = adapters(session_cost_limit_usd=Decimal(10))
    double.fault("POST /v0.4/sessions", kind)
    with pytest.raises(Unavailable):
        submitted(adapter)
    assert double.created == 0
    handle = submitted(adapter)
    assert len(double.sessions) == 2
    assert double.jobs[handle.provider_job_id].request["session_id"] == list(double.sessions)[1]


def test_a_session_without_an_id_is_no_session(double: IonqDouble, adapters: Adapters) -> None:
    adapter = adapters(session_cost_limit_usd=Decimal(10))
    double.fault("POST /v0.4/sessions", FaultKind.STATUS, status=201, body=b"{}")
    with pytest.raises(Unavailable):
        submitted(adapter)
    assert double.created == 0


def test_an_account_without_sessions_says_so_and_runs_nothing(double: IonqDouble, adapters: Adapters) -> None:
    """The limit is a promise to the operator: no job goes around it."""
    adapter = adapters(session_cost_limit_usd=Decimal(10))
    double.fault("POST /v0.4/sessions", FaultKind.STATUS, status=403)
    with pytest.raises(AuthFailed):
        submitted(adapter)
    assert double.created == 0


def test_a_session_at_its_limit_stops_the_account(double: IonqDouble, adapters: Adapters) -> None:
    adapter = adapters(session_cost_limit_usd=Decimal(10))
    submitted(adapter)
    next(iter(double.sessions.values()))["active"] = False
    with pytest.raises(QuotaSpent, match="Session has ended"):
        submitted(adapter)
    double.fault("GET /v0.4/sessions", FaultKind.STATUS)
    with pytest.raises(Refused):
        submitted(adapter)


def test_a_refusal_in_a_session_that_goes_on_is_of_the_job(double: IonqDouble, adapters: Adapters) -> None:
    adapter = adapters(session_cost_limit_usd=Decimal(10))
    submitted(adapter)
    double.fault("POST /v0.4/jobs", FaultKind.STATUS, status=413)
    with pytest.raises(Refused):
        submitted(adapter)


# ---- find ----


def test_a_job_is_found_among_others_with_all_that_was_noted(double: IonqDouble, adapter: IonqAdapter) -> None:
    device = device_of(adapter, QPU)
    prepared = translated(adapter, device)
    wanted = adapter.submit(prepared.payload, QPU, 100, token=IdempotencyToken("wanted"))
    for number in range(5):
        stored(double, f"other-{number}", metadata={"qcompute_token": f"other-{number}"})
    answer = look(adapter, "wanted")
    assert isinstance(answer, Found)
    assert answer.handles == [
        JobHandle(provider_job_id=wanted.provider_job_id, device_id=QPU, measurement=prepared.measurement)
    ]
    assert isinstance(look(adapter, "unwanted"), Absent)


@pytest.mark.parametrize("noted", ["", "[]", "not json", "[1, 2]", '[[["a"]], []]', "null", '[[["a", "b"]], [[0, 0]]]'])
def test_a_note_that_cannot_be_read_is_no_note(double: IonqDouble, adapter: IonqAdapter, noted: str) -> None:
    stored(double, "noted", metadata={"qcompute_token": "wanted", "qcompute_measurement": noted})
    answer = look(adapter, "wanted")
    assert isinstance(answer, Found)
    assert answer.handles[0].measurement is None


def test_all_pages_are_read_back_to_the_moment_and_not_further(double: IonqDouble, adapter: IonqAdapter) -> None:
    double.page_size = 10
    for number in range(40):
        stored(double, f"young-{number}", age_seconds=60 + number)
    stored(double, "wanted", age_seconds=200, name="wanted")
    for number in range(100):
        stored(double, f"old-{number}", age_seconds=2000 + number)
    answer = look(adapter, "wanted")
    assert isinstance(answer, Found)
    assert [handle.provider_job_id for handle in answer.handles] == ["wanted"]
    assert double.asked_for("GET /v0.4/jobs") == 5
    assert isinstance(look(adapter, "old-50"), Absent)


def test_two_jobs_of_one_token_come_oldest_first(double: IonqDouble, adapter: IonqAdapter) -> None:
    double.page_size = 1
    stored(double, "second", age_seconds=10, name="twice")
    stored(double, "first", age_seconds=20, metadata={"qcompute_token": "twice"})
    answer = look(adapter, "twice")
    assert isinstance(answer, Found)
    assert [handle.provider_job_id for handle in answer.handles] == ["first", "second"]


def test_a_list_in_another_order_is_read_to_its_end(double: IonqDouble, adapter: IonqAdapter) -> None:
    """IonQ does not say how it sorts. Stopping at the first old job would take a paid job for absent."""
    double.page_size, double.oldest_first = 10, True
    for number in range(50):
        stored(double, f"old-{number}", age_seconds=9000 + 60 * number)
    stored(double, "wanted", name="wanted")
    assert isinstance(look(adapter, "wanted"), Found)


def test_a_list_without_times_is_read_to_its_end(double: IonqDouble, adapter: IonqAdapter) -> None:
    page = {"jobs": [{"id": "x", "status": "new", "submitted_at": "yesterday"}], "next": "0"}
    double.fault("GET /v0.4/jobs$", FaultKind.STATUS, status=200, body=json.dumps(page).encode())
    stored(double, "wanted", name="wanted")
    assert isinstance(look(adapter, "wanted"), Found)
    assert double.asked_for("GET /v0.4/jobs") == 2


def test_times_without_a_zone_are_utc(double: IonqDouble, adapter: IonqAdapter) -> None:
    page = {"jobs": [{"id": "x", "status": "new", "submitted_at": "2020-01-01T00:00:00"}], "next": "0"}
    double.fault("GET /v0.4/jobs$", FaultKind.STATUS, status=200, body=json.dumps(page).encode())
    assert isinstance(look(adapter, "wanted"), Absent)


def test_a_list_that_is_too_long_says_that_it_cannot_tell(
    double: IonqDouble, adapter: IonqAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ionq, "_MAX_PAGES", 3)
    double.page_size = 10
    for number in range(100):
        stored(double, f"young-{number}", age_seconds=number)
    answer = look(adapter, "wanted")
    assert isinstance(answer, CannotTell)
    assert "3 pages" in answer.reason
    assert isinstance(look(adapter, "young-5"), CannotTell)
    stored(double, "wanted", name="wanted", age_seconds=15)
    assert isinstance(look(adapter, "wanted"), Found)


def test_a_list_may_lag(double: IonqDouble, adapter: IonqAdapter) -> None:
    double.list_lag_seconds = 3600.0
    submitted(adapter, token="wanted")
    assert isinstance(look(adapter, "wanted"), Absent)
    double.list_lag_seconds = 0.0
    assert isinstance(look(adapter, "wanted"), Found)


# ---- poll ----


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("submitted", ProviderStatus.QUEUED),
        ("ready", ProviderStatus.QUEUED),
        ("started", ProviderStatus.RUNNING),
        ("running", ProviderStatus.RUNNING),
        ("completed", ProviderStatus.COMPLETED),
        ("failed", ProviderStatus.FAILED),
        ("canceled", ProviderStatus.CANCELLED),
        ("deleted", ProviderStatus.UNKNOWN),
        ("Completed", ProviderStatus.UNKNOWN),
        ("", ProviderStatus.UNKNOWN),
    ],
)
def test_each_status_word(double: IonqDouble, adapter: IonqAdapter, word: str, status: ProviderStatus) -> None:
    stored(double, "job", word=word)
    stored(double, "other", word=word)
    handles = [JobHandle(provider_job_id=name, device_id=QPU) for name in ("job", "other")]
    for seen in (adapter.poll(handles[0]), *adapter.poll_many(handles)):
        assert seen.status == status
        assert seen.eta_seconds == (2 if status is ProviderStatus.QUEUED else None)
        assert (seen.message is not None) == (status is ProviderStatus.UNKNOWN)
        assert word in (seen.message or word)


def test_a_failure_says_why_in_the_vendors_words(double: IonqDouble, adapter: IonqAdapter) -> None:
    double.fails_with = f"the trap is empty\n{KEY}"
    handle = submitted(adapter)
    seen = ended(adapter, handle)
    assert (seen.status, seen.message) == (ProviderStatus.FAILED, "QuantumComputerError: the trap is empty ***")
    receipt = adapter.get_job_receipt(handle)
    assert (receipt.status, receipt.results) == (ProviderStatus.FAILED, None)
    assert facts_of(receipt)["message"] == seen.message
    assert "counts_source" not in facts_of(receipt)


def test_a_program_ionq_refuses_fails_with_its_reason(adapter: IonqAdapter) -> None:
    seen = ended(adapter, submitted(adapter, program="not a program"))
    assert (seen.status, seen.message) == (ProviderStatus.FAILED, "InvalidInput: this is not OpenQASM 3")


def test_a_hundred_jobs_are_one_request_and_come_in_order(double: IonqDouble, adapter: IonqAdapter) -> None:
    for number in range(250):
        stored(double, f"job-{number}", word="started" if number % 3 else "completed")
    handles = [JobHandle(provider_job_id=f"job-{number}", device_id=QPU) for number in range(250)]
    handles[7] = JobHandle(provider_job_id="unknown", device_id=QPU)
    seen = adapter.poll_many(handles)
    assert [one.status for one in seen[:9]] == ["COMPLETED", "RUNNING", "RUNNING"] * 2 + [
        "COMPLETED",
        "UNKNOWN",
        "RUNNING",
    ]
    assert seen[249].status == "COMPLETED"
    assert double.asked_for("GET /v0.4/jobs") == 3
    assert adapter.limits().max_poll_batch == 100


def test_a_batch_may_come_in_pages(double: IonqDouble, adapter: IonqAdapter) -> None:
    double.page_size = 25
    for number in range(100):
        stored(double, f"job-{number}", age_seconds=number)
    handles = [JobHandle(provider_job_id=f"job-{number}", device_id=QPU) for number in range(100)]
    assert {one.status for one in adapter.poll_many(handles)} == {"COMPLETED"}
    assert double.asked_for("GET /v0.4/jobs") == 4
    assert adapter.poll_many([]) == []


def test_a_batch_of_one_is_one_question_about_one(double: IonqDouble, adapter: IonqAdapter) -> None:
    stored(double, "job")
    assert adapter.poll_many([JobHandle(provider_job_id="job", device_id=QPU)])[0].status == "COMPLETED"
    assert double.asked_for("GET /v0.4/jobs/job") == 1


def test_a_batch_that_is_refused_is_asked_one_by_one(double: IonqDouble, adapter: IonqAdapter) -> None:
    stored(double, "job")
    double.fault("GET /v0.4/jobs$", FaultKind.STATUS, status=400)
    handles = [JobHandle(provider_job_id=name, device_id=QPU) for name in ("not-a-uuid", "job")]
    assert [one.status for one in adapter.poll_many(handles)] == ["UNKNOWN", "COMPLETED"]


def test_jobs_of_other_kinds_do_not_hide_ours(double: IonqDouble, adapter: IonqAdapter) -> None:
    """The account may be used by other programs: their jobs are in the same lists."""
    ours = {"id": "ours", "status": "ready", "submitted_at": "2026-06-11T20:47:05.440Z", "predicted_wait_time_ms": None}
    strange: dict[str, Any] = {
        "id": "x",
        "status": "ready",
        "metadata": [1],
        "results": [{}],
        "stats": 7,
        "failure": "no",
        "name": None,
    }
    page = json.dumps({"jobs": [strange, ours], "next": None}).encode()
    double.fault("GET /v0.4/jobs$", FaultKind.STATUS, status=200, body=page)
    handles = [JobHandle(provider_job_id=name, device_id=QPU) for name in ("x", "ours")]
    assert [one.status for one in adapter.poll_many(handles)] == ["QUEUED", "QUEUED"]


@pytest.mark.parametrize("body", [b"[]", b'{"jobs": 3}', b'{"jobs": [{"id": 3}]}'])
def test_a_list_that_is_not_understood_is_a_bad_reply(double: IonqDouble, adapter: IonqAdapter, body: bytes) -> None:
    double.fault("GET /v0.4/jobs$", FaultKind.STATUS, status=200, body=body, times=2)
    handle = JobHandle(provider_job_id="x", device_id=QPU)
    with pytest.raises(BadReply):
        adapter.poll_many([handle, handle])
    with pytest.raises(BadReply):
        look(adapter, "x")


# ---- cancel ----


def test_a_cancel_that_is_refused_while_the_job_goes_on_is_an_error(double: IonqDouble, adapter: IonqAdapter) -> None:
    with double.hold():
        handle = submitted(adapter)
        double.fault("cancel", FaultKind.STATUS, status=409)
        with pytest.raises(Refused):
            adapter.cancel(handle)
        adapter.cancel(handle)
    assert ended(adapter, handle).status == ProviderStatus.CANCELLED
    adapter.cancel(handle)
    receipt = adapter.get_job_receipt(handle)
    assert (receipt.status, receipt.results) == (ProviderStatus.CANCELLED, None)


# ---- settings and process ----


def test_the_key_is_sent_over_https_only() -> None:
    with pytest.raises(ValidationError, match="https"):
        IonqConfig(api_key=Secret("ionq", KEY), url="http://api.ionq.co/v0.4")
    assert IonqConfig(api_key=Secret("ionq", KEY)).url == "https://api.ionq.co/v0.4"


def test_a_missing_key_says_which_variable_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QCOMPUTE_SECRET_IONQ", raising=False)
    with pytest.raises(ConfigError, match="QCOMPUTE_SECRET_IONQ"):
        open_adapter("ionq")
    with pytest.raises(ValidationError):
        IonqAdapter()


def test_the_key_is_taken_by_name(monkeypatch: pytest.MonkeyPatch, double: IonqDouble) -> None:
    monkeypatch.setenv("QCOMPUTE_SECRET_IONQ_TEAM", KEY)
    adapter = open_adapter("ionq", {"api_key": "ionq_team", "url": double.base, "max_running_jobs": 3})
    assert adapter.limits().max_running_jobs == 3
    assert isinstance(look(cast("IonqAdapter", adapter), "never"), Absent)
    adapter.close()


def test_the_daemons_process_needs_no_qiskit(double: IonqDouble) -> None:
    script = (
        "import sys\nfrom qcompute.miner.providers.registry import open_adapter\n"
        f"adapter = open_adapter('ionq', {{'url': {double.base!r}}})\n"
        "assert adapter.list_devices() and adapter.list_capabilities() and adapter.get_availability()\n"
        "adapter.close()\nprint(*sorted({'qiskit', 'qiskit_aer', 'numpy', 'openqasm3'} & sys.modules.keys()))\n"
    )
    done = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-c", script],
        env={"QCOMPUTE_SECRET_IONQ": KEY, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout.strip(), done.returncode) == ("", 0), done.stderr


def test_every_request_carries_the_key_and_no_client_repeats_a_post(double: IonqDouble, adapter: IonqAdapter) -> None:
    """Behind a gateway that loses every answer, one submit stays one request."""
    double.fault("POST", FaultKind.STATUS_AFTER, status=502, times=5)
    with pytest.raises(VendorError) as raised:
        submitted(adapter)
    assert isinstance(raised.value, SubmitUnknown)
    assert (double.asked_for("POST"), double.created) == (1, 1)
    assert not re.search(KEY, repr(raised.value))
