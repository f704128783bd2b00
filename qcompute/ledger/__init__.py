"""The durable store of jobs."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import datetime

from qcompute.errors import ConfigError
from qcompute.ledger.contract import Ledger
from qcompute.ledger.moved import refuse_half_moved
from qcompute.ledger.settings import LedgerSettings
from qcompute.units import utc_now


def open_ledger(settings: LedgerSettings, clock: Callable[[], datetime] = utc_now, *, shared: bool = False) -> Ledger:
    """The ledger these settings name, created or upgraded when needed; blocks while it opens, so call it at start.

    It is this process's alone until it is closed. ``clock`` says when a job was closed. ``shared`` is for daemons:
    several may then work on one Postgres database, and a lease that ends in the middle of a paid call ends the process
    (`qcompute.ledger.lease`). A file has one daemon all the same.

    Raises:
        ConfigError: the file or database, its folder, key or lock cannot be used; the message says what to do.
        StoreError: the database failed.
    """
    # Imported only now: whoever needs the contract, or the twin in memory, does not need SQLAlchemy.
    if settings.url is None:
        from qcompute.ledger.sqlite import SqliteLedger  # noqa: PLC0415

        return SqliteLedger(settings, clock)
    refuse_half_moved(settings.file)
    with require_driver():
        from qcompute.ledger.postgres import PostgresLedger  # noqa: PLC0415
    return PostgresLedger(settings, clock, alone=not shared, enforce=shared)


@contextmanager
def require_driver() -> Generator[None]:
    """Around the import of what needs the driver of Postgres.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("psycopg"):
            raise
        raise ConfigError("ledger.url needs the driver of Postgres: pip install 'qcompute[postgres]'") from error
