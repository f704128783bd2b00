"""What may be spent: reserved before the submit, settled at the end, kept over restarts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from qcompute.errors import BudgetSpent, CannotRun, Refused, StaleRow, StoreError, SubmitUnknown, Unavailable
from qcompute.miner.budget import Budget, Budgets, Period
from qcompute.miner.intake import JobIntake
from qcompute.miner.job import Charge, CostKind, Job, Outcome, State, Verdict
from qcompute.miner.limits import BudgetSettings, MinerSettings
from qcompute.miner.providers.base import Found, JobHandle
from qcompute.miner.router import RouterStage
from qcompute.miner.routing import RoutingSettings
from qcompute.miner.runner import WaitStage
from qcompute.miner.submit import SubmitStage
from qcompute.units import ExecutionId, Money, ProviderKey
from tests.unit.miner.scripted import Scene
from tests.unit.miner.test_intake import request

COST = Decimal("1.30")
"""What the scripted vendor asks for the 100 shots of a job."""


def limits(**amounts: Any) -> BudgetSettings:
    return BudgetSettings.model_validate(amounts)


@pytest.fixture
async def opened() -> AsyncIterator[Callable[..., Scene]]:
    """Opens scenes with budgets."""
    scenes: list[Scene] = []

    def open_one(**amounts: Any) -> Scene:
        scenes.append(Scene(limits(**amounts)))
        return scenes[-1]

    yield open_one
    for scene in scenes:
        await scene.close()


def router(scene: Scene) -> RouterStage:
    return RouterStage(scene.road, scene.fleet, scene.circuits, RoutingSettings(), concurrency=8)


def submitter(scene: Scene, *, dry_run: bool = False) -> SubmitStage:
    return SubmitStage(
        scene.road,
        scene.account,
        scene.circuits,
        concurrency=8,
        held_seconds=600,
        second_look_seconds=60,
        dry_run=dry_run,
    )


def waiter(scene: Scene) -> WaitStage:
    return WaitStage(scene.road, scene.account, scene.circuits, held_seconds=600, unknown_seconds=3600)


async def routed(scene: Scene, name: str = "job-1") -> Job:
    await router(scene).handle(await scene.ready(name))
    return await scene.row(name)


async def sent(scene: Scene, name: str = "job-1") -> Job:
    """Routed, and submitted if there is room for it."""
    await submitter(scene).handle(await routed(scene, name))
    return await scene.row(name)


async def restarted(scene: Scene, **amounts: Any) -> Budget:
    """The budget as the next daemon reads it from the ledger."""
    budget = Budget(ProviderKey("scripted"), limits(**amounts), clock=scene.clock)
    await budget.load(scene.ledger)
    return budget


def no_prices(_device: str | None = None) -> None:
    """A vendor that tells no price."""


def committed(budget: Budget, period: Period = Period.DAY) -> Decimal:
    return Decimal(budget.document()["periods"][period]["committed"])


def reserved(budget: Budget) -> Decimal:
    return Decimal(budget.document()["reserved"])


async def test_a_submitted_job_reserves_its_expected_cost(opened: Callable[..., Scene]) -> None:
    scene = opened(per_day=10)
    assert (await sent(scene)).state is State.WAITING
    again = await restarted(scene, per_day=10)
    for budget in (scene.budget, again):
        assert (committed(budget), committed(budget, Period.MONTH), reserved(budget)) == (COST, COST, COST)


async def test_the_cost_takes_the_place_of_what_was_reserved(opened: Callable[..., Scene]) -> None:
    scene = opened(per_day=10)
    job = replace(await routed(scene), submit_started_at=scene.clock())
    outcome = Outcome(None, None, None, Money(Decimal(2), "USD"), CostKind.ACTUAL, "broken", {}, {})
    await scene.road.settle(job, Verdict.FAILED, outcome)
    again = await restarted(scene, per_day=10)
    for budget in (scene.budget, again):
        assert (committed(budget), reserved(budget)) == (2, 0)


async def test_a_job_that_ran_counts_what_its_receipt_says(opened: Callable[..., Scene]) -> None:
    scene = opened(per_day=10)
    await submitter(scene).handle(await routed(scene))
    await waiter(scene).handle(await scene.row())
    assert (await scene.row()).verdict is Verdict.SUCCEEDED
    assert (committed(scene.budget), reserved(scene.budget)) == (COST, 0)


async def test_a_job_the_vendor_refuses_costs_nothing(opened: Callable[..., Scene]) -> None:
    scene = opened(per_day=10)
    scene.vendor.fail_submit = [Refused("no such gate")]
    await submitter(scene).handle(await routed(scene))
    assert (await scene.row()).verdict is Verdict.REFUSED
    assert (committed(scene.budget), committed(await restarted(scene, per_day=10))) == (0, 0)


async def test_what_may_have_been_paid_stays_reserved(opened: Callable[..., Scene]) -> None:
    scene = opened(per_day=10)
    scene.vendor.fail_submit = [SubmitUnknown("no answer")]
    await submitter(scene).handle(await routed(scene))
    row = await scene.row()
    assert row.submit_started_at is not None
    assert reserved(scene.budget) == COST
    await scene.road.end_without_result(row, Verdict.FAILED, code="submit_unknown", message="nobody came")
    assert (committed(scene.budget), reserved(scene.budget)) == (COST, 0)


async def test_a_job_dearer_than_one_may_be_is_refused_with_the_amounts(opened: Callable[..., Scene]) -> None:
    scene = opened(per_job="1.29")
    row = await routed(scene)
    assert (row.state, row.verdict, row.error_code) == (State.SETTLED, Verdict.REFUSED, "over_budget")
    assert "1.30 USD" in (row.error or "")
    assert "1.29 USD" in (row.error or "")


async def test_a_job_without_room_waits_and_goes_on_the_next_day(opened: Callable[..., Scene]) -> None:
    scene = opened(per_day="2.00")
    await sent(scene, "job-1")
    late = await sent(scene, "job-2")
    assert (late.state, late.error_code, late.estimate) == (State.SUBMITTING, "budget_spent", Money(COST, "USD"))
    assert late.submit_started_at is None
    assert scene.clock() < late.due_at <= scene.clock() + timedelta(minutes=1)
    scene.clock.pass_seconds(86400)
    await submitter(scene).handle(replace(late, deadline_at=late.deadline_at + timedelta(days=7)))
    assert (await scene.row("job-2")).state is State.WAITING
    assert committed(scene.budget) == COST
    assert committed(scene.budget, Period.MONTH) == 2 * COST


async def test_with_no_room_at_all_a_job_is_not_even_routed(opened: Callable[..., Scene]) -> None:
    scene = opened(per_day="1.30")
    await sent(scene, "job-1")
    late = await routed(scene, "job-2")
    assert (late.state, late.error_code) == (State.READY, "budget_spent")


async def test_a_waiting_job_asks_no_vendor_for_its_price_again(opened: Callable[..., Scene]) -> None:
    scene = opened(per_day="2.00")
    await sent(scene, "job-1")
    late = await sent(scene, "job-2")
    scene.vendor.devices = []
    await submitter(scene).handle(late)
    assert (await scene.row("job-2")).error_code == "budget_spent"


async def test_room_made_by_a_cheaper_job_is_used(opened: Callable[..., Scene]) -> None:
    scene = opened(per_day="2.00")
    first = await sent(scene, "job-1")
    late = await sent(scene, "job-2")
    await scene.road.end_without_result(first, Verdict.REFUSED, code="x", message="it was not", unsubmitted=True)
    await submitter(scene).handle(late)
    assert (await scene.row("job-2")).state is State.WAITING


async def test_a_job_the_budget_kept_waiting_says_so_at_its_deadline(opened: Callable[..., Scene]) -> None:
    scene = opened(per_day="2.00", per_month="2.00")
    await sent(scene, "job-1")
    late = await sent(scene, "job-2")
    scene.clock.pass_seconds((late.deadline_at - scene.clock()).total_seconds())
    await submitter(scene).handle(late)
    row = await scene.row("job-2")
    assert (row.verdict, row.error_code) == (Verdict.FAILED, "deadline")
    assert "budget" in (row.error or "")


async def test_a_budget_that_becomes_ours_while_it_is_read_keeps_what_was_reserved(
    opened: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process had the account and ended; what was then reserved here was overwritten by what was read before.

    The account could spend so much more than its budget.
    """
    scene = opened(per_day=10)
    ours = set[ProviderKey]()
    read = scene.ledger.open_charges

    async def read_slowly(account: ProviderKey) -> dict[ExecutionId, Charge]:
        found = await read(account)
        ours.add(account)
        scene.budget.reserve(ExecutionId("job-1"), Money(COST, "USD"))
        return found

    monkeypatch.setattr(scene.ledger, "open_charges", read_slowly)
    await scene.road.budgets.load(scene.ledger, ours=lambda: ours)
    assert (committed(scene.budget), reserved(scene.budget)) == (COST, COST)


