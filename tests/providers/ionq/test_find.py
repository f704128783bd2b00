"""IonQ: a job is found again by what was noted at it."""

from __future__ import annotations

import json

import pytest

from qcompute.local.service import FaultKind
from qcompute.miner.providers import ionq
from qcompute.miner.providers.base import (
    Absent,
    CannotTell,
    Found,
    JobHandle,
)
from qcompute.miner.providers.ionq import IonqAdapter
from qcompute.units import IdempotencyToken
from tests.doubles.ionq import IonqDouble
from tests.providers.ionq.scene import (
    QPU,
    device_of,
    look,
    stored,
    submitted,
    translated,
)


def test_a_job_is_found_among_others_with_all_that_was_noted(double: IonqDouble, adapter: IonqAdapter) -> None:
    device = device_of(adapter, QPU)
    prepared = translated(adapter, device)
    wanted = adapter.submit(prepared.payload, QPU, 100, token=IdempotencyToken("wanted"))
    for number in range(5):
        stored(double, f"other-{number}", metadata={"qcompute_token": f"other-{number}"})
    answer = look(adapter, "wanted")
    assert isinstance(answer, Found)
    assert answer.handles == [
        JobHandle(provider_job_id=wanted.provider_job_id, device_id=QPU, measurement=prepared.measurement)
    ]
    assert isinstance(look(adapter, "unwanted"), Absent)


@pytest.mark.parametrize("noted", ["", "[]", "not json", "[1, 2]", '[[["a"]], []]', "null", '[[["a", "b"]], [[0, 0]]]'])
def test_a_note_that_cannot_be_read_is_no_note(double: IonqDouble, adapter: IonqAdapter, noted: str) -> None:
    stored(double, "noted", metadata={"qcompute_token": "wanted", "qcompute_measurement": noted})
    answer = look(adapter, "wanted")
    assert isinstance(answer, Found)
    assert answer.handles[0].measurement is None


def test_all_pages_are_read_back_to_the_moment_and_not_further(double: IonqDouble, adapter: IonqAdapter) -> None:
    double.page_size = 10
    for number in range(40):
        stored(double, f"young-{number}", age_seconds=60 + number)
    stored(double, "wanted", age_seconds=200, name="wanted")
    for number in range(100):
        stored(double, f"old-{number}", age_seconds=2000 + number)
    answer = look(adapter, "wanted")
    assert isinstance(answer, Found)
    assert [handle.provider_job_id for handle in answer.handles] == ["wanted"]
    assert double.asked_for("GET /v0.4/jobs") == 5
    assert isinstance(look(adapter, "old-50"), Absent)


def test_two_jobs_of_one_token_come_oldest_first(double: IonqDouble, adapter: IonqAdapter) -> None:
    double.page_size = 1
    stored(double, "second", age_seconds=10, name="twice")
    stored(double, "first", age_seconds=20, metadata={"qcompute_token": "twice"})
    answer = look(adapter, "twice")
    assert isinstance(answer, Found)
    assert [handle.provider_job_id for handle in answer.handles] == ["first", "second"]


def test_a_list_in_another_order_is_read_to_its_end(double: IonqDouble, adapter: IonqAdapter) -> None:
    """IonQ does not say how it sorts. Stopping at the first old job would take a paid job for absent."""
    double.page_size, double.oldest_first = 10, True
    for number in range(50):
        stored(double, f"old-{number}", age_seconds=9000 + 60 * number)
    stored(double, "wanted", name="wanted")
    assert isinstance(look(adapter, "wanted"), Found)


def test_a_list_without_times_is_read_to_its_end(double: IonqDouble, adapter: IonqAdapter) -> None:
    page = {"jobs": [{"id": "x", "status": "new", "submitted_at": "yesterday"}], "next": "0"}
    double.fault("GET /v0.4/jobs$", FaultKind.STATUS, status=200, body=json.dumps(page).encode())
    stored(double, "wanted", name="wanted")
    assert isinstance(look(adapter, "wanted"), Found)
    assert double.asked_for("GET /v0.4/jobs") == 2


def test_times_without_a_zone_are_utc(double: IonqDouble, adapter: IonqAdapter) -> None:
    page = {"jobs": [{"id": "x", "status": "new", "submitted_at": "2020-01-01T00:00:00"}], "next": "0"}
    double.fault("GET /v0.4/jobs$", FaultKind.STATUS, status=200, body=json.dumps(page).encode())
    assert isinstance(look(adapter, "wanted"), Absent)


def test_a_list_that_is_too_long_says_that_it_cannot_tell(
    double: IonqDouble, adapter: IonqAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ionq, "_MAX_PAGES", 3)
    double.page_size = 10
    for number in range(100):
        stored(double, f"young-{number}", age_seconds=number)
    answer = look(adapter, "wanted")
    assert isinstance(answer, CannotTell)
    assert "3 pages" in answer.reason
    assert isinstance(look(adapter, "young-5"), CannotTell)
    stored(double, "wanted", name="wanted", age_seconds=15)
    assert isinstance(look(adapter, "wanted"), Found)


def test_a_list_may_lag(double: IonqDouble, adapter: IonqAdapter) -> None:
    double.list_lag_seconds = 3600.0
    submitted(adapter, token="wanted")
    assert isinstance(look(adapter, "wanted"), Absent)
    double.list_lag_seconds = 0.0
    assert isinstance(look(adapter, "wanted"), Found)
