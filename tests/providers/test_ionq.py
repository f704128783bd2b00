"""IonQ over its REST API: the contract with every fault, and what is IonQ's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

import pytest

from qcompute.connections.credentials import Secret
from qcompute.miner.providers.base import ProviderAdapter, Verb
from qcompute.miner.providers.ionq import IonqAdapter, IonqConfig
from qcompute.testing.provider_contract import ProviderContract
from tests.doubles.ionq import IonqDouble

KEY = "ionq-key-1"
CALLS = {
    Verb.SUBMIT: r"POST /v0\.4/jobs$",
    Verb.POLL: r"GET /v0\.4/jobs/[^/]+$",
    Verb.RECEIPT: r"GET /v0\.4/jobs/[^/]+(/artifacts/.+|/cost)?$",
    Verb.CANCEL: r"PUT /v0\.4/jobs/[^/]+/status/cancel$",
}


class _Contract(ProviderContract):
    secrets: ClassVar[tuple[str, ...]] = (KEY,)
    calls: ClassVar[Mapping[Verb, str]] = CALLS
    backend: ClassVar[str]

    @pytest.fixture
    def vendor(self) -> Iterator[IonqDouble]:
        with IonqDouble(KEY) as double:
            yield double

    @pytest.fixture
    def adapter(self, vendor: IonqDouble) -> Iterator[ProviderAdapter]:
        made = IonqAdapter(
            IonqConfig(
                api_key=Secret("ionq", KEY),
                url=vendor.base,
                backends=(self.backend,),
                timeout_seconds=1.0,
                submit_timeout_seconds=1.0,
            )
        )
        yield made
        made.close()


class TestQuantumComputer(_Contract):
    backend = "qpu.forte-1"


class TestSimulator(_Contract):
    backend = "simulator"
