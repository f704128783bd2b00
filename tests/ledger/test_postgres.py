from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from typing_extensions import override

from qcompute.ledger import open_ledger
from qcompute.ledger.contract import Ledger
from qcompute.ledger.postgres import PostgresLedger
from qcompute.ledger.settings import LedgerSettings
from qcompute.testing.ledger_contract import LedgerContract
from qcompute.testing.ledger_records import SetClock


class TestPostgresLedger(LedgerContract):
    @pytest.fixture
    @override
    async def ledger(self, clock: SetClock, postgres_settings: LedgerSettings) -> AsyncIterator[Ledger]:
        ledger = open_ledger(postgres_settings, clock)
        yield ledger
        await ledger.close()


class TestSharedPostgresLedger(LedgerContract):
    """As one of several processes, whose claims are leases."""

    @pytest.fixture
    @override
    async def ledger(self, clock: SetClock, postgres_settings: LedgerSettings) -> AsyncIterator[Ledger]:
        ledger = PostgresLedger(postgres_settings, clock, alone=False)
        yield ledger
        await ledger.close()
