"""IonQ's double and adapters for it, for every test of the folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from qcompute.miner.providers.ionq import IonqAdapter
from tests.doubles.ionq import IonqDouble
from tests.providers.ionq.scene import (
    KEY,
    Adapters,
    adapters_of,
)


@pytest.fixture
def double() -> Iterator[IonqDouble]:
    with IonqDouble(KEY) as made:
        yield made


@pytest.fixture
def adapters(double: IonqDouble) -> Iterator[Adapters]:
    with adapters_of(double) as make:
        yield make


@pytest.fixture
def adapter(adapters: Adapters) -> IonqAdapter:
    return adapters()
