"""The ledger in SQL, whichever database holds it: one thread writes, others read, concurrent writers share a commit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from itertools import islice, pairwise
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, CursorResult, Executable
from typing_extensions import override

from qcompute.errors import StoreError
from qcompute.ledger import statements
from qcompute.ledger.batch import Effects
from qcompute.ledger.browse import lines_of, look_at_closed, open_parameters, open_statement
from qcompute.ledger.claims import Claims, SoleClaims, Tenure
from qcompute.ledger.contract import (
    AT_ONCE,
    Intake,
    Ledger,
    Names,
    OpenWork,
    Page,
    Poll,
    Postponed,
    open_work_from,
    polls_from,
)
from qcompute.ledger.cursor import read_cursor, write_cursor
from qcompute.ledger.figures import Figures
from qcompute.ledger.keepers import Read
from qcompute.ledger.listing import ClosedJobs, JobLine, Wish
from qcompute.ledger.opening import Opened
from qcompute.ledger.operations import (
    Accept,
    Claim,
    ForgetCharges,
    ForgetNonces,
    Operation,
    Postpone,
    Purge,
    Save,
    UseNonce,
)
from qcompute.ledger.rows import (
    NUL,
    Row,
    charge_from,
    finished_from,
    job_from,
    outcome_from,
    outcome_row,
    summed_by_day,
)
from qcompute.ledger.times import from_micros, micros
from qcompute.ledger.worker import Worker
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
from qcompute.miner.kept import Kept
from qcompute.units import ExecutionId, Hotkey, ProviderJobId, ProviderKey

_T = TypeVar("_T")

_KEPT_PARTS: Final = 1000
_KEPT_CHARACTERS: Final = 4 << 20
"""Of the circuits, and of the outcomes, that a stage wrote and the next will read."""

_PURGE_PIECE: Final = 500
"""Jobs removed in one transaction, so that a large purge keeps no request waiting for long."""


class SqlLedger(Ledger):
    """See `Ledger`. A subclass opens its database in its constructor, which ends with `_start`."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        super().__init__()
        self._clock = clock
        self._closing: asyncio.Task[None] | None = None
        self._claims: Claims = SoleClaims(self._claim)
        # Written by one stage to be read by the next; of jobs that are not closed yet, so none that a purge removes.
        self._circuits: Kept[ExecutionId, str] = Kept(entries=_KEPT_PARTS, size=_KEPT_CHARACTERS)
        self._outcomes: Kept[ExecutionId, Outcome] = Kept(entries=_KEPT_PARTS, size=_KEPT_CHARACTERS)

    @property
    @override
    def claims(self) -> Claims:
        return self._claims

    async def _claim(self, lane: str, holder: str) -> int:
        return await self._write(Claim(lane, holder))

    def _start(self, opened: Opened, writer: Worker[Operation], readers: Sequence[Worker[Read]]) -> None:
        """Start the threads; the caller lets go of the database when this raises."""
        self._id = opened.ledger_id
        self._box = opened.box
        # What is committed, changed on the event loop only.
        self._figures = opened.figures
        self._writer = writer
        self._readers = readers
        started: list[Worker[Any]] = []
        try:
            for worker in (writer, *readers):
                worker.start()
                started.append(worker)
        except BaseException:
            for worker in started:
                worker.abandon()
            raise

    async def _current(self) -> Figures:
        """The figures of the whole ledger; a store that others write to looks anew when they are old."""
        return self._figures

    def _release(self) -> None:
        """Let go of what the constructor took, once no thread uses it."""

    @override
    async def accept(self, job: NewJob, nonce: Nonce) -> Intake:
        return await self._write(Accept(job, nonce))

    @override
    async def use_nonce(self, nonce: Nonce) -> bool:
        return await self._write(UseNonce(nonce))

    @override
    async def forget_nonces(self, before_ns: int) -> int:
        return await self._write(ForgetNonces(before_ns))

    @override
    async def due(
        self, state: State, now: datetime, limit: int, *, lane: str = NOBODYS_LANE, skip: Names = frozenset()
    ) -> list[Job]:
        self._check_open()
        wanted = max(limit, 0)  # SQLite takes a negative limit for none, Postgres refuses it
        most = wanted + len(skip) if wanted else 0
        parameters = {"state": state.value, "lane": lane, "now": micros(now), "most": most}

        def read(connection: Connection) -> list[Job]:
            # Rows in hand are passed over before anything of them is decoded: a busy stage has a thousand of them.
            rows = _rows(connection.execute(statements.DUE, parameters), skip)
            return [self._job(row) for row in islice(rows, wanted)]

        return await self._read(read)

    @override
    async def polls_due(
        self, now: datetime, limit: int, *, lane: str, skip: Names = frozenset(), within: timedelta = AT_ONCE
    ) -> list[Poll]:
        self._check_open()
        wanted = max(limit, 0)
        most = wanted + len(skip) if wanted else 0
        times: dict[str, Any] = {"now": micros(now), "due_by": micros(now + within)}
        parameters = {"state": State.WAITING.value, "lane": lane, "most": most} | times

        def read(connection: Connection) -> list[Poll]:
            rows = connection.execute(statements.POLLS_DUE, parameters).fetchall()
            return polls_from(islice((row for row in rows if row[0] not in skip), wanted), times["now"])

        return await self._read(read)

    @override
    async def postpone(self, polls: Sequence[Postponed], *, tenure: Tenure | None = None) -> None:
        due = {at: micros(at) for at in {one.due_at for one in polls}}
        rows: list[Row] = [{"key": one.execution_id, "was": one.version, "due": due[one.due_at]} for one in polls]
        await self._write(Postpone(rows, tenure))

    @override
    async def next_due_at(self, state: State, *, lane: str = NOBODYS_LANE) -> datetime | None:
        # The least of no rows is one NULL.
        answer = await self._ask(statements.NEXT_DUE, _only_value, state=state.value, lane=lane)
        return None if answer[0] is None else from_micros(answer[0])

    @override
    async def lanes(self, state: State) -> set[str]:
        found: set[str] = set()
        latest = NOBODYS_LANE
        while following := await self._ask(statements.NEXT_LANE, _only_value, state=state.value, after=latest):
            latest = following[0]
            found.add(latest)
        return found

    @override
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
        stored: Job = await self._write(Save(before, after, circuit, outcome, receipt, charge, tenure))
        if circuit is not None:
            self._circuits.put(stored.execution_id, circuit, len(circuit))
        if outcome is not None:
            row = outcome_row(outcome)
            size = len(row["counts"] or "") + len(row["metadata"])
            self._outcomes.put(stored.execution_id, outcome_from(row), size)
        if stored.state is State.CLOSED:
            self._circuits.drop(stored.execution_id)
            self._outcomes.drop(stored.execution_id)
        return stored

    @override
    async def split(self, before: Job, after: Job, parts: Sequence[Job], *, tenure: Tenure | None = None) -> Job:
        return await self._write(Save(before, after, None, None, None, None, tenure, tuple(parts)))

    @override
    async def parts(self, execution_id: ExecutionId) -> list[Job]:
        found = await self._ask_of(execution_id, statements.PARTS, self._job)
        return sorted(found, key=lambda part: part.execution_id)

    @override
    async def get(self, execution_id: ExecutionId) -> Job | None:
        return _first(await self._ask_of(execution_id, statements.JOB, self._job))

    @override
    async def at_vendor(self, provider_job_id: ProviderJobId) -> list[Job]:
        found = await self._ask(statements.AT_VENDOR, self._job, vendors_id=provider_job_id)
        return sorted(found, key=lambda job: job.execution_id)

    @override
    async def circuit(self, execution_id: ExecutionId) -> str | None:
        self._check_open()
        if (kept := self._circuits.get(execution_id)) is not None:
            return kept
        return _first(await self._ask_of(execution_id, statements.CIRCUIT, _only_value))

    @override
    async def outcome(self, execution_id: ExecutionId) -> Outcome | None:
        self._check_open()
        if (kept := self._outcomes.get(execution_id)) is not None:
            return kept
        return _first(await self._ask_of(execution_id, statements.OUTCOME, outcome_from))

    @override
    async def receipt(self, execution_id: ExecutionId) -> str | None:
        return _first(await self._ask_of(execution_id, statements.RECEIPT, _only_value))

    @override
    async def charged_by_day(self, account: ProviderKey, since: datetime) -> list[DayCharges]:
        self._check_open()
        parameters = {"account": account, "since": micros(since)}

        def read(connection: Connection) -> list[DayCharges]:
            rows = connection.execute(statements.CHARGES_BY_DAY, parameters)
            return summed_by_day((day, currency, amount, count) for day, currency, amount, count in rows)

        return await self._read(read)

    @override
    async def open_charges(self, account: ProviderKey) -> dict[ExecutionId, Charge]:
        found = await self._ask(
            statements.OPEN_CHARGES, lambda row: (row["execution_id"], charge_from(row)), account=account
        )
        return dict(found)

    @override
    async def forget_charges(self, before: datetime) -> int:
        return await self._write(ForgetCharges(micros(before)))

    @override
    async def finished_after(self, cursor: str, limit: int) -> Page:
        """See `Ledger.finished_after`; a cursor that is up to date costs no look into the database."""
        self._check_open()
        latest = (await self._current()).latest
        place = read_cursor(cursor, self._id, max(micros(self._clock()), latest.micros))
        if not place.is_before(latest):
            return Page([], cursor)

        def read(connection: Connection) -> list[FinishedJob]:
            seq_by_time = connection.execute(statements.SEQ_AT, {"micros": place.micros}).scalar() or 0
            parameters = {"seq": min(place.seq, seq_by_time), "most": max(limit, 0)}
            return [finished_from(row) for row in _rows(connection.execute(statements.FINISHED, parameters))]

        jobs = await self._read(read)
        return Page(jobs, write_cursor(jobs[-1].cursor_seq, jobs[-1].closed_at, self._id) if jobs else cursor)

    @override
    async def open_jobs(
        self, wish: Wish, limit: int, *, before: tuple[datetime, ExecutionId] | None = None
    ) -> list[JobLine]:
        self._check_open()
        if NUL in wish.text or wish.state is State.CLOSED:
            return []
        statement = open_statement(wish, has_before=before is not None)
        parameters = open_parameters(wish, before, limit)
        return await self._read(lambda connection: lines_of(connection, statement, parameters))

    @override
    async def closed_jobs(self, wish: Wish, limit: int, *, below: int | None = None, look: int = 1000) -> ClosedJobs:
        latest = (await self._current()).latest.seq
        if NUL in wish.text or wish.state not in (None, State.CLOSED):
            return ClosedJobs([], None)
        highest = latest + 1 if below is None else min(below, latest + 1)
        return await self._read(lambda connection: look_at_closed(connection, wish, highest, limit, look))

    @override
    async def closed_between(self, times: Sequence[datetime]) -> list[int]:
        def read(connection: Connection) -> list[int]:
            reached = [connection.execute(statements.SEQ_AT, {"micros": micros(time)}).scalar() or 0 for time in times]
            return [after - before for before, after in pairwise(reached)]

        return await self._read(read)

    @override
    async def count_by_state(self) -> dict[State, int]:
        self._check_open()
        figures = await self._current()
        return {state: figures.states[state] for state in State}

    @override
    async def open_work(self) -> list[OpenWork]:
        self._check_open()

        def read(connection: Connection) -> list[OpenWork]:
            return [open_work_from(row) for row in connection.execute(statements.OPEN_WORK)]

        return await self._read(read)

    @override
    async def open_by_validator(self) -> dict[Hotkey, int]:
        self._check_open()
        return dict((await self._current()).open_jobs)

    @override
    async def purge(self, closed_before: datetime) -> int:
        """See `Ledger.purge`. Other writers get their turn in between, so a large purge is not one transaction."""
        total = 0
        while True:
            purged: int = await self._write(Purge(micros(closed_before), _PURGE_PIECE))
            total += purged
            if purged < _PURGE_PIECE:
                return total

    @override
    async def close(self) -> None:
        """See `Ledger.close`. A second call waits for the same end; every other call raises `StoreError`."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        # Whoever waits may be cancelled; the writes under way are finished all the same.
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        for reader in self._readers:
            await reader.stop()
        # SQLite's last connection to go folds the log into the file, which takes the writing one.
        await self._writer.stop()
        self._release()

    def _check_open(self) -> None:
        if self._closing is not None:
            raise StoreError("the ledger is closed")

    async def _write(self, operation: Operation) -> Any:  # noqa: ANN401 - operations.py says what answers each
        self._check_open()
        return await self._writer.do(operation)

    async def _read(self, question: Callable[[Connection], _T]) -> _T:
        self._check_open()
        return await min(self._readers, key=_load).do(question)

    async def _ask_of(
        self, execution_id: ExecutionId, statement: Executable, read_row: Callable[[Row], _T]
    ) -> list[_T]:
        self._check_open()
        # Postgres does not even take the question.
        return [] if NUL in execution_id else await self._ask(statement, read_row, id=execution_id)

    async def _ask(self, statement: Executable, read_row: Callable[[Row], _T], **parameters: str | int) -> list[_T]:
        """The rows of a statement, each turned into what is wanted on the reader's thread."""
        self._check_open()

        def read(connection: Connection) -> list[_T]:
            return [read_row(row) for row in _rows(connection.execute(statement, parameters))]

        return await self._read(read)

    def _job(self, row: Row) -> Job:
        if row["input_data_url"] is not None:
            row["input_data_url"] = self._box.open(row["input_data_url"])
        return job_from(row)

    def _learn(self, effects: Effects) -> None:
        """Called on the event loop after each commit, before those who wrote go on."""
        self._figures.add(effects)
        for (state, lane), jobs in effects.arrivals.items():
            self._arrived(state, lane, jobs)


def _rows(result: CursorResult[Any], skip: AbstractSet[str] = frozenset()) -> Iterator[Row]:
    """Rows as mappings; those whose first column is in ``skip`` are left out."""
    names = tuple(result.keys())
    return (dict(zip(names, row, strict=True)) for row in result if not skip or row[0] not in skip)


def _only_value(row: Row) -> Any:  # noqa: ANN401 - as the column has it
    return next(iter(row.values()))


def _first(answers: list[_T]) -> _T | None:
    return answers[0] if answers else None


def _load(worker: Worker[Any]) -> int:
    return worker.load
