"""What every store does for the daemon, named after what the daemon does.

All stores behave alike and pass the same tests (``tests/ledger``). Every method that writes returns only after the
write is durable; concurrent writers share one commit. A store belongs to one daemon at a time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, NamedTuple, TypeAlias

from qcompute.ledger.claims import Claims, Tenure
from qcompute.ledger.listing import ClosedJobs, JobLine, Wish
from qcompute.ledger.times import from_micros
from qcompute.miner.job import (
    NOBODYS_LANE,
    Charge,
    DayCharges,
    FinishedJob,
    Job,
    NewJob,
    Nonce,
    Outcome,
    State,
)
from qcompute.units import DeviceId, ExecutionId, Hotkey, ProviderJobId, ProviderKey

AT_ONCE: Final = timedelta(0)
Names: TypeAlias = AbstractSet[ExecutionId]
Hear: TypeAlias = Callable[[Sequence[Job] | None], None]
"""See `Ledger.hearing`; must not block or raise."""

LONGEST_WORDS: Final = 7000
"""What Postgres carries in one notice, and some less."""


class Intake(StrEnum):
    """What became of a request."""

    ACCEPTED = "accepted"
    """A new row, due at once."""
    DUPLICATE = "duplicate"
    """A row with this execution id exists already; it was not touched."""
    REPLAYED = "replayed"
    """The nonce was used before; nothing was written."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some closed jobs in the order they were closed, and the cursor that continues behind the last of them."""

    jobs: list[FinishedJob]
    cursor: str


class Poll(NamedTuple):
    """What is needed of a waiting job to ask for it; ``handle`` is the JSON of its JobHandle.

    A plain tuple, as `Postponed` is: a hundred thousand of them come and go each minute.
    """

    execution_id: ExecutionId
    version: int
    handle: str
    vendor_status: str | None
    age_seconds: float
    """Since its submit, when this was asked."""


def polls_from(rows: Iterable[Sequence[Any]], now_us: int) -> list[Poll]:
    """The polls of rows with these columns, the last of them the time of the submit, in microseconds."""
    return [
        Poll(execution_id, version, handle, vendor_status, 0.0 if at is None else (now_us - at) / 1e6)
        for execution_id, version, handle, vendor_status, at in rows
    ]


class Postponed(NamedTuple):
    """A job that was asked for and waits on."""

    execution_id: ExecutionId
    version: int
    due_at: datetime


@dataclass(frozen=True, slots=True)
class OpenWork:
    """How many jobs of one state, account and device are not closed, and how long ago the oldest of them came.

    ``oldest_settled_at`` is None where none has an outcome.
    """

    state: State
    account: ProviderKey | None
    device_id: DeviceId | None
    jobs: int
    oldest_received_at: datetime
    oldest_settled_at: datetime | None


def open_work_from(row: Sequence[Any]) -> OpenWork:
    """Of a row with its columns in this order, times in microseconds."""
    state, account, device_id, jobs, received_at, settled_at = row
    settled = None if settled_at is None else from_micros(settled_at)
    return OpenWork(State(state), account, device_id, jobs, from_micros(received_at), settled)


