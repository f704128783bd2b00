"""A ledger that is only looked at, in a file or in Postgres, while whoever works on it goes on.

Nothing is created, upgraded, locked or claimed, and no key is needed. All that is read in one look is of one moment.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection, NullPool, create_engine, event, func, inspect, select
from sqlalchemy.exc import SQLAlchemyError

from qcompute.ledger import require_driver
from qcompute.ledger.backup import NoTables, connect_read_only, known_revision
from qcompute.ledger.failures import translated
from qcompute.ledger.schema import jobs
from qcompute.ledger.settings import LedgerSettings
from qcompute.miner.job import State


@dataclass(frozen=True, slots=True)
class Look:
    """A transaction that cannot write."""

    connection: Connection
    revision: str
    """The schema's; an older one lacks tables and columns until a daemon has upgraded it."""


@dataclass(frozen=True, slots=True)
class LookedAt:
    """A ledger."""

    name: str
    """The file, or the database and its host; no secret."""
    look: Callable[[], AbstractContextManager[Look]]
    """Look once. Raises `ConfigError` when there is no ledger there, or one of a newer qcompute, and `StoreError` when
    the database fails."""


def looked_at(settings: LedgerSettings) -> LookedAt:
    """The ledger these settings name; nothing is opened yet.

    Raises:
        ConfigError: the URL or the password's name will not do, or the driver is missing.
    """
    if settings.url is None:
        return _file(settings)
    with require_driver():
        from qcompute.ledger.postgres_looking import look_at_postgres  # noqa: PLC0415 - most ledgers are files
    name, connected = look_at_postgres(settings)
    return LookedAt(name, partial(_look, f"{name} (setting ledger.url)", connected))


def count_at(settings: LedgerSettings, account: str, states: Iterable[State]) -> int:
    """How many jobs are at an account in one of these states; none where no daemon has made the tables yet.

    Raises:
        ConfigError, StoreError: see `LookedAt`.
    """
    there = jobs.c.provider == account, jobs.c.state.in_([state.value for state in states])
    try:
        with looked_at(settings).look() as look:
            return look.connection.execute(select(func.count()).select_from(jobs).where(*there)).scalar_one()
    except NoTables:
        return 0


def _file(settings: LedgerSettings) -> LookedAt:
    path = settings.file
    engine = create_engine(
        "sqlite+pysqlite://", creator=partial(connect_read_only, path), poolclass=NullPool, hide_parameters=True
    )
    event.listen(engine, "begin", _begin)

    @contextmanager
    def connected() -> Generator[Connection]:
        try:
            with engine.connect() as connection:
                yield connection
        except (SQLAlchemyError, sqlite3.Error) as error:
            raise translated(error) from error

    return LookedAt(str(path), partial(_look, str(path), connected))


def _begin(connection: Connection) -> None:
    # The driver is told to begin nothing by itself.
    connection.exec_driver_sql("BEGIN")


@contextmanager
def _look(name: str, connected: Callable[[], AbstractContextManager[Connection]]) -> Generator[Look]:
    with connected() as connection:

        def first(query: str) -> str | None:
            return connection.exec_driver_sql(query).scalar()

        yield Look(connection, known_revision(name, inspect(connection).get_table_names(), first))