async def test_what_a_job_reserved_that_finds_no_room_later_is_not_kept_for_ever(opened: Callable[..., Scene]) -> None:
    """Its vendor was away, and the next day's budget was spent by others: at its deadline the job ended unsubmitted.

    Its reservation had been forgotten in memory alone. In the ledger it stayed, and counted again after a restart.
    """
    scene = opened(per_day=2)
    scene.vendor.fail_submit = [Unavailable("away")]
    unsent = await sent(scene)
    assert unsent.submit_started_at is None
    await scene.road.store(unsent, replace(unsent, deadline_at=scene.clock() + timedelta(days=7)))
    scene.clock.pass_seconds(86400)
    assert (await sent(scene, "job-2")).state is State.WAITING
    for _ in range(2):
        await submitter(scene).handle(await scene.row("job-1"))
        assert (await scene.row("job-1")).error_code == BudgetSpent.code
    scene.clock.pass_seconds(8 * 86400)
    await submitter(scene).handle(await scene.row("job-1"))
    assert (await scene.row("job-1")).state is State.SETTLED
    again = await restarted(scene, per_day=2)
    for budget in (scene.budget, again):
        assert (reserved(budget), committed(budget, Period.MONTH)) == (COST, COST)


async def test_what_a_job_reserved_at_an_account_that_is_gone_is_settled_with_it(opened: Callable[..., Scene]) -> None:
    """Its reservation was never looked for, and counted again when the account was set up again."""
    scene = opened()
    gone = ProviderKey("gone")
    job = await scene.submitting("job-1")
    charge = Charge(gone, Money(COST, "USD"), scene.clock())
    held = replace(job, state=State.HELD, provider=gone, estimate=None)
    held = await scene.road.save(job, replace(held, submit_started_at=scene.clock()), charge=charge)
    await scene.road.end_without_result(held, Verdict.FAILED, code="operator", message="given up")
    assert await scene.ledger.open_charges(gone) == {}
    (day,) = await scene.ledger.charged_by_day(gone, scene.clock() - timedelta(days=1))
    assert day.money == Money(COST, "USD")


