"""The adapter contract on a real account. It costs money; ``make live`` alone runs it, and prints the cost first.

Set ``LIVE_PROVIDER`` (``ionq``), ``LIVE_CONFIG`` (a TOML file with ``[providers.ionq]``), ``LIVE_DEVICE`` (a device id)
and ``LIVE_MAX_COST`` (an amount in the vendor's currency: above it nothing is submitted). Secrets are given by name as
for the daemon. Try the vendor's simulator first. A lost answer cannot be ordered from a real vendor, so the table of
faults is left to the doubles.
"""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import ClassVar, Final

import pytest

from qcompute.miner.providers.base import Device, ProviderAdapter
from qcompute.miner.providers.registry import open_adapter
from qcompute.testing.provider_contract import SHOTS, ProviderContract

pytestmark = [pytest.mark.live, pytest.mark.timeout(0)]

SUBMITS: Final = 20
"""Jobs the contract makes at most."""


def wanted(name: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        pytest.fail(f"set {name}; see the head of tests/live/test_real_account.py")
    return value


@pytest.fixture(scope="module")
def account() -> Iterator[ProviderAdapter]:
    """The account, after what the run will cost has been printed and found bearable."""
    key = wanted("LIVE_PROVIDER")
    table = tomllib.loads(Path(wanted("LIVE_CONFIG")).read_text())["providers"][key]
    limit = Decimal(wanted("LIVE_MAX_COST"))
    adapter = open_adapter(key, table)
    suite = TestRealAccount()
    each = adapter.estimate(suite.prepared(adapter), suite.device(adapter), SHOTS)
    total = "unknown" if each is None else f"{each.amount * SUBMITS} {each.currency}"
    sys.stderr.write(f"\n{SUBMITS} jobs of {SHOTS} shots on {suite.device(adapter).device_id}: {total}\n")
    if each is None or each.amount * SUBMITS > limit:
        adapter.close()
        pytest.fail(f"the estimate ({total}) is not within LIVE_MAX_COST ({limit}); nothing was submitted")
    yield adapter
    adapter.close()


class TestRealAccount(ProviderContract):
    ends_within_seconds: ClassVar[float] = 24 * 3600.0
    noisy: ClassVar[bool] = True

    @pytest.fixture
    def adapter(self, account: ProviderAdapter) -> ProviderAdapter:
        return account

    def device(self, adapter: ProviderAdapter) -> Device:
        device_id = wanted("LIVE_DEVICE")
        return next(device for device in adapter.list_devices() if device.device_id == device_id)
