from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from qcompute.miner.job import MOVES, Job, State, Verdict, is_allowed
from qcompute.miner.road import backoff_seconds, public_status
from qcompute.miner.runner import LONGEST_POLL_SECONDS, poll_pause_seconds
from qcompute.protocol import ExecutionStatus
from qcompute.units import ExecutionId, Hotkey

ORDER = [State.ACCEPTED, State.READY, State.SUBMITTING, State.WAITING, State.SETTLED, State.CLOSED]


def test_every_state_has_its_moves() -> None:
    assert set(MOVES) == set(State)


def test_only_one_move_walks_back() -> None:
    """A simulator's job that is gone is submitted again."""
    back = {(before, after) for before in ORDER for after in ORDER[: ORDER.index(before)] if is_allowed(before, after)}
    assert back == {(State.WAITING, State.SUBMITTING)}


def test_a_held_job_goes_where_an_operator_can_send_it() -> None:
    assert MOVES[State.HELD] == {State.HELD, State.SUBMITTING, State.WAITING, State.SETTLED}


def test_a_closed_job_never_changes() -> None:
    assert MOVES[State.CLOSED] == frozenset()


@pytest.mark.parametrize("state", [state for state in State if state is not State.CLOSED])
def test_nothing_is_called_finished_before_it_is_closed(state: State) -> None:
    for verdict in (None, *Verdict):
        assert public_status(state, verdict) not in (ExecutionStatus.COMPLETED, ExecutionStatus.FAILED)


def test_a_closed_job_is_completed_only_when_it_succeeded() -> None:
    assert public_status(State.CLOSED, Verdict.SUCCEEDED) is ExecutionStatus.COMPLETED
    for verdict in (Verdict.FAILED, Verdict.CANCELLED, Verdict.REFUSED):
        assert public_status(State.CLOSED, verdict) is ExecutionStatus.FAILED


def test_back_off_grows_to_its_limit_and_never_past_it() -> None:
    pauses = [backoff_seconds(attempts, first=1.0, longest=60.0) for attempts in range(100)]
    assert all(0.5 <= pause <= 60.0 for pause in pauses)
    assert min(pauses[10:]) >= 30.0


def test_polls_get_rarer_with_age_up_to_once_a_minute() -> None:
    young = poll_pause_seconds(age_seconds=1, interval_seconds=2.0, eta_seconds=None)
    older = poll_pause_seconds(age_seconds=600, interval_seconds=2.0, eta_seconds=None)
    ancient = poll_pause_seconds(age_seconds=86400, interval_seconds=2.0, eta_seconds=None)
    assert young == 2.0
    assert older == 30.0
    assert ancient == LONGEST_POLL_SECONDS


def test_a_vendor_that_foretells_an_hour_is_not_asked_every_other_second() -> None:
    assert poll_pause_seconds(age_seconds=1, interval_seconds=2.0, eta_seconds=3600) == LONGEST_POLL_SECONDS
    assert poll_pause_seconds(age_seconds=1, interval_seconds=2.0, eta_seconds=10) == 5.0
    assert poll_pause_seconds(age_seconds=1, interval_seconds=2.0, eta_seconds=0) == 2.0


def test_a_changed_copy_is_what_dataclasses_make() -> None:
    """The road copies a row some ten times, so a row has a way of its own, which must copy every field."""
    now = datetime(2026, 1, 2, tzinfo=UTC)
    job = Job(ExecutionId("a"), Hotkey("v"), 100, {"seed": 1}, now, now, now, attempts=3, error="late")
    changes: dict[str, Any] = {"state": State.READY, "attempts": 0, "error": None}
    changed = job.but(**changes)
    assert changed == replace(job, **changes)
    assert (job.state, job.attempts, job.error) == (State.ACCEPTED, 3, "late")
    with pytest.raises(FrozenInstanceError):
        changed.attempts = 1  # pyright: ignore[reportAttributeAccessIssue] - what must not work


def test_a_copy_with_a_misspelled_field_is_refused() -> None:
    now = datetime(2026, 1, 2, tzinfo=UTC)
    job = Job(ExecutionId("a"), Hotkey("v"), 100, {}, now, now, now)
    with pytest.raises(TypeError, match="a job has no dueat, stat"):
        job.but(stat=State.READY, dueat=now, shots=1)
