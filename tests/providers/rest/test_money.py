"""Plain REST: money and time."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from qcompute.circuits.program import JobOptions
from qcompute.miner.providers.base import (
    Prepared,
)
from qcompute.testing.provider_contract import ASYMMETRIC
from qcompute.units import Money
from tests.providers.rest.scene import COUNTS, PRICED, Make, Told, X, metadata, receipt_of


@pytest.mark.parametrize(
    ("prices", "answer", "cost", "currency", "kind"),
    [
        (None, {"cost": 0.35, "currency": "CHF"}, 0.35, "CHF", "actual"),
        (None, {"cost": 2}, 2.0, "USD", "actual"),
        (PRICED, {"cost": 0}, 0.0, "EUR", "actual"),
        (PRICED, {"cost": 1, "currency": "credits"}, 1.0, "EUR", "actual"),
        (PRICED, {}, 1.3, "EUR", "our_estimate"),
        (PRICED, {"cost": None}, 1.3, "EUR", "our_estimate"),
        (PRICED, {"cost": "1.00"}, 1.3, "EUR", "our_estimate"),
        (PRICED, {"cost": -1}, 1.3, "EUR", "our_estimate"),
        (PRICED, {"cost": True}, 1.3, "EUR", "our_estimate"),
        (None, {}, None, "USD", None),
        ({"per_minute": 60}, {}, None, "USD", None),
        ({"per_minute": 60}, {"execution_seconds": 2}, 2.0, "USD", "our_estimate"),
        ({"per_minute": 60}, {"execution_time_seconds": 0.5}, 0.5, "USD", "our_estimate"),
    ],
)
def test_what_a_job_cost(  # noqa: PLR0917 - a table
    told: Told, make: Make, prices: Any, answer: dict[str, Any], cost: float | None, currency: str, kind: str | None
) -> None:
    receipt = receipt_of(make(prices=prices), told, {"counts": COUNTS, **answer})
    assert receipt.cost == cost
    assert (metadata(receipt)["currency"], metadata(receipt)["cost_kind"]) == (currency, kind)


def test_what_failed_costs_what_the_endpoint_says_or_nobody_knows(told: Told, make: Make) -> None:
    adapter = make(prices=PRICED)
    assert receipt_of(adapter, told, {"status": "failed"}).cost is None
    assert receipt_of(adapter, told, {"status": "failed", "cost": 0.1}).cost == 0.1


def prepared() -> Prepared:
    return Prepared(payload=X, compiled=ASYMMETRIC, options=JobOptions())


@pytest.mark.parametrize(
    ("prices", "estimate", "table"),
    [
        (None, None, None),
        (PRICED, Money(Decimal("1.30"), "EUR"), {"perTask": 0.3, "perShot": 0.01, "perMinute": 0.0}),
        ({"per_minute": 6}, None, {"perTask": 0.0, "perShot": 0.0, "perMinute": 6.0}),
        ({"per_task": 1, "per_minute": 6}, Money(Decimal(1), "USD"), {"perTask": 1.0, "perShot": 0.0, "perMinute": 6}),
        ({}, Money(Decimal(0), "USD"), {"perTask": 0.0, "perShot": 0.0, "perMinute": 0.0}),
    ],
)
def test_prices(make: Make, prices: Any, estimate: Money | None, table: dict[str, float] | None) -> None:
    adapter = make(prices=prices)
    assert adapter.estimate(prepared(), adapter.list_devices()[0], 100) == estimate
    assert adapter.get_pricing() == table
    assert adapter.get_pricing("rest_9") is None
    assert adapter.price_currency() == (estimate.currency if estimate else "USD")


def test_the_endpoint_s_times(told: Told, make: Make) -> None:
    times = {
        "created_at": "2026-01-02T03:04:05Z",
        "started_at": 1767323046,
        "completed_at": "2026-01-02T04:04:07+01:00",
    }
    receipt = receipt_of(make(), told, {"counts": COUNTS, "execution_seconds": 1.5, **times})
    assert receipt.timestamps == {
        "createdAt": "2026-01-02T03:04:05+00:00",
        "startedAt": "2026-01-02T03:04:06+00:00",
        "endedAt": "2026-01-02T04:04:07+01:00",
        "executionDuration": 1.5,
    }


@pytest.mark.parametrize("value", ["yesterday", "2026-01-02T03:04:05", 1767323046000, -1, 0, [], True])
def test_times_it_does_not_say_are_ours(told: Told, make: Make, value: Any) -> None:
    before = datetime.now(UTC)
    receipt = receipt_of(make(), told, {"counts": COUNTS, "started_at": value, "execution_seconds": "long"})
    times = receipt.timestamps or {}
    assert before <= datetime.fromisoformat(times["createdAt"]) <= datetime.fromisoformat(times["endedAt"])
    assert times.get("startedAt") == ("2026-01-02T03:04:05+00:00" if value == "2026-01-02T03:04:05" else None)
    assert "executionDuration" not in times
