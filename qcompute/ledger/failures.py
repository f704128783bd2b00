"""What went wrong with the database, in words for the operator.

No message repeats what SQLAlchemy or SQLite say: theirs name statements, ours name the setting and the way out.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from qcompute.errors import Bug, QComputeError, StoreError

_FIXES: Final = {
    sqlite3.SQLITE_FULL: "the disk is full; free some space",
    sqlite3.SQLITE_IOERR: "the disk does not read or write it; see the system's log",
    sqlite3.SQLITE_READONLY: "it is read-only; check the owner and mode of the file and of its folder",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; check the owner and mode of the file and of its folder",
    sqlite3.SQLITE_PERM: "it may not be used; check the owner and mode of the file and of its folder",
    sqlite3.SQLITE_BUSY: "another program keeps it locked; end that program",
    sqlite3.SQLITE_LOCKED: "another program keeps it locked; end that program",
    sqlite3.SQLITE_CORRUPT: "it is damaged; bring it back from a backup",
    sqlite3.SQLITE_NOTADB: "it is not a SQLite database",
    sqlite3.SQLITE_NOMEM: "there is no memory left",
}


def sqlite_code(error: BaseException) -> int | None:
    """SQLite's primary result code behind an error; None when it is not SQLite's."""
    origin = error.orig if isinstance(error, DBAPIError) else error
    code = origin.sqlite_errorcode if isinstance(origin, sqlite3.Error) and _has_code(origin) else None
    return None if code is None else code & 0xFF


def is_locked(error: BaseException) -> bool:
    """Whether another program has the file, so that every operation would wait as long and fail as well."""
    return sqlite_code(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def translated(error: Exception) -> Exception:
    """The error a caller of the ledger gets for ``error``, a new one for each caller, chained to it."""
    if isinstance(error, QComputeError):
        return error
    if isinstance(error, SQLAlchemyError | sqlite3.Error):
        fix = _FIXES.get(sqlite_code(error) or 0, f"it fails ({type(error).__name__})")
        failure: Exception = StoreError(f"The ledger's file (setting ledger.path) cannot be used: {fix}.")
    else:
        failure = Bug(f"the ledger met {type(error).__name__}")
    failure.__cause__ = error
    return failure


@dataclass(frozen=True, slots=True)
class Failures:
    """How a worker understands what its database raises."""

    is_general: Callable[[BaseException], bool]
    """Whether every operation would fail now, each perhaps after a wait, so that none is tried alone."""
    translated: Callable[[Exception], Exception]
    """The error for a caller, a new one for each."""


SQLITE_FAILURES: Final = Failures(is_locked, translated)


def _has_code(error: sqlite3.Error) -> bool:
    # Errors that the driver itself raises, such as wrong parameters, carry no code.
    return "sqlite_errorcode" in vars(error)
