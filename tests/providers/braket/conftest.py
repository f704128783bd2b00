"""Braket's double and adapters for it, for every test of the folder."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from qcompute.miner.providers.braket import BraketAdapter, BraketConfig
from tests.doubles.braket import (
    FORTE,
    KIT,
    BraketDouble,
)
from tests.providers.braket.scene import Open


@pytest.fixture
def double() -> Generator[BraketDouble]:
    with BraketDouble() as running:
        yield running


@pytest.fixture
def opened(double: BraketDouble, monkeypatch: pytest.MonkeyPatch) -> Generator[Open]:
    """Opens adapters on the double, with settings of its own."""
    adapters: list[BraketAdapter] = []
    for name, value in KIT.variables(double).items():
        monkeypatch.setenv(name, value)

    def open_one(**more: Any) -> BraketAdapter:
        adapters.append(BraketAdapter(BraketConfig.model_validate(KIT.table(double) | {"devices": [FORTE]} | more)))
        return adapters[-1]

    yield open_one
    for adapter in adapters:
        adapter.close()


@pytest.fixture
def adapter(opened: Open) -> BraketAdapter:
    return opened()
