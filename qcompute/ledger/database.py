"""The database file: how it is opened, and what is checked before anybody works on it."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, NullPool, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import SQLAlchemyError

from qcompute.errors import ConfigError
from qcompute.ledger.failures import sqlite_code, translated
from qcompute.ledger.moved import refuse_to_begin
from qcompute.ledger.opening import Opened, Where, count_all, identity, own_box, upgrade
from qcompute.ledger.settings import LedgerSettings

_WAL_LIMIT_BYTES = 64 * 2**20
"""What is left of a log that grew in a burst, so that one burst does not keep disk for ever."""


def open_database(settings: LedgerSettings) -> Opened:
    """Create or upgrade the file and read what it says about itself. The caller holds the ledger's lock.

    Raises:
        ConfigError: the file, its folder or its key cannot be used; the message says what to do.
        StoreError: the database failed.
    """
    path = settings.file
    _create_file(path)
    _check_writable(path)
    engine = _engine(settings)
    event.listen(engine, "begin", _take_write_lock)
    try:
        with engine.connect() as connection:
            _check_journal(connection)
            with connection.begin():
                upgrade(connection, Where(str(path), "give another file with ledger.path"))
                ledger_id, latest = identity(connection)
                box = own_box(connection, settings.key, forget_unreadable_urls=settings.forget_unreadable_urls)
                figures = count_all(connection, latest)
    except (SQLAlchemyError, sqlite3.Error) as error:
        if sqlite_code(error) == sqlite3.SQLITE_NOTADB:
            raise ConfigError(f"{path} is not a SQLite database; give another file with ledger.path.") from error
        raise translated(error) from error
    reading_engine = _engine(settings, isolation_level="AUTOCOMMIT")
    event.listen(reading_engine, "connect", _forbid_writing)
    return Opened(engine, reading_engine, box, ledger_id, figures)


def prepare_folder(path: Path) -> None:
    """Make the folder of the database file, for its owner alone.

    Raises:
        ConfigError: it cannot be made.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        message = f"The folder {path.parent} of the ledger (setting ledger.path) cannot be made ({error.strerror})."
        raise ConfigError(message) from error


def _create_file(path: Path) -> None:
    if not path.exists():
        refuse_to_begin(path)
    # SQLite gives its log and its index the mode of the database file.
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        message = f"The ledger's file {path} (setting ledger.path) cannot be created ({error.strerror})."
        raise ConfigError(message) from error


def _check_writable(path: Path) -> None:
    """SQLite opens a file it may not write for reading alone, and would leave an index behind that nobody may write."""
    for suffix in ("", "-wal", "-shm"):
        file = path.with_name(path.name + suffix)
        if file.exists() and not os.access(file, os.R_OK | os.W_OK):
            raise ConfigError(
                f"The ledger's file {file} (setting ledger.path) is read-only for this user or on a read-only disk; "
                "check the owner and mode of the file and how its disk is mounted."
            )


def _engine(settings: LedgerSettings, **options: str) -> Engine:
    engine = create_engine(
        URL.create("sqlite+pysqlite", database=str(settings.file)),
        # Parameters hold jobs; an error text must not.
        hide_parameters=True,
        # Each thread keeps its one connection for as long as it lives.
        poolclass=NullPool,
        # None turns off the driver's own guesses about when a transaction begins.
        connect_args={"timeout": settings.busy_timeout_seconds, "isolation_level": None},
        **options,
    )
    event.listen(engine, "connect", _prepare)
    return engine


def _prepare(connection: DBAPIConnection, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys = ON")
    # FULL: a commit is on disk when it returns, also after a power cut.
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT_BYTES}")
    cursor.close()


def _forbid_writing(connection: DBAPIConnection, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA query_only = ON")
    cursor.close()


def _take_write_lock(connection: Connection) -> None:
    # At the start, not at the first change: between reading and changing nobody else may write.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _check_journal(connection: Connection) -> None:
    """Turn the write-ahead log on; the file keeps the setting."""
    driver: Any = connection.connection.driver_connection
    mode = driver.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise ConfigError("The ledger's file system has no shared memory; put ledger.path on a local disk.")
