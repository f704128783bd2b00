from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from typing_extensions import override

from qcompute.ledger import open_ledger
from qcompute.ledger.contract import Ledger
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
