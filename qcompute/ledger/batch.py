"""Many operations in one transaction.

The operations of one batch were all under way at the same moment, so any order among them is right: they are done kind
by kind, with one statement for many rows where that is possible, and within a kind in the order they came. What must be
known is read first, then decided upon, then written. SQLite's transaction has the write lock from its start, so nothing
changes in between. On Postgres others may write; what was decided upon is then not there any more when it is written:
a row of that key exists, or has another version. The transaction ends with `Raced` or the database's own error,
and is done again from the start.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, assert_never

import orjson
from sqlalchemy import Connection

from qcompute.errors import Bug, StaleRow
from qcompute.ledger import statements
from qcompute.ledger.claims import Fenced
from qcompute.ledger.contract import Intake
from qcompute.ledger.cursor import Place
from qcompute.ledger.dialect import KEYS, Dialect
from qcompute.ledger.figures import Effects
from qcompute.ledger.many import Many
from qcompute.ledger.nonce_book import forget_nonces, use_nonces
from qcompute.ledger.operations import (
    Accept,
    Claim,
    ForgetCharges,
    ForgetNonces,
    Operation,
    Postpone,
    Purge,
    Recount,
    Save,
    UseNonce,
)
from qcompute.ledger.races import Raced
from qcompute.ledger.rows import (
    Row,
    brings_forward,
    charge_row,
    checked_nonce,
    exact_text,
    job_from,
    new_job_row,
    outcome_row,
    part_row,
    saved_row,
    stored_job,
)
from qcompute.ledger.secretbox import SecretBox
from qcompute.ledger.times import micros
from qcompute.miner.job import NOBODYS_LANE, Job, Nonce, State
from qcompute.units import ExecutionId


class Batch:
    """The operations of one transaction. `run` is called once, within it; its effects hold after the commit."""

    def __init__(self, connection: Connection, dialect: Dialect, box: SecretBox, clock: Callable[[], datetime]) -> None:
        self._connection = connection
        self._dialect = dialect
        self._box = box
        self._clock = clock
        self.effects = Effects()

    def run(self, operations: Sequence[Operation]) -> list[Any]:
        """The answer to each operation: what the method returns, or the error it raises; then it wrote nothing."""
        answers: list[Any] = [None] * len(operations)
        intakes: list[tuple[int, Accept | UseNonce]] = []
        saves: list[tuple[int, Save]] = []
        for place, operation in enumerate(operations):
            match operation:
                case Accept() | UseNonce():
                    intakes.append((place, operation))
                case Save():
                    saves.append((place, operation))
                case Postpone() | Claim() | ForgetNonces() | ForgetCharges() | Purge() | Recount():
                    answers[place] = self._alone(operation)
                case _:
                    assert_never(operation)
        if intakes:
            self._take_in(intakes, answers)
        if saves:
            self._save(saves, answers)
        return answers

    def _alone(
        self, operation: Postpone | Claim | ForgetNonces | ForgetCharges | Purge | Recount
    ) -> int | Fenced | None:
        """Those that come one by one, and seldom."""
        match operation:
            case Postpone():
                return self._postpone(operation)
            case Claim():
                return self._claim(operation)
            case ForgetNonces(before_ns):
                return forget_nonces(self._connection, before_ns)
            case ForgetCharges(before_us):
                return self._connection.execute(statements.FORGET_CHARGES, {"before": before_us}).rowcount
            case Purge():
                return self._purge(operation)
            case Recount():
                return None
            case _:
                assert_never(operation)

    def _take_in(self, intakes: Iterable[tuple[int, Accept | UseNonce]], answers: list[Any]) -> None:
        sound: list[tuple[int, Nonce, Row | None]] = []
        for place, operation in intakes:
            try:
                row = new_job_row(operation.job) if isinstance(operation, Accept) else None
                sound.append((place, checked_nonce(operation.nonce), row))
            except Bug as error:
                answers[place] = error
        accepted: list[tuple[int, Row]] = []
        are_new = use_nonces(self._connection, self._dialect, [nonce for _, nonce, _ in sound])
        for (place, _, row), is_new in zip(sound, are_new, strict=True):
            if row is None:
                answers[place] = is_new
            elif is_new:
                accepted.append((place, row))
            else:
                answers[place] = Intake.REPLAYED
        if accepted:
            self._accept(accepted, answers)

    def _accept(self, accepted: Sequence[tuple[int, Row]], answers: list[Any]) -> None:
        known = self._known({row["execution_id"] for _, row in accepted})
        new: list[Row] = []
        for place, row in accepted:
            if row["execution_id"] in known:
                answers[place] = Intake.DUPLICATE
                continue
            answers[place] = Intake.ACCEPTED
            known[row["execution_id"]] = (row["version"], row["state"])
            self.effects.arrivals[State.ACCEPTED, NOBODYS_LANE].append(job_from(row))
            row["input_data_url"] = self._box.seal(row["input_data_url"])
            new.append(row)
        if new:
            # In one order everywhere, so that two processes do not wait for each other's rows.
            self._dialect.insert_job(self._connection, sorted(new, key=_id))
            self.effects.states[State.ACCEPTED] += len(new)
            self.effects.open_jobs.update(row["validator_hotkey"] for row in new)

    def _save(self, saves: Sequence[tuple[int, Save]], answers: list[Any]) -> None:
        fences = self._fences({operation.tenure.lane for _, operation in saves if operation.tenure is not None})
        latest: Place | None = None
        if any(operation.after.state is State.CLOSED for _, operation in saves):
            latest = self.effects.latest = Place(*self._connection.execute(statements.LATEST).one())
        known = self._known(_ids_of(saves))
        writes: dict[Many, list[Row]] = defaultdict(list)
        for place, operation in saves:
            before = operation.before
            try:
                row = saved_row(before, operation.after, has_circuit=operation.circuit is not None)
                belongings = self._belongings(operation)
                added = [part_row(before, part) for part in operation.parts]
            except Bug as error:
                answers[place] = error
                continue
            refusal = _refusal(operation, known, fences)
            if refusal is not None:
                answers[place] = refusal
                continue
            known[before.execution_id] = (row["version"], row["state"])
            known |= {part["execution_id"]: (part["version"], part["state"]) for part in added}
            self._note(operation, row)
            answers[place] = self._arrived(before, stored_job(before, operation.after, row))
            writes[self._dialect.replace_job].append(self._replacement(operation, row))
            for put, columns in belongings:
                writes[put].append({"execution_id": before.execution_id, **columns})
            writes[self._dialect.insert_job].extend(added)
        for write, rows in ((write, rows) for write, rows in writes.items() if rows):
            # Stable: two saves of one job stay in their order.
            changed = write(self._connection, sorted(rows, key=_id))
            if write is self._dialect.replace_job and changed != len(rows):
                raise Raced
        reached = self.effects.latest
        if reached is not None and reached != latest:
            self._connection.execute(statements.MOVE_LATEST, {"seq": reached.seq, "micros": reached.micros})

    def _note(self, operation: Save, row: Row) -> None:
        """Number the row when it closes, and count what its move changes."""
        before, after, effects = operation.before, operation.after, self.effects
        if after.state is State.CLOSED and effects.latest is not None:
            effects.latest = effects.latest.next(self._clock())
            row["cursor_seq"], row["closed_at"] = effects.latest.seq, effects.latest.micros
            effects.open_jobs[before.validator_hotkey] -= before.parent_id is None
        effects.states[before.state] -= 1
        effects.states[after.state] += 1
        for part in operation.parts:
            effects.states[part.state] += 1
            effects.arrivals[part.state, part.lane].append(part)

    def _arrived(self, before: Job, stored: Job) -> Job:
        if brings_forward(before, stored):
            self.effects.arrivals[stored.state, stored.lane].append(stored)
        return stored

    def _replacement(self, operation: Save, row: Row) -> Row:
        """The row as the parameters of `statements.REPLACE_JOB`."""
        url = row.pop("input_data_url")
        del row["validator_hotkey"]
        row["key"] = row.pop("execution_id")
        row["was"] = operation.before.version
        keeps_url = url is not None and url == operation.before.input_data_url
        row["keeps_url"] = keeps_url
        row["url"] = None if keeps_url or url is None else self._box.seal(url)
        return row

    def _known(self, ids: Iterable[ExecutionId]) -> dict[ExecutionId, tuple[int, str]]:
        """Version and state of those rows that exist."""
        rows = self._connection.execute(self._dialect.known_jobs, {KEYS: orjson.dumps(sorted(ids)).decode()}).all()
        return {execution_id: (version, state) for execution_id, version, state in rows if state is not None}

    def _fences(self, lanes: Iterable[str]) -> dict[str, int]:
        """The fences of today of those lanes."""
        keys = sorted(lanes)
        if not keys:
            return {}
        found = self._connection.execute(self._dialect.fences, {KEYS: orjson.dumps(keys).decode()})
        return {lane: fence for lane, fence in found}  # noqa: C416 - rows are not pairs to a type checker

    def _claim(self, operation: Claim) -> int:
        at = micros(self._clock())
        again = {"claimed": operation.lane, "by": operation.holder, "at": at}
        if not self._connection.execute(statements.CLAIM, again).rowcount:
            first = {"lane": operation.lane, "holder": operation.holder, "taken_at": at}
            self._connection.execute(statements.FIRST_CLAIM, first)
        fence: int = self._connection.execute(statements.FENCE, {"claimed": operation.lane}).scalar_one()
        return fence

    def _postpone(self, operation: Postpone) -> Fenced | None:
        tenure = operation.tenure
        if tenure is not None and self._fences([tenure.lane]).get(tenure.lane) != tenure.fence:
            return Fenced(tenure.lane)
        # In one order everywhere, as for saves.
        self._dialect.postpone(self._connection, sorted(operation.rows, key=_id))
        return None

    def _purge(self, operation: Purge) -> int:
        first_needed: int | None = self._connection.execute(statements.FIRST_NEEDED).scalar()
        # Nor what was closed behind it: the numbers of closed jobs have no gaps.
        before = operation.closed_before_us if first_needed is None else min(operation.closed_before_us, first_needed)
        parameters = {"closed_before": before, "most": operation.limit}
        purged = self._connection.execute(statements.PURGE, parameters).rowcount
        self.effects.states[State.CLOSED] -= purged
        return purged

    def _belongings(self, operation: Save) -> list[tuple[Many, Row]]:
        dialect = self._dialect
        belongings: list[tuple[Many, Row]] = []
        if operation.circuit is not None:
            belongings.append((dialect.put_circuit, {"text": exact_text(operation.circuit)}))
        if operation.outcome is not None:
            belongings.append((dialect.put_outcome, outcome_row(operation.outcome)))
        if operation.charge is not None:
            belongings.append((dialect.put_charge, charge_row(operation.charge)))
        if operation.receipt is not None:
            belongings.append((dialect.put_receipt, {"document": exact_text(operation.receipt)}))
        return belongings


def _id(row: Row) -> str:
    return row["execution_id"] if "execution_id" in row else row["key"]


def _refusal(
    operation: Save, known: Mapping[ExecutionId, tuple[int, str]], fences: Mapping[str, int]
) -> StaleRow | Bug | None:
    """Why nothing of a save may be written; None when it may."""
    tenure, before = operation.tenure, operation.before
    if tenure is not None and fences.get(tenure.lane) != tenure.fence:
        return Fenced(tenure.lane)
    if known.get(before.execution_id) != (before.version, before.state):
        return StaleRow()
    if len({part.execution_id for part in operation.parts} - known.keys()) != len(operation.parts):
        return Bug(f"a part of job {before.execution_id} is there already")
    return None


def _ids_of(saves: Sequence[tuple[int, Save]]) -> set[ExecutionId]:
    """The rows that are replaced, and those that are added."""
    replaced = {operation.before.execution_id for _, operation in saves}
    return replaced.union(part.execution_id for _, operation in saves for part in operation.parts)
