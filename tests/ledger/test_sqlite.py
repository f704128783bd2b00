from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from typing_extensions import override

from qcompute.ledger import open_ledger
from qcompute.ledger.contract import Ledger
from qcompute.ledger.settings import LedgerSettings
from qcompute.testing.ledger_contract import LedgerContract
from qcompute.testing.ledger_records import SetClock


class TestSqliteLedger(LedgerContract):
    @pytest.fixture
    @override
    async def ledger(self, clock: SetClock, tmp_path: Path) -> AsyncIterator[Ledger]:
        ledger = open_ledger(LedgerSettings(path=tmp_path / "ledger.sqlite3"), clock)
        yield ledger
        await ledger.close()
