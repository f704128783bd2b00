"""The stand-in of an adapter that opens late is, once open, that adapter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from qcompute.cluster.builtin.late import LateAdapter
from qcompute.errors import ConfigError
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


def test_what_another_process_has_opens_when_it_is_let_go(tmp_path: Path) -> None:
    """The daemon begins all accounts at its start; a spool that is taken keeps this one offline, and no other."""
    first = open_adapter("aer", {"spool": tmp_path})
    first.begin()
    late = LateAdapter(lambda: open_adapter("aer", {"spool": tmp_path}))
    assert late.list_devices(), "looking needs no spool"
    late.begin()
    assert not late.list_devices()
    availability = late.get_availability()
    assert availability is not None
    assert "another process has it" in (availability.status_msg or "")
    with pytest.raises(ConfigError, match="another process has it"):
        late.open_now()
    first.close()
    late.open_now()
    assert late.list_devices()
    late.close()
