"""The contract, inherited by the adapter for plain REST: for each kind of endpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

import pytest

from qcompute.miner.providers.base import (
    ProviderAdapter,
    Verb,
)
from qcompute.miner.providers.rest import RestAdapter
from qcompute.testing.provider_contract import ProviderContract
from tests.doubles.rest import KIT, TOKEN, RestDouble
from tests.doubles.worker import shared
from tests.providers.rest.scene import X, config


def warm() -> None:
    """Starting the simulator takes longer than these tests' timeouts."""
    shared("tests.doubles.aer_worker").ask({"language": "openqasm2", "text": X, "shots": 1})


class _Contract(ProviderContract):
    secrets: ClassVar[tuple[str, ...]] = (TOKEN,)

    @pytest.fixture
    def vendor(self) -> Iterator[RestDouble]:
        warm()
        with self.double() as started:
            yield started

    @pytest.fixture
    def adapter(self, vendor: RestDouble) -> Iterator[ProviderAdapter]:
        made = RestAdapter(config(vendor, **self.settings()))
        yield made
        made.close()

    def double(self) -> RestDouble:
        raise NotImplementedError

    def settings(self) -> dict[str, object]:
        return {}


class TestAsynchronous(_Contract):
    """A job id at once, the result later."""

    calls: ClassVar[Mapping[Verb, str]] = KIT.calls

    def double(self) -> RestDouble:
        return RestDouble(asynchronous=True)

    def settings(self) -> dict[str, object]:
        return {"idempotency": "token", "keeps_jobs": True}


class TestAtOnce(_Contract):
    """The result in the answer, and nothing else: all the specification asks for."""

    calls: ClassVar[Mapping[Verb, str]] = {Verb.SUBMIT: KIT.calls[Verb.SUBMIT]}

    def double(self) -> RestDouble:
        double = RestDouble(honours_keys=False, has_jobs=False)
        double.gives_ids = False
        return double


class TestAtOnceWithKeys(_Contract):
    """The result in the answer, of an endpoint that honours keys and lists jobs by them; keys of counts reversed."""

    calls: ClassVar[Mapping[Verb, str]] = {Verb.SUBMIT: KIT.calls[Verb.SUBMIT]}

    def double(self) -> RestDouble:
        double = RestDouble()
        double.big = True
        return double

    def settings(self) -> dict[str, object]:
        return {"idempotency": "token", "dialect": "openqasm2", "bit_order": "big"}
