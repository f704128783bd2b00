"""Plain REST: status words and cancelling."""

from __future__ import annotations

from typing import Any

import pytest

from qcompute.errors import (
    BadReply,
    Unavailable,
)
from qcompute.miner.providers.base import (
    ProviderStatus,
)
from tests.providers.rest.scene import Make, Told, submitted


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("queued", "QUEUED"),
        ("pending", "QUEUED"),
        ("submitted", "QUEUED"),
        ("running", "RUNNING"),
        ("processing", "RUNNING"),
        ("executing", "RUNNING"),
        ("completed", "COMPLETED"),
        ("complete", "COMPLETED"),
        ("COMPLETED", "COMPLETED"),
        ("Done", "COMPLETED"),
        ("finished", "COMPLETED"),
        ("succeeded", "COMPLETED"),
        ("success", "COMPLETED"),
        ("ok", "COMPLETED"),
        ("failed", "FAILED"),
        ("error", "FAILED"),
        ("cancelled", "CANCELLED"),
        ("canceled", "CANCELLED"),
        ("validating", "UNKNOWN"),
        ("failed?", "UNKNOWN"),
        ("", "UNKNOWN"),
        (None, "UNKNOWN"),
        (7, "UNKNOWN"),
    ],
)
def test_every_word(told: Told, make: Make, word: Any, status: str) -> None:
    adapter = make()
    handle = submitted(adapter, told, {"job_id": "j"})
    told.answers["GET"] = (200, {"job_id": "j", "status": word})
    assert adapter.poll(handle).status == status


def test_a_word_nobody_knows_is_passed_on(told: Told, make: Make) -> None:
    adapter = make()
    handle = submitted(adapter, told, {"job_id": "j"})
    told.answers["GET"] = (200, {"status": "transmogrified", "error": "x"})
    assert adapter.poll(handle).message == "transmogrified: x"
    told.answers["GET"] = (200, {"status": "w" * 500})
    assert adapter.poll(handle).message == "w" * 64
    receipt = adapter.get_job_receipt(handle)
    assert (receipt.status, receipt.results) == (ProviderStatus.UNKNOWN, None)


@pytest.mark.parametrize("status", [404, 410])
def test_a_job_that_is_gone(told: Told, make: Make, status: int) -> None:
    adapter = make()
    handle = submitted(adapter, told, {"job_id": "j"})
    told.answers["GET"] = (status, {"error": "gone"})
    assert adapter.poll(handle).status == ProviderStatus.UNKNOWN
    with pytest.raises(BadReply, match="any more"):
        adapter.get_job_receipt(handle)


@pytest.mark.parametrize("status", [200, 202, 404, 405, 409, 410, 501])
def test_cancelling_is_asked_for_and_may_be_too_late(told: Told, make: Make, status: int) -> None:
    adapter = make()
    handle = submitted(adapter, told, {"job_id": "a/b?c=%2e"})
    told.answers["DELETE"] = (status, {})
    adapter.cancel(handle)
    assert told.lines[-1] == "DELETE /jobs/a%2Fb%3Fc%3D%252e"


def test_cancelling_that_fails_says_so(told: Told, make: Make) -> None:
    adapter = make()
    handle = submitted(adapter, told, {"job_id": "j"})
    told.answers["DELETE"] = (500, {})
    with pytest.raises(Unavailable):
        adapter.cancel(handle)
