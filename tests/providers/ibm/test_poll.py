"""IBM: status words."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest

from qcompute.errors import (
    Unavailable,
)
from qcompute.local.service import FaultKind
from qcompute.miner.providers.base import (
    Absent,
    JobHandle,
    ProviderStatus,
)
from qcompute.units import IdempotencyToken
from qcompute.vendor.ibm import api
from tests.doubles.ibm import QUANTUM_SECONDS
from tests.providers.ibm.scene import ONE, ZEROS, Account


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
