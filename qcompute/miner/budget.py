"""Money guards: what may be spent on one job, a day and a month, of one account.

A job's expected cost is reserved before its submit and replaced by its cost at the end, each in the same transaction
as the move it belongs to (`qcompute.ledger.contract.Ledger.save`), so a restart finds both. One process owns an
account, and reserving awaits nothing between looking and adding: jobs routed at the same moment cannot overshoot.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import partial
from typing import Any, Final, Protocol, assert_never

from qcompute.errors import BudgetSpent, CannotRun
from qcompute.miner.job import Charge, DayCharges, Job
from qcompute.miner.limits import BudgetSettings
from qcompute.units import ExecutionId, Money, ProviderKey, utc_now

_log = logging.getLogger(__name__)

CHARGES_KEPT: Final = timedelta(days=400)
"""Settled charges are kept for the operator's own accounts of a year; the budgets need the current month."""


class Period(StrEnum):
    """What a budget covers, in UTC."""

    DAY = "day"
    MONTH = "month"

    def first_day(self, day: date) -> date:
        """The first day of the period with ``day``."""
        match self:
            case Period.DAY:
                return day
            case Period.MONTH:
                return day.replace(day=1)
        assert_never(self)

    def next_start(self, day: date) -> datetime:
        """When the period after the one with ``day`` begins."""
        match self:
            case Period.DAY:
                first = day + timedelta(days=1)
            case Period.MONTH:
                first = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
            case _:
                assert_never(self)
        return datetime.combine(first, time(), UTC)


class ChargesBook(Protocol):
    """Where charges are read: the ledger, or a copy of one that is only looked at."""

    async def charged_by_day(self, account: ProviderKey, since: datetime) -> list[DayCharges]:
        """See `qcompute.ledger.contract.Ledger.charged_by_day`."""
        ...

    async def open_charges(self, account: ProviderKey) -> dict[ExecutionId, Charge]:
        """See `qcompute.ledger.contract.Ledger.open_charges`."""
        ...


