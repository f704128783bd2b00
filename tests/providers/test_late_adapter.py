"""The stand-in of an adapter that opens late is, once open, that adapter."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from qcompute.cluster.builtin.late import LateAdapter
from qcompute.miner.providers.base import ProviderAdapter
from qcompute.miner.providers.registry import open_adapter
from qcompute.testing.provider_contract import ProviderContract


@pytest.fixture(scope="module")
def late(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProviderAdapter]:
    """One for all: starting its process takes longer than any of the tests."""
    spool = tmp_path_factory.mktemp("spool")
    made = LateAdapter(lambda: open_adapter("aer", {"spool": spool}))
    yield made
    made.close()


class TestLateAer(ProviderContract):
    @pytest.fixture
    def adapter(self, late: ProviderAdapter) -> ProviderAdapter:
        return late
