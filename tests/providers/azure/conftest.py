"""Azure's double, its key and an adapter for it, for every test of the folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from qcompute.connections.credentials import variable_of
from qcompute.miner.providers.base import (
    ProviderAdapter,
)
from tests.doubles.azure import KEY, AzureDouble
from tests.providers.azure.scene import opened


@pytest.fixture
def double() -> Iterator[AzureDouble]:
    with AzureDouble() as double:
        yield double


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable_of("azure"), KEY)


@pytest.fixture
def adapter(double: AzureDouble) -> Iterator[ProviderAdapter]:
    with opened(double) as adapter:
        yield adapter
