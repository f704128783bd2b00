"""Putting a copy in the place of a ledger, so that nothing is paid twice for what happened since the copy was made.

A copy says of its open jobs where they were; since then the daemon may have submitted any of them. So every job not
yet at its vendor gets the mark of a paid call that may be in flight, and the daemon looks for it before anything else.
A job may have been submitted in a pack with others, under a token nobody knows any more; the word ``restored`` in
``prepared`` tells the daemon not to take "not found" for "never submitted" where there are packs, and to look at every
account before it does: since the copy the job may have gone to any.

Requests whose nonces were used since the copy could be sent once more; those from before the restore are refused
(`qcompute.ledger.nonce_book.FLOOR`). Jobs accepted since the copy are not in it, and nothing here knows of them.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sqlite3
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, bindparam, create_engine, delete, func, insert, select, update
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from qcompute.errors import ConfigError
from qcompute.files import sync_folder
from qcompute.ledger.backup import copy_database, key_file, put_file, reading, revision_of
from qcompute.ledger.failures import translated
from qcompute.ledger.nonce_book import FLOOR
from qcompute.ledger.rows import Row, job_from
from qcompute.ledger.schema import REVISIONS, jobs, nonces
from qcompute.ledger.secretbox import fitting_key
from qcompute.ledger.times import from_micros
from qcompute.miner.job import SPLIT_LANE, Job

_LOGS: Final = ("-wal", "-shm", "-journal")

_MAY_BE_SUBMITTED: Final = jobs.c.state.in_(["accepted", "ready", "submitting", "held"]) & jobs.c.provider_job_id.is_(
    None
)

_MARK_AGAIN: Final = (
    update(jobs)
    .where(jobs.c.execution_id == bindparam("job"))
    .values(attempts=0, version=jobs.c.version + 1, prepared=bindparam("why"))
)
_MARK: Final = _MARK_AGAIN.values(submit_started_at=jobs.c.received_at, token=bindparam("name"))


_RESTORED: Final = '{"restored":true}'


@dataclass(frozen=True, slots=True)
class Marked:
    """What a restored ledger does not know."""

    to_look_for: int
    """Jobs that may have been submitted since the copy."""
    latest_received_at: datetime | None
    """When the last job in the copy was received: later ones are not in it."""
    accounts: frozenset[str]
    """Where its jobs are or were: one that the settings do not have any more is not asked whether it has others."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What was put in place."""

    aside: Path | None
    """Where the replaced ledger lies now; None when there was none."""
    marked: Marked


def restore(
    copy: Path,
    ledger: Path,
    *,
    token_of: Callable[[Job], str],
    now: datetime,
    ahead_seconds: float,
    forget_urls: bool = False,
) -> Restored:
    """Put ``copy`` and its key in the place of ``ledger``, which is kept aside. The caller holds the ledger's lock.

    ``token_of`` makes the idempotency token of a job submitted by itself; ``ahead_seconds`` is how far a nonce may be
    ahead of our clock, so requests signed up to then are refused. ``forget_urls`` gives up the URLs of a copy whose key
    is lost (setting ``ledger.forget_unreadable_urls``).

    Raises:
        ConfigError: the copy is no ledger, its key is missing, or a file cannot be written.
        StoreError: the copy is damaged.
    """
    draft = ledger.with_name(f"{ledger.name}.{secrets.token_hex(4)}.partial")
    try:
        with reading(copy) as connection:
            revision = revision_of(connection, copy)
        copy_database(copy, draft)
        key = _key(copy, ledger, draft, forget_urls=forget_urls)
        if revision != REVISIONS[-1]:
            upgrade_file(draft)
        with _transaction(draft) as connection:
            marked = mark(connection, token_of, floor_of(now, ahead_seconds))
        aside = _set_aside(ledger, now)
        if key is not None:
            put_file(key, key_file(ledger))
        draft.replace(ledger)
        sync_folder(ledger.parent)
    except OSError as error:
        raise ConfigError(f"the ledger {ledger} cannot be replaced ({error.strerror})") from error
    except (sqlite3.Error, SQLAlchemyError) as error:
        raise translated(error) from error
    finally:
        for leftover in (draft, *_logs(draft)):
            with contextlib.suppress(OSError):
                leftover.unlink(missing_ok=True)
    return Restored(aside, marked)


def floor_of(now: datetime, ahead_seconds: float) -> int:
    """Up to which nonce (nanoseconds since 1970) requests may have come that a copy does not know."""
    return int((now.timestamp() + ahead_seconds) * 1_000_000_000)


