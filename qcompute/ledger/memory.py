"""The ledger's twin in memory: the same behaviour, gone when the process ends. For tests and trials."""

from __future__ import annotations

import secrets
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from itertools import islice, pairwise
from typing import Final

from typing_extensions import override

from qcompute.errors import Bug, StaleRow, StoreError
from qcompute.ledger.browse import is_wanted, line_from, next_below
from qcompute.ledger.claims import Claims, Fenced, SoleClaims, Tenure
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
from qcompute.ledger.cursor import START, read_cursor, write_cursor
from qcompute.ledger.listing import ClosedJobs, JobLine, Wish
from qcompute.ledger.rows import (
    Row,
    brings_forward,
    charge_from,
    charge_row,
    checked_nonce,
    exact_text,
    finished_from,
    job_from,
    new_job_row,
    outcome_from,
    outcome_row,
    part_row,
    saved_row,
    summed_by_day,
)
from qcompute.ledger.times import DAY_MICROS, from_micros, micros
from qcompute.miner.job import NOBODYS_LANE, SPLIT_LANE, Charge, DayCharges, Job, NewJob, Nonce, Outcome, State
from qcompute.units import ExecutionId, Hotkey, ProviderJobId, ProviderKey, utc_now

_POLL_COLUMNS: Final = ("execution_id", "version", "handle", "vendor_status", "submitted_at")