async def test_a_job_finds_room_in_what_it_reserved_itself(opened: Callable[..., Scene]) -> None:
    """It waited for room, and a restart read from the ledger what it had reserved before: it stood in its own way."""
    scene = opened(per_day=2)
    scene.vendor.fail_submit = [Unavailable("away"), Unavailable("away")]
    await sent(scene)
    for _ in range(2):
        waits = await scene.row("job-1")
        spent = replace(waits, error_code=BudgetSpent.code, error="no room")
        await submitter(scene).handle(await scene.road.store(waits, spent))
    assert (await scene.row("job-1")).state is State.WAITING
    assert committed(scene.budget) == COST


async def test_jobs_submitted_at_once_do_not_overshoot(opened: Callable[..., Scene]) -> None:
    """Looking and adding is one step: of fifty at the same moment exactly as many go on as there is room for."""
    scene = opened(per_day="13.00")
    jobs = [await routed(scene, f"job-{number}") for number in range(50)]
    stage = submitter(scene)
    await asyncio.gather(*(stage.handle(job) for job in jobs))
    counts = await scene.ledger.count_by_state()
    assert (counts[State.WAITING], counts[State.SUBMITTING]) == (10, 40)
    assert committed(scene.budget) == 13


@pytest.mark.parametrize(("error", "counted"), [(StaleRow("it moved on"), 0), (StoreError("the disk is full"), COST)])
async def test_a_reservation_that_was_certainly_not_stored_is_taken_back(
    opened: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch, error: StoreError, counted: Decimal
) -> None:
    """One that may have been stored counts until the job comes again, which replaces it."""
    scene = opened(per_day=10)
    job = await routed(scene)

    async def fail(*_args: Any, **_parts: Any) -> Job:
        raise error

    with monkeypatch.context() as failing:
        failing.setattr(scene.ledger, "save", fail)
        with pytest.raises(StoreError):
            await submitter(scene).handle(job)
    assert committed(scene.budget) == counted
    await submitter(scene).handle(job)
    assert committed(scene.budget) == COST