class Budget:
    """The budgets of one account. `load` must have been awaited before anything is reserved."""

    def __init__(self, account: ProviderKey, settings: BudgetSettings, *, clock: Callable[[], datetime]) -> None:
        self.account = account
        self._settings = settings
        self._clock = clock
        limits = {Period.DAY: settings.per_day, Period.MONTH: settings.per_month}
        self._limits = {period: limit for period, limit in limits.items() if limit is not None}
        self._is_limited = bool(self._limits) or settings.per_job is not None
        self._days: dict[tuple[date, str], Decimal] = {}
        self._open: dict[ExecutionId, Charge] = {}
        self._too_large: Decimal | None = None
        """The least amount that found no room; new jobs are not taken while the room is smaller."""
        self._alerted: set[tuple[Period, date]] = set()

    async def load(self, ledger: ChargesBook, *, unless: Callable[[], bool] = lambda: False) -> None:
        """Read what was charged this month and what is reserved; kept as it was where ``unless`` says so by then."""
        today = self._today()
        first = datetime.combine(Period.MONTH.first_day(today), time(), UTC)
        days = await ledger.charged_by_day(self.account, first)
        reserved = await ledger.open_charges(self.account)
        if unless():
            return
        self._days = {(one.day, one.money.currency): one.money.amount for one in days}
        self._open = reserved
        self._alert()

    def checked(self, estimate: Money | None) -> Money | None:
        """What a job of this estimate would reserve; None when nothing is known and nothing limits it.

        Raises:
            CannotRun: it costs more than one job may, or there are budgets and its cost cannot be told.
        """
        if not self._is_limited:
            return estimate
        settings = self._settings
        if estimate is None or estimate.currency != settings.currency:
            estimate = self._assumed(estimate)
        if settings.per_job is not None and estimate.amount > settings.per_job:
            most = Money(settings.per_job, settings.currency)
            message = f"the job is expected to cost {estimate}, and this miner spends at most {most} on one job"
            raise CannotRun(message, reason="over_budget")
        return estimate

    def check_together(self, estimates: Iterable[Money | None]) -> None:
        """See that parts of one job, of these estimates, cost no more together than one job may.

        Raises:
            CannotRun: they do, or one of them does; see `checked`.
        """
        amounts = [money.amount for one in estimates if (money := self.checked(one)) is not None]
        if self.limits_jobs:
            self.checked(Money(sum(amounts, Decimal(0)), self._settings.currency))

    def check_beside(self, job: Job, parts: Iterable[Job]) -> None:
        """See that ``job``, a part of one, costs no more than one job may with those of ``parts`` that are here too.

        Parts that come here in the same moment see one another by what is reserved for them, so nothing may be awaited
        between this and `reserve`.

        Raises:
            CannotRun: it does; see `checked`.
        """
        others = [part for part in parts if self._may_cost(part) and part.execution_id != job.execution_id]
        reserved = [self._open.get(part.execution_id) for part in others]
        costs = [part.estimate if own is None else own.money for part, own in zip(others, reserved, strict=True)]
        known = [cost for cost in costs if cost is not None]  # one without is looked at when its own turn comes
        if not known:
            return
        try:
            self.check_together([job.estimate, *known])
        except CannotRun as refusal:
            raise CannotRun(f"with its other parts here, {refusal.message}", reason=refusal.reason) from None

    def _may_cost(self, part: Job) -> bool:
        """Whether a part of a job costs something here: it is at this account, and did not end unsubmitted."""
        return part.provider == self.account and (part.verdict is None or part.submit_started_at is not None)

    @property
    def limits_jobs(self) -> bool:
        """Whether there is a limit to what one job may cost."""
        return self._settings.per_job is not None

    def require_room(self, estimate: Money | None, *, of: ExecutionId | None = None) -> None:
        """Say at once, without asking a vendor for the price, that a job must wait.

        ``of`` is the job, where it may have reserved some of the room itself.

        Raises:
            BudgetSpent: there is no room for ``estimate``; for None, none at all.
        """
        amount = estimate.amount if estimate is not None else None
        for period, limit in self._limits.items():
            room = limit - self._committed(period, but=of)
            if room <= 0 if not amount else room < amount:
                raise BudgetSpent(self._spent_text(period), until=period.next_start(self._today()))

    def reserve(self, execution_id: ExecutionId, estimate: Money | None) -> Charge | None:
        """Reserve a job's expected cost; the charge to store with its move, None when it is free or unknown.

        Whoever cannot store it calls `take_back`. A second call for the same job replaces the first; when it raises,
        what was reserved before stays so: it is in the ledger until the job ends.

        Raises:
            CannotRun, BudgetSpent: see `checked` and `require_room`.
        """
        money = self.checked(estimate)
        if money is None or not money.amount:
            return None
        try:
            self.require_room(money, of=execution_id)
        except BudgetSpent:
            self._too_large = money.amount if self._too_large is None else min(self._too_large, money.amount)
            raise
        self.take_back(execution_id)
        charge = Charge(self.account, money, self._clock())
        self._open[execution_id] = charge
        self._add(charge, +1)
        self._alert()
        return charge

    def take_back(self, execution_id: ExecutionId) -> None:
        """Forget a reservation that was not stored; does nothing when there is none."""
        if (charge := self._open.pop(execution_id, None)) is not None:
            self._add(charge, -1)

    def final_charge(self, job: Job, cost: Money | None, *, may_be_paid: bool) -> Charge | None:
        """What a job counts from now on, to be stored with its outcome; None when it never counted and cost nothing.

        A cost nobody knows is what was reserved, and nothing for a job that provably never reached the vendor.
        """
        reserved = self._open.get(job.execution_id)
        now = self._clock()
        if reserved is None:
            if cost is None or not cost.amount:
                return None
            return Charge(job.provider or self.account, cost, now, now)
        money = reserved.money
        if not may_be_paid:
            money = Money(Decimal(0), money.currency)
        elif cost is not None and cost.currency == money.currency:
            money = cost
        elif cost is not None:
            _log.warning(
                "a job cost %s, and %s were reserved for it: those are counted",
                cost,
                money,
                extra={"action": "budget", "execution_id": job.execution_id},
            )
        return replace(reserved, money=money, settled_at=now)

    def settle(self, execution_id: ExecutionId, charge: Charge | None) -> None:
        """Count the stored final charge in place of the reservation."""
        self.take_back(execution_id)
        if charge is not None and charge.account == self.account:
            self._add(charge, +1)
            self._alert()

    def closed_because(self) -> str | None:
        """Why no new jobs are taken, in words for users; None while there is room for more."""
        for period, limit in self._limits.items():
            room = limit - self._committed(period)
            if room <= 0 or (self._too_large is not None and room < self._too_large):
                return self._spent_text(period)
        self._too_large = None
        return None

    def document(self) -> dict[str, Any]:
        """For the operator: limits, what is committed of them and reserved in them, as decimal text."""
        settings = self._settings
        reserved = sum((one.money.amount for one in self._open.values()), Decimal(0))
        return {
            "account": self.account,
            "currency": settings.currency,
            "alert_at": settings.alert_at,
            "per_job": None if settings.per_job is None else str(settings.per_job),
            "reserved": str(reserved),
            "periods": {
                period.value: {
                    "limit": str(self._limits[period]) if period in self._limits else None,
                    "committed": str(self._committed(period)),
                }
                for period in Period
            },
            "closed_because": self.closed_because(),
        }

    def _assumed(self, estimate: Money | None) -> Money:
        currency = self._settings.currency
        if self._settings.unpriced_cost is not None:
            return Money(self._settings.unpriced_cost, currency)
        if estimate is None:
            fault = "the cost of this job cannot be told beforehand"
        else:
            fault = f"this job is priced in {estimate.currency}, and the budget is in {currency}"
        _log.warning(
            "refused: %s; set its prices, or budget.unpriced_cost to count such jobs as so much",
            fault,
            extra={"action": "budget"},
        )
        raise CannotRun(f"{fault}, and this miner works within a budget", reason="no_estimate")

    def _spent_text(self, period: Period) -> str:
        until = period.next_start(self._today())
        return f"this miner's budget of the {period} has no room until {until:%Y-%m-%d %H:%M} UTC; try another miner"

    def _committed(self, period: Period, *, but: ExecutionId | None = None) -> Decimal:
        """What is spent or reserved in the period, without what the job ``but`` has reserved."""
        today = self._today()
        first = period.first_day(today)
        currency = self._settings.currency

        def counts(key: tuple[date, str]) -> bool:
            return key[1] == currency and first <= key[0] <= today

        charged = sum((amount for key, amount in self._days.items() if counts(key)), Decimal(0))
        own = None if but is None else self._open.get(but)
        return charged - own.money.amount if own is not None and counts(_key(own)) else charged

    def _add(self, charge: Charge, sign: int) -> None:
        key = _key(charge)
        self._days[key] = self._days.get(key, Decimal(0)) + sign * charge.money.amount

    def _alert(self) -> None:
        """Tell the operator once a period that a budget is nearly used up."""
        today = self._today()
        for period, limit in self._limits.items():
            committed, key = self._committed(period), (period, period.first_day(today))
            if committed >= limit * Decimal(str(self._settings.alert_at)) and key not in self._alerted:
                self._alerted.add(key)
                _log.warning(
                    "%s of %s are spent or reserved of the budget of this %s; raise budget.per_%s, or new jobs wait"
                    " for the next",
                    Money(committed, self._settings.currency),
                    Money(limit, self._settings.currency),
                    period,
                    period,
                    extra={"action": "budget_alert"},
                )

    def _today(self) -> date:
        return self._clock().date()


