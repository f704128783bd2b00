"""The Braket adapter against a double whose programs run on Amazon's own simulator."""

# boto3 ships no types
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError

from qcompute.circuits.measurement import MeasurementMap, Register
from qcompute.circuits.program import JobOptions
from qcompute.circuits.target import Dialect
from qcompute.errors import (
    AuthFailed,
    BadReply,
    CannotRun,
    QuotaSpent,
    Refused,
    SubmitUnknown,
    Unavailable,
    VendorError,
)
from qcompute.local.service import FaultKind
from qcompute.miner.providers import braket
from qcompute.miner.providers.base import (
    NOT_APPLICABLE,
    Absent,
    Capability,
    Found,
    JobHandle,
    JobReceipt,
    ProviderAdapter,
    ProviderStatus,
    Verb,
)
from qcompute.miner.providers.braket import MAP_TAG, TOKEN_TAG, BraketAdapter, BraketConfig
from qcompute.testing.provider_contract import ASYMMETRIC, SHOTS, ProviderContract
from qcompute.testing.vendor_faults import FAULTS, VendorFault
from qcompute.units import IdempotencyToken
from qcompute.vendor.braket import aws
from qcompute.vendor.http import Timeouts
from qcompute.vendor.prices import Prices
from tests.doubles.braket import (
    ACCOUNT,
    AQUILA,
    ARIA,
    BUCKET,
    FORTE,
    GARNET,
    IBEX,
    KIT,
    SV1,
    BraketDouble,
    devices,
    worker,
)
from tests.doubles.vendor import VendorJob

Open = Callable[..., BraketAdapter]

BIT: MeasurementMap = MeasurementMap(registers=(Register(name="c0", size=1),), measured=((0, 0),))
UP = "OPENQASM 3.0;\nqubit[1] q;\nbit[1] b;\nx q[0];\nb[0] = measure q[0];\n"
LONG_AGO = datetime.now(UTC) - timedelta(hours=1)


@pytest.fixture
def double() -> Generator[BraketDouble]:
    with BraketDouble() as running:
        yield running


@pytest.fixture
def opened(double: BraketDouble, monkeypatch: pytest.MonkeyPatch) -> Generator[Open]:
    """Opens adapters on the double, with settings of its own."""
    adapters: list[BraketAdapter] = []
    for name, value in KIT.variables(double).items():
        monkeypatch.setenv(name, value)

    def open_one(**more: Any) -> BraketAdapter:
        adapters.append(BraketAdapter(BraketConfig.model_validate(KIT.table(double) | {"devices": [FORTE]} | more)))
        return adapters[-1]

    yield open_one
    for adapter in adapters:
        adapter.close()


@pytest.fixture
def adapter(opened: Open) -> BraketAdapter:
    return opened()


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


class TestBraket(ProviderContract):
    secrets: ClassVar[tuple[str, ...]] = tuple(KIT.secrets.values())
    calls: ClassVar[Mapping[Verb, str]] = KIT.calls

    @pytest.fixture
    def vendor(self, double: BraketDouble) -> BraketDouble:
        return double

    @pytest.fixture
    def adapter(self, opened: Open) -> ProviderAdapter:
        return opened(devices=[])


# ---- what is said of a job ----


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("CREATED", "QUEUED"),
        ("QUEUED", "QUEUED"),
        ("RUNNING", "RUNNING"),
        ("CANCELLING", "RUNNING"),
        ("COMPLETED", "COMPLETED"),
        ("FAILED", "FAILED"),
        ("CANCELLED", "CANCELLED"),
    ],
)
def test_each_word_of_braket_has_its_status(
    adapter: BraketAdapter, double: BraketDouble, word: str, status: str
) -> None:
    handle = submitted(adapter)
    ended(adapter, handle)
    double.jobs[handle.provider_job_id].word = word
    assert [adapter.poll(handle).status, adapter.poll_many([handle])[0].status] == [status, status]


def test_a_word_nobody_knows_is_unknown_and_kept(adapter: BraketAdapter, double: BraketDouble) -> None:
    handle = submitted(adapter)
    ended(adapter, handle)
    double.jobs[handle.provider_job_id].word = "POSTPONED"
    for status in (adapter.poll(handle), *adapter.poll_many([handle])):
        assert (status.status, status.message) == ("UNKNOWN", "POSTPONED")
    assert adapter.get_job_receipt(handle).results is None


def test_why_a_task_failed_is_told_and_costs_nothing(adapter: BraketAdapter) -> None:
    """A refused program is a failed task with the reason in ``failureReason``, which lists do not show."""
    handle = adapter.submit(payload("OPENQASM 3.0;\nqubit[1] q;\nnonsense q[0];\n"), FORTE, 10)
    receipt = ended(adapter, handle)
    (status,) = adapter.poll_many([handle])
    assert "nonsense" in (status.message or "")
    assert (receipt.status, receipt.cost, receipt.results) == ("FAILED", 0.0, None)
    assert receipt.metadata is not None
    assert "nonsense" in receipt.metadata["message"]


