from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from typing_extensions import override

from qcompute.ledger.contract import Ledger
from qcompute.ledger.memory import MemoryLedger
from qcompute.testing.ledger_contract import LedgerContract
from qcompute.testing.ledger_records import SetClock


class TestMemoryLedger(LedgerContract):
    @pytest.fixture
    @override
    async def ledger(self, clock: SetClock) -> AsyncIterator[Ledger]:
        ledger = MemoryLedger(clock)
        yield ledger
        await ledger.close()
