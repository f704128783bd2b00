"""Moving a ledger from its SQLite file into an empty Postgres database; and what to do after a dump was put back there.

Nothing is lost and nothing is there twice, wherever it is broken off. The file is renamed before anything is copied
(`qcompute.ledger.moved`), all is copied and compared in one transaction, and the ledger keeps its name: cursors that
validators hold go on, and a second run knows that the database has it already. The file itself is not changed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql
from sqlalchemy import Connection, Table, select, update
from sqlalchemy.exc import SQLAlchemyError

from qcompute.errors import ConfigError, StoreError
from qcompute.files import sync_folder
from qcompute.ledger import failures, postgres_failures
from qcompute.ledger.backup import key_file, put_file, reading, revision_of
from qcompute.ledger.moved import moved_file, moving_file
from qcompute.ledger.postgres_open import open_postgres
from qcompute.ledger.restore import Marked, mark, upgrade_file
from qcompute.ledger.schema import (
    REVISIONS,
    charges,
    circuits,
    jobs,
    meta,
    nonces,
    outcomes,
    receipts,
    used_nonces,
)
from qcompute.ledger.secretbox import fitting_key
from qcompute.ledger.settings import LedgerSettings
from qcompute.miner.job import Job

_TABLES: Final = (jobs, circuits, outcomes, receipts, nonces, used_nonces, charges)
"""What is copied, in the order of its references. Who works on what begins anew: nobody does."""

_ROWS_AT_ONCE: Final = 2000


@dataclass(frozen=True, slots=True)
class Moved:
    """What lies in the database now."""

    aside: Path
    """The file that was the ledger."""
    rows: dict[str, int]
    """How many rows each table has; empty when an earlier run had copied them."""


def move(settings: LedgerSettings) -> Moved:
    """Copy the file of ``ledger.path`` into the database of ``ledger.url``; the caller holds the file's lock.

    A second run ends what an earlier one left half done, and refuses where there is nothing to move.

    Raises:
        ConfigError: there is no file, its key is missing, or the database is not empty; nothing was changed.
        StoreError: file or database failed. When that was at the very end, only a second run can tell whether all is
            there; until then no daemon starts on either.
    """
    ledger, source = settings.file, moving_file(settings.file)
    if moved_file(ledger).exists():
        raise ConfigError(f"{ledger} was moved before: put {moved_file(ledger)} elsewhere to move another one")
    is_resumed = source.exists()
    if not is_resumed:
        _made_ready(ledger)
    elif ledger.exists():
        raise ConfigError(
            f"a move of {source} was broken off, and there is {ledger} as well: put one of them elsewhere"
        )
    _bring_key(settings, source if is_resumed else ledger)
    with _alone(settings) as there:
        if is_resumed and _ledger_id(source) == _id_there(there):
            return Moved(_ended(ledger), {})
        _require_empty(there)
        if not is_resumed:
            ledger.rename(source)
            sync_folder(source.parent)
        rows = _copied(source, ledger, there)
        return Moved(_ended(ledger), rows)


def _made_ready(ledger: Path) -> None:
    """One file of today's schema, without a log beside it."""
    if not ledger.is_file():
        raise ConfigError(f"there is no ledger {ledger} to move; name another with --ledger.path or --neuron.name")
    try:
        with reading(ledger) as connection:
            revision = revision_of(connection, ledger)
        if revision != REVISIONS[-1]:
            upgrade_file(ledger)
        with closing(sqlite3.connect(ledger, isolation_level=None)) as connection:
            (busy, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            (mode,) = connection.execute("PRAGMA journal_mode = DELETE").fetchone()
    except (sqlite3.Error, SQLAlchemyError) as error:
        raise failures.translated(error) from error
    if busy or mode != "delete":
        raise StoreError(f"another program has {ledger} open; end it and try again")


def _bring_key(settings: LedgerSettings, source: Path) -> None:
    """Where the database's daemons look for the key, there it must be, and open what is sealed.

    Raises:
        ConfigError: none that is there opens the URLs of jobs that wait for their circuits.
    """
    with reading(source) as connection:
        found = connection.execute(
            "SELECT input_data_url FROM jobs WHERE input_data_url IS NOT NULL LIMIT 1"
        ).fetchone()
    fitting = fitting_key((settings.key, key_file(settings.file)), None if found is None else found[0])
    if fitting is not None:
        if fitting != settings.key:
            _put_key(fitting, settings.key)
    elif found is not None:
        raise ConfigError(
            f"neither {settings.key} (setting ledger.key_file) nor {key_file(settings.file)} is this ledger's key, "
            "and jobs wait for circuits whose URLs it locks; bring it back from a backup"
        )


def _put_key(file: Path, target: Path) -> None:
    if target.exists():
        raise ConfigError(
            f"{target} (setting ledger.key_file) is the key of another ledger, and {file} that of this one; name the "
            "latter with ledger.key_file, on every machine"
        )
    try:
        put_file(file.read_bytes(), target)
    except OSError as error:
        raise ConfigError(f"the key {target} (setting ledger.key_file) cannot be written ({error.strerror})") from error


def mark_database(settings: LedgerSettings, token_of: Callable[[Job], str], floor_ns: int) -> Marked:
    """`qcompute.ledger.restore.mark` for the database of ``ledger.url``, which nobody may be working on.

    Raises:
        ConfigError: the database will not do, or a daemon works on it.
        StoreError: it failed; nothing was marked.
    """
    with _alone(settings) as there:
        try:
            with there.begin():
                _without_limits(there)
                return mark(there, token_of, floor_ns)
        except (SQLAlchemyError, psycopg.Error) as error:
            raise postgres_failures.translated(error) from None


@contextmanager
def _alone(settings: LedgerSettings) -> Generator[Connection]:
    """The database, its tables made, and nobody else on it."""
    opened = open_postgres(settings, alone=True)
    with ExitStack() as stack:
        stack.callback(opened.reading_engine.dispose)
        stack.callback(opened.engine.dispose)
        stack.callback(opened.connection.close)
        yield opened.connection


def _ledger_id(file: Path) -> str:
    with reading(file) as connection:
        return str(connection.execute("SELECT ledger_id FROM meta").fetchone()[0])


def _id_there(there: Connection) -> str:
    with there.begin():
        return str(there.execute(select(meta.c.ledger_id)).scalar_one())


def _require_empty(there: Connection) -> None:
    with there.begin():
        full = [table.name for table in _TABLES if there.execute(select(table).limit(1)).first() is not None]
    if full:
        raise ConfigError(
            f"the database of ledger.url has a ledger already (rows in {', '.join(full)}): two ledgers cannot become "
            "one; give an empty database"
        )


def _copied(source: Path, ledger: Path, there: Connection) -> dict[str, int]:
    """All rows, copied and compared; the file gets its name back unless the database may have them."""
    transaction = there.begin()
    try:
        rows = _copy_all(source, there)
    except BaseException as error:
        with suppress(SQLAlchemyError, psycopg.Error):
            transaction.rollback()
        source.rename(ledger)
        sync_folder(ledger.parent)
        if isinstance(error, SQLAlchemyError | psycopg.Error):
            raise postgres_failures.translated(error) from None
        if isinstance(error, sqlite3.Error):
            raise failures.translated(error) from error
        raise
    try:
        transaction.commit()
    except (SQLAlchemyError, psycopg.Error) as error:
        raise StoreError(
            f"whether the database has the ledger now is not known ({postgres_failures.translated(error)}): run "
            "`qcompute ledger move` again, which finds out"
        ) from None
    return rows


def _without_limits(there: Connection) -> None:
    for limit in ("statement_timeout", "idle_in_transaction_session_timeout", "lock_timeout"):
        there.exec_driver_sql(f"SET LOCAL {limit} = 0")
    there.exec_driver_sql("SET LOCAL enable_seqscan = on")


def _copy_all(source: Path, there: Connection) -> dict[str, int]:
    _without_limits(there)
    driver: psycopg.Connection[Any] = there.connection.driver_connection  # pyright: ignore[reportAssignmentType]
    with reading(source) as here:
        name, latest_seq, latest_at = here.execute(
            "SELECT ledger_id, last_cursor_seq, last_closed_at FROM meta"
        ).fetchone()
        for table in _TABLES:
            _copy(table, here, driver)
        there.execute(update(meta).values(ledger_id=name, last_cursor_seq=latest_seq, last_closed_at=latest_at))
        rows = {table.name: _compared(table, here, driver) for table in _TABLES}
    there.exec_driver_sql("ANALYZE")
    return rows


def _copy(table: Table, here: sqlite3.Connection, driver: psycopg.Connection[Any]) -> None:
    command = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(table.name), sql.SQL(", ").join(map(sql.Identifier, _columns(table)))
    )
    with driver.cursor() as cursor, cursor.copy(command) as copy:
        for row in here.execute(_in_order(table)):
            copy.write_row(row)


