"""Every vendor, every way to fail, every call: one vendor job, or none and the user is told, or held. Never two.

``make bench-faults`` prints the same table.
"""

from __future__ import annotations

import pytest

from qcompute.miner.providers.base import Verb
from tests.doubles.kits import VENDORS, kit
from tests.providers.matrix import FAULTY_VERBS, cells


@pytest.mark.parametrize("verb", FAULTY_VERBS)
@pytest.mark.parametrize("vendor", VENDORS)
async def test_no_fault_is_paid_twice_or_loses_a_job(vendor: str, verb: Verb, monkeypatch: pytest.MonkeyPatch) -> None:
    kit_ = kit(vendor)
    with kit_.double() as double:
        adapter = kit_.open(double, monkeypatch)
        seen = await cells(kit_, adapter, double, verb)
        adapter.close()
    assert [one for one in seen if not one.ok] == []
    assert len(seen) >= 12
