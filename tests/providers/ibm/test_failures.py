"""IBM: what goes wrong at a submit."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from qcompute.circuits.program import JobOptions
from qcompute.circuits.sandbox import SandboxPool
from qcompute.errors import (
    AuthFailed,
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
    Found,
)
from qcompute.miner.providers.ibm import IbmAdapter
from qcompute.testing.provider_contract import ASYMMETRIC
from qcompute.units import IdempotencyToken
from tests.doubles.ibm import IbmDouble
from tests.providers.ibm.scene import LONG_AGO, ONE, Account, config, counts

POST_JOBS = "POST /api/v1/jobs$"


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
