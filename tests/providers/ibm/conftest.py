"""IBM's double, a compiler and accounts on it, for every test of the folder: each starts once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from qcompute.circuits.compiler import CircuitCompiler
from qcompute.circuits.settings import CircuitSettings
from qcompute.miner.providers.ibm import IbmAdapter
from tests.doubles.ibm import IbmDouble
from tests.providers.ibm.scene import Account, config


@pytest.fixture(scope="package")
def compiler() -> Iterator[CircuitCompiler]:
    made = CircuitCompiler(CircuitSettings())
    yield made
    made.close()


@pytest.fixture(scope="package")
def running() -> Iterator[IbmDouble]:
    with IbmDouble() as double:
        yield double


@pytest.fixture
def double(running: IbmDouble) -> IbmDouble:
    """The module's double as it was when it started, but for its jobs.

    A request that an earlier test gave up is processed all the same; seen late, it was once taken for this test's own.
    """
    deadline = time.monotonic() + 10.0
    while running.under_way and time.monotonic() < deadline:
        time.sleep(0.02)
    assert running.under_way == 0
    fresh = IbmDouble()
    kept = {"jobs", "configurations", "properties", "asked", "under_way"}
    for name, value in vars(fresh).items():
        if not name.startswith("_") and name not in kept:
            setattr(running, name, value)
    running.asked.clear()
    return running


@pytest.fixture(scope="package")
def shared_adapter(running: IbmDouble) -> Iterator[IbmAdapter]:
    made = IbmAdapter(config(running))
    yield made
    made.close()


@pytest.fixture(scope="package")
def impatient_adapter(running: IbmDouble) -> Iterator[IbmAdapter]:
    """For the contract: one for all of it, because each has a child of its own that imports IBM's package."""
    made = IbmAdapter(config(running, timeout_seconds=1.5, submit_timeout_seconds=1.5))
    yield made
    made.close()


@pytest.fixture
def account(shared_adapter: IbmAdapter, double: IbmDouble, compiler: CircuitCompiler) -> Account:
    return Account(shared_adapter, double, compiler)


@pytest.fixture
def opened(double: IbmDouble, compiler: CircuitCompiler) -> Iterator[Callable[..., Account]]:
    """Opens further accounts on the double, with other settings."""
    made: list[IbmAdapter] = []

    def open_one(**more: Any) -> Account:
        made.append(IbmAdapter(config(double, **more)))
        return Account(made[-1], double, compiler)

    yield open_one
    for adapter in made:
        adapter.close()