def test_a_cancelled_task_costs_nothing(adapter: BraketAdapter, double: BraketDouble) -> None:
    with double.hold():
        handle = submitted(adapter)
        adapter.cancel(handle)
    receipt = adapter.get_job_receipt(handle)
    assert (receipt.status, receipt.cost) == ("CANCELLED", 0.0)
    assert receipt.metadata is not None
    assert receipt.metadata["cost_kind"] == "our_estimate"


@pytest.mark.parametrize(("text", "number"), [("3", 3), (">2000", 2000), ("None", None), ("", None), ("soon", None)])
def test_a_place_in_the_queue_is_a_text(
    adapter: BraketAdapter, double: BraketDouble, text: str, number: int | None
) -> None:
    double.position = text
    with double.hold():
        handle = submitted(adapter)
        assert adapter.poll(handle).queue_position == number


def test_ten_tasks_are_asked_for_at_once(adapter: BraketAdapter, double: BraketDouble) -> None:
    with double.hold():
        handles = [submitted(adapter, f"token-{number}") for number in range(25)]
        before = double.asked_for("POST /quantum-tasks"), double.asked_for("GET /quantum-task/")
        statuses = adapter.poll_many([*handles, handles[0]])
        after = double.asked_for("POST /quantum-tasks"), double.asked_for("GET /quantum-task/")
    assert {status.status for status in statuses} == {"QUEUED"}
    assert len(statuses) == 26
    assert (after[0] - before[0], after[1] - before[1]) == (3, 0)


def test_a_list_that_lags_does_not_hide_a_task(adapter: BraketAdapter, double: BraketDouble) -> None:
    double.list_lag_seconds = 3600
    with double.hold():
        handle = submitted(adapter)
        assert adapter.poll_many([handle])[0].status == "QUEUED"


def test_a_task_of_a_region_no_longer_configured_is_still_asked_for(opened: Open) -> None:
    handle = submitted(opened(devices=[GARNET]), device=GARNET)
    assert ended(opened(regions=["us-east-1"]), handle).status == "COMPLETED"
    assert opened(regions=["us-east-1"]).poll_many([handle])[0].status == "COMPLETED"


def test_an_unknown_task_has_no_receipt(adapter: BraketAdapter) -> None:
    arn = f"arn:aws:braket:us-east-1:{ACCOUNT}:quantum-task/0000"
    for name in (arn, "never-existed"):
        stranger = JobHandle(provider_job_id=name, device_id=FORTE)
        assert adapter.poll_many([stranger])[0].status == "UNKNOWN"
        adapter.cancel(stranger)
        with pytest.raises(BadReply):
            adapter.get_job_receipt(stranger)


# ---- submitting once ----


def test_a_task_carries_its_token_twice_and_how_it_is_read(adapter: BraketAdapter, double: BraketDouble) -> None:
    handle = submitted(adapter)
    (body,) = double.bodies
    assert body["clientToken"] == "token-1"
    assert body["tags"] == {TOKEN_TAG: "token-1", MAP_TAG: "c0:1=0:0:1"}
    assert json.loads(body["action"]) == {
        "braketSchemaHeader": {"name": "braket.ir.openqasm.program", "version": "1"},
        "source": UP,
        "inputs": {},
    }
    assert (body["outputS3Bucket"], body["outputS3KeyPrefix"], body["shots"]) == (BUCKET, "qcompute", 10)
    assert handle.measurement == BIT


def test_plain_openqasm_runs_too(adapter: BraketAdapter, double: BraketDouble) -> None:
    handle = adapter.submit(UP)
    assert double.jobs[handle.provider_job_id].shots == 1000
    receipt = ended(adapter, handle.model_copy(update={"measurement": BIT}))
    assert receipt.results == {"measurementCounts": {"1": 1000}}
    with pytest.raises(BadReply, match="measured"):
        adapter.get_job_receipt(handle)


@pytest.mark.parametrize("status", [500, 502, 503, 429, 408])
def test_botocore_retries_nothing(adapter: BraketAdapter, double: BraketDouble, status: int) -> None:
    """The lever is ``total_max_attempts``: without it botocore posts a task up to three times."""
    adapter.list_devices()
    double.fault("POST /quantum-task$", FaultKind.STATUS, status=status, times=None)
    with pytest.raises(VendorError):
        submitted(adapter)
    assert double.asked_for("POST /quantum-task") == 1
    double.fault("GET /quantum-task/", FaultKind.STATUS, status=status, times=None)
    with pytest.raises(Unavailable):
        adapter.poll(JobHandle(provider_job_id=f"arn:aws:braket:us-east-1:{ACCOUNT}:quantum-task/0", device_id=FORTE))
    assert double.asked_for("GET /quantum-task/") == 1


def test_a_token_used_with_other_parameters_is_looked_for(adapter: BraketAdapter, double: BraketDouble) -> None:
    """Something was submitted under it: refusing the job would leave a task that is paid for nobody."""
    first = submitted(adapter)
    with pytest.raises(SubmitUnknown):
        submitted(adapter, shots=11)
    answer = adapter.find(IdempotencyToken("token-1"), LONG_AGO)
    assert isinstance(answer, Found)
    assert [handle.provider_job_id for handle in answer.handles] == [first.provider_job_id]
    assert double.created == 1


