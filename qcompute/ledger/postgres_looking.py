"""Looking at a ledger in Postgres: what `qcompute.ledger.looking` needs of it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager

import psycopg
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from qcompute.errors import StoreError
from qcompute.ledger.postgres_connect import STILL_READER_SECONDS, connection_parameters, looking_engine, place_of
from qcompute.ledger.postgres_failures import sqlstate, translated
from qcompute.ledger.settings import LedgerSettings

_STOOD_STILL = "25P03"


def look_at_postgres(settings: LedgerSettings) -> tuple[str, Callable[[], AbstractContextManager[Connection]]]:
    """The database's name without any secret, and what connects to it for one look.

    A connection is made for each look, so that one to a server that was replaced is not held on to.

    Raises:
        ConfigError: the URL or the password's name will not do.
    """
    parameters = connection_parameters(settings)
    engine = looking_engine(parameters, settings)

    @contextmanager
    def connected() -> Generator[Connection]:
        try:
            with engine.connect() as connection:
                yield connection
        except (SQLAlchemyError, psycopg.Error) as error:
            # Nothing of the server's words is chained: they may hold rows.
            raise _told(error) from None

    return place_of(parameters), connected


def _told(error: Exception) -> Exception:
    if sqlstate(error) == _STOOD_STILL:
        return StoreError(
            f"the server ended the look at the ledger, whose reader stood still for {STILL_READER_SECONDS} s: read "
            "the output without a pause, or have it written to a file with --to"
        )
    return translated(error)
