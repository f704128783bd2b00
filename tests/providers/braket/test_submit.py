"""Amazon Braket: a task is paid once."""

from __future__ import annotations

import json

import pytest

from qcompute.errors import (
    BadReply,
    Refused,
    SubmitUnknown,
    Unavailable,
    VendorError,
)
from qcompute.local.service import FaultKind
from qcompute.miner.providers.base import (
    Found,
    JobHandle,
)
from qcompute.miner.providers.braket import MAP_TAG, TOKEN_TAG, BraketAdapter
from qcompute.units import IdempotencyToken
from tests.doubles.braket import (
    ACCOUNT,
    BUCKET,
    FORTE,
    GARNET,
    BraketDouble,
)
from tests.providers.braket.scene import BIT, LONG_AGO, UP, Open, ended, submitted


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
