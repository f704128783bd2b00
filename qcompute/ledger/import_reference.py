"""Taking over the SQLite file of the subnet's reference miner, so that validators go on collecting.

Its one table, ``executions``, has a row for each job. Finished ones become closed rows whose time of closing is their
``timestamp``: that is what the reference's cursor compares, so a validator's old cursor goes on where it was (jobs of
the very second it stands in come once more, which harms nothing). Rows of one second keep the order they have there.

Jobs under way become rows that wait for their vendor's job, when there is one and the adapter that knows it is known.
All others are held for the operator. Nothing taken over is ever submitted: their circuits are not in the file.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import quote

from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import SQLAlchemyError

from qcompute.errors import Bug, ConfigError
from qcompute.ledger import statements
from qcompute.ledger.backup import reading, revision_of
from qcompute.ledger.check import IMPORTED
from qcompute.ledger.cursor import Place
from qcompute.ledger.database import open_database
from qcompute.ledger.failures import translated
from qcompute.ledger.rows import job_row, outcome_row
from qcompute.ledger.schema import jobs, outcomes
from qcompute.ledger.settings import LedgerSettings
from qcompute.ledger.times import from_micros
from qcompute.miner.job import CostKind, Job, Outcome, State, Verdict
from qcompute.protocol import is_execution_id
from qcompute.units import DeviceId, ExecutionId, Hotkey, Money, ProviderJobId, ProviderKey

SOURCE: Final = "reference"
"""What `IMPORTED` says in the outcomes made here."""

_COLUMNS: Final = (
    "execution_id",
    "upload_data_id",
    "validator_hotkey",
    "provider",
    "provider_job_id",
    "device_id",
    "status",
    "errorMessage",
    "cost",
    "shots",
    "timestamp",
    "timestamps_json",
    "metadata_json",
    "completed_at",
)

_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", re.ASCII)

_QUERY_OF_URL: Final = re.compile(r"(https?://[^\s?#]*)[?#]\S*")
"""The reference writes upload URLs with their signature into its error messages."""

_AHEAD: Final = timedelta(hours=1)
"""A time further ahead than this is no time of the past."""


class Became(StrEnum):
    """What a row of the reference became here."""

    CLOSED = "finished: closed"
    WAITING = "under way: waiting"
    HELD = "under way: held"
    KNOWN = "already here"
    OLD = "older than the retention: left out"
    UNREADABLE = "not understood: left out"


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """How rows are taken over."""

    now: datetime
    retention: timedelta
    """Finished rows older than this are left out; they would be removed within the hour."""
    job_deadline: timedelta
    held_deadline: timedelta
    providers: Collection[str]
    """The adapters that are known."""
    as_provider: ProviderKey | None = None
    """The adapter that knows the jobs under way, when their rows do not say."""
    skip_unreadable: bool = False


@dataclass(slots=True)
class Imported:
    """What came of it."""

    counts: Counter[Became] = field(default_factory=Counter[Became])
    unreadable: list[str] = field(default_factory=list[str])


class _Unreadable(Exception):
    """A row is not as the reference writes it; says what is odd."""


def import_reference(source: Path, settings: LedgerSettings, plan: ImportPlan, *, dry_run: bool = False) -> Imported:
    """Take over every row that is not here yet; with ``dry_run`` only count. The caller holds the ledger's lock.

    All rows come in one transaction. A second run takes over nothing twice and changes no row that is here.

    Raises:
        ConfigError: the file is not the reference miner's, or has rows that are not understood.
        StoreError: a database failed.
    """
    result = Imported()
    taken = list(_understood(_rows(source), plan, result))
    if result.unreadable and not plan.skip_unreadable:
        raise ConfigError(
            f"{len(result.unreadable)} rows of {source} are not understood: {'; '.join(result.unreadable[:5])}. "
            "Nothing was taken over; leave them out with --skip-unreadable"
        )
    if dry_run:
        known = _known(settings.file)
        result.counts.update(Became.KNOWN if job.execution_id in known else _became(job) for job, _ in taken)
        return result
    opened = open_database(settings)
    try:
        with opened.engine.connect() as connection, connection.begin():
            _store(connection, taken, opened.figures.latest, result)
    except SQLAlchemyError as error:
        raise translated(error) from error
    finally:
        opened.engine.dispose()
        opened.reading_engine.dispose()
    return result


def _known(ledger: Path) -> set[str]:
    """The jobs of a ledger as it is, without creating or upgrading it."""
    if not ledger.exists():
        return set()
    try:
        with reading(ledger) as connection:
            revision_of(connection, ledger)
            return {execution_id for (execution_id,) in connection.execute("SELECT execution_id FROM jobs")}
    except sqlite3.Error as error:
        raise translated(error) from error


def _rows(source: Path) -> list[dict[str, Any]]:
    if not source.is_file():
        raise ConfigError(f"there is no file {source}")
    address = f"file:{quote(str(source.absolute()))}?mode=ro"
    try:
        with closing(sqlite3.connect(address, uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            columns = {row["name"] for row in connection.execute("PRAGMA table_info(executions)")}
            if missing := [name for name in _COLUMNS if name not in columns]:
                what = f"its table executions has no column {missing[0]}" if columns else "it has no table executions"
                raise ConfigError(f"{source} is not the reference miner's database: {what}")
            query = f"SELECT {', '.join(_COLUMNS)} FROM executions ORDER BY timestamp, rowid"  # noqa: S608 - our own names
            return [dict(row) for row in connection.execute(query)]
    except sqlite3.Error as error:
        raise ConfigError(f"{source} cannot be read as a SQLite database ({error})") from error


def _understood(
    rows: Sequence[dict[str, Any]], plan: ImportPlan, result: Imported
) -> Iterator[tuple[Job, Outcome | None]]:
    for row in rows:
        try:
            taken = _taken(row, plan)
        except (_Unreadable, Bug) as error:
            result.unreadable.append(f"{str(row['execution_id'])[:64]!r}: {error}")
            result.counts[Became.UNREADABLE] += 1
            continue
        if taken[0].state is State.CLOSED and plan.now - taken[0].received_at > plan.retention:
            result.counts[Became.OLD] += 1
        else:
            yield taken


def _taken(row: dict[str, Any], plan: ImportPlan) -> tuple[Job, Outcome | None]:
    for name in ("validator_hotkey", "provider", "provider_job_id", "device_id", "errorMessage", "upload_data_id"):
        if not isinstance(row[name], str | None):
            raise _Unreadable(f"{name} is no text")
    at = _time(row["timestamp"], plan.now)
    if not (isinstance(row["execution_id"], str) and is_execution_id(row["execution_id"])):
        raise _Unreadable("execution_id is not one")
    if not (row["shots"] is None or (isinstance(row["shots"], int) and row["shots"] >= 0)):
        raise _Unreadable("shots is no number of shots")
    job = Job(
        execution_id=ExecutionId(row["execution_id"]),
        validator_hotkey=Hotkey(row["validator_hotkey"] or ""),
        shots=row["shots"] or 0,
        configuration_data={},
        received_at=at,
        deadline_at=plan.now + plan.job_deadline,
        due_at=plan.now,
        provider=_provider(row, plan),
        device_id=None if row["device_id"] is None else DeviceId(row["device_id"]),
        provider_job_id=None if row["provider_job_id"] is None else ProviderJobId(row["provider_job_id"]),
    )
    match row["status"]:
        case "Completed" | "Failed":
            return _finished(job, row), _outcome(row)
        case "Pending" | "Queued" | "Running":
            return _under_way(job, row, plan), None
        case _:
            raise _Unreadable("status is none of the reference's five")


def _time(value: object, now: datetime) -> datetime:
    if not (isinstance(value, str) and _TIME.fullmatch(value)):
        raise _Unreadable("timestamp is not YYYY-MM-DD HH:MM:SS")
    try:
        time = datetime.fromisoformat(f"{value}+00:00")
    except ValueError as error:
        raise _Unreadable("timestamp is no time") from error
    if time > now + _AHEAD:
        raise _Unreadable("timestamp lies ahead of this machine's clock")
    return time.astimezone(UTC)


def _provider(row: dict[str, Any], plan: ImportPlan) -> ProviderKey | None:
    """Our adapter for a job; the reference often notes none, and has names of its own."""
    named = (row["provider"] or "").lower()
    return ProviderKey(named) if named in plan.providers else plan.as_provider


def _finished(job: Job, row: dict[str, Any]) -> Job:
    succeeded = row["status"] == "Completed"
    return replace(
        job,
        state=State.CLOSED,
        verdict=Verdict.SUCCEEDED if succeeded else Verdict.FAILED,
        due_at=job.received_at,
        deadline_at=job.received_at,
        settled_at=job.received_at,
        upload_id=row["upload_data_id"] if succeeded else None,
        error_code=None if succeeded else "vendor_failed",
        error=None if succeeded else _message(row),
    )


def _message(row: dict[str, Any]) -> str:
    return _QUERY_OF_URL.sub(r"\1", row["errorMessage"] or "Miner reported failure")


def _under_way(job: Job, row: dict[str, Any], plan: ImportPlan) -> Job:
    job = replace(job, submit_started_at=job.received_at, submit_attempts=1)
    if job.provider_job_id is None:
        why = "the reference miner was submitting it, or had given it up, when it was stopped; nobody wrote down which"
    elif job.provider is None:
        why = f"{row['provider'] or 'no adapter'} is noted as the provider of its job {job.provider_job_id}"
    else:
        handle = {"provider_job_id": job.provider_job_id, "device_id": job.device_id or ""}
        return replace(job, state=State.WAITING, handle=handle, submitted_at=job.received_at)
    return replace(
        job,
        state=State.HELD,
        provider_job_id=None,
        due_at=plan.now + plan.held_deadline,
        error_code="imported",
        error=f"taken over from the reference miner: {why}",
    )


def _outcome(row: dict[str, Any]) -> Outcome:
    cost = _cost(row["cost"])
    return Outcome(
        counts=None,
        counts_source=None,
        shots_returned=None,
        cost=cost,
        # The reference's adapters give dollars, and do not say what they are worth.
        cost_kind=CostKind.UNKNOWN if cost is None else CostKind.VENDOR_ESTIMATE,
        message=None if row["status"] == "Completed" else _message(row),
        timestamps=_mapping(row["timestamps_json"]),
        metadata={**_mapping(row["metadata_json"]), IMPORTED: SOURCE},
    )


def _cost(value: object) -> Money | None:
    if not isinstance(value, int | float):
        return None
    try:
        return Money(Decimal(str(value)), "USD")
    except (ValueError, InvalidOperation):
        return None


def _mapping(text: object) -> dict[str, Any]:
    try:
        value: object = json.loads(text) if isinstance(text, str) else {}
    except ValueError:
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _store(
    connection: Connection, taken: Sequence[tuple[Job, Outcome | None]], latest: Place, result: Imported
) -> None:
    known = set(connection.execute(select(jobs.c.execution_id)).scalars())
    for job, outcome in taken:
        if job.execution_id in known:
            result.counts[Became.KNOWN] += 1
            continue
        row = job_row(job)
        if outcome is not None:
            # In a ledger that has closed jobs, the order of closing goes on from them: sent twice, never missed.
            latest = latest.next(job.received_at)
            row = job_row(replace(job, cursor_seq=latest.seq, closed_at=from_micros(latest.micros)))
        connection.execute(insert(jobs), row)
        if outcome is not None:
            connection.execute(insert(outcomes), {"execution_id": job.execution_id, **outcome_row(outcome)})
        result.counts[_became(job)] += 1
    connection.execute(statements.MOVE_LATEST, {"seq": latest.seq, "micros": latest.micros})


def _became(job: Job) -> Became:
    return {State.CLOSED: Became.CLOSED, State.WAITING: Became.WAITING}.get(job.state, Became.HELD)
