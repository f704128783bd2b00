"""IBM: packs and results."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from qcompute.circuits.measurement import MeasurementMap, Register
from qcompute.errors import (
    BadReply,
)
from qcompute.local.service import FaultKind
from qcompute.miner.providers.base import (
    JobHandle,
)
from qcompute.testing.provider_contract import ASYMMETRIC
from qcompute.units import Money
from qcompute.vendor.prices import Prices
from tests.doubles.ibm import QUANTUM_SECONDS
from tests.providers.ibm.scene import HEAD, ONE, ZEROS, Account, counts

AWKWARD = (
    'OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit[3] q;\nbit[1] data;\nbit[2] shape;\nbit[1] items;\n'
    "x q[1];\nshape[1] = measure q[1];\ndata[0] = measure q[2];\nshape[0] = measure q[0];\n"
)


def test_circuits_of_a_pack_come_back_each_to_its_own(account: Account) -> None:
    handles = account.submit(ASYMMETRIC.source, ONE, ZEROS, token="pack", shots=30)
    assert len({handle.provider_job_id for handle in handles}) == 1
    assert [handle.pack_index for handle in handles] == [0, 1, 2]
    receipts = [account.ended(handle) for handle in handles]
    assert [counts(receipt) for receipt in receipts] == [{"010": 30}, {"1": 30}, {"00": 30}]
    assert [receipt.shots for receipt in receipts] == [30, 30, 30]
    third = QUANTUM_SECONDS / 3 / 60 * 96
    assert [receipt.cost for receipt in receipts] == pytest.approx([third] * 3)
    assert (receipts[0].metadata or {})["circuits_in_job"] == 3


def test_registers_may_have_any_name_and_order(account: Account) -> None:
    """``data``, ``shape`` and ``items`` mean something to Qiskit's containers; ``items`` is never measured."""
    assert counts(account.ended(account.submit(AWKWARD, shots=20)[0])) == {"0100": 20}


def test_a_result_of_many_outcomes_is_counted_in_full(account: Account) -> None:
    source = HEAD + "qreg q[4];\ncreg c[4];\nh q;\nmeasure q -> c;\n"
    found = counts(account.ended(account.submit(source, shots=2000)[0]))
    assert sum(found.values()) == 2000
    assert len(found) == 16


def test_a_wide_device_runs_it_as_well(account: Account) -> None:
    [handle] = account.submit(ASYMMETRIC.source, shots=10, device="ibm_fez")
    assert counts(account.ended(handle)) == {"010": 10}


def test_one_circuit_may_be_submitted_alone_and_without_a_token(account: Account) -> None:
    ready = account.prepared(ONE)
    handle = account.adapter.submit(ready.payload)
    receipt = account.ended(handle)
    assert counts(receipt) == {"1": 1024}
    assert receipt.device_id == account.adapter.list_devices()[0].device_id


def test_the_receipt_says_when_and_what_it_cost(account: Account) -> None:
    receipt = account.ended(account.submit()[0])
    assert receipt.cost == pytest.approx(QUANTUM_SECONDS / 60 * 96)
    metadata, times = receipt.metadata or {}, receipt.timestamps or {}
    assert metadata["cost_kind"] == "our_estimate"
    assert metadata["quantum_seconds"] == QUANTUM_SECONDS
    assert (metadata["vendor_status"], metadata["usage_status"]) == ("Completed", "complete")
    assert datetime.fromisoformat(times["createdAt"]) <= datetime.fromisoformat(times["endedAt"])
    assert metadata["message"] is None


@pytest.mark.parametrize(
    ("seconds", "status", "cost"),
    [(None, "complete", None), (0.0, "pending", None), (2.5, "pending", 4.0), (0.0, "complete", 0.0)],
)
def test_the_cost_is_known_when_the_time_is(
    account: Account, seconds: float | None, status: str, cost: float | None
) -> None:
    account.double.quantum_seconds, account.double.usage_status = seconds, status
    receipt = account.ended(account.submit()[0])
    assert receipt.cost == cost
    assert counts(receipt) == {"1": 100}


@pytest.mark.parametrize("fault", [{"status": 404}, {"status": 200, "body": b'{"usage": 5}'}])
def test_a_result_is_not_lost_with_its_bill(account: Account, fault: dict[str, Any]) -> None:
    account.double.fault("/metrics$", FaultKind.STATUS, **fault)
    receipt = account.ended(account.submit()[0])
    assert (receipt.cost, counts(receipt)) == (None, {"1": 100})
    assert (receipt.timestamps or {}).keys() == {"createdAt", "endedAt"}


def test_without_prices_there_is_no_cost(account: Account, opened: Callable[..., Account]) -> None:
    [handle] = account.submit()
    account.ended(handle)
    assert opened(prices=None).ended(handle).cost is None


def test_estimates_follow_the_prices_up_to_the_cap(account: Account, opened: Callable[..., Account]) -> None:
    device, ready = account.device(), account.prepared(ONE)
    estimate = account.adapter.estimate(ready, device, 1000)
    assert estimate == Money(Decimal("3.76"), "USD")  # 2.35 s at 96 USD a minute
    capped = opened(max_execution_seconds=10).adapter.estimate(ready, device, 1_000_000)
    assert capped == Money(Decimal(16), "USD")
    unpriced = opened(prices=None).adapter
    assert unpriced.estimate(ready, device, 10) is None
    assert (unpriced.get_pricing(), unpriced.price_currency()) == (None, "USD")
    assert account.adapter.get_pricing() == {"perTask": 0.0, "perShot": 0.0, "perMinute": 96.0}
    euros = opened(prices=Prices(per_minute=Decimal(60), currency="EUR")).adapter
    assert euros.price_currency() == "EUR"


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (None, "schema version"),
        ({"schema_version": "v9.9"}, "v9.9"),
        ({"schema_version": "v2.0"}, "ValidationError"),
    ],
)
def test_a_result_that_is_not_understood_is_a_bad_reply(account: Account, result: object, words: str) -> None:
    [handle] = account.submit()
    account.ended(handle)
    account.double.jobs[handle.provider_job_id].result = result
    with pytest.raises(BadReply, match=words) as caught:
        account.adapter.get_job_receipt(handle)
    assert caught.value.field == "results"


def test_a_result_of_another_circuit_is_a_bad_reply(account: Account) -> None:
    [handle] = account.submit()
    account.ended(handle)
    other = MeasurementMap(registers=(Register(name="c0", size=2),), measured=((0, 0), (1, 1)))
    changes: list[tuple[dict[str, Any], str]] = [
        ({"pack_index": 1}, "1 circuits"),
        ({"measurement": other}, "c0"),
        ({"measurement": None}, "map is missing"),
    ]
    for change, words in changes:
        with pytest.raises(BadReply, match=words):
            account.adapter.get_job_receipt(handle.model_copy(update=change))


def test_a_job_that_is_gone_has_no_receipt(account: Account) -> None:
    with pytest.raises(BadReply, match="does not know"):
        account.adapter.get_job_receipt(JobHandle(provider_job_id="gone", device_id="ibm_manila"))
