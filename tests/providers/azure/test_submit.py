"""Azure Quantum: a job is paid once."""

from __future__ import annotations

import json
import re
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from qcompute.circuits.measurement import MeasurementMap, Register
from qcompute.errors import (
    BadReply,
    QuotaSpent,
    Refused,
    SubmitUnknown,
    Unavailable,
)
from qcompute.local.service import FaultKind
from qcompute.miner.providers import azure
from qcompute.miner.providers.base import (
    Found,
    ProviderAdapter,
)
from qcompute.testing.provider_contract import ASYMMETRIC, SHOTS
from qcompute.units import IdempotencyToken
from tests.doubles.azure import ACCOUNT, WORKSPACE, AzureDouble
from tests.providers.azure.scene import (
    EMULATOR,
    GET_JOB,
    PUT_JOB,
    QVM,
    SIMULATOR,
    counts,
    ended,
    only_job,
    opened,
    submit,
)

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


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
