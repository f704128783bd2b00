"""Azure Quantum: how a job is, alone and among many."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from qcompute.errors import (
    BadReply,
)
from qcompute.local.service import FaultKind
from qcompute.miner.providers import azure
from qcompute.miner.providers.base import (
    JobHandle,
    ProviderAdapter,
    ProviderStatus,
)
from tests.doubles.azure import KEY, WORKSPACE, AzureDouble
from tests.providers.azure.scene import EMULATOR, GET_JOB, ended, only_job, opened, submit


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
