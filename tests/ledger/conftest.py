from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from qcompute.ledger.postgres import PostgresLedger
from qcompute.ledger.settings import LedgerSettings
from qcompute.ledger.sqlite import SqliteLedger
from qcompute.testing.ledger_records import SetClock
from tests.ledger.database_side import SqlLog, logged_sql
from tests.ledger.postgres_server import ledger_database, shared_server

# So that a failed assertion of the inherited tests shows its values.
pytest.register_assert_rewrite(
    *(f"qcompute.testing.ledger_{part}" for part in ("contract", "intake", "saving", "collecting"))
)


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def settings(tmp_path: Path) -> LedgerSettings:
    return LedgerSettings(path=tmp_path / "store" / "ledger.sqlite3", busy_timeout_seconds=0.05)


@pytest.fixture
async def sqlite(settings: LedgerSettings, clock: SetClock) -> AsyncIterator[SqliteLedger]:
    ledger = SqliteLedger(settings, clock)
    yield ledger
    await ledger.close()


@pytest.fixture
def postgres_settings(tmp_path: Path) -> Iterator[LedgerSettings]:
    """A database of the test's own, with tables and nothing in them."""
    with ledger_database() as name:
        yield LedgerSettings(
            path=tmp_path / "store" / "ledger.sqlite3",
            url=SecretStr(shared_server().url(name)),
            busy_timeout_seconds=0.3,
        )


@pytest.fixture
async def postgres(postgres_settings: LedgerSettings, clock: SetClock) -> AsyncIterator[PostgresLedger]:
    ledger = PostgresLedger(postgres_settings, clock)
    yield ledger
    await ledger.close()


@pytest.fixture
def sql() -> Iterator[SqlLog]:
    with logged_sql() as log:
        yield log
