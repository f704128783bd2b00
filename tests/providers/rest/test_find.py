"""Plain REST: lost and found."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from qcompute.errors import (
    AuthFailed,
    BadReply,
    Refused,
    SubmitUnknown,
    Unavailable,
    VendorError,
)
from qcompute.miner.providers.base import (
    Absent,
    CannotTell,
    Found,
    ProviderStatus,
)
from qcompute.miner.providers.rest import RestAdapter
from qcompute.units import IdempotencyToken
from tests.providers.rest.scene import COUNTS, MEASUREMENT, PRICED, Make, Told, counted


def found(adapter: RestAdapter) -> Found | Absent | CannotTell:
    return adapter.find(IdempotencyToken("t-1"), datetime.now(UTC))


def test_without_a_promise_nothing_is_looked_up(told: Told, make: Make) -> None:
    assert isinstance(found(make()), CannotTell)
    assert told.requests == []


def test_a_job_is_found_by_its_token(told: Told, make: Make) -> None:
    adapter = make(idempotency="token")
    told.answers["GET"] = (200, {"jobs": [{"id": "j", "token": "t-1", "status": "running"}]})
    answer = found(adapter)
    assert isinstance(answer, Found)
    assert told.lines == ["GET /jobs?token=t-1"]
    assert adapter.poll(answer.handles[0]).status == ProviderStatus.UNKNOWN
    assert told.lines[-1] == "GET /jobs/j"


def test_a_found_result_is_kept_too(told: Told, make: Make) -> None:
    adapter = make(idempotency="token")
    told.answers["GET"] = (200, [{"token": "t-1", "shots": 100, "counts": COUNTS}])
    answer = found(adapter)
    assert isinstance(answer, Found)
    told.call(told.stop())
    receipt = adapter.get_job_receipt(answer.handles[0].model_copy(update={"measurement": MEASUREMENT}))
    assert counted(receipt) == COUNTS
    assert receipt.shots == 100
    assert receipt.timestamps == {}


def test_a_found_result_whose_shots_nobody_says(told: Told, make: Make) -> None:
    adapter = make(idempotency="token", prices=PRICED)
    told.answers["GET"] = (200, [{"token": "t-1", "counts": COUNTS}])
    answer = found(adapter)
    assert isinstance(answer, Found)
    receipt = adapter.get_job_receipt(answer.handles[0].model_copy(update={"measurement": MEASUREMENT}))
    assert counted(receipt) == COUNTS
    assert (receipt.shots, receipt.cost) == (None, None)


def test_the_oldest_comes_first(told: Told, make: Make) -> None:
    times = {"b": "2026-01-02T03:04:05Z", "a": "2026-01-02T03:04:06Z"}
    told.answers["GET"] = (200, [{"id": i, "token": "t-1", "created_at": time} for i, time in times.items()][::-1])
    answer = found(make(idempotency="token"))
    assert isinstance(answer, Found)
    assert [handle.provider_job_id for handle in answer.handles] == ["b", "a"]


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, [], Absent),
        (200, {"jobs": []}, Absent),
        (200, [{"id": "x", "token": "t-2"}], CannotTell),
        (200, [{"id": "x"}], CannotTell),
        (200, ["x"], CannotTell),
        (404, {}, CannotTell),
        (405, {}, CannotTell),
        (501, {}, CannotTell),
        (200, {"id": "x"}, BadReply),
        (200, "x", BadReply),
        (200, [{"token": "t-1"}], SubmitUnknown),
        (500, {}, Unavailable),
        (401, {}, AuthFailed),
        (400, {}, Refused),
    ],
)
def test_what_a_list_of_jobs_proves(told: Told, make: Make, status: int, body: Any, kind: type[object]) -> None:
    """Only an empty list is a proof: an endpoint that does not look at the token must not cause a second job."""
    told.answers["GET"] = (status, body)
    adapter = make(idempotency="token")
    if issubclass(kind, VendorError):
        with pytest.raises(kind):
            found(adapter)
    else:
        assert isinstance(found(adapter), kind)


def test_all_endpoints_are_asked(told: Told, make: Make) -> None:
    with Told() as other:
        adapter = make(base_urls=[told.url, other.url], idempotency="token")
        told.answers["GET"] = (200, [])
        other.answers["GET"] = (200, [{"id": "j", "token": "t-1"}])
        answer = found(adapter)
        assert isinstance(answer, Found)
        assert answer.handles[0].device_id == "rest_2"
        told.answers["GET"] = (500, {})
        assert isinstance(found(adapter), Found)
        other.answers["GET"] = (200, [])
        with pytest.raises(Unavailable):
            found(adapter)
        told.answers["GET"] = (404, {})
        assert found(adapter) == CannotTell("rest_1 does not list its jobs by token")
