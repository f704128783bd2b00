"""What happens at a Postgres database before anybody works on it, and the lock that says who does."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from qcompute.errors import ConfigError, StoreError
from qcompute.ledger.database import prepare_folder
from qcompute.ledger.figures import read_figures
from qcompute.ledger.opening import Opened, Where, identity, shared_box, upgrade
from qcompute.ledger.postgres_connect import (
    check_server,
    connection_parameters,
    place_of,
    reading_engine,
    warn_of,
    writing_engine,
)
from qcompute.ledger.postgres_failures import translated
from qcompute.ledger.settings import LedgerSettings

_SCHEMA_LOCK: Final = 1_902_341_701
_DAEMON_LOCK: Final = 1_902_341_702
"""First halves of advisory locks; the second is the schema's, so two schemas of one database can hold two ledgers."""

LOCK_WAIT_SECONDS: Final = 6.0
"""How long a daemon waits at its start for the one before it: a machine that was cut off holds its lock so long."""

_LOCK_PAUSE_SECONDS: Final = 0.1
_SCHEMA_ID: Final = "hashtext(coalesce(current_schema(), ''))"


@dataclass(frozen=True, slots=True)
class PostgresOpened(Opened):
    """A database ready to work on."""

    parameters: dict[str, Any]
    """For further connections; they hold the password."""
    connection: Connection
    """The writer's, which holds the daemon's lock for as long as it lives."""


def open_postgres(settings: LedgerSettings, *, alone: bool) -> PostgresOpened:
    """Connect, take the daemon's lock, create or upgrade the tables, and read what they say about themselves.

    Raises:
        ConfigError: the URL, the server, the key or the lock will not do; the message says what to do.
        StoreError: the database failed.
    """
    parameters = connection_parameters(settings)
    prepare_folder(settings.key)
    engine = writing_engine(parameters, settings)
    try:
        connection = engine.connect()
    except (SQLAlchemyError, psycopg.Error) as error:
        raise translated(error) from None
    try:
        return _opened(engine, connection, parameters, settings, alone=alone)
    except (SQLAlchemyError, psycopg.Error) as error:
        connection.close()
        raise translated(error) from None
    except BaseException:
        connection.close()
        raise


def _opened(
    engine: Engine, connection: Connection, parameters: dict[str, Any], settings: LedgerSettings, *, alone: bool
) -> PostgresOpened:
    place = place_of(parameters)
    driver: Any = connection.connection.driver_connection
    check_server(driver, place)
    warn_of(driver, place)
    driver.rollback()
    _wait_for_daemon_lock(connection, place, alone=alone)
    with connection.begin():
        # Two processes that start at once: the second finds the tables there.
        for limit in ("statement_timeout", "idle_in_transaction_session_timeout", "lock_timeout"):
            connection.exec_driver_sql(f"SET LOCAL {limit} = '10min'")
        connection.exec_driver_sql("SET LOCAL enable_seqscan = on")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_SCHEMA_LOCK}, {_SCHEMA_ID})")
        upgrade(connection, Where(f"The {place}", "give another database with ledger.url"))
        ledger_id, latest = identity(connection)
        box = shared_box(connection, settings.key, forget_unreadable_urls=settings.forget_unreadable_urls)
        figures = read_figures(connection, latest)
    return PostgresOpened(engine, reading_engine(parameters, settings), box, ledger_id, figures, parameters, connection)


def take_daemon_lock(connection: Connection, *, alone: bool) -> bool:
    """Whether this session may work on the ledger: ``alone``, or beside others who do not want to be alone.

    The session keeps the right until it ends; a second call of the same session succeeds.
    """
    function = "pg_try_advisory_lock" if alone else "pg_try_advisory_lock_shared"
    with connection.begin():
        return bool(connection.exec_driver_sql(f"SELECT {function}({_DAEMON_LOCK}, {_SCHEMA_ID})").scalar())


def retake_daemon_lock(connection: Connection, *, alone: bool) -> None:
    """After a lost connection, which took the lock with it.

    Raises:
        StoreError: another daemon has it, or the server did not notice yet that this one's connection is gone.
    """
    if not take_daemon_lock(connection, alone=alone):
        raise StoreError(
            "The connection to the ledger's database (setting ledger.url) broke, and another daemon works on the "
            "ledger now. One of the two must stop."
        )


def _wait_for_daemon_lock(connection: Connection, place: str, *, alone: bool) -> None:
    deadline = time.monotonic() + LOCK_WAIT_SECONDS
    while not take_daemon_lock(connection, alone=alone):
        if time.monotonic() > deadline:
            raise ConfigError(
                f"{_holder(connection)} already works on the ledger in {place}. "
                "Stop it, or give this daemon its own database with the setting ledger.url."
            )
        time.sleep(_LOCK_PAUSE_SECONDS)


def _holder(connection: Connection) -> str:
    with connection.begin():
        row = connection.exec_driver_sql(
            "SELECT application_name, client_addr::text FROM pg_locks JOIN pg_stat_activity USING (pid) "
            "WHERE locktype = 'advisory' AND classid = %s AND granted LIMIT 1",
            (_DAEMON_LOCK,),
        ).first()
    if row is None:
        return "Another daemon"
    return f"{row[0] or 'Another daemon'} at {row[1]}" if row[1] else str(row[0] or "Another daemon")
