"""The contract, inherited by IBM's adapter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import pytest

from qcompute.miner.providers.base import (
    ProviderAdapter,
    Verb,
)
from qcompute.miner.providers.ibm import IbmAdapter
from qcompute.testing.provider_contract import ProviderContract
from tests.doubles.ibm import API_KEY, KIT, IbmDouble


class TestIbm(ProviderContract):
    secrets = (API_KEY,)
    calls: ClassVar[Mapping[Verb, str]] = KIT.calls

    @pytest.fixture
    def vendor(self, double: IbmDouble) -> IbmDouble:
        return double

    @pytest.fixture
    def adapter(self, impatient_adapter: IbmAdapter, double: IbmDouble) -> ProviderAdapter:
        del double  # it puts the module's double back to how it started
        return impatient_adapter