class Ledger(ABC):
    """The durable store of jobs. Methods may be called from many tasks of one event loop at once.

    Every method raises `qcompute.errors.StoreError` when the database fails.
    """

    def __init__(self) -> None:
        self._hearing: defaultdict[tuple[State, str], list[Hear]] = defaultdict(list)

    @property
    @abstractmethod
    def claims(self) -> Claims:
        """Who works on which lane; the same object at every call."""

    @abstractmethod
    async def accept(self, job: NewJob, nonce: Nonce) -> Intake:
        """Use the nonce and store the job, in one transaction. A replayed nonce stores nothing."""

    @abstractmethod
    async def use_nonce(self, nonce: Nonce) -> bool:
        """Remember a nonce of a request without a job; False when it was used before."""

    @abstractmethod
    async def forget_nonces(self, before_ns: int) -> int:
        """Drop nonces older than ``before_ns``; such requests must be refused as stale. Returns how many."""

    @abstractmethod
    async def due(
        self, state: State, now: datetime, limit: int, *, lane: str = NOBODYS_LANE, skip: Names = frozenset()
    ) -> list[Job]:
        """Jobs of one lane in ``state`` whose ``due_at`` has come, longest due first, at most ``limit``.

        Not those of ``skip``. See `qcompute.miner.job.Job.lane`.
        """

    @abstractmethod
    async def polls_due(
        self, now: datetime, limit: int, *, lane: str, skip: Names = frozenset(), within: timedelta = AT_ONCE
    ) -> list[Poll]:
        """As `due` for jobs that wait, of those with which nothing is the matter: no problem, deadline or cancel.

        Also those that fall due ``within`` that time.
        """

    @abstractmethod
    async def postpone(self, polls: Sequence[Postponed], *, tenure: Tenure | None = None) -> None:
        """Let jobs that wait fall due at another time, and change nothing else of them, not even their version.

        Each falls due at its deadline where that comes first. One that is not of that version any more is left alone.

        Raises:
            Fenced: another process took the lane of ``tenure`` since; nothing was written.
        """

    @abstractmethod
    async def next_due_at(self, state: State, *, lane: str = NOBODYS_LANE) -> datetime | None:
        """The earliest ``due_at`` of a lane in ``state``; None when there is no job."""

    @abstractmethod
    async def lanes(self, state: State) -> set[str]:
        """The lanes that have jobs in ``state``, whether due or not; without `NOBODYS_LANE`."""

    @abstractmethod
    async def save(
        self,
        before: Job,
        after: Job,
        *,
        circuit: str | None = None,
        outcome: Outcome | None = None,
        receipt: str | None = None,
        charge: Charge | None = None,
        tenure: Tenure | None = None,
    ) -> Job:
        """Replace the row ``before`` by ``after``, with the given parts, in one transaction.

        ``charge`` replaces what the job counted before in its account's budgets. ``tenure`` says in whose name it is
        done: nothing is written once another process took that lane.
        Closing assigns ``cursor_seq`` and ``closed_at`` in commit order. Storing a circuit wipes ``input_data_url``.
        Returns the stored row, with its new version.

        Raises:
            StaleRow: the row is not the version ``before`` any more; nothing was written.
            Fenced: another process took the lane of ``tenure`` since; nothing was written.
            Bug: the move is not in `qcompute.miner.job.MOVES`; nothing was written.
        """

    @abstractmethod
    async def split(self, before: Job, after: Job, parts: Sequence[Job], *, tenure: Tenure | None = None) -> Job:
        """Replace the row ``before`` by ``after`` and add its parts, in one transaction. Returns the stored row.

        A part is a new row whose ``parent_id`` is that job, of the same validator and circuit, not yet submitted. It
        is no job of its own to the outside: validators never collect it, and it takes no share of theirs.

        Raises:
            StaleRow: the row is not the version ``before`` any more; nothing was written.
            Fenced: another process took the lane of ``tenure`` since; nothing was written.
            Bug: the move is not allowed, or a part is no part of it, or there already; nothing was written.
        """

    @abstractmethod
    async def parts(self, execution_id: ExecutionId) -> list[Job]:
        """The parts of a job, in the order of their ids; none for a job that was not split."""

    @abstractmethod
    async def get(self, execution_id: ExecutionId) -> Job | None:
        """One row."""

    @abstractmethod
    async def at_vendor(self, provider_job_id: ProviderJobId) -> list[Job]:
        """The jobs that have this id at their vendor, whichever account they are at; looks at every row."""

    @abstractmethod
    async def circuit(self, execution_id: ExecutionId) -> str | None:
        """The stored circuit text of a job; of a part, that of the job it is a part of."""

    @abstractmethod
    async def outcome(self, execution_id: ExecutionId) -> Outcome | None:
        """The stored outcome of a job."""

    @abstractmethod
    async def receipt(self, execution_id: ExecutionId) -> str | None:
        """The stored signed receipt of a job, as canonical JSON."""

    @abstractmethod
    async def charged_by_day(self, account: ProviderKey, since: datetime) -> list[DayCharges]:
        """The sums of an account's charges made at or after ``since``, for each UTC day and currency, oldest first."""

    @abstractmethod
    async def open_charges(self, account: ProviderKey) -> dict[ExecutionId, Charge]:
        """The charges of an account that are not settled, by job."""

    @abstractmethod
    async def forget_charges(self, before: datetime) -> int:
        """Drop settled charges made before then. Returns how many."""

    @abstractmethod
    async def finished_after(self, cursor: str, limit: int) -> Page:
        """Closed jobs behind a validator's cursor, in closing order; parts of jobs are left out.

        A cursor of this ledger (``YYYY-MM-DD HH:MM:SS.ffffff|<ledger id>|<seq>``) continues exactly; any other text
        is read by its leading time (the reference's format, or another ledger's), from the start of that second, so
        a job may be sent twice but never missed. Text without a leading time starts from the beginning. The cursor
        returned equals ``cursor`` when there is nothing behind it.
        """

    @abstractmethod
    async def open_jobs(
        self, wish: Wish, limit: int, *, before: tuple[datetime, ExecutionId] | None = None
    ) -> list[JobLine]:
        """Jobs not yet closed, last received first, at most ``limit``; parts of jobs are left out.

        ``before`` continues behind the line with that ``received_at`` and id.
        """

    @abstractmethod
    async def closed_jobs(self, wish: Wish, limit: int, *, below: int | None = None, look: int = 1000) -> ClosedJobs:
        """Closed jobs, last closed first, at most ``limit``; parts of jobs are left out.

        Not more than ``look`` jobs are looked at, from the one numbered ``below`` on downwards (None: the last), so an
        answer may have few lines, or none, and yet more behind it.
        """

    @abstractmethod
    async def closed_between(self, times: Sequence[datetime]) -> list[int]:
        """How many jobs were closed after each of ``times``, up to the next one; parts and purged jobs count too.

        One number less than there are times. Of purged jobs it is not known when they were closed: they count before
        all others.
        """

    @abstractmethod
    async def count_by_state(self) -> dict[State, int]:
        """How many rows are in each state, parts of jobs included; every state is a key."""

    @abstractmethod
    async def open_work(self) -> list[OpenWork]:
        """All jobs that are not closed, parts included, by state, account and device. Looks at each of them."""

    @abstractmethod
    async def open_by_validator(self) -> dict[Hotkey, int]:
        """How many jobs that are not yet closed each validator has here; validators without any are left out.

        A job that was split counts once.
        """

    @abstractmethod
    async def purge(self, closed_before: datetime) -> int:
        """Remove jobs closed before then, with all their parts. Returns how many.

        A part stays while its whole waits for others, and what was closed after it stays with it.
        """

    @abstractmethod
    async def close(self) -> None:
        """Finish pending writes and release the store; no call may follow."""

    @contextmanager
    def hearing(self, state: State, hear: Hear, *, lane: str = NOBODYS_LANE) -> Generator[None]:
        """Within the block, call ``hear`` on the event loop with every job that is put into a lane of ``state``.

        Each is handed over as it was stored, before whoever stored it goes on; None stands for jobs that nobody here
        knows, of another process, say: `due` finds them. Entered on the event loop.
        """
        listeners = self._hearing[state, lane]
        listeners.append(hear)
        try:
            yield
        finally:
            listeners.remove(hear)

    async def tell_others(self, words: str) -> None:  # noqa: B027 - a store of one process has nobody to tell
        """Send words, of `LONGEST_WORDS` bytes at most, to the other processes that work on this ledger.

        They may get lost, and are not kept.

        Raises:
            StoreError: the database failed.
        """

    def hear_others(self, hear: Callable[[str], None]) -> None:  # noqa: B027 - as above
        """Have the words of others brought to ``hear``, on the event loop; replaces whoever heard them before."""

    def _arrived(self, state: State, lane: str, jobs: Sequence[Job] | None) -> None:
        """Called by stores on the event loop after a commit that put jobs into a lane of ``state``; None: any jobs."""
        for hear in self._hearing[state, lane]:
            hear(jobs)
