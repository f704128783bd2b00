"""Amazon Braket: a task is found again by its tag."""

from __future__ import annotations

import pytest

from qcompute.errors import (
    BadReply,
)
from qcompute.local.service import FaultKind
from qcompute.miner.providers.base import (
    Absent,
    Found,
)
from qcompute.miner.providers.braket import TOKEN_TAG, BraketAdapter
from qcompute.units import IdempotencyToken
from qcompute.vendor.braket import aws
from tests.doubles.braket import (
    ACCOUNT,
    BUCKET,
    FORTE,
    GARNET,
    BraketDouble,
)
from tests.doubles.vendor import VendorJob
from tests.providers.braket.scene import LONG_AGO, Open, submitted


def test_a_task_is_found_in_any_region_and_page_with_how_it_is_read(opened: Open, double: BraketDouble) -> None:
    adapter = opened(devices=[])
    double.page_size = 2
    for number in range(5):
        submitted(adapter, f"other-{number}")
    wanted = submitted(adapter, "wanted", device=GARNET)
    for number in range(5):
        submitted(adapter, f"more-{number}", device=GARNET)
    assert adapter.find(IdempotencyToken("wanted"), LONG_AGO) == Found(handles=[wanted])


def test_of_two_tasks_the_older_comes_first(adapter: BraketAdapter, double: BraketDouble) -> None:
    older, newer = submitted(adapter, "one"), submitted(adapter, "two")
    double.jobs[newer.provider_job_id].request["tags"][TOKEN_TAG] = "one"
    answer = adapter.find(IdempotencyToken("one"), LONG_AGO)
    assert isinstance(answer, Found)
    assert [handle.provider_job_id for handle in answer.handles] == [older.provider_job_id, newer.provider_job_id]
    double.jobs[older.provider_job_id].created -= 7200
    answer = adapter.find(IdempotencyToken("one"), LONG_AGO)
    assert isinstance(answer, Found)
    assert [handle.provider_job_id for handle in answer.handles] == [newer.provider_job_id]


def test_tasks_of_others_are_no_hindrance(adapter: BraketAdapter, double: BraketDouble) -> None:
    """An account may be used by hand as well: such tasks have other tags, or none."""
    double.jobs["x"] = VendorJob(
        f"arn:aws:braket:us-east-1:{ACCOUNT}:quantum-task/x",
        FORTE,
        10,
        {"outputS3Bucket": BUCKET, "outputS3KeyPrefix": "p"},
        "COMPLETED",
    )
    assert isinstance(adapter.find(IdempotencyToken("token-1"), LONG_AGO), Absent)


def test_a_list_without_an_end_is_not_read_for_ever(
    adapter: BraketAdapter, double: BraketDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aws, "MAX_PAGES", 3)
    double.fault(
        "POST /quantum-tasks$",
        FaultKind.STATUS,
        status=200,
        body=b'{"quantumTasks": [], "nextToken": "again"}',
        times=None,
    )
    with pytest.raises(BadReply, match="pages"):
        adapter.find(IdempotencyToken("token-1"), LONG_AGO)
    assert double.asked_for("POST /quantum-tasks") == 3
