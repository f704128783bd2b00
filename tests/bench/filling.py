"""Ledgers with a long past, written straight into the file: a million jobs on the road would take an hour."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from qcompute.ledger import open_ledger
from qcompute.ledger.rows import Row, job_row
from qcompute.ledger.settings import LedgerSettings
from qcompute.ledger.times import micros
from qcompute.miner.job import Job, State, Verdict
from qcompute.protocol import FIRST_CURSOR
from qcompute.testing.ledger_records import full_job, new_job
from qcompute.units import ExecutionId, Hotkey, ProviderJobId, ProviderKey, utc_now

PIECE: Final = 20_000

YOUNG: Final = timedelta(minutes=5)
"""How long those that wait have been there: older ones would be polled less often than their vendor bears."""


def fill(file: Path, *, validator: Hotkey, account: str, waiting: int = 0, closed: int = 0) -> None:
    """A new ledger with so many jobs; those that wait have been there for `YOUNG`, and are due now."""
    file.parent.mkdir(parents=True, exist_ok=True)
    asyncio.run(_made(file))
    now = utc_now()
    job = _template(validator, account)
    parked = replace(job, state=State.WAITING, verdict=None, upload_id=None, settled_at=None, due_at=now)
    ended = job_row(replace(job, state=State.CLOSED))
    base = job_row(parked)
    first_closed_at = micros(now - timedelta(days=10))
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA synchronous = OFF")
        for first in range(0, waiting, PIECE):
            _insert(database, [_parked(base, number) for number in range(first, min(first + PIECE, waiting))])
        for first in range(0, closed, PIECE):
            numbers = range(first, min(first + PIECE, closed))
            _insert(database, [_closed(ended, number, first_closed_at) for number in numbers])
        if closed:
            place = (closed, first_closed_at + closed)
            database.execute("UPDATE meta SET last_cursor_seq = ?, last_closed_at = ?", place)
        database.commit()
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


async def _made(file: Path) -> None:
    ledger = open_ledger(LedgerSettings(path=file))
    await ledger.finished_after(FIRST_CURSOR, 1)
    await ledger.close()


def _template(validator: Hotkey, account: str) -> Job:
    new = new_job("job", validator=validator, received_at=utc_now() - YOUNG)
    job = Job(
        execution_id=new.execution_id,
        validator_hotkey=new.validator_hotkey,
        shots=new.shots,
        configuration_data=new.configuration_data,
        received_at=new.received_at,
        deadline_at=new.deadline_at,
        due_at=new.received_at,
    )
    handle = {"provider_job_id": "parked-1", "device_id": "parked", "measurement": full_job(job).prepared}
    handle["measurement"] = {"registers": [{"name": "c", "size": 2}], "measured": [[0, 0], [1, 1]]}
    return replace(
        full_job(job),
        provider=ProviderKey(account),
        handle=handle,
        attempts=0,
        vendor_status="RUNNING",
        cancel_requested_at=None,
        error=None,
        error_code=None,
        verdict=Verdict.SUCCEEDED,
        provider_job_id=ProviderJobId("parked-1"),
        execution_id=ExecutionId("job"),
        parent_id=None,
    )


def _parked(base: Row, number: int) -> Row:
    handle = base["handle"].replace("parked-1", f"parked-{number}")
    return base | {"execution_id": f"waiting-{number:07}", "handle": handle, "provider_job_id": f"parked-{number}"}


def _closed(base: Row, number: int, first_closed_at: int) -> Row:
    place = {"cursor_seq": number + 1, "closed_at": first_closed_at + number + 1}
    return base | place | {"execution_id": f"closed-{number:07}", "provider_job_id": f"parked-{number}"}


def _insert(database: sqlite3.Connection, rows: list[dict[str, Any]]) -> None:
    names = list(rows[0])
    marks = ", ".join("?" * len(names))
    values = [tuple(row.values()) for row in rows]
    database.executemany(f"INSERT INTO jobs ({', '.join(names)}) VALUES ({marks})", values)  # noqa: S608 - our names
