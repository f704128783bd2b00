"""Plain REST: health."""

from __future__ import annotations

from typing import Any

import pytest

from tests.providers.rest.scene import Make, Told


@pytest.mark.parametrize(
    ("body", "state", "message", "pending"),
    [
        ({"status": "ok"}, "ONLINE", "ok", None),
        ({"status": "healthy", "pending_jobs": 4}, "ONLINE", "healthy", 4),
        ({"status": "Degraded", "message": "one GPU is down"}, "DEGRADED", "one GPU is down", None),
        ({"status": "maintenance"}, "MAINTENANCE", "maintenance", None),
        ({"status": "unhealthy"}, "OFFLINE", "unhealthy", None),
        ({"status": "down"}, "OFFLINE", "down", None),
        ({"status": 1, "pending_jobs": "many"}, "ONLINE", "up", None),
        ({}, "ONLINE", "up", None),
        ([], "ONLINE", "up", None),
        (b"", "ONLINE", "up", None),
        (b"OK", "ONLINE", "up", None),
    ],
)
def test_health_in_the_endpoint_s_words(
    told: Told, make: Make, *, body: Any, state: str, message: str, pending: int | None
) -> None:
    told.answers["GET"] = (200, body)
    said = make().get_availability()
    assert said is not None
    assert (said.availability, said.status_msg, said.pending_jobs) == (state, message, pending)
    assert said.is_available is (state in ("ONLINE", "DEGRADED"))
    assert told.lines == ["GET /health"]


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (500, {"error": "broken"}, "rest_1 answered 500: broken"),
        (401, {}, "rest_1 answered 401"),
        (404, {}, "rest_1 answered 404; is health_path right?"),
        (200, b"<html>soon", "rest_1 answered 200 with something that is not JSON but a web page: maintenance?"),
    ],
)
def test_an_endpoint_that_is_not_well(told: Told, make: Make, status: int, body: Any, message: str) -> None:
    told.answers["GET"] = (status, body)
    said = make().get_availability("rest_1")
    assert said is not None
    assert (said.availability, said.is_available, said.status_msg) == ("OFFLINE", False, message)


def test_one_endpoint_fails_and_comes_back(told: Told, make: Make) -> None:
    with Told() as other:
        adapter = make(base_urls=[told.url, other.url], health_seconds=0)
        told.call(told.stop())
        down, up = adapter.get_availability("rest_1"), adapter.get_availability("rest_2")
        assert down is not None
        assert up is not None
        assert (down.availability, up.availability) == ("OFFLINE", "ONLINE")
        assert down.status_msg == "rest_1 cannot be reached (ConnectError)"
        told.call(told.start())
        back = adapter.get_availability("rest_1")
        assert back is not None
        assert back.availability == "ONLINE"


def test_health_is_not_asked_at_every_turn(told: Told, make: Make) -> None:
    adapter = make(health_seconds=60)
    first = adapter.get_availability()
    told.answers["GET"] = (500, {})
    assert adapter.get_availability() == first
    assert len(told.requests) == 1


def test_health_can_be_left_out(told: Told, make: Make) -> None:
    said = make(health_path="").get_availability()
    assert said is not None
    assert (said.availability, said.status_msg) == ("ONLINE", "not asked")
    assert told.requests == []


def test_nobody_s_health(make: Make) -> None:
    assert make().get_availability("rest_2") is None