def test_a_submit_answered_without_a_name_is_unknown(adapter: BraketAdapter, double: BraketDouble) -> None:
    for body in (b'{"quantumTaskArn": "?"}', b"[]", b'{"quantumTaskArn": 7}', b"null", b'"task"'):
        double.fault("POST /quantum-task$", FaultKind.STATUS, status=201, body=body)
        with pytest.raises(SubmitUnknown):
            submitted(adapter)


def test_a_vendor_that_is_not_there_was_not_paid(adapter: BraketAdapter, double: BraketDouble) -> None:
    adapter.list_devices()
    double.call(double.stop())
    with pytest.raises(Unavailable, match="cannot be reached"):
        submitted(adapter)


@pytest.mark.parametrize(("status", "error"), [("OFFLINE", Unavailable), ("RETIRED", Refused)])
def test_a_device_that_went_away(
    adapter: BraketAdapter, double: BraketDouble, status: str, error: type[VendorError]
) -> None:
    adapter.list_devices()
    double.status[FORTE] = status
    with pytest.raises(error):
        submitted(adapter)
    assert double.created == 0


def test_a_region_is_part_of_the_buckets_name_if_wanted(opened: Open, double: BraketDouble) -> None:
    adapter = opened(bucket="amazon-braket-{region}-1", devices=[GARNET])
    assert ended(adapter, submitted(adapter, device=GARNET)).status == "COMPLETED"
    assert double.bodies[0]["outputS3Bucket"] == "amazon-braket-eu-north-1-1"


# ---- finding ----


def test_a_task_is_found_in_any_region_and_page_with_how_it_is_read(opened: Open, double: BraketDouble) -> None:
    adapter = opened(devices=[])
    double.page_size = 2
    for number in range(5):
        submitted(adapter, f"other-{number}")
    wanted = submitted(adapter, "wanted", device=GARNET)
    for number in range(5):
        submitted(adapter, f"more-{number}", device=GARNET)
    assert adapter.find(IdempotencyToken("wanted"), LONG_AGO) == Found(handles=[wanted])


def test_of_two_tasks_the_older_comes_first(adapter: BraketAdapter, double: BraketDouble) -> None:
    older, newer = submitted(adapter, "one"), submitted(adapter, "two")
    double.jobs[newer.provider_job_id].request["tags"][TOKEN_TAG] = "one"
    answer = adapter.find(IdempotencyToken("one"), LONG_AGO)
    assert isinstance(answer, Found)
    assert [handle.provider_job_id for handle in answer.handles] == [older.provider_job_id, newer.provider_job_id]
    double.jobs[older.provider_job_id].created -= 7200
    answer = adapter.find(IdempotencyToken("one"), LONG_AGO)
    assert isinstance(answer, Found)
    assert [handle.provider_job_id for handle in answer.handles] == [newer.provider_job_id]


def test_tasks_of_others_are_no_hindrance(adapter: BraketAdapter, double: BraketDouble) -> None:
    """An account may be used by hand as well: such tasks have other tags, or none."""
    double.jobs["x"] = VendorJob(
        f"arn:aws:braket:us-east-1:{ACCOUNT}:quantum-task/x",
        FORTE,
        10,
        {"outputS3Bucket": BUCKET, "outputS3KeyPrefix": "p"},
        "COMPLETED",
    )
    assert isinstance(adapter.find(IdempotencyToken("token-1"), LONG_AGO), Absent)


def test_a_list_without_an_end_is_not_read_for_ever(
    adapter: BraketAdapter, double: BraketDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aws, "MAX_PAGES", 3)
    double.fault(
        "POST /quantum-tasks$",
        FaultKind.STATUS,
        status=200,
        body=b'{"quantumTasks": [], "nextToken": "again"}',
        times=None,
    )
    with pytest.raises(BadReply, match="pages"):
        adapter.find(IdempotencyToken("token-1"), LONG_AGO)
    assert double.asked_for("POST /quantum-tasks") == 3


# ---- results ----


def stored(adapter: BraketAdapter, double: BraketDouble, measurement: MeasurementMap, result: Any) -> JobHandle:
    """A completed task of ten shots with this result in S3."""
    handle = submitted(adapter)
    ended(adapter, handle)
    job = double.jobs[handle.provider_job_id]
    text = result if isinstance(result, str) else json.dumps(result)
    worker().ask({"do": "put", "bucket": BUCKET, "key": f"{double.folder(job)}/results.json", "text": text})
    return handle.model_copy(update={"measurement": measurement})


THREE = MeasurementMap(registers=(Register(name="c0", size=1), Register(name="c1", size=2)), measured=((0, 2), (2, 0)))
"""Bit 0 from qubit 2, bit 2 from qubit 0; bit 1 is never written."""


@pytest.mark.parametrize(
    ("result", "counts"),
    [
        ({"measuredQubits": [2, 0], "measurements": [[1, 0]] * 10}, {"001": 10}),
        ({"measuredQubits": [2, 0], "measurements": [["0", "1"]] * 10}, {"100": 10}),
        ({"measuredQubits": [0, 2], "measurements": [[1, 0]] * 10}, {"100": 10}),
        ({"measuredQubits": [0, 1, 2], "measurements": [[0, 1, 1]] * 10}, {"001": 10}),
    ],
    ids=["as written", "characters", "other columns", "all qubits"],
)
def test_columns_are_read_by_their_qubits(
    adapter: BraketAdapter, double: BraketDouble, result: Any, counts: dict[str, int]
) -> None:
    receipt = adapter.get_job_receipt(stored(adapter, double, THREE, result))
    assert receipt.results == {"measurementCounts": counts}
    assert receipt.metadata is not None
    assert receipt.metadata["counts_source"] == "measured"