def _compared(table: Table, here: sqlite3.Connection, driver: psycopg.Connection[Any]) -> int:
    """How many rows there are, each read back and found the same.

    Raises:
        StoreError: one is not.
    """
    count = 0
    with driver.cursor(name="read_back") as back:
        back.itersize = _ROWS_AT_ONCE
        back.execute(_in_order(table).encode())
        for ours, theirs in zip_longest(here.execute(_in_order(table)), _rows(back)):
            if ours != theirs:
                raise StoreError(f"table {table.name} did not arrive as it was sent; nothing was moved")
            count += 1
    return count


def _rows(cursor: psycopg.ServerCursor[Any]) -> Iterator[tuple[Any, ...]]:
    while some := cursor.fetchmany(_ROWS_AT_ONCE):
        yield from some


def _in_order(table: Table) -> str:
    """In both databases the order of the bytes: see `qcompute.ledger.schema`."""
    key = ", ".join(column.name for column in table.primary_key.columns)
    return f'SELECT {", ".join(_columns(table))} FROM "{table.name}" ORDER BY {key}'  # noqa: S608 - our own names


def _columns(table: Table) -> Sequence[str]:
    return [column.name for column in table.columns]


def _ended(ledger: Path) -> Path:
    aside = moved_file(ledger)
    if moving_file(ledger).exists():
        moving_file(ledger).rename(aside)
        sync_folder(aside.parent)
    return aside