async def test_without_an_estimate_a_budget_refuses_and_without_a_budget_nothing_does(
    opened: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, free = opened(per_month=10), opened()
    for one in (scene, free):
        monkeypatch.setattr(one.vendor, "get_pricing", no_prices)
    row = await routed(scene)
    assert (row.verdict, row.error_code) == (Verdict.REFUSED, "no_estimate")
    assert (await routed(free)).state is State.SUBMITTING


async def test_an_operator_may_say_what_an_unpriced_job_counts(
    opened: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = opened(per_month=10, unpriced_cost="4")
    monkeypatch.setattr(scene.vendor, "get_pricing", no_prices)
    rows = [await sent(scene, f"job-{number}") for number in range(3)]
    assert [row.state for row in rows] == [State.WAITING, State.WAITING, State.SUBMITTING]
    assert {row.estimate for row in rows} == {None}, "an assumption is no estimate, and no receipt may say so"


async def test_a_price_in_another_currency_is_no_price(opened: Callable[..., Scene], caplog: Any) -> None:
    scene = opened(per_day=10, currency="EUR")
    row = await routed(scene)
    assert row.error_code == "no_estimate"
    assert "budget.unpriced_cost" in caplog.text


def test_a_unit_is_a_currency() -> None:
    clock = datetime(2026, 11, 30, 23, 59, tzinfo=UTC)
    settings = limits(per_month=600, currency="quantum_seconds")
    budget = Budget(ProviderKey("ibm"), settings, clock=lambda: clock)
    charge = budget.reserve(ExecutionId("a"), Money(Decimal("2.5"), "quantum_seconds"))
    assert charge == Charge(ProviderKey("ibm"), Money(Decimal("2.5"), "quantum_seconds"), clock)
    with pytest.raises(CannotRun, match=r"priced in USD, and the budget is in quantum_seconds"):
        budget.checked(Money(Decimal(1), "USD"))


async def test_free_jobs_are_not_held_back_by_a_spent_budget() -> None:
    clock = datetime(2026, 11, 21, 8, tzinfo=UTC)
    budget = Budget(ProviderKey("ionq"), limits(per_day=1), clock=lambda: clock)
    assert budget.reserve(ExecutionId("paid"), Money(Decimal(1), "USD")) is not None
    assert budget.reserve(ExecutionId("simulated"), Money(Decimal(0), "USD")) is None
    with pytest.raises(BudgetSpent) as caught:
        budget.reserve(ExecutionId("more"), Money(Decimal("0.01"), "USD"))
    assert caught.value.until == datetime(2026, 11, 22, tzinfo=UTC)


async def test_a_spent_budget_closes_the_intake_and_room_opens_it(opened: Callable[..., Scene]) -> None:
    scene = opened(per_day="2.60")
    intake = JobIntake(scene.ledger, scene.told, MinerSettings(), budgets=Budgets([scene.budget]), clock=scene.clock)
    await sent(scene, "job-1")
    assert (await intake(request("job-a", 1))).success
    await sent(scene, "job-2")
    answer = await intake(request("job-b", 2))
    assert not answer.success
    assert answer.error_message is not None
    assert answer.error_message.startswith("this miner's budget of the day has no room until 2026-")
    assert not intake.is_open
    assert (await intake(request("job-a", 3))).success, "a job accepted before is not told it was refused"
    scene.clock.pass_seconds(86400)
    assert intake.is_open
    assert (await intake(request("job-b", 4))).success


async def test_a_job_too_large_for_the_rest_closes_the_intake_too(opened: Callable[..., Scene]) -> None:
    """Each further job would only join the queue behind it."""
    scene = opened(per_day="2.00")
    intake = JobIntake(scene.ledger, scene.told, MinerSettings(), budgets=Budgets([scene.budget]), clock=scene.clock)
    first = await sent(scene, "job-1")
    assert intake.is_open
    await sent(scene, "job-2")
    assert not intake.is_open
    await scene.road.end_without_result(first, Verdict.REFUSED, code="x", message="never submitted", unsubmitted=True)
    assert intake.is_open


async def test_the_operator_is_told_once_at_four_fifths(opened: Callable[..., Scene], caplog: Any) -> None:
    scene = opened(per_day="6.50", per_month="100")
    alerts: list[str] = []
    with caplog.at_level(logging.WARNING):
        for number in range(5):
            await sent(scene, f"job-{number}")
            alerts = [one.getMessage() for one in caplog.records if getattr(one, "action", "") == "budget_alert"]
            assert len(alerts) == (1 if number >= 3 else 0)
    what = "5.20 USD of 6.50 USD are spent or reserved of the budget of this day"
    assert alerts == [f"{what}; raise budget.per_day, or new jobs wait for the next"]


async def test_a_dry_run_does_everything_but_the_paid_call(opened: Callable[..., Scene]) -> None:
    scene = opened(per_day=10)
    await submitter(scene, dry_run=True).handle(await routed(scene))
    row = await scene.row()
    assert (row.state, row.verdict, row.error_code) == (State.SETTLED, Verdict.REFUSED, "dry_run")
    assert "1.30 USD" in (row.error or "")
    assert scene.vendor.submits == []
    assert (committed(scene.budget), reserved(scene.budget)) == (0, 0)


async def test_a_dry_run_finishes_what_may_have_been_submitted_before(opened: Callable[..., Scene]) -> None:
    scene = opened(per_day=10)
    scene.vendor.fail_submit = [SubmitUnknown("no answer")]
    scene.vendor.found = [Found(handles=[JobHandle(provider_job_id="vendor-1", device_id="dev")])]
    await submitter(scene).handle(await routed(scene))
    await submitter(scene, dry_run=True).handle(await scene.row())
    assert (await scene.row()).state is State.WAITING


async def test_another_account_has_a_budget_of_its_own(opened: Callable[..., Scene]) -> None:
    scene = opened(per_day=10)
    await routed(scene)
    other = Budget(ProviderKey("other"), limits(per_day=10), clock=scene.clock)
    await other.load(scene.ledger)
    assert committed(other) == 0


@pytest.mark.parametrize(
    ("period", "day", "first", "following"),
    [
        (Period.DAY, date(2026, 12, 31), date(2026, 12, 31), datetime(2027, 1, 1, tzinfo=UTC)),
        (Period.MONTH, date(2026, 12, 31), date(2026, 12, 1), datetime(2027, 1, 1, tzinfo=UTC)),
        (Period.MONTH, date(2028, 2, 29), date(2028, 2, 1), datetime(2028, 3, 1, tzinfo=UTC)),
    ],
)
def test_periods_are_those_of_utc(period: Period, day: date, first: date, following: datetime) -> None:
    assert (period.first_day(day), period.next_start(day)) == (first, following)


async def test_parts_that_come_to_an_account_in_one_moment_see_what_is_reserved_for_each_other(
    opened: Callable[..., Scene],
) -> None:
    """What a part that moved will cost at its new account is in no row before it is marked as submitted."""
    scene = opened(per_job="2.00")
    ready = replace(await scene.ready(), provider=scene.account.key)
    one, two = (replace(ready, execution_id=ExecutionId(f"job-1~0{n}"), estimate=None) for n in range(2))
    budget = scene.road.budgets.of(scene.account.key)
    cost = Money(COST, "USD")
    budget.check_beside(replace(one, estimate=cost), [one, two])
    budget.reserve(one.execution_id, cost)
    with pytest.raises(CannotRun, match=r"with its other parts here, the job is expected to cost 2\.60 USD"):
        budget.check_beside(replace(two, estimate=cost), [one, two])
    elsewhere = replace(one, provider=ProviderKey("another"))
    budget.check_beside(replace(two, estimate=cost), [elsewhere, two])
