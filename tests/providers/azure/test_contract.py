"""The contract, inherited by Azure's adapter: once for each way a target is written to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

import pytest

from qcompute.miner.providers.base import (
    ProviderAdapter,
    Verb,
)
from qcompute.testing.provider_contract import ProviderContract
from tests.doubles.azure import KEY, KIT, AzureDouble
from tests.providers.azure.scene import EMULATOR, QVM, SIMULATOR, opened


class _Contract(ProviderContract):
    name: ClassVar[str]
    secrets: ClassVar[tuple[str, ...]] = (KEY,)

    @pytest.fixture
    def adapter(self, double: AzureDouble) -> Iterator[ProviderAdapter]:
        with opened(double, self.name, prices={self.name: {"per_task": "1.5", "per_shot": "0.01"}}) as adapter:
            yield adapter


class TestQuantinuum(_Contract):
    """OpenQASM 2 in, registers out; with every fault of the contract on every call."""

    name: ClassVar[str] = EMULATOR
    calls: ClassVar[Mapping[Verb, str]] = KIT.calls

    @pytest.fixture
    def vendor(self, double: AzureDouble) -> AzureDouble:
        return double


class TestIonq(_Contract):
    """JSON gates in, probabilities over all qubits out."""

    name: ClassVar[str] = SIMULATOR


class TestQir(_Contract):
    """QIR in, shots out."""

    name: ClassVar[str] = QVM
