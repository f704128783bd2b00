from __future__ import annotations

import psycopg
import pytest
from psycopg import errors
from sqlalchemy.exc import DBAPIError, OperationalError

from qcompute.errors import Bug, ConfigError, StaleRow, StoreError
from qcompute.ledger.postgres_failures import is_general, is_lost, is_race, translated
from qcompute.ledger.races import Raced

HIDDEN = "p@ssw0rd"


def wrapped(error: psycopg.Error, *, lost: bool = False) -> DBAPIError:
    return OperationalError("INSERT INTO jobs", {"url": "https://secret.example"}, error, connection_invalidated=lost)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (errors.DiskFull(HIDDEN), "disk is full"),
        (errors.ReadOnlySqlTransaction(HIDDEN), "read-only"),
        (errors.InsufficientPrivilege(HIDDEN), "owner of database"),
        (errors.TooManyConnections(HIDDEN), r"ledger\.readers"),
        (errors.LockNotAvailable(HIDDEN), "keeps the rows locked"),
        (errors.QueryCanceled(HIDDEN), "keeps the rows locked"),
        (errors.AdminShutdown(HIDDEN), "made again by itself"),
        (errors.DataCorrupted(HIDDEN), "damaged"),
        (errors.IoError(HIDDEN), "does not read or write"),
        (errors.CheckViolation(HIDDEN), "CheckViolation.*SQLSTATE 23514"),
        (psycopg.OperationalError(f"connection failed: Connection refused {HIDDEN}"), "cannot be reached"),
        (psycopg.OperationalError(f'password authentication failed for "{HIDDEN}"'), "refuses user or password"),
        (psycopg.OperationalError(f'could not translate host name "{HIDDEN}"'), "host's name"),
        (psycopg.OperationalError(f'database "{HIDDEN}" does not exist'), "no such database"),
        (psycopg.OperationalError("the database system is starting up"), "starting or stopping"),
        (psycopg.OperationalError("certificate verify failed"), "sslrootcert"),
        (psycopg.ProgrammingError(HIDDEN), "it fails"),
    ],
)
def test_each_failure_has_words_that_name_the_setting_and_nothing_of_the_server_s(
    error: psycopg.Error, words: str
) -> None:
    for one in (error, wrapped(error)):
        failure = translated(one)
        with pytest.raises(StoreError, match=rf"ledger\.url.*{words}"):
            raise failure
        assert failure.__cause__ is None
        for hidden in (HIDDEN, "secret.example", "INSERT"):
            assert hidden not in str(failure)


def test_what_every_operation_would_meet_is_told_from_what_one_met() -> None:
    for error in (errors.AdminShutdown(), errors.DiskFull(), errors.LockNotAvailable(), psycopg.OperationalError()):
        assert is_general(wrapped(error))
    assert is_general(wrapped(psycopg.InternalError(), lost=True))
    for error in (errors.CheckViolation(), errors.RaiseException(), errors.UniqueViolation()):
        assert not is_general(wrapped(error))


def test_a_lost_connection_is_known_by_what_sqlalchemy_made_of_it() -> None:
    assert is_lost(wrapped(psycopg.OperationalError(), lost=True))
    assert not is_lost(wrapped(psycopg.OperationalError()))


def test_a_race_may_be_run_again() -> None:
    for error in (errors.UniqueViolation(), errors.DeadlockDetected(), errors.SerializationFailure()):
        assert is_race(wrapped(error))
    assert is_race(Raced())
    assert not is_race(wrapped(errors.CheckViolation()))
    assert type(translated(Raced())) is StoreError


@pytest.mark.parametrize("error", [StaleRow(), ConfigError("x"), Bug()])
def test_our_own_errors_stay_as_they_are(error: Exception) -> None:
    assert translated(error) is error


def test_what_nobody_foresaw_is_a_bug_that_keeps_its_cause() -> None:
    cause = ValueError("x")
    failure = translated(cause)
    assert isinstance(failure, Bug)
    assert failure.__cause__ is cause
