"""The job: its states, its verdicts, the moves that are allowed. Pure: no I/O, no clock.

`State` says where a job is on the road, `Verdict` how it ended. A stage takes a row in one state and leaves it in the
same or a later one, in one transaction; `MOVES` says which may walk back, and when.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import date, datetime
from enum import StrEnum
from typing import Any, Final

from qcompute.units import Counts, DeviceId, ExecutionId, Hotkey, IdempotencyToken, Money, ProviderJobId, ProviderKey


class State(StrEnum):
    """Where a job is on the road; see the table in ``docs/explanation/one-job.md``."""

    ACCEPTED = "accepted"
    """Verified and on disk; its circuit is to be fetched."""
    READY = "ready"
    """Circuit stored; a device is to be chosen."""
    SUBMITTING = "submitting"
    """A paid call may be in flight."""
    WAITING = "waiting"
    """The vendor has it; polled when due."""
    SETTLED = "settled"
    """Outcome and receipt stored; to be delivered."""
    CLOSED = "closed"
    """Delivered; validators may collect it."""
    HELD = "held"
    """An operator must look; has a deadline."""


class Verdict(StrEnum):
    """How a job ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REFUSED = "refused"


MOVES: Final[Mapping[State, frozenset[State]]] = {
    State.ACCEPTED: frozenset({State.ACCEPTED, State.READY, State.SETTLED}),
    State.READY: frozenset({State.READY, State.SUBMITTING, State.WAITING, State.SETTLED}),
    State.SUBMITTING: frozenset({State.SUBMITTING, State.WAITING, State.HELD, State.SETTLED}),
    State.WAITING: frozenset({State.WAITING, State.SUBMITTING, State.HELD, State.SETTLED}),
    State.HELD: frozenset({State.HELD, State.SUBMITTING, State.WAITING, State.SETTLED}),
    State.SETTLED: frozenset({State.SETTLED, State.CLOSED}),
    State.CLOSED: frozenset(),
}
"""Every allowed move; staying means "try again later". A held job goes on only by an operator's hand
(`qcompute.miner.commands`), and back to submitting with its mark, so that it is looked for first. A waiting one goes
back only where its vendor lost it and running it again costs nothing (`BaseExecutionStatus.is_lost`)."""


_IN_LANES: Final = frozenset({State.SUBMITTING, State.WAITING})

NOBODYS_LANE: Final = ""
"""The lane of rows that no account works on: those not yet submitted, those that ended, those that are held."""


SPLIT_LANE: Final = "@split"
"""The lane of jobs that wait for their parts. No account has such a name."""


class CostKind(StrEnum):
    """What a cost is worth."""

    ACTUAL = "actual"
    VENDOR_ESTIMATE = "vendor_estimate"
    OUR_ESTIMATE = "our_estimate"
    UNKNOWN = "unknown"


class CountsSource(StrEnum):
    """Whether counts were measured shot by shot or derived from probabilities."""

    MEASURED = "measured"
    SAMPLED = "sampled"


@dataclass(frozen=True, slots=True)
class NewJob:
    """A verified request, about to become a row. ``input_data_url`` may be presigned: it is a secret."""

    execution_id: ExecutionId
    validator_hotkey: Hotkey
    input_data_url: str = field(repr=False)
    shots: int
    configuration_data: dict[str, Any]
    received_at: datetime
    deadline_at: datetime