def test_probabilities_become_shots_and_say_so(adapter: BraketAdapter, double: BraketDouble) -> None:
    """IonQ gives probabilities; characters are qubits in the order of ``measuredQubits``."""
    result = {"measuredQubits": [2, 0], "measurementProbabilities": {"10": 0.66, "01": 0.34}, "measurements": None}
    receipt = adapter.get_job_receipt(stored(adapter, double, THREE, result))
    assert receipt.results == {"measurementCounts": {"001": 7, "100": 3}}
    assert receipt.metadata is not None
    assert receipt.metadata["counts_source"] == "sampled"


@pytest.mark.parametrize(
    ("result", "match"),
    [
        ("<html>", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ({"measurements": [[1]]}, "measuredQubits"),
        ({"measuredQubits": [0, 1], "measurements": [[1, 1]]}, "qubit 2"),
        ({"measuredQubits": [2, 0], "measurements": [[1]]}, "1 bits"),
        ({"measuredQubits": [2, 0], "measurements": [[1, 2]]}, "neither 0 nor 1"),
        ({"measuredQubits": [2, 0]}, "neither measurements"),
        ({"measuredQubits": [2, 0], "measurementProbabilities": {"10": 0.5}}, "add up"),
        ({"measuredQubits": [2, 0], "measurementProbabilities": {"1": 1.0}}, "1 bits"),
        ({"measuredQubits": "all"}, "measuredQubits"),
    ],
)
def test_a_result_that_cannot_be_right_is_not_taken(
    adapter: BraketAdapter, double: BraketDouble, result: Any, match: str
) -> None:
    handle = stored(adapter, double, THREE, result)
    with pytest.raises(BadReply, match=match):
        adapter.get_job_receipt(handle)


def test_a_result_without_a_map_is_read_by_the_tag(adapter: BraketAdapter) -> None:
    handle = submitted(adapter)
    bare = JobHandle(provider_job_id=handle.provider_job_id, device_id=FORTE)
    assert ended(adapter, bare).results == {"measurementCounts": {"1": 10}}


def test_fewer_good_shots_than_asked_for_is_said(adapter: BraketAdapter, double: BraketDouble) -> None:
    double.successful_shots = 9
    receipt = adapter.get_job_receipt(stored(adapter, double, BIT, {"measuredQubits": [0], "measurements": [[1]] * 9}))
    assert receipt.results == {"measurementCounts": {"1": 9}}
    assert receipt.metadata is not None
    assert (receipt.metadata["partial"], receipt.metadata["successful_shots"]) == (True, 9)
    assert receipt.shots == 10


def test_a_result_that_is_not_there_is_a_bad_reply(adapter: BraketAdapter, double: BraketDouble) -> None:
    handle = submitted(adapter)
    ended(adapter, handle)
    double.jobs[handle.provider_job_id].request["outputS3KeyPrefix"] = "elsewhere"
    with pytest.raises(BadReply, match="NoSuchKey"):
        adapter.get_job_receipt(handle)


def test_a_bucket_that_is_closed_to_us_is_told_to_the_operator(adapter: BraketAdapter, double: BraketDouble) -> None:
    handle = submitted(adapter)
    ended(adapter, handle)
    body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
    double.fault("GET /s3/", FaultKind.STATUS, status=403, body=body, content_type="application/xml")
    with pytest.raises(AuthFailed, match="AccessDenied"):
        adapter.get_job_receipt(handle)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_bucket_may_fail_in_every_way(adapter: BraketAdapter, double: BraketDouble, fault: VendorFault) -> None:
    """The task is not lost by it: the next look gets the result."""
    handle = submitted(adapter)
    receipt = ended(adapter, handle)
    double.faults.append(fault.ordered("GET /s3/"))
    with pytest.raises(VendorError) as raised:
        adapter.get_job_receipt(handle)
    assert not isinstance(raised.value, SubmitUnknown | Refused)
    assert adapter.get_job_receipt(handle) == receipt


def test_half_a_result_is_not_taken_for_a_result(adapter: BraketAdapter, double: BraketDouble) -> None:
    """What came is handed out by botocore, which complains only when asked for more."""
    handle = submitted(adapter)
    ended(adapter, handle)
    double.fault("GET /s3/", FaultKind.TRUNCATE)
    with pytest.raises(Unavailable, match="in part only"):
        adapter.get_job_receipt(handle)


def test_a_result_that_never_ends_is_given_up(
    adapter: BraketAdapter, double: BraketDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = submitted(adapter)
    ended(adapter, handle)
    monkeypatch.setattr(adapter._aws, "_timeouts", Timeouts(body_seconds=-1.0))
    with pytest.raises(Unavailable, match="its end"):
        adapter.get_job_receipt(handle)
    assert double.created == 1


def test_a_result_of_any_size_is_not_read(
    adapter: BraketAdapter, double: BraketDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = submitted(adapter)
    ended(adapter, handle)
    monkeypatch.setattr(aws, "MAX_REPLY_BYTES", 100)
    with pytest.raises(BadReply, match="too large"):
        adapter.get_job_receipt(handle)
    assert double.created == 1


def test_a_task_we_do_not_understand_is_a_bad_reply(adapter: BraketAdapter, double: BraketDouble) -> None:
    handle = submitted(adapter)
    double.fault("GET /quantum-task/", FaultKind.STATUS, status=200, body=b'{"status": "COMPLETED"}')
    with pytest.raises(BadReply, match="quantumTaskArn"):
        adapter.poll(handle)


@pytest.mark.parametrize("body", [b"[]", b'{"createdAt": "yesterday"}', b'{"tags": 7}', b"null"])
def test_an_answer_botocore_cannot_read_is_an_error_of_ours(
    adapter: BraketAdapter, double: BraketDouble, body: bytes
) -> None:
    handle = submitted(adapter)
    double.fault("GET /quantum-task/", FaultKind.STATUS, status=200, body=body)
    with pytest.raises(VendorError):
        adapter.poll(handle)


@pytest.mark.parametrize(
    "measurement",
    [
        BIT,
        THREE,
        MeasurementMap(
            registers=tuple(Register(name=f"c{n}", size=3) for n in range(4)),
            measured=tuple((bit, bit + 5) for bit in range(12)),
        ),
    ],
)
def test_a_map_fits_into_a_tag_and_comes_back(measurement: MeasurementMap) -> None:
    tag = braket.map_to_tag(measurement)
    assert tag is not None
    assert braket.map_of_tag(tag) == measurement
    assert set(tag) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.:/=+-@ ")


def test_a_map_that_is_too_long_for_a_tag_is_left_out(adapter: BraketAdapter, double: BraketDouble) -> None:
    scattered = MeasurementMap(
        registers=(Register(name="c0", size=64),), measured=tuple((bit, 2 * bit) for bit in range(64))
    )
    odd = MeasurementMap(registers=(Register(name="a b", size=1),), measured=((0, 0),))
    for measurement in (scattered, odd):
        adapter.submit(payload(UP, measurement), FORTE, 10)
        assert MAP_TAG not in double.bodies[-1]["tags"]


@pytest.mark.parametrize(
    "tag", ["", "c0:1", "c0:1=", "=0:0:1", "c0:1=0:0", "c:x=0:0:1", "c0:1=0:0:1=", "c0:1=0:0:9999999"]
)
def test_another_tag_is_no_map(tag: str) -> None:
    assert braket.map_of_tag(tag) is None


# ---- devices ----


@pytest.mark.parametrize("arn", [arn for arn, device in devices().items() if device["schema"]])
def test_the_doubles_devices_are_such_as_amazons_own_schema_reads(arn: str) -> None:
    device = devices()[arn]
    text = json.dumps(device["capabilities"])
    assert worker().ask({"do": "check", "schema": device["schema"], "text": text}) is None


def test_gate_model_devices_are_offered_and_nothing_else(opened: Open) -> None:
    assert [device.device_id for device in opened(devices=[]).list_devices()] == [IBEX, GARNET, FORTE]
    every = opened(devices=[], include_simulators=True).list_devices()
    assert (every[0].device_id, every[0].device_type) == (SV1, "SIMULATOR")
    assert opened(devices=[], regions=["us-east-1"]).list_devices() == opened().list_devices()
    assert opened(devices=[AQUILA, ARIA, SV1]).list_devices() == []
    assert opened(devices=[SV1]).get_capability() is None


def test_devices_are_listed_page_by_page_and_described_once(opened: Open, double: BraketDouble) -> None:
    double.page_size = 1
    adapter = opened(devices=[])
    for _ in range(3):
        assert len(adapter.list_devices()) == len(adapter.list_capabilities()) == 3
    assert double.asked_for("GET /device/") == 4  # one takes no OpenQASM


def known(adapter: BraketAdapter, arn: str) -> Capability:
    capability = adapter.get_capability(arn)
    assert capability is not None
    return capability


def test_capabilities_of_each_kind_of_device(opened: Open) -> None:
    adapter = opened(devices=[], include_simulators=True)
    garnet, forte, ibex, sv1 = (known(adapter, arn) for arn in (GARNET, FORTE, IBEX, SV1))
    assert garnet.num_qubits == 20
    assert garnet.basis_gates is not None
    assert "cnot" in garnet.basis_gates
    assert garnet.extras == {
        "native_gates": ["cz", "prx"],
        "coupling_map": [(1, 2), (2, 1), (2, 3), (3, 2)],
        "min_shots": 1,
        "max_shots": 20_000,
        "calibrated_at": "2026-01-02T03:04:05+00:00",
        "can_measure_mid_circuit": False,
        "can_branch": False,
        "t1_seconds": {1: pytest.approx(42e-6), 2: pytest.approx(40e-6)},
        "t2_seconds": {1: pytest.approx(21e-6), 2: pytest.approx(20e-6)},
        "one_qubit_error": 0.002,
        "readout_error": 0.04,
        "two_qubit_error": 0.01,
    }
    assert forte.extras is not None
    assert [forte.extras[name] for name in ("t1_seconds", "one_qubit_error", "two_qubit_error", "readout_error")] == [
        None, 0.0002, 0.005, 0.006,
    ]  # fmt: skip
    assert forte.extras["coupling_map"] == NOT_APPLICABLE
    assert ibex.extras is not None
    assert [ibex.extras[name] for name in ("t1_seconds", "t2_seconds", "readout_error")] == [1.14, 0.443, 0.003]
    assert sv1.extras is not None
    assert {sv1.extras[name] for name in ("native_gates", "t1_seconds", "readout_error")} == {NOT_APPLICABLE}
    assert adapter.get_capability("no-such-device") is None


def test_a_device_that_says_little_is_offered(opened: Open, double: BraketDouble) -> None:
    document = double.documents[FORTE]["capabilities"]
    double.documents[FORTE]["capabilities"] = {
        "service": {"shotsRange": [1, 10]},
        "paradigm": {"qubitCount": 2},
        "action": {"braket.ir.openqasm.program": {"supportedOperations": ["h"]}},
        "provider": {"fidelity": "good"},
        "standardized": {"oneQubitProperties": {"0": {"T1": {"value": 1, "unit": "days"}}}},
    }
    assert document["paradigm"]["qubitCount"] == 36
    adapter = opened()
    capability = known(adapter, FORTE)
    assert capability.extras is not None
    assert capability.extras["t1_seconds"] == {0: None}
    assert {capability.extras[n] for n in ("one_qubit_error", "calibrated_at", "native_gates")} == {None}
    assert adapter.get_pricing(FORTE) is None
    availability = adapter.get_availability(FORTE)
    assert availability is not None
    assert availability.is_available


@pytest.mark.parametrize("document", ["<html>", "[]", "7", {"action": {"braket.ir.openqasm.program": {}}}])
def test_a_device_that_cannot_be_read_does_not_hide_the_others(
    opened: Open, double: BraketDouble, document: Any, caplog: pytest.LogCaptureFixture
) -> None:
    double.documents[FORTE]["capabilities"] = document
    assert [device.device_id for device in opened(devices=[]).list_devices()] == [IBEX, GARNET]
    assert FORTE in caplog.text


def test_old_descriptions_are_used_while_there_are_no_new_ones(
    adapter: BraketAdapter, double: BraketDouble, caplog: pytest.LogCaptureFixture
) -> None:
    before = adapter.list_devices()
    adapter._catalog._fresh_until = 0.0
    double.fault("POST /devices", FaultKind.STATUS, status=503, times=None)
    assert adapter.list_devices() == before
    assert "not described anew" in caplog.text
    asked = double.asked_for("POST /devices")
    adapter.list_devices()
    assert double.asked_for("POST /devices") == asked


def test_without_any_description_the_failure_is_told(adapter: BraketAdapter, double: BraketDouble) -> None:
    double.fault("POST /devices", FaultKind.STATUS, status=503)
    with pytest.raises(Unavailable):
        adapter.list_devices()
    assert adapter.list_devices()


@pytest.mark.parametrize(
    ("sizes", "waiting"), [(("2", "1"), 3), ((">4000", "0"), 4000), (("many", "none"), None), (("0", "0"), 0)]
)
def test_queue_sizes_are_texts(
    adapter: BraketAdapter, double: BraketDouble, sizes: tuple[str, str], waiting: int | None
) -> None:
    double.queue_sizes = sizes
    availability = adapter.get_availability(FORTE)
    assert availability is not None
    assert availability.pending_jobs == waiting


@pytest.mark.parametrize(("status", "word"), [("ONLINE", "ONLINE"), ("OFFLINE", "OFFLINE"), ("RETIRED", "OFFLINE")])
def test_availability_follows_the_devices_status(
    adapter: BraketAdapter, double: BraketDouble, status: str, word: str
) -> None:
    adapter.list_devices()
    double.status[FORTE] = status
    availability = adapter.get_availability()
    assert availability is not None
    assert availability.availability == word
    assert (availability.is_available, availability.next_available) == (word == "ONLINE", None)
    assert adapter.get_availability("no-such-device") is None


def test_outside_its_windows_a_device_says_when_it_is_back(opened: Open, double: BraketDouble) -> None:
    start = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=2)
    end = start + timedelta(hours=1)
    double.documents[FORTE]["capabilities"]["service"]["executionWindows"] = [
        {"executionDay": "Everyday", "windowStartHour": f"{start:%H:%M:%S}", "windowEndHour": f"{end:%H:%M:%S}"}
    ]
    availability = opened().get_availability(FORTE)
    assert availability is not None
    assert (availability.availability, availability.is_available) == ("OFFLINE", False)
    assert availability.next_available == start.isoformat()
    assert "execution windows" in (availability.status_msg or "")


def test_what_a_circuit_is_compiled_to(adapter: BraketAdapter) -> None:
    (device,) = adapter.list_devices()
    target = adapter.target(device, JobOptions())
    assert target is not None
    assert (target.dialect, target.num_qubits, target.coupling_map) == (Dialect.BRAKET, 36, None)
    assert target.basis_gates == (
        *("cx", "h", "rx", "rxx", "ry", "ryy", "rz", "rzz", "s", "sdg", "swap", "sx", "sxdg"),
        *("t", "tdg", "x", "y", "z"),
    )
    assert {target.can_reset, target.can_measure_mid_circuit, target.can_branch} == {False}


def test_what_a_device_can_never_run_is_said_before(opened: Open, double: BraketDouble) -> None:
    action = double.documents[FORTE]["capabilities"]["action"]["braket.ir.openqasm.program"]
    action["requiresAllQubitsMeasurement"] = True
    adapter = opened()
    (device,) = adapter.list_devices()
    adapter.check(ASYMMETRIC, device, SHOTS)
    for shots in (0, 5001):
        with pytest.raises(CannotRun, match="1 to 5000"):
            adapter.check(ASYMMETRIC, device, shots)
    with pytest.raises(CannotRun, match="all qubits"):
        adapter.check(ASYMMETRIC.model_copy(update={"measured": ((0, 2), (1, 0))}), device, SHOTS)
    with pytest.raises(Refused, match="no device"):
        adapter.check(ASYMMETRIC, device.model_copy(update={"device_id": "gone"}), SHOTS)


# ---- money ----


def test_a_qpu_costs_its_shots_and_a_fee(adapter: BraketAdapter) -> None:
    assert adapter.get_pricing() == {"perTask": 0.3, "perShot": 0.08, "perMinute": 0.0}
    receipt = ended(adapter, submitted(adapter))
    assert receipt.cost == pytest.approx(1.1)
    assert receipt.metadata is not None
    assert (receipt.metadata["cost_kind"], receipt.metadata["currency"]) == ("our_estimate", "USD")
    assert adapter.get_pricing("no-such-device") is None


@pytest.mark.parametrize(("milliseconds", "cost"), [(100, 0.075 * 3 / 60), (60_000, 0.075), (None, 0.075 * 3 / 60)])
def test_a_simulator_costs_minutes_and_at_least_three_seconds(
    opened: Open, double: BraketDouble, milliseconds: int | None, cost: float
) -> None:
    double.reshape = lambda result: (
        result | {"additionalMetadata": {"simulatorMetadata": {"executionDuration": milliseconds}}}
    )
    adapter = opened(devices=[SV1], include_simulators=True)
    assert adapter.get_pricing(SV1) == {"perTask": 0.0, "perShot": 0.0, "perMinute": 0.075}
    assert ended(adapter, submitted(adapter, device=SV1)).cost == pytest.approx(cost)


@pytest.mark.parametrize(
    ("unit", "table"),
    [
        ("task", {"perTask": 0.6, "perShot": 0.0, "perMinute": 0.0}),
        ("hour", {"perTask": 0.0, "perShot": 0.0, "perMinute": 0.01}),
        ("credit", None),
    ],
)
def test_other_units_of_cost(opened: Open, double: BraketDouble, unit: str, table: dict[str, float] | None) -> None:
    double.documents[FORTE]["capabilities"]["service"]["deviceCost"] = {"price": 0.6, "unit": unit}
    adapter = opened()
    assert adapter.get_pricing(FORTE) == table
    receipt = ended(adapter, submitted(adapter))
    assert receipt.metadata is not None
    assert (receipt.cost is None, receipt.metadata["cost_kind"] == "unknown") == (table is None, table is None)


def test_prices_of_ones_own_come_first_even_for_a_device_that_is_gone(opened: Open, double: BraketDouble) -> None:
    prices = {FORTE: {"per_task": "1", "per_shot": "0.5"}}
    adapter = opened(prices=prices)
    assert adapter.get_pricing() == {"perTask": 1.0, "perShot": 0.5, "perMinute": 0.0}
    handle = submitted(adapter)
    ended(adapter, handle)
    double.status[FORTE] = "RETIRED"
    assert opened(prices=prices).get_job_receipt(handle).cost == 6.0
    assert opened().get_job_receipt(handle).cost is None


def test_prices_are_in_dollars(opened: Open) -> None:
    with pytest.raises(ValidationError, match="USD"):
        opened(prices={FORTE: Prices(per_task=Decimal(1), currency="EUR")})


def test_a_spending_limit_is_set_once(opened: Open, double: BraketDouble) -> None:
    first, second = opened(spending_limit_usd="25"), opened(spending_limit_usd="25")
    assert double.limits == []
    for number in range(2):
        submitted(first, f"first-{number}")
        submitted(second, f"second-{number}")
    (limit,) = double.limits
    assert (limit["deviceArn"], limit["spendingLimit"]) == (FORTE, "25.00")
    assert double.asked_for("POST /spending-limits") == 2


def test_a_limit_that_was_there_stays(opened: Open, double: BraketDouble) -> None:
    submitted(opened(spending_limit_usd="25"), "one")
    submitted(opened(spending_limit_usd="7.50"), "two")
    assert [limit["spendingLimit"] for limit in double.limits] == ["25.00"]


@pytest.mark.parametrize(("begins", "ends"), [(-2, -1), (1, 2)], ids=["over", "not yet"])
def test_a_limit_that_does_not_hold_now_is_none(opened: Open, double: BraketDouble, begins: int, ends: int) -> None:
    submitted(opened(spending_limit_usd="25"), "one")
    now = datetime.now(UTC)
    double.limits[0] |= {"from": now + timedelta(days=begins), "until": now + timedelta(days=ends)}
    double.limits[0]["clientToken"] = "of another day"
    submitted(opened(spending_limit_usd="25"), "two")
    assert len(double.limits) == 2


def test_amazon_keeps_to_the_limit(opened: Open, double: BraketDouble) -> None:
    adapter = opened(spending_limit_usd="2.00")
    submitted(adapter, "one")
    with pytest.raises(QuotaSpent, match="spending limit"):
        submitted(adapter, "two")
    assert double.created == 1


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"status": 400, "headers": {"x-amzn-ErrorType": "ValidationException"}}, QuotaSpent),
        ({"status": 503}, Unavailable),
    ],
)
def test_without_the_limit_nothing_is_paid(
    opened: Open, double: BraketDouble, fault: dict[str, Any], error: type[VendorError]
) -> None:
    adapter = opened(spending_limit_usd="2.00")
    double.fault("POST /spending-limit$", FaultKind.STATUS, **fault)
    with pytest.raises(error):
        submitted(adapter)
    assert double.created == 0
    submitted(adapter)
    assert len(double.limits) == double.created == 1


