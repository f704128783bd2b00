"""IonQ: status words, batches and cancelling."""

from __future__ import annotations

import json
from typing import Any

import pytest

from qcompute.errors import (
    BadReply,
    Refused,
)
from qcompute.local.service import FaultKind
from qcompute.miner.providers.base import (
    JobHandle,
    ProviderStatus,
)
from qcompute.miner.providers.ionq import IonqAdapter
from tests.doubles.ionq import IonqDouble
from tests.providers.ionq.scene import (
    KEY,
    QPU,
    ended,
    facts_of,
    look,
    stored,
    submitted,
)


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
