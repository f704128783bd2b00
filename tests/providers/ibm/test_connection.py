"""IBM: the log-in and the settings."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from qcompute.circuits.program import CompiledCircuit, JobOptions
from qcompute.connections.credentials import Secret
from qcompute.errors import (
    AuthFailed,
    BadReply,
    Unavailable,
)
from qcompute.local.service import FaultKind
from qcompute.miner.providers.base import (
    ProviderStatus,
    Verb,
)
from qcompute.testing.provider_contract import ASYMMETRIC
from qcompute.units import IdempotencyToken
from qcompute.vendor.ibm import api
from tests.doubles.ibm import API_KEY, CRN, IbmDouble
from tests.providers.ibm.scene import Account, config


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
