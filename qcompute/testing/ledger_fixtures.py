"""What the tests of a ledger are given; `qcompute.testing.ledger_contract` puts them together."""

from __future__ import annotations

import pytest

from qcompute.ledger.contract import Ledger
from qcompute.testing.ledger_records import SetClock

WAIT_SECONDS = 20
"""Long enough for a loaded machine; nothing here waits for time to pass."""


class LedgerFixtures:
    """A clock that the test sets, and the ledger that reads it."""

    @pytest.fixture
    def clock(self) -> SetClock:
        """The ledger's clock."""
        return SetClock()

    @pytest.fixture
    def ledger(self, clock: SetClock) -> Ledger:
        """An empty ledger, closed afterwards; to be supplied."""
        raise NotImplementedError(f"supply a ledger that reads {clock}")
