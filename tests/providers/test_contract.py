"""The contract, inherited by every adapter here and by one written for the reference miner."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from typing_extensions import override

from qcompute.miner.providers.base import Idempotency, ImmediateAdapter, ProviderAdapter
from qcompute.miner.providers.registry import open_adapter
from qcompute.testing.provider_contract import ProviderContract
from qcompute.units import Counts


class TestMock(ProviderContract):
    computes = False

    @pytest.fixture(params=list(Idempotency))
    def adapter(self, request: pytest.FixtureRequest) -> Iterator[ProviderAdapter]:
        made = open_adapter("mock", {"run_seconds": 0.05, "idempotency": request.param})
        yield made
        made.close()


@pytest.fixture(scope="module")
def aer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProviderAdapter]:
    """One for all: starting its process takes longer than any of the tests."""
    made = open_adapter("aer", {"spool": tmp_path_factory.mktemp("spool")})
    yield made
    made.close()


class TestAer(ProviderContract):
    @pytest.fixture
    def adapter(self, aer: ProviderAdapter) -> ProviderAdapter:
        return aer


class TestReferenceStyle(ProviderContract):
    module = "tests.providers.reference_style"

    @pytest.fixture
    def adapter(self) -> Iterator[ProviderAdapter]:
        made = open_adapter("tests.providers.reference_style:MyQpuAdapter")
        yield made
        made.close()


class Toss(ImmediateAdapter):
    device_id, num_qubits = "toss", 3

    @override
    def run(self, circuit_data: str, shots: int) -> Counts:
        del circuit_data
        return {"000": shots - 1, "111": 1}


class TestImmediate(ProviderContract):
    computes = False
    module = "qcompute.miner.providers.base"

    @pytest.fixture
    def adapter(self) -> ProviderAdapter:
        return Toss()


def test_a_spool_of_its_own_is_given_unless_told(tmp_path: Path) -> None:
    adapter = open_adapter("aer", directory=tmp_path)
    adapter.begin()
    adapter.close()
    assert (tmp_path / "aer").is_dir()