def test_simulators_have_no_limits(opened: Open, double: BraketDouble) -> None:
    submitted(opened(spending_limit_usd="2.00", devices=[SV1], include_simulators=True), device=SV1)
    assert double.asked_for("spending-limit") == 0


# ---- keys and failures ----


def test_nothing_of_the_surroundings_is_used(
    opened: Open, double: BraketDouble, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """Variables, profiles and proxies of the machine are meant for other programs."""
    wrong = "http://127.0.0.1:9"
    folder = tmp_path / ".aws"
    folder.mkdir()
    (folder / "config").write_text(f"[default]\nregion = nowhere\nmax_attempts = 7\nendpoint_url = {wrong}\n")
    (folder / "credentials").write_text("[default]\naws_access_key_id = OTHER\naws_secret_access_key = OTHER\n")
    surroundings = {
        "HOME": str(tmp_path),
        "AWS_ACCESS_KEY_ID": "OTHER",
        "AWS_SECRET_ACCESS_KEY": "OTHER",
        "AWS_SESSION_TOKEN": "OTHER",
        "AWS_PROFILE": "missing",
        "AWS_DEFAULT_REGION": "nowhere",
        "AWS_MAX_ATTEMPTS": "7",
        "AWS_RETRY_MODE": "adaptive",
        "AWS_ENDPOINT_URL": wrong,
        "AWS_ENDPOINT_URL_S3": wrong,
        "AWS_ENDPOINT_URL_BRAKET": wrong,
        "AWS_USE_FIPS_ENDPOINT": "true",
        "AWS_USE_DUALSTACK_ENDPOINT": "true",
        "AWS_CA_BUNDLE": str(tmp_path / "missing.pem"),
        "HTTP_PROXY": wrong,
        "HTTPS_PROXY": wrong,
    }
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value)
    adapter = opened()
    assert ended(adapter, submitted(adapter)).status == "COMPLETED"
    double.fault("POST /quantum-task$", FaultKind.STATUS, status=500, times=None)
    asked = double.asked_for("POST /quantum-task")
    with pytest.raises(SubmitUnknown):
        submitted(adapter, "again")
    assert double.asked_for("POST /quantum-task") - asked == 1


