"""The endpoint that says what it is told to, and adapters for it, for every test of the folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from qcompute.miner.providers.rest import RestAdapter
from tests.providers.rest.scene import Make, Told, config


@pytest.fixture
def told() -> Iterator[Told]:
    with Told() as started:
        yield started


@pytest.fixture
def make(told: Told) -> Iterator[Make]:
    made: list[RestAdapter] = []

    def one(**settings: object) -> RestAdapter:
        made.append(RestAdapter(config(told, **settings)))
        return made[-1]

    yield one
    for adapter in made:
        adapter.close()
