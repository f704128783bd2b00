"""A copy of a ledger that is in use: consistent, whole or not there, and checked before anyone relies on it.

SQLite's own backup is used, from one read transaction: in a write-ahead log readers hold up nobody, and the copy is the
state of one moment however long copying takes. Without that transaction SQLite would start anew at each commit of the
daemon's, and on a busy miner never end. The ledger's lock is not taken: it is the daemon's.

The key of the stored URLs lies beside the copy as it lies beside the ledger (``FILE.key``), and is there first.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Collection, Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from qcompute.errors import ConfigError, StoreError
from qcompute.files import sync_folder
from qcompute.ledger.failures import translated
from qcompute.ledger.moved import refuse_to_begin
from qcompute.ledger.schema import REVISIONS
from qcompute.ledger.secretbox import load_box

_PAGES_AT_ONCE: Final = 512
"""Copied before SQLite lets others have the disk: 2 MiB."""

_READ_BYTES: Final = 1 << 20

_BUSY_SECONDS: Final = 5.0


class NoTables(ConfigError):
    """A database with nothing in it yet."""


@dataclass(frozen=True, slots=True)
class BackupMade:
    """What lies in a finished copy."""

    file: Path
    key: Path | None
    """The copy of the key; None when the ledger has none."""
    revision: str
    rows: dict[str, int]
    """How many rows each table has."""
    size_bytes: int
    sha256: str
    seconds: float


def key_file(ledger: Path) -> Path:
    """Where the key of a ledger, or of a copy of one, lies."""
    return ledger.with_name(f"{ledger.name}.key")


def connect_read_only(file: Path) -> sqlite3.Connection:
    """A connection that cannot write; it begins no transaction by itself.

    Raises:
        ConfigError: there is no such file.
        sqlite3.Error: it cannot be opened.
    """
    if not file.is_file():
        refuse_to_begin(file)
        raise ConfigError(f"there is no ledger {file}; name another with --ledger.path or --neuron.name")
    address = f"file:{quote(str(file.absolute()))}?mode=ro"
    return sqlite3.connect(address, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)


@contextmanager
def reading(file: Path) -> Generator[sqlite3.Connection]:
    """A connection that cannot write, in one read transaction: all it reads is of one moment.

    Raises:
        ConfigError: there is no such file.
        sqlite3.Error: it is no database, or damaged.
    """
    with closing(connect_read_only(file)) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        yield connection


def revision_of(connection: sqlite3.Connection, file: Path) -> str:
    """The schema's revision.

    Raises:
        ConfigError: it is no ledger, or one of a newer qcompute.
    """
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}

    def first(query: str) -> str | None:
        found = connection.execute(query).fetchone()
        return None if found is None else str(found[0])

    return known_revision(str(file), names, first)


def known_revision(name: str, tables: Collection[str], first: Callable[[str], str | None]) -> str:
    """The revision of a database with these tables; ``first`` asks it for one value.

    Raises:
        NoTables: it is empty.
        ConfigError: it is no ledger, or one of a newer qcompute.
    """
    if not tables:
        raise NoTables(f"{name} is empty: the first start of the daemon makes the ledger there")
    if not {"alembic_version", "jobs", "meta"} <= set(tables):
        raise ConfigError(f"{name} is no ledger of qcompute")
    found = first("SELECT version_num FROM alembic_version")
    if found not in REVISIONS:
        raise ConfigError(
            f"{name} was written by a newer qcompute (schema {found}, this one knows up to {REVISIONS[-1]}); "
            "use that version"
        )
    return found


def make_backup(ledger: Path, target: Path, *, force: bool = False) -> BackupMade:
    """Copy ``ledger`` and its key to ``target`` and check the copy; ``force`` replaces one that is there.

    The copy is for its owner alone (mode 0600) and appears under its name only when it is whole, synced and checked.

    Raises:
        ConfigError: there is no ledger, or the target exists or cannot be written.
        StoreError: the ledger cannot be read, or the copy is not sound.
    """
    began = time.monotonic()
    if target.resolve() == ledger.resolve():
        raise ConfigError(f"{target} is the ledger itself; name another file")
    if not force and (target.exists() or key_file(target).exists()):
        raise ConfigError(f"{target} or its key exists already; name another file, or replace it with --force")
    draft = _draft(target)
    try:
        try:
            copy_database(ledger, draft)
            revision, rows = _checked(draft)
        except sqlite3.Error as error:
            raise StoreError(f"{ledger} could not be copied to {target}. {translated(error)}") from error
        size, sha256 = draft.stat().st_size, sha256_of(draft)
        key = _copy_key(key_file(ledger), key_file(target))
        draft.replace(target)
        sync_folder(target.parent)
    except OSError as error:
        raise ConfigError(f"{target} cannot be written ({error.strerror}); name a file elsewhere") from error
    finally:
        for leftover in (draft, *(draft.with_name(draft.name + end) for end in ("-journal", "-wal", "-shm"))):
            with contextlib.suppress(OSError):
                leftover.unlink(missing_ok=True)
    return BackupMade(target, key, revision, rows, size, sha256, time.monotonic() - began)


def copy_database(source: Path, target: Path) -> None:
    """Copy a database in use into the new file ``target``, one file without a log, and sync it.

    Raises:
        ConfigError: the source does not exist.
        OSError: the target cannot be made.
        sqlite3.Error: the source cannot be read, or the disk is full.
    """
    with reading(source) as connection:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with closing(sqlite3.connect(target, isolation_level=None)) as copy:
            connection.backup(copy, pages=_PAGES_AT_ONCE)
            # The copy would have a log of its own beside it, and be two files where people expect one.
            copy.execute("PRAGMA journal_mode = DELETE")
    _sync_file(target)


def put_file(content: bytes, target: Path) -> None:
    """Write a file for its owner alone, whole or not at all, in place of one that is there.

    Raises:
        OSError: it cannot be written.
    """
    draft = _draft(target)
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(target.parent)


def _draft(target: Path) -> Path:
    return target.with_name(f"{target.name}.{secrets.token_hex(4)}.partial")


def _checked(copy: Path) -> tuple[str, dict[str, int]]:
    with reading(copy) as connection:
        said = [line for (line,) in connection.execute("PRAGMA integrity_check(3)")]
        if said != ["ok"]:
            raise StoreError(f"the ledger is damaged, so its copy is too ({said[0]}); see: qcompute ledger check")
        revision = revision_of(connection, copy)
        return revision, count_rows(connection)


def count_rows(connection: sqlite3.Connection) -> dict[str, int]:
    """How many rows each table has."""
    names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1")]
    counted = [name for name in names if name != "alembic_version" and not name.startswith("sqlite_")]
    return {name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in counted}  # noqa: S608 - our own tables


def _copy_key(source: Path, target: Path) -> Path | None:
    # Read through the box: what is no key must not be kept as one.
    if load_box(source) is None:
        target.unlink(missing_ok=True)
        return None
    put_file(source.read_bytes(), target)
    return target


def sha256_of(file: Path) -> str:
    """SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while chunk := content.read(_READ_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _sync_file(file: Path) -> None:
    descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
