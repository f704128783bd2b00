from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from qcompute.units import Money
from qcompute.vendor.prices import Prices

amounts = st.decimals(min_value=0, max_value=1000, places=5)


def test_a_job_costs_its_parts() -> None:
    prices = Prices(per_task=Decimal("0.3"), per_shot=Decimal("0.01"), per_minute=Decimal(96), currency="EUR")
    assert prices.estimate(100, quantum_seconds=30) == Money(Decimal("49.3"), "EUR")


def test_what_is_not_priced_is_free() -> None:
    assert Prices().estimate(1000, quantum_seconds=60) == Money(Decimal(0), "USD")


def test_the_table_of_the_contract() -> None:
    assert Prices(per_task=Decimal("0.3")).table() == {"perTask": 0.3, "perShot": 0.0, "perMinute": 0.0}


@given(amounts, amounts, st.integers(0, 10**6), st.integers(0, 10**6))
def test_more_shots_never_cost_less(task: Decimal, shot: Decimal, few: int, more: int) -> None:
    prices = Prices(per_task=task, per_shot=shot)
    assert prices.estimate(few).amount <= prices.estimate(few + more).amount


@pytest.mark.parametrize(
    "wrong", [{"per_task": -1}, {"per_shot": "nan"}, {"per_minute": "inf"}, {"currency": "usd"}, {"per_jobs": 1}]
)
def test_a_price_that_is_none(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Prices.model_validate(wrong)
