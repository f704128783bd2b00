"""The contract, inherited by IonQ's adapter: for a quantum computer and for the simulator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import pytest

from qcompute.miner.providers.base import (
    ProviderAdapter,
    Verb,
)
from qcompute.testing.provider_contract import ProviderContract
from tests.doubles.ionq import IonqDouble
from tests.providers.ionq.scene import (
    KEY,
    QPU,
    Adapters,
)


class _Contract(ProviderContract):
    secrets: ClassVar[tuple[str, ...]] = (KEY,)
    calls: ClassVar[Mapping[Verb, str]] = {
        Verb.SUBMIT: r"POST /v0\.4/jobs$",
        Verb.POLL: r"GET /v0\.4/jobs/[^/]+$",
        Verb.RECEIPT: r"GET /v0\.4/jobs/[^/]+(/artifacts/.+|/cost)$",
        Verb.CANCEL: r"PUT /v0\.4/jobs/[^/]+/status/cancel$",
    }
    backend: ClassVar[str]

    @pytest.fixture
    def vendor(self, double: IonqDouble) -> IonqDouble:
        return double

    @pytest.fixture
    def adapter(self, adapters: Adapters) -> ProviderAdapter:
        return adapters(backends=(self.backend,), timeout_seconds=1.0)


class TestQuantumComputer(_Contract):
    backend = QPU


class TestSimulator(_Contract):
    backend = "simulator"