def _key(copy: Path, ledger: Path, draft: Path, *, forget_urls: bool) -> bytes | None:
    """The key that opens the copy's URLs: its own, or the ledger's when that one fits; None when they are given up.

    Raises:
        ConfigError: there is none.
    """
    open_urls = "input_data_url IS NOT NULL AND state NOT IN ('settled', 'closed')"
    with closing(sqlite3.connect(draft)) as connection, connection:
        sample = connection.execute(f"SELECT input_data_url FROM jobs WHERE {open_urls}").fetchone()  # noqa: S608
        fitting = fitting_key((key_file(copy), key_file(ledger)), None if sample is None else sample[0])
        if fitting is not None:
            return fitting.read_bytes()
        if sample is not None and not forget_urls:
            raise ConfigError(
                f"{key_file(copy)} is missing, or is not the key of this copy; bring it from where the copy was, or "
                "set ledger.forget_unreadable_urls to give up the jobs whose circuits were not downloaded"
            )
        connection.execute("UPDATE jobs SET input_data_url = NULL")
    return None


def upgrade_file(file: Path) -> None:
    """Bring a file of an earlier schema, which nobody else uses, to today's."""
    from qcompute.ledger.migrations import upgrade  # noqa: PLC0415 - alembic is slow to import

    with _transaction(file) as connection:
        upgrade(connection)


@contextlib.contextmanager
def _transaction(file: Path) -> Generator[Connection]:
    engine = create_engine(URL.create("sqlite+pysqlite", database=str(file)), hide_parameters=True)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def mark(connection: Connection, token_of: Callable[[Job], str], floor_ns: int) -> Marked:
    """Mark what may have been submitted since the copy was made, in the caller's transaction.

    A second call marks the same jobs again, which changes nothing for them.
    ``floor_ns``: requests signed before then are refused from now on. ``token_of`` makes the idempotency token of a job
    submitted by itself.
    """
    again: list[Row] = []
    unsubmitted: list[Row] = []
    for row in connection.execute(select(jobs).where(_MAY_BE_SUBMITTED)).mappings().all():
        if row["submit_started_at"] is None:
            # Looked for from when it was received: before that it cannot have been submitted.
            token = token_of(job_from({**row, "input_data_url": None}))
            unsubmitted.append({"job": row["execution_id"], "why": _RESTORED, "name": token})
        else:
            # What was seen absent before the copy says nothing of later; it is looked for as often again, everywhere.
            prepared = json.loads(row["prepared"] or "{}") | {"restored": True}
            prepared.pop("absent_at", None)
            again.append({"job": row["execution_id"], "why": json.dumps(prepared, separators=(",", ":"))})
    if again:
        connection.execute(_MARK_AGAIN, again)
    if unsubmitted:
        connection.execute(_MARK, unsubmitted)
    hotkey, scope = FLOOR
    connection.execute(delete(nonces).where(nonces.c.hotkey == hotkey, nonces.c.scope == scope))
    connection.execute(insert(nonces).values(hotkey=hotkey, scope=scope, value_ns=floor_ns))
    latest = connection.execute(select(func.max(jobs.c.received_at))).scalar()
    at_an_account = jobs.c.provider.is_not(None) & (jobs.c.provider != SPLIT_LANE)
    accounts = connection.execute(select(jobs.c.provider).where(at_an_account).distinct()).scalars()
    return Marked(
        len(again) + len(unsubmitted), None if latest is None else from_micros(latest), frozenset(map(str, accounts))
    )


def _set_aside(ledger: Path, now: datetime) -> Path | None:
    """Keep the ledger that is replaced under another name too; its log must not meet the new file."""
    if not ledger.exists():
        for log in _logs(ledger):
            log.unlink(missing_ok=True)
        return None
    aside = ledger.with_name(f"{ledger.name}.before-restore-{now:%Y%m%dT%H%M%SZ}")
    if aside.exists():
        aside = aside.with_name(f"{aside.name}-{secrets.token_hex(2)}")
    # A damaged one cannot be folded together; then its log goes along as it is.
    with contextlib.suppress(sqlite3.Error), closing(sqlite3.connect(ledger, isolation_level=None)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    for log in _logs(ledger):
        if log.exists():
            log.rename(log.with_name(log.name.replace(ledger.name, aside.name)))
    os.link(ledger, aside)
    if key_file(ledger).exists():
        os.link(key_file(ledger), key_file(aside))
    return aside


def _logs(database: Path) -> list[Path]:
    return [database.with_name(database.name + ending) for ending in _LOGS]
