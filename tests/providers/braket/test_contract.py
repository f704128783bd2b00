"""The contract, inherited by Amazon Braket's adapter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import pytest

from qcompute.miner.providers.base import (
    ProviderAdapter,
    Verb,
)
from qcompute.testing.provider_contract import ProviderContract
from tests.doubles.braket import (
    KIT,
    BraketDouble,
)
from tests.providers.braket.scene import Open


class TestBraket(ProviderContract):
    secrets: ClassVar[tuple[str, ...]] = tuple(KIT.secrets.values())
    calls: ClassVar[Mapping[Verb, str]] = KIT.calls

    @pytest.fixture
    def vendor(self, double: BraketDouble) -> BraketDouble:
        return double

    @pytest.fixture
    def adapter(self, opened: Open) -> ProviderAdapter:
        return opened(devices=[])
