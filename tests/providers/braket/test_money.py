"""Amazon Braket: prices, estimates and what the vendor caps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from qcompute.errors import (
    QuotaSpent,
    Unavailable,
    VendorError,
)
from qcompute.local.service import FaultKind
from qcompute.miner.providers.braket import BraketAdapter
from qcompute.vendor.prices import Prices
from tests.doubles.braket import (
    FORTE,
    SV1,
    BraketDouble,
)
from tests.providers.braket.scene import Open, ended, submitted


def test_a_qpu_costs_its_shots_and_a_fee(adapter: BraketAdapter) -> None:
    assert adapter.get_pricing() == {"perTask": 0.3, "perShot": 0.08, "perMinute": 0.0}
    receipt = ended(adapter, submitted(adapter))
    assert receipt.cost == pytest.approx(1.1)
    assert receipt.metadata is not None
    assert (receipt.metadata["cost_kind"], receipt.metadata["currency"]) == ("our_estimate", "USD")
    assert adapter.get_pricing("no-such-device") is None


@pytest.mark.parametrize(("milliseconds", "cost"), [(100, 0.075 * 3 / 60), (60_000, 0.075), (None, 0.075 * 3 / 60)])
def test_a_simulator_costs_minutes_and_at_least_three_seconds(
    opened: Open, double: BraketDouble, milliseconds: int | None, cost: float
) -> None:
    double.reshape = lambda result: (
        result | {"additionalMetadata": {"simulatorMetadata": {"executionDuration": milliseconds}}}
    )
    adapter = opened(devices=[SV1], include_simulators=True)
    assert adapter.get_pricing(SV1) == {"perTask": 0.0, "perShot": 0.0, "perMinute": 0.075}
    assert ended(adapter, submitted(adapter, device=SV1)).cost == pytest.approx(cost)


@pytest.mark.parametrize(
    ("unit", "table"),
    [
        ("task", {"perTask": 0.6, "perShot": 0.0, "perMinute": 0.0}),
        ("hour", {"perTask": 0.0, "perShot": 0.0, "perMinute": 0.01}),
        ("credit", None),
    ],
)
def test_other_units_of_cost(opened: Open, double: BraketDouble, unit: str, table: dict[str, float] | None) -> None:
    double.documents[FORTE]["capabilities"]["service"]["deviceCost"] = {"price": 0.6, "unit": unit}
    adapter = opened()
    assert adapter.get_pricing(FORTE) == table
    receipt = ended(adapter, submitted(adapter))
    assert receipt.metadata is not None
    assert (receipt.cost is None, receipt.metadata["cost_kind"] == "unknown") == (table is None, table is None)


def test_prices_of_ones_own_come_first_even_for_a_device_that_is_gone(opened: Open, double: BraketDouble) -> None:
    prices = {FORTE: {"per_task": "1", "per_shot": "0.5"}}
    adapter = opened(prices=prices)
    assert adapter.get_pricing() == {"perTask": 1.0, "perShot": 0.5, "perMinute": 0.0}
    handle = submitted(adapter)
    ended(adapter, handle)
    double.status[FORTE] = "RETIRED"
    assert opened(prices=prices).get_job_receipt(handle).cost == 6.0
    assert opened().get_job_receipt(handle).cost is None


def test_prices_are_in_dollars(opened: Open) -> None:
    with pytest.raises(ValidationError, match="USD"):
        opened(prices={FORTE: Prices(per_task=Decimal(1), currency="EUR")})


def test_a_spending_limit_is_set_once(opened: Open, double: BraketDouble) -> None:
    first, second = opened(spending_limit_usd="25"), opened(spending_limit_usd="25")
    assert double.limits == []
    for number in range(2):
        submitted(first, f"first-{number}")
        submitted(second, f"second-{number}")
    (limit,) = double.limits
    assert (limit["deviceArn"], limit["spendingLimit"]) == (FORTE, "25.00")
    assert double.asked_for("POST /spending-limits") == 2


def test_a_limit_that_was_there_stays(opened: Open, double: BraketDouble) -> None:
    submitted(opened(spending_limit_usd="25"), "one")
    submitted(opened(spending_limit_usd="7.50"), "two")
    assert [limit["spendingLimit"] for limit in double.limits] == ["25.00"]


@pytest.mark.parametrize(("begins", "ends"), [(-2, -1), (1, 2)], ids=["over", "not yet"])
def test_a_limit_that_does_not_hold_now_is_none(opened: Open, double: BraketDouble, begins: int, ends: int) -> None:
    submitted(opened(spending_limit_usd="25"), "one")
    now = datetime.now(UTC)
    double.limits[0] |= {"from": now + timedelta(days=begins), "until": now + timedelta(days=ends)}
    double.limits[0]["clientToken"] = "of another day"
    submitted(opened(spending_limit_usd="25"), "two")
    assert len(double.limits) == 2


def test_amazon_keeps_to_the_limit(opened: Open, double: BraketDouble) -> None:
    adapter = opened(spending_limit_usd="2.00")
    submitted(adapter, "one")
    with pytest.raises(QuotaSpent, match="spending limit"):
        submitted(adapter, "two")
    assert double.created == 1


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"status": 400, "headers": {"x-amzn-ErrorType": "ValidationException"}}, QuotaSpent),
        ({"status": 503}, Unavailable),
    ],
)
def test_without_the_limit_nothing_is_paid(
    opened: Open, double: BraketDouble, fault: dict[str, Any], error: type[VendorError]
) -> None:
    adapter = opened(spending_limit_usd="2.00")
    double.fault("POST /spending-limit$", FaultKind.STATUS, **fault)
    with pytest.raises(error):
        submitted(adapter)
    assert double.created == 0
    submitted(adapter)
    assert len(double.limits) == double.created == 1


def test_simulators_have_no_limits(opened: Open, double: BraketDouble) -> None:
    submitted(opened(spending_limit_usd="2.00", devices=[SV1], include_simulators=True), device=SV1)
    assert double.asked_for("spending-limit") == 0
