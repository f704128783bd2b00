"""What went wrong with Postgres, in words for the operator.

Messages of the server and of libpq are never repeated, nor chained to ours: the server's quote the rows they are about,
and libpq's may hold a part of a password whose URL was written wrong. The five characters of the SQLSTATE say the rest.
"""

from __future__ import annotations

from typing import Final

import psycopg
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from qcompute.errors import Bug, QComputeError, StoreError
from qcompute.ledger.failures import Failures
from qcompute.ledger.races import Raced

_UNREACHABLE: Final = "the server cannot be reached; check host and port, and that it runs"
_BROKEN: Final = "the connection broke; it is made again by itself once the server is there"
_STARTING: Final = "the server is starting or stopping; wait for it"
_REFUSED: Final = "the server refuses user or password; check both, and its pg_hba.conf"
_FULL: Final = "the server's disk is full; free some space"
_CROWDED: Final = "the server takes no more connections; raise its max_connections, or lower ledger.readers"
_BUSY: Final = "something else keeps the rows locked; see pg_stat_activity on the server"
_READ_ONLY: Final = "the server is read-only, a standby perhaps; give the primary's address"
_FORBIDDEN: Final = "the role may not use the tables; make it the owner of database and schema"
_DAMAGED: Final = "the server's files are damaged; bring them back from a backup"

# https://www.postgresql.org/docs/15/errcodes-appendix.html
_BY_STATE: Final = {
    "08": _BROKEN,
    "25006": _READ_ONLY,
    "25P03": _BROKEN,
    "28": _REFUSED,
    "3D000": "the server has no such database; create it",
    "3F000": "the server has no such schema; see the search_path",
    "42501": _FORBIDDEN,
    "53100": _FULL,
    "53200": "the server is out of memory",
    "53300": _CROWDED,
    "55P03": _BUSY,
    "57014": _BUSY,
    "57P01": _BROKEN,
    "57P02": _BROKEN,
    "57P03": _STARTING,
    "57P04": "the database was dropped",
    "57P05": _BROKEN,
    "58": "the server's disk does not read or write; see its system's log",
    "XX001": _DAMAGED,
    "XX002": _DAMAGED,
}
_LASTING: Final = ("08", "25006", "25P03", "28", "3D000", "53", "55P03", "57", "58")
"""States in which any other operation would fail as well."""

# A connection that was never made has no SQLSTATE, only libpq's English text. It is looked through, never shown.
_BY_PHRASE: Final = (
    ("starting up", _STARTING),
    ("shutting down", _STARTING),
    ("recovery mode", _STARTING),
    ("authentication failed", _REFUSED),
    ("no password supplied", "the server asks for a password; give it with ledger.password_secret"),
    ("pg_hba.conf", _REFUSED),
    ("role ", _REFUSED),
    ("database ", "the server has no such database; create it"),
    ("connection slots", _CROWDED),
    ("too many", _CROWDED),
    ("certificate", "the server's certificate will not do; check sslmode and sslrootcert in the URL"),
    ("SSL", "the encrypted connection cannot be made; check sslmode in the URL, and the server's ssl"),
    ("could not translate host name", "the host's name is not known; check it"),
    ("session is read-only", _READ_ONLY),
)

_RACES: Final = frozenset({"23505", "40001", "40P01"})
"""A row of that key exists now; two transactions cannot be put in an order; each waits for the other."""


def sqlstate(error: BaseException) -> str | None:
    """The SQLSTATE behind an error; None when it has none or is not the server's."""
    origin = error.orig if isinstance(error, DBAPIError) else error
    return origin.sqlstate if isinstance(origin, psycopg.Error) else None


def is_race(error: BaseException) -> bool:
    """Whether the transaction met another process at the same rows: done again, it may succeed."""
    return isinstance(error, Raced) or sqlstate(error) in _RACES


def is_lost(error: BaseException) -> bool:
    """Whether the connection is gone, and what was not committed with it."""
    return isinstance(error, DBAPIError) and error.connection_invalidated


def is_general(error: BaseException) -> bool:
    """Whether every operation would fail now."""
    state = sqlstate(error)
    if state is not None:
        return state.startswith(_LASTING)
    return is_lost(error) or _origin_is_operational(error)


def translated(error: Exception) -> Exception:
    """The error a caller of the ledger gets for ``error``, a new one for each caller."""
    if isinstance(error, Raced):
        return StoreError("the ledger's rows are changed by other processes without end")
    if isinstance(error, QComputeError):
        return error
    if isinstance(error, SQLAlchemyError | psycopg.Error):
        return StoreError(f"The ledger's database (setting ledger.url) cannot be used: {_fix(error)}.")
    failure = Bug(f"the ledger met {type(error).__name__}")
    failure.__cause__ = error
    return failure


def _fix(error: Exception) -> str:
    state = sqlstate(error)
    if state is not None:
        words = _BY_STATE.get(state) or _BY_STATE.get(state[:2]) or f"it fails ({_kind(error)})"
        return f"{words} (SQLSTATE {state}{_constraint(error)})"
    if is_lost(error):
        return _BROKEN
    if not _origin_is_operational(error):
        return f"it fails ({_kind(error)})"
    text = str(error.orig if isinstance(error, DBAPIError) else error)
    return next((words for phrase, words in _BY_PHRASE if phrase in text), _UNREACHABLE)


def _origin_is_operational(error: BaseException) -> bool:
    origin = error.orig if isinstance(error, DBAPIError) else error
    return isinstance(origin, psycopg.OperationalError)


def _kind(error: Exception) -> str:
    return type(error.orig if isinstance(error, DBAPIError) else error).__name__


def _constraint(error: Exception) -> str:
    origin = error.orig if isinstance(error, DBAPIError) else error
    name = origin.diag.constraint_name if isinstance(origin, psycopg.Error) else None
    return f", constraint {name}" if name else ""


POSTGRES_FAILURES: Final = Failures(is_general, translated)
