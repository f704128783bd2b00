"""The tests of what jobs are charged."""

# ruff: noqa: D102, S101 - these are tests: their names say what they show, in asserts about plain numbers

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal

import pytest

from qcompute.errors import StaleRow
from qcompute.ledger.contract import Ledger
from qcompute.miner.job import Charge, DayCharges, State
from qcompute.testing.ledger_fixtures import LedgerFixtures
from qcompute.testing.ledger_records import START_OF_TIME, SetClock, accepted, brought_to
from qcompute.units import ExecutionId, Money, ProviderKey

MOCK = ProviderKey("mock")
TODAY = date(2026, 11, 21)


def charge(amount: str, *, at: datetime = START_OF_TIME, currency: str = "USD", settled: bool = False) -> Charge:
    """A charge of the account `MOCK`."""
    return Charge(MOCK, Money(Decimal(amount), currency), at, at if settled else None)


def usd(amount: str, day: date = TODAY) -> DayCharges:
    """A day's sum."""
    return DayCharges(day, Money(Decimal(amount), "USD"))


async def charged(ledger: Ledger, execution_id: str, what: Charge) -> None:
    """Bring a job to ready with a charge."""
    job = await accepted(ledger, execution_id)
    await ledger.save(job, replace(job, state=State.READY), charge=what)


class ChargeContract(LedgerFixtures):
    """What jobs count in the budgets of their account."""

    async def test_nothing_is_charged_at_first(self, ledger: Ledger) -> None:
        await accepted(ledger, "a")
        assert await ledger.charged_by_day(MOCK, START_OF_TIME - timedelta(days=99)) == []
        assert await ledger.open_charges(MOCK) == {}

    async def test_charges_of_a_day_are_added_exactly(self, ledger: Ledger) -> None:
        for number in range(10):
            await charged(ledger, f"j{number}", charge("0.1"))
        await charged(ledger, "small", charge("0.000000000000000001"))
        assert await ledger.charged_by_day(MOCK, START_OF_TIME) == [usd("1.000000000000000001")]

    async def test_days_currencies_and_accounts_are_apart(self, ledger: Ledger) -> None:
        midnight = START_OF_TIME.replace(hour=0, minute=0, second=0)
        await charged(ledger, "a", charge("1", at=midnight - timedelta(microseconds=1)))
        await charged(ledger, "b", charge("2", at=midnight))
        await charged(ledger, "c", charge("4", at=midnight + timedelta(hours=23), currency="quantum_seconds"))
        await charged(ledger, "d", replace(charge("8"), account=ProviderKey("other")))
        yesterday = usd("1", TODAY - timedelta(days=1))
        units = DayCharges(TODAY, Money(Decimal(4), "quantum_seconds"))
        assert await ledger.charged_by_day(MOCK, midnight - timedelta(days=1)) == [yesterday, usd("2"), units]
        assert await ledger.charged_by_day(MOCK, midnight) == [usd("2"), units]
        assert set(await ledger.open_charges(ProviderKey("other"))) == {"d"}

    async def test_a_later_charge_replaces_the_first(self, ledger: Ledger) -> None:
        job = await brought_to(ledger, "a", State.READY)
        first, last = charge("3"), charge("2.5", settled=True)
        job = await ledger.save(job, replace(job, state=State.SUBMITTING), charge=first)
        assert await ledger.open_charges(MOCK) == {"a": first}
        await ledger.save(job, replace(job, state=State.SETTLED), charge=last)
        assert await ledger.open_charges(MOCK) == {}
        assert await ledger.charged_by_day(MOCK, START_OF_TIME) == [usd("2.5")]

    async def test_a_save_without_a_charge_leaves_it(self, ledger: Ledger) -> None:
        await charged(ledger, "a", charge("3"))
        job = await ledger.get(ExecutionId("a"))
        assert job is not None
        await ledger.save(job, replace(job, attempts=1))
        assert await ledger.open_charges(MOCK) == {"a": charge("3")}

    async def test_a_stale_save_charges_nothing(self, ledger: Ledger) -> None:
        job = await accepted(ledger, "a")
        with pytest.raises(StaleRow):
            await ledger.save(replace(job, version=7), replace(job, state=State.READY), charge=charge("3"))
        assert await ledger.charged_by_day(MOCK, START_OF_TIME) == []

    async def test_a_charge_outlives_its_job(self, ledger: Ledger, clock: SetClock) -> None:
        """The month's sum must not forget what was paid for jobs that are purged after two weeks."""
        job = await brought_to(ledger, "a", State.SETTLED)
        await ledger.save(job, replace(job, state=State.CLOSED), charge=charge("3", settled=True))
        clock.move(15 * 86400)
        assert await ledger.purge(clock()) == 1
        assert await ledger.charged_by_day(MOCK, START_OF_TIME) == [usd("3")]

    async def test_old_settled_charges_are_forgotten(self, ledger: Ledger) -> None:
        old = START_OF_TIME - timedelta(days=100)
        await charged(ledger, "open", charge("1", at=old))
        await charged(ledger, "old", charge("2", at=old, settled=True))
        await charged(ledger, "young", charge("4", settled=True))
        assert await ledger.forget_charges(START_OF_TIME - timedelta(days=99)) == 1
        assert [day.money.amount for day in await ledger.charged_by_day(MOCK, old)] == [1, 4]
