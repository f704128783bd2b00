"""Who may go on to the next candidate: a refused job at once, one that only has to wait after waiting."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from qcompute.miner.job import Job, State
from qcompute.miner.onward import Cause, has_another, onward, staying
from qcompute.miner.placement import Candidate, Placement, Policy, Price
from qcompute.units import DeviceId, ExecutionId, Hotkey, Money, ProviderKey

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
PATIENCE = timedelta(seconds=600)


def candidate(account: str, *, fallback_from: str | None = None, price: str | None = None) -> Candidate:
    return Candidate(
        account=account,
        device_id="q",
        device_type="QPU",
        reason="its turn",
        fallback_from=fallback_from,
        estimate=None if price is None else Price(amount=Decimal(price), currency="USD"),
    )


A, B = candidate("a"), candidate("b", price="0.35")
STAND_IN = candidate("aer", fallback_from="a QPU")


def job(*candidates: Candidate, since: datetime | None = None) -> Job:
    """A job marked at its first candidate."""
    placement = Placement(policy=Policy.ORDER, asked="a QPU", candidates=candidates, unavailable_since=since)
    return Job(
        execution_id=ExecutionId("job-1"),
        validator_hotkey=Hotkey("v"),
        shots=1,
        configuration_data={},
        received_at=NOW,
        deadline_at=NOW + timedelta(days=1),
        due_at=NOW + timedelta(hours=1),
        state=State.SUBMITTING,
        attempts=3,
        provider=ProviderKey("a"),
        device_id=DeviceId("q"),
        submit_started_at=NOW,
        submit_attempts=2,
        estimate=Money(Decimal(9), "USD"),
        placement=placement.document(),
        prepared={"pack_index": None},
        error_code="refused",
        error="no",
    )


def moved(before: Job, cause: Cause, now: datetime = NOW) -> Job | None:
    return onward(before, cause, "the reason", now, patience=PATIENCE)


def test_the_next_candidate_gets_the_job_as_if_it_were_the_first() -> None:
    after = moved(job(A, B), Cause.REFUSED)
    assert after is not None
    assert (after.lane, after.provider, after.device_id, after.due_at) == ("b", "b", "q", NOW)
    assert (after.submit_started_at, after.prepared, after.attempts, after.error_code) == (None, None, 0, None)
    assert (after.estimate, after.submit_attempts) == (Money(Decimal("0.35"), "USD"), 2)
    placement = Placement.of(after.placement)
    assert placement is not None
    assert (placement.index, placement.left) == (1, ("the reason",))


@pytest.mark.parametrize("cause", Cause)
def test_after_the_last_candidate_there_is_none(cause: Cause) -> None:
    assert moved(job(A, since=NOW - 2 * PATIENCE), cause) is None
    assert not has_another(job(A))
    assert has_another(job(A, B))


def test_a_job_from_before_there_were_placements_stays_where_it_is() -> None:
    old = Job(
        execution_id=ExecutionId("old"),
        validator_hotkey=Hotkey("v"),
        shots=1,
        configuration_data={},
        received_at=NOW,
        deadline_at=NOW,
        due_at=NOW,
    )
    assert moved(old, Cause.REFUSED) is None
    assert staying(old, NOW) is old
    assert not has_another(old)


def test_an_account_that_can_do_nothing_is_left_at_once_but_not_for_a_stand_in() -> None:
    """With the budget of the day spent, jobs for a QPU must not all become a simulator's within a second."""
    assert moved(job(A, B), Cause.ACCOUNT) is not None
    waiting = staying(job(A, STAND_IN), NOW)
    assert moved(waiting, Cause.ACCOUNT, NOW + PATIENCE - timedelta(seconds=1)) is None
    after = moved(waiting, Cause.ACCOUNT, NOW + PATIENCE)
    assert after is not None
    assert after.provider == "aer"


def test_what_is_away_is_waited_for_once() -> None:
    assert moved(job(A, B), Cause.AWAY) is None
    waiting = staying(job(A, B), NOW)
    later = staying(waiting, NOW + PATIENCE)
    assert later is waiting
    assert moved(waiting, Cause.AWAY, NOW + PATIENCE - timedelta(seconds=1)) is None
    after = moved(later, Cause.AWAY, NOW + PATIENCE)
    assert after is not None
    placement = Placement.of(after.placement)
    assert placement is not None
    assert placement.unavailable_since is None


def test_between_stand_ins_it_is_as_between_others() -> None:
    second = candidate("gpu", fallback_from="a QPU")
    at_stand_in = moved(job(A, STAND_IN, second), Cause.REFUSED)
    assert at_stand_in is not None
    after = moved(at_stand_in, Cause.ACCOUNT)
    assert after is not None
    assert after.provider == "gpu"
