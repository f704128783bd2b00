"""The database file: how it is opened, and what is checked before anybody works on it."""

from __future__ import annotations

import logging
import os
import secrets
import sqlite3
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, NullPool, create_engine, event, func, inspect, select, update
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import SQLAlchemyError

from qcompute.errors import ConfigError, StoreError
from qcompute.ledger.cursor import Place
from qcompute.ledger.failures import sqlite_code, translated
from qcompute.ledger.schema import REVISIONS, jobs, meta
from qcompute.ledger.secretbox import SecretBox, create_box, load_box
from qcompute.ledger.settings import LedgerSettings
from qcompute.miner.job import State
from qcompute.units import Hotkey

_log = logging.getLogger(__name__)

_WAL_LIMIT_BYTES = 64 * 2**20
"""What is left of a log that grew in a burst, so that one burst does not keep disk for ever."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A database ready to work on, and what its keepers must know of it."""

    engine: Engine
    """For writing: every transaction takes the write lock at its start."""
    reading_engine: Engine
    """For reading only."""
    box: SecretBox
    ledger_id: str
    latest: Place
    """The place of the job closed last."""
    states: Counter[State]
    open_jobs: Counter[Hotkey]


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
                _upgrade(connection, path)
                ledger_id, latest = _identity(connection)
                box = _box(connection, settings)
                states, open_jobs = _counts(connection)
    except (SQLAlchemyError, sqlite3.Error) as error:
        if sqlite_code(error) == sqlite3.SQLITE_NOTADB:
            raise ConfigError(f"{path} is not a SQLite database; give another file with ledger.path.") from error
        raise translated(error) from error
    reading_engine = _engine(settings, isolation_level="AUTOCOMMIT")
    event.listen(reading_engine, "connect", _forbid_writing)
    return Opened(engine, reading_engine, box, ledger_id, latest, states, open_jobs)


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


def _upgrade(connection: Connection, path: Path) -> None:
    tables = set(inspect(connection).get_table_names())
    revision = None
    if "alembic_version" in tables:
        revision = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    elif tables:
        raise ConfigError(f"{path} belongs to another program; give another file with ledger.path.")
    if revision == REVISIONS[-1]:
        return
    if revision is not None and revision not in REVISIONS:
        raise ConfigError(
            f"{path} was written by a newer qcompute (schema {revision}, this one knows up to {REVISIONS[-1]}). "
            "Install that version again, or give another file with ledger.path."
        )
    # Imported only now: alembic costs a running daemon memory that it needs once in many months.
    from qcompute.ledger.migrations import upgrade  # noqa: PLC0415

    upgrade(connection)
    _log.info("ledger upgraded from %s to %s", revision, REVISIONS[-1], extra={"action": "ledger_upgrade"})


def _identity(connection: Connection) -> tuple[str, Place]:
    row = connection.execute(select(meta.c.ledger_id, meta.c.last_cursor_seq, meta.c.last_closed_at)).one_or_none()
    if row is not None:
        return row.ledger_id, Place(row.last_cursor_seq, row.last_closed_at)
    ledger_id = secrets.token_hex(6)
    connection.execute(meta.insert().values(one=1, ledger_id=ledger_id, last_cursor_seq=0, last_closed_at=0))
    return ledger_id, Place(0, 0)


def _box(connection: Connection, settings: LedgerSettings) -> SecretBox:
    """The box with the key of this database, a new one when nothing depends on an old one."""
    key_path = settings.file.with_name(settings.file.name + ".key")
    # A URL is wiped when its job settles, so only open rows are looked at.
    sealed = jobs.c.state.in_(_OPEN) & jobs.c.input_data_url.is_not(None)
    sample = connection.execute(select(jobs.c.input_data_url).where(sealed).limit(1)).scalar()
    box = load_box(key_path)
    if sample is None or (box is not None and _opens(box, sample)):
        return box or create_box(key_path)
    if not settings.forget_unreadable_urls:
        fault = "is missing" if box is None else "is not the one of this ledger"
        raise ConfigError(
            f"The ledger's key file {key_path} {fault}, and jobs wait for circuits whose URLs it locks. "
            "Bring it back from a backup, or set ledger.forget_unreadable_urls to give those jobs up."
        )
    count = connection.execute(update(jobs).where(sealed).values(input_data_url=None)).rowcount
    _log.warning("%d stored URLs given up with their key", count, extra={"action": "ledger_forget_urls"})
    return box or create_box(key_path)


_OPEN = [state.value for state in State if state not in {State.SETTLED, State.CLOSED}]


def _opens(box: SecretBox, sealed: bytes) -> bool:
    try:
        box.open(sealed)
    except StoreError:
        return False
    return True


def _counts(connection: Connection) -> tuple[Counter[State], Counter[Hotkey]]:
    by_state = connection.execute(select(jobs.c.state, func.count()).group_by(jobs.c.state))
    states = Counter({State(state): count for state, count in by_state})
    unclosed = jobs.c.state.in_([state.value for state in State if state is not State.CLOSED])
    hotkey = jobs.c.validator_hotkey
    by_hotkey = connection.execute(select(hotkey, func.count()).where(unclosed).group_by(hotkey))
    return states, Counter({Hotkey(key): count for key, count in by_hotkey})