def test_a_temporary_key_works_until_it_expires(
    opened: Open, double: BraketDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QCOMPUTE_SECRET_BRAKET_SESSION", "of today")
    double.session_token = "of today"
    adapter = opened(session_token="braket_session")
    handle = submitted(adapter)
    assert ended(adapter, handle).status == "COMPLETED"
    double.session_token = "of tomorrow"
    for call in (
        lambda: submitted(adapter, "two"),
        lambda: adapter.poll(handle),
        lambda: adapter.poll_many([handle]),
        lambda: adapter.cancel(handle),
        lambda: adapter.get_job_receipt(handle),
        lambda: adapter.find(IdempotencyToken("token-1"), LONG_AGO),
    ):
        with pytest.raises(AuthFailed, match="ExpiredToken"):
            call()
    assert double.created == 1


def test_a_key_that_is_not_accepted_is_told(adapter: BraketAdapter, double: BraketDouble) -> None:
    double.access_key_id = "another"
    with pytest.raises(AuthFailed, match="UnrecognizedClient"):
        adapter.list_devices()


def test_the_daemon_does_not_load_qiskit_for_it(double: BraketDouble) -> None:
    script = f"""
import json, sys
from qcompute.miner.providers.registry import open_adapter
adapter = open_adapter("braket", json.loads({json.dumps(json.dumps(KIT.table(double)))}))
assert adapter.list_devices()
adapter.close()
print(*[name for name in ("qiskit", "numpy", "braket", "openqasm3") if name in sys.modules])
"""
    done = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "", **KIT.variables(double)},
        timeout=60,
    )
    assert (done.stdout.strip(), done.returncode) == ("", 0), done.stderr
