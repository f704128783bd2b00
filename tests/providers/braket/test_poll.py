"""Amazon Braket: what is said of a task."""

from __future__ import annotations

import pytest

from qcompute.errors import (
    BadReply,
)
from qcompute.miner.providers.base import (
    JobHandle,
)
from qcompute.miner.providers.braket import BraketAdapter
from tests.doubles.braket import (
    ACCOUNT,
    FORTE,
    GARNET,
    BraketDouble,
)
from tests.providers.braket.scene import Open, ended, payload, submitted


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("CREATED", "QUEUED"),
        ("QUEUED", "QUEUED"),
        ("RUNNING", "RUNNING"),
        ("CANCELLING", "RUNNING"),
        ("COMPLETED", "COMPLETED"),
        ("FAILED", "FAILED"),
        ("CANCELLED", "CANCELLED"),
    ],
)
def test_each_word_of_braket_has_its_status(
    adapter: BraketAdapter, double: BraketDouble, word: str, status: str
) -> None:
    handle = submitted(adapter)
    ended(adapter, handle)
    double.jobs[handle.provider_job_id].word = word
    assert [adapter.poll(handle).status, adapter.poll_many([handle])[0].status] == [status, status]


def test_a_word_nobody_knows_is_unknown_and_kept(adapter: BraketAdapter, double: BraketDouble) -> None:
    handle = submitted(adapter)
    ended(adapter, handle)
    double.jobs[handle.provider_job_id].word = "POSTPONED"
    for status in (adapter.poll(handle), *adapter.poll_many([handle])):
        assert (status.status, status.message) == ("UNKNOWN", "POSTPONED")
    assert adapter.get_job_receipt(handle).results is None


def test_why_a_task_failed_is_told_and_costs_nothing(adapter: BraketAdapter) -> None:
    """A refused program is a failed task with the reason in ``failureReason``, which lists do not show."""
    handle = adapter.submit(payload("OPENQASM 3.0;\nqubit[1] q;\nnonsense q[0];\n"), FORTE, 10)
    receipt = ended(adapter, handle)
    (status,) = adapter.poll_many([handle])
    assert "nonsense" in (status.message or "")
    assert (receipt.status, receipt.cost, receipt.results) == ("FAILED", 0.0, None)
    assert receipt.metadata is not None
    assert "nonsense" in receipt.metadata["message"]


def test_a_cancelled_task_costs_nothing(adapter: BraketAdapter, double: BraketDouble) -> None:
    with double.hold():
        handle = submitted(adapter)
        adapter.cancel(handle)
    receipt = adapter.get_job_receipt(handle)
    assert (receipt.status, receipt.cost) == ("CANCELLED", 0.0)
    assert receipt.metadata is not None
    assert receipt.metadata["cost_kind"] == "our_estimate"


@pytest.mark.parametrize(("text", "number"), [("3", 3), (">2000", 2000), ("None", None), ("", None), ("soon", None)])
def test_a_place_in_the_queue_is_a_text(
    adapter: BraketAdapter, double: BraketDouble, text: str, number: int | None
) -> None:
    double.position = text
    with double.hold():
        handle = submitted(adapter)
        assert adapter.poll(handle).queue_position == number


def test_ten_tasks_are_asked_for_at_once(adapter: BraketAdapter, double: BraketDouble) -> None:
    with double.hold():
        handles = [submitted(adapter, f"token-{number}") for number in range(25)]
        before = double.asked_for("POST /quantum-tasks"), double.asked_for("GET /quantum-task/")
        statuses = adapter.poll_many([*handles, handles[0]])
        after = double.asked_for("POST /quantum-tasks"), double.asked_for("GET /quantum-task/")
    assert {status.status for status in statuses} == {"QUEUED"}
    assert len(statuses) == 26
    assert (after[0] - before[0], after[1] - before[1]) == (3, 0)


def test_a_list_that_lags_does_not_hide_a_task(adapter: BraketAdapter, double: BraketDouble) -> None:
    double.list_lag_seconds = 3600
    with double.hold():
        handle = submitted(adapter)
        assert adapter.poll_many([handle])[0].status == "QUEUED"


def test_a_task_of_a_region_no_longer_configured_is_still_asked_for(opened: Open) -> None:
    handle = submitted(opened(devices=[GARNET]), device=GARNET)
    assert ended(opened(regions=["us-east-1"]), handle).status == "COMPLETED"
    assert opened(regions=["us-east-1"]).poll_many([handle])[0].status == "COMPLETED"


def test_an_unknown_task_has_no_receipt(adapter: BraketAdapter) -> None:
    arn = f"arn:aws:braket:us-east-1:{ACCOUNT}:quantum-task/0000"
    for name in (arn, "never-existed"):
        stranger = JobHandle(provider_job_id=name, device_id=FORTE)
        assert adapter.poll_many([stranger])[0].status == "UNKNOWN"
        adapter.cancel(stranger)
        with pytest.raises(BadReply):
            adapter.get_job_receipt(stranger)