class MemoryLedger(Ledger):
    """Rows in dictionaries, kept as the database would keep them. No method waits, so each is one transaction."""

    def __init__(self, clock: Callable[[], datetime] = utc_now) -> None:
        super().__init__()
        self._clock = clock
        self._id = secrets.token_hex(6)
        self._latest = START
        self._rows: dict[ExecutionId, Row] = {}
        self._closed: list[tuple[int, int, ExecutionId]] = []
        """(seq, closed at, id), in closing order."""
        self._circuits: dict[ExecutionId, str] = {}
        self._outcomes: dict[ExecutionId, Row] = {}
        self._receipts: dict[ExecutionId, str] = {}
        self._charges: dict[ExecutionId, Row] = {}
        self._nonces: dict[tuple[Hotkey, str], int] = {}
        self._used_nonces: set[tuple[Hotkey, str, int]] = set()
        self._fences: Counter[str] = Counter()
        self._claims = SoleClaims(self._claim)
        self._is_closed = False

    @property
    @override
    def claims(self) -> Claims:
        return self._claims

    async def _claim(self, lane: str, holder: str) -> int:
        self._check_open()
        del holder
        self._fences[lane] += 1
        return self._fences[lane]

    @override
    async def accept(self, job: NewJob, nonce: Nonce) -> Intake:
        self._check_open()
        row = new_job_row(job)
        if not self._use(checked_nonce(nonce)):
            return Intake.REPLAYED
        if job.execution_id in self._rows:
            return Intake.DUPLICATE
        self._rows[job.execution_id] = row
        self._arrived(State.ACCEPTED, NOBODYS_LANE, [job_from(row)])
        return Intake.ACCEPTED

    @override
    async def use_nonce(self, nonce: Nonce) -> bool:
        self._check_open()
        return self._use(checked_nonce(nonce))

    @override
    async def forget_nonces(self, before_ns: int) -> int:
        self._check_open()
        known = len(self._nonces) + len(self._used_nonces)
        self._nonces = {key: value for key, value in self._nonces.items() if value >= before_ns}
        self._used_nonces = {key for key in self._used_nonces if key[2] >= before_ns}
        return known - len(self._nonces) - len(self._used_nonces)

    @override
    async def due(
        self, state: State, now: datetime, limit: int, *, lane: str = NOBODYS_LANE, skip: Names = frozenset()
    ) -> list[Job]:
        self._check_open()
        now_us = micros(now)
        rows = [
            row
            for row in self._rows.values()
            if (row["state"], row["lane"]) == (state, lane)
            and row["due_at"] <= now_us
            and row["execution_id"] not in skip
        ]
        rows.sort(key=lambda row: (row["due_at"], row["execution_id"]))
        return [job_from(row) for row in rows[: max(limit, 0)]]

    @override
    async def polls_due(
        self, now: datetime, limit: int, *, lane: str, skip: Names = frozenset(), within: timedelta = AT_ONCE
    ) -> list[Poll]:
        jobs = await self.due(State.WAITING, now + within, len(self._rows), lane=lane, skip=skip)
        rows = [
            self._rows[job.execution_id]
            for job in jobs
            if job.deadline_at > now
            and not job.attempts
            and job.handle is not None
            and job.error_code is None
            and job.cancel_requested_at is None
        ]
        return polls_from(([row[name] for name in _POLL_COLUMNS] for row in rows[: max(limit, 0)]), micros(now))

    @override
    async def postpone(self, polls: Sequence[Postponed], *, tenure: Tenure | None = None) -> None:
        self._check_open()
        if tenure is not None and self._fences.get(tenure.lane) != tenure.fence:
            raise Fenced(tenure.lane)
        for one in polls:
            row = self._rows.get(one.execution_id)
            if row is not None and row["version"] == one.version:
                row["due_at"] = min(micros(one.due_at), row["deadline_at"])

    @override
    async def next_due_at(self, state: State, *, lane: str = NOBODYS_LANE) -> datetime | None:
        self._check_open()
        due = [row["due_at"] for row in self._rows.values() if (row["state"], row["lane"]) == (state, lane)]
        return from_micros(min(due)) if due else None

    @override
    async def lanes(self, state: State) -> set[str]:
        self._check_open()
        return {row["lane"] for row in self._rows.values() if row["state"] == state} - {NOBODYS_LANE}

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
        self._check_open()
        row = saved_row(before, after, has_circuit=circuit is not None)
        circuit_text = None if circuit is None else exact_text(circuit)
        outcome_columns = None if outcome is None else outcome_row(outcome)
        receipt_text = None if receipt is None else exact_text(receipt)
        charge_columns = None if charge is None else charge_row(charge)
        self._check_may_write(before, tenure)
        if after.state is State.CLOSED:
            self._latest = self._latest.next(self._clock())
            row["cursor_seq"], row["closed_at"] = self._latest.seq, self._latest.micros
            self._closed.append((self._latest.seq, self._latest.micros, before.execution_id))
        self._rows[before.execution_id] = row
        if circuit_text is not None:
            self._circuits[before.execution_id] = circuit_text
        if outcome_columns is not None:
            self._outcomes[before.execution_id] = outcome_columns
        if receipt_text is not None:
            self._receipts[before.execution_id] = receipt_text
        if charge_columns is not None:
            self._charges[before.execution_id] = charge_columns
        saved = job_from(row)
        if brings_forward(before, after):
            self._arrived(after.state, after.lane, [saved])
        return saved

    @override
    async def split(self, before: Job, after: Job, parts: Sequence[Job], *, tenure: Tenure | None = None) -> Job:
        self._check_open()
        rows = {part.execution_id: part_row(before, part) for part in parts}
        saved_row(before, after, has_circuit=False)
        # Nothing waits up to the last line, so what is seen here holds until all is written.
        self._check_may_write(before, tenure)
        if len(rows) != len(parts) or rows.keys() & self._rows.keys():
            raise Bug(f"a part of job {before.execution_id} is there already")
        self._rows |= rows
        for part in parts:
            self._arrived(part.state, part.lane, [part])
        return await self.save(before, after, tenure=tenure)

    @override
    async def parts(self, execution_id: ExecutionId) -> list[Job]:
        self._check_open()
        rows = [row for row in self._rows.values() if row["parent_id"] == execution_id]
        return [job_from(row) for row in sorted(rows, key=lambda row: row["execution_id"])]

    @override
    async def get(self, execution_id: ExecutionId) -> Job | None:
        self._check_open()
        row = self._rows.get(execution_id)
        return None if row is None else job_from(row)

    @override
    async def at_vendor(self, provider_job_id: ProviderJobId) -> list[Job]:
        self._check_open()
        rows = [row for row in self._rows.values() if row["provider_job_id"] == provider_job_id]
        return [job_from(row) for row in sorted(rows, key=lambda row: row["execution_id"])]

    @override
    async def circuit(self, execution_id: ExecutionId) -> str | None:
        self._check_open()
        row = self._rows.get(execution_id)
        return None if row is None else self._circuits.get(row["parent_id"] or execution_id)

    @override
    async def outcome(self, execution_id: ExecutionId) -> Outcome | None:
        self._check_open()
        row = self._outcomes.get(execution_id)
        return None if row is None else outcome_from(row)

    @override
    async def receipt(self, execution_id: ExecutionId) -> str | None:
        self._check_open()
        return self._receipts.get(execution_id)

    @override
    async def charged_by_day(self, account: ProviderKey, since: datetime) -> list[DayCharges]:
        self._check_open()
        return summed_by_day(
            (row["charged_at"] // DAY_MICROS, row["currency"], row["amount"], 1)
            for row in self._charges.values()
            if row["account"] == account and row["charged_at"] >= micros(since)
        )

    @override
    async def open_charges(self, account: ProviderKey) -> dict[ExecutionId, Charge]:
        self._check_open()
        rows = self._charges.items()
        return {key: charge_from(row) for key, row in rows if row["account"] == account and row["settled_at"] is None}

    @override
    async def forget_charges(self, before: datetime) -> int:
        self._check_open()
        known, oldest = len(self._charges), micros(before)
        self._charges = {
            key: row for key, row in self._charges.items() if row["settled_at"] is None or row["charged_at"] >= oldest
        }
        return known - len(self._charges)

    @override
    async def finished_after(self, cursor: str, limit: int) -> Page:
        self._check_open()
        place = read_cursor(cursor, self._id, max(micros(self._clock()), self._latest.micros))
        by_seq = bisect_right(self._closed, place.seq, key=lambda closed: closed[0])
        by_time = bisect_right(self._closed, place.micros, key=lambda closed: closed[1])
        first = min(by_seq, by_time)
        behind = (self._rows[execution_id] for _, _, execution_id in self._closed[first:])
        whole = (row for row in behind if row["parent_id"] is None)
        jobs = [finished_from(row) for row in islice(whole, max(limit, 0))]
        if not jobs:
            return Page([], cursor)
        return Page(jobs, write_cursor(jobs[-1].cursor_seq, jobs[-1].closed_at, self._id))

    @override
    async def open_jobs(
        self, wish: Wish, limit: int, *, before: tuple[datetime, ExecutionId] | None = None
    ) -> list[JobLine]:
        self._check_open()
        rows = [
            row
            for row in self._rows.values()
            if row["state"] != State.CLOSED
            and row["parent_id"] is None
            and wish.state in (None, row["state"])
            and is_wanted(wish, row)
        ]
        rows.sort(key=_latest_first)
        if before is not None:
            place = (-micros(before[0]), before[1])
            rows = [row for row in rows if _latest_first(row) > place]
        return [line_from(row) for row in rows[: max(limit, 0)]]

    @override
    async def closed_jobs(self, wish: Wish, limit: int, *, below: int | None = None, look: int = 1000) -> ClosedJobs:
        self._check_open()
        if "\0" in wish.text or wish.state not in (None, State.CLOSED):
            return ClosedJobs([], None)
        highest = self._latest.seq + 1 if below is None else min(below, self._latest.seq + 1)
        floor = max(highest - max(look, 1), 1)
        rows = [self._rows[name] for seq, _, name in reversed(self._closed) if floor <= seq < highest]
        wanted = [line_from(row) for row in rows if row["parent_id"] is None and is_wanted(wish, row)]
        lines = wanted[: max(limit, 0)]
        return ClosedJobs(lines, next_below(lines, floor, limit, self._closed[0][0] if self._closed else None))

    @override
    async def closed_between(self, times: Sequence[datetime]) -> list[int]:
        self._check_open()
        places = [bisect_right(self._closed, micros(time), key=lambda closed: closed[1]) for time in times]
        reached = [self._closed[place - 1][0] if place else 0 for place in places]
        return [after - before for before, after in pairwise(reached)]

    @override
    async def count_by_state(self) -> dict[State, int]:
        self._check_open()
        counts = Counter(row["state"] for row in self._rows.values())
        return {state: counts[state] for state in State}

    @override
    async def open_work(self) -> list[OpenWork]:
        self._check_open()
        found: dict[tuple[str, str | None, str | None], list[Row]] = {}
        for row in self._rows.values():
            if row["state"] != State.CLOSED:
                found.setdefault((row["state"], row["provider"], row["device_id"]), []).append(row)
        return [
            open_work_from(
                (
                    *key,
                    len(rows),
                    min(row["received_at"] for row in rows),
                    min((row["settled_at"] for row in rows if row["settled_at"] is not None), default=None),
                )
            )
            for key, rows in found.items()
        ]

    @override
    async def open_by_validator(self) -> dict[Hotkey, int]:
        self._check_open()
        whole = [row for row in self._rows.values() if row["parent_id"] is None]
        return dict(Counter(row["validator_hotkey"] for row in whole if row["state"] != State.CLOSED))

    @override
    async def purge(self, closed_before: datetime) -> int:
        self._check_open()
        before = min([micros(closed_before), *(at for _, at, name in self._closed if self._is_needed(name))])
        kept = bisect_right(self._closed, before - 1, key=lambda closed: closed[1])
        purged, self._closed = self._closed[:kept], self._closed[kept:]
        for _, _, execution_id in purged:
            del self._rows[execution_id]
            for parts in (self._circuits, self._outcomes, self._receipts):
                parts.pop(execution_id, None)
        return len(purged)

    def _is_needed(self, execution_id: ExecutionId) -> bool:
        """Whether it is a part whose whole still waits for others."""
        whole = self._rows.get(self._rows[execution_id]["parent_id"])
        return whole is not None and (whole["state"], whole["lane"]) == (State.WAITING, SPLIT_LANE)

    @override
    async def close(self) -> None:
        self._is_closed = True

    def _check_open(self) -> None:
        if self._is_closed:
            raise StoreError("the ledger is closed")

    def _check_may_write(self, before: Job, tenure: Tenure | None) -> None:
        if tenure is not None and self._fences.get(tenure.lane) != tenure.fence:
            raise Fenced(tenure.lane)
        stored = self._rows.get(before.execution_id)
        if stored is None or (stored["version"], stored["state"]) != (before.version, before.state):
            raise StaleRow

    def _use(self, nonce: Nonce) -> bool:
        key = (nonce.hotkey, nonce.scope)
        if nonce.strictly_growing:
            greatest = self._nonces.get(key)
            if greatest is not None and nonce.value_ns <= greatest:
                return False
            self._nonces[key] = nonce.value_ns
            return True
        if (*key, nonce.value_ns) in self._used_nonces:
            return False
        self._used_nonces.add((*key, nonce.value_ns))
        return True


def _latest_first(row: Row) -> tuple[int, str]:
    return -row["received_at"], row["execution_id"]
