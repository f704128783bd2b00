"""Amazon Braket: results, in a bucket of the operator's own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from qcompute.circuits.measurement import MeasurementMap, Register
from qcompute.errors import (
    AuthFailed,
    BadReply,
    Refused,
    SubmitUnknown,
    Unavailable,
    VendorError,
)
from qcompute.local.service import FaultKind
from qcompute.miner.providers import braket
from qcompute.miner.providers.base import (
    JobHandle,
)
from qcompute.miner.providers.braket import MAP_TAG, BraketAdapter
from qcompute.testing.vendor_faults import FAULTS, VendorFault
from qcompute.vendor.braket import aws
from qcompute.vendor.http import Timeouts
from tests.doubles.braket import (
    BUCKET,
    FORTE,
    BraketDouble,
    worker,
)
from tests.providers.braket.scene import BIT, UP, ended, payload, submitted


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
