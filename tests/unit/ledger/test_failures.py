from __future__ import annotations

import sqlite3

import pytest
from sqlalchemy.exc import InvalidRequestError, OperationalError

from qcompute.errors import Bug, ConfigError, StaleRow, StoreError
from qcompute.ledger.failures import is_locked, sqlite_code, translated


def sqlite_error(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("what SQLite says")
    error.sqlite_errorcode = code
    return error


def wrapped(code: int) -> OperationalError:
    return OperationalError("INSERT INTO jobs", {"url": "https://secret.example"}, sqlite_error(code))


@pytest.mark.parametrize(
    ("code", "word"),
    [
        (sqlite3.SQLITE_FULL, "full"),
        (sqlite3.SQLITE_IOERR_WRITE, "read or write"),
        (sqlite3.SQLITE_READONLY_DIRECTORY, "read-only"),
        (sqlite3.SQLITE_CANTOPEN, "opened"),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, "locked"),
        (sqlite3.SQLITE_CORRUPT, "damaged"),
        (sqlite3.SQLITE_NOTADB, "not a SQLite database"),
        (sqlite3.SQLITE_TOOBIG, "OperationalError"),
    ],
)
def test_each_failure_has_words_that_name_the_setting_and_nothing_written(code: int, word: str) -> None:
    failure = translated(wrapped(code))
    assert type(failure) is StoreError
    assert word in str(failure)
    assert "ledger.path" in str(failure)
    assert "secret" not in str(failure)
    assert "INSERT" not in str(failure)


def test_an_error_of_the_driver_without_a_code_is_a_store_error() -> None:
    assert sqlite_code(sqlite3.ProgrammingError("wrong thread")) is None
    assert type(translated(sqlite3.ProgrammingError("wrong thread"))) is StoreError
    assert type(translated(InvalidRequestError("rollback first"))) is StoreError


@pytest.mark.parametrize("error", [StaleRow(), ConfigError("x"), Bug()])
def test_our_own_errors_stay_as_they_are(error: Exception) -> None:
    assert translated(error) is error


def test_each_caller_gets_an_error_of_its_own() -> None:
    cause = wrapped(sqlite3.SQLITE_FULL)
    first, second = translated(cause), translated(cause)
    assert first is not second
    assert first.__cause__ is second.__cause__ is cause


def test_a_locked_file_is_told_from_other_failures() -> None:
    assert is_locked(wrapped(sqlite3.SQLITE_BUSY))
    assert is_locked(sqlite_error(sqlite3.SQLITE_LOCKED))
    assert not is_locked(wrapped(sqlite3.SQLITE_FULL))
    assert not is_locked(ValueError())