def _is_among(account: ProviderKey, accounts: Callable[[], AbstractSet[ProviderKey]]) -> bool:
    return account in accounts()


def _key(charge: Charge) -> tuple[date, str]:
    return charge.charged_at.date(), charge.money.currency


class Budgets:
    """The budgets of all accounts of a miner."""

    def __init__(self, budgets: Iterable[Budget]) -> None:
        self._budgets = {budget.account: budget for budget in budgets}
        self._offered = frozenset(self._budgets)

    def __contains__(self, account: object) -> bool:
        """Whether the miner has this account."""
        return account in self._budgets

    def add(self, budget: Budget) -> None:
        """Take in an account's budget, in place of one of that account."""
        self._budgets[budget.account] = budget

    def offer(self, accounts: Iterable[ProviderKey]) -> None:
        """Only budgets of these accounts say whether new jobs are taken."""
        self._offered = frozenset(accounts)

    def of(self, account: ProviderKey | None) -> Budget:
        """An account's budget; without limits for one that this miner does not have."""
        known = None if account is None else self._budgets.get(account)
        return known or Budget(account or ProviderKey(""), BudgetSettings(), clock=utc_now)

    async def load(self, ledger: ChargesBook, *, ours: Callable[[], AbstractSet[ProviderKey]] = frozenset) -> None:
        """Read what every account was charged but those that are ``ours``: this process keeps their budgets itself.

        ``ours`` is asked again when an account has been read: what was reserved meanwhile may not be stored yet.
        """
        for account, budget in list(self._budgets.items()):
            if account not in ours():
                await budget.load(ledger, unless=partial(_is_among, account, ours))

    def closed_because(self) -> str | None:
        """Why no new jobs are taken, in words for users; None while any account they go to has room."""
        reasons = [budget.closed_because() for name, budget in self._budgets.items() if name in self._offered]
        return None if None in reasons or not reasons else reasons[0]

    def documents(self) -> list[dict[str, Any]]:
        """For the operator, each account's."""
        return [budget.document() for budget in self._budgets.values()]