@dataclass(frozen=True)
class Job:
    """One row of the ledger's ``jobs`` table. All times are aware UTC.

    ``due_at`` is when the current stage looks at it next; ``attempts`` counts tries of the current stage and starts
    again at every move; ``submit_attempts`` counts submits and never does. ``version`` grows with each save, and a
    save with an old one is refused. ``input_data_url`` is encrypted at rest and wiped once the circuit is stored.
    ``handle`` is the adapter's whole JobHandle; ``prepared`` what was submitted, written down with the mark: the
    measurement map, facts of the translation, the place in a pack. ``error_code`` and ``error`` are the last problem
    met, for people; ``cursor_seq`` the place in the order of closing, None before. ``provider`` is the name of the
    account; ``placement`` why it was chosen and what comes next (`qcompute.miner.placement`). ``parent_id`` is the job
    whose shots this one takes a part of.
    """

    execution_id: ExecutionId
    validator_hotkey: Hotkey
    shots: int
    configuration_data: dict[str, Any]
    received_at: datetime
    deadline_at: datetime
    due_at: datetime
    state: State = State.ACCEPTED
    verdict: Verdict | None = None
    version: int = 0
    attempts: int = 0
    input_data_url: str | None = field(default=None, repr=False)
    circuit_sha256: str | None = None
    provider: ProviderKey | None = None
    device_id: DeviceId | None = None
    token: IdempotencyToken | None = None
    submit_attempts: int = 0
    submit_started_at: datetime | None = None
    estimate: Money | None = None
    provider_job_id: ProviderJobId | None = None
    handle: dict[str, Any] | None = None
    submitted_at: datetime | None = None
    vendor_status: str | None = None
    cancel_requested_at: datetime | None = None
    upload_id: str | None = None
    error_code: str | None = None
    error: str | None = None
    settled_at: datetime | None = None
    closed_at: datetime | None = None
    cursor_seq: int | None = None
    prepared: dict[str, Any] | None = None
    placement: dict[str, Any] | None = None
    parent_id: ExecutionId | None = None

    def but(self, **changes: Any) -> Job:  # noqa: ANN401 - whatever the fields hold
        """This row with other values in some fields, as `dataclasses.replace` makes it, at a quarter of its cost.

        A job is copied some ten times on its road, and has more than thirty fields.

        Raises:
            TypeError: a job has no such field.
        """
        if not changes.keys() <= _FIELDS:
            raise TypeError(f"a job has no {', '.join(sorted(changes.keys() - _FIELDS))}")
        changed = object.__new__(Job)
        changed.__dict__.update(self.__dict__, **changes)
        return changed

    @property
    def lane(self) -> str:
        """Whose work the row is: the name of its account while that is to submit or to wait, else `NOBODYS_LANE`."""
        return (self.provider or NOBODYS_LANE) if self.state in _IN_LANES else NOBODYS_LANE


_FIELDS: Final = frozenset(one.name for one in fields(Job))


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended, stored before anyone is told. ``counts`` is None unless it succeeded."""

    counts: Counts | None = field(repr=False)
    counts_source: CountsSource | None
    shots_returned: int | None
    cost: Money | None
    cost_kind: CostKind
    message: str | None
    timestamps: dict[str, Any]
    metadata: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Charge:
    """What a job counts in the budgets of its account: what may have to be paid while it is open, then what it cost.

    ``charged_at`` says in which UTC day and month; it stays when the amount is settled.
    """

    account: ProviderKey
    money: Money
    charged_at: datetime
    settled_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class DayCharges:
    """The sum of an account's charges of one UTC day in one currency."""

    day: date
    money: Money


@dataclass(frozen=True, slots=True)
class Nonce:
    """One use of a hotkey. ``value_ns`` is the caller's nanosecond clock.

    ``scope`` is the dendrite's uuid, within which nonces must grow; ``strictly_growing`` is false for ``btauth/1``,
    where a nonce only must never repeat.
    """

    hotkey: Hotkey
    scope: str
    value_ns: int
    strictly_growing: bool = True


@dataclass(frozen=True, slots=True)
class FinishedJob:
    """A closed job as collected by validators."""

    execution_id: ExecutionId
    shots: int
    verdict: Verdict
    upload_id: str | None
    provider_job_id: ProviderJobId | None
    error: str | None
    cursor_seq: int
    closed_at: datetime


def is_allowed(before: State, after: State) -> bool:
    """Whether a row may go from ``before`` to ``after``."""
    return after in MOVES[before]
