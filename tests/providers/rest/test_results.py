"""Plain REST: counts in every form."""

from __future__ import annotations

from typing import Any

import pytest

from qcompute.errors import (
    BadReply,
)
from qcompute.miner.providers.base import (
    JobHandle,
    ProviderStatus,
)
from tests.providers.rest.scene import COUNTS, Make, Told, counted, metadata, receipt_of, submitted


@pytest.mark.parametrize(
    "answer",
    [
        {"counts": COUNTS},
        {"status": "completed", "counts": {"01 0": 60, "11 0": 40}},
        {"counts": {"0x2": 60, "0x6": 40}},
        {"counts": {"010": 60.0, "110": 40, "111": 0}},
        {"job_id": 5, "result": {"counts": COUNTS}},
        COUNTS,
        {"0x2": 60, "0x6": 40},
    ],
)
def test_counts_in_every_understood_form(told: Told, make: Make, answer: Any) -> None:
    receipt = receipt_of(make(), told, answer)
    assert counted(receipt) == COUNTS
    assert (receipt.status, receipt.shots) == (ProviderStatus.COMPLETED, 100)
    assert metadata(receipt)["counts_source"] == "measured"


def test_counts_elsewhere(told: Told, make: Make) -> None:
    adapter = make(counts_field="data.histogram")
    assert counted(receipt_of(adapter, told, {"data": {"histogram": COUNTS}})) == COUNTS
    assert counted(receipt_of(adapter, told, {"data": 3, "result": {"data": {"histogram": COUNTS}}})) == COUNTS


@pytest.mark.parametrize("counts", [{"010": 60, "011": 40}, {"01 0": 60, "01 1": 40}, {"0x2": 60, "0x3": 40}])
def test_the_other_bit_order(told: Told, make: Make, counts: dict[str, int]) -> None:
    assert counted(receipt_of(make(bit_order="big"), told, {"counts": counts})) == {"010": 60, "110": 40}


@pytest.mark.parametrize(
    "counts", [{}, [], "010", {"01": 100}, {"0101": 1}, {"010": -1}, {"010": 101}, {"0x9": 1}, {"up": 1}, {"010": 0.6}]
)
def test_counts_that_cannot_be(told: Told, make: Make, counts: Any) -> None:
    adapter = make()
    handle = submitted(adapter, told, {"counts": counts})
    assert adapter.poll(handle).status == ProviderStatus.COMPLETED
    with pytest.raises(BadReply):
        adapter.get_job_receipt(handle)


def test_a_completed_job_without_counts(told: Told, make: Make) -> None:
    adapter = make()
    handle = submitted(adapter, told, {"job_id": "j"})
    told.answers["GET"] = (200, {"status": "completed"})
    with pytest.raises(BadReply, match="counts"):
        adapter.get_job_receipt(handle)


def test_counts_need_to_be_read_with_the_map(told: Told, make: Make) -> None:
    adapter = make()
    handle = submitted(adapter, told, {"counts": COUNTS}).model_copy(update={"measurement": None})
    with pytest.raises(BadReply, match="how its result is read"):
        adapter.get_job_receipt(handle)


def test_a_handle_that_is_not_ours(make: Make) -> None:
    handle = JobHandle.model_validate({"provider_job_id": "j", "device_id": "rest_1", "shots": "many"})
    with pytest.raises(BadReply, match="shots"):
        make().poll(handle)
