"""Who rests is found when it is to be asked for, once, and not after it was forgotten."""

from __future__ import annotations

from datetime import timedelta

from qcompute.ledger.contract import Poll
from qcompute.miner.resting import Asked, Resting, asked_from, handles_of
from qcompute.units import ExecutionId
from tests.unit.miner.scripted import START


def asked(name: str) -> Asked:
    return Asked(ExecutionId(name), 1, "{}", "RUNNING", START, None)


def names(jobs: list[Asked]) -> list[str]:
    return sorted(job.execution_id for job in jobs)


def test_nobody_is_taken_before_the_time_and_each_once() -> None:
    resting = Resting()
    for second, name in enumerate("cab"):
        resting.keep(asked(name), START + timedelta(seconds=second))
    assert resting.take(START - timedelta(seconds=1), 10) == []
    assert names(resting.take(START + timedelta(seconds=1), 10)) == ["a", "c"]
    assert resting.next_due_at == START + timedelta(seconds=2)
    assert names(resting.take(START + timedelta(seconds=9), 10)) == ["b"]
    assert (resting.take(START + timedelta(seconds=9), 10), resting.next_due_at) == ([], None)


def test_what_is_left_of_a_moment_is_taken_next() -> None:
    resting = Resting()
    for name in "abcde":
        resting.keep(asked(name), START)
    taken = [resting.take(START, 2) for _ in range(4)]
    assert [len(some) for some in taken] == [2, 2, 1, 0]
    assert names([job for some in taken for job in some]) == list("abcde")


def test_who_was_forgotten_and_kept_anew_is_asked_for_at_the_new_time_alone() -> None:
    resting = Resting(most=1)
    resting.keep(asked("a"), START)
    assert resting.is_full
    resting.forget(ExecutionId("a"))
    resting.forget(ExecutionId("a"))
    assert not resting.is_full
    later = START + timedelta(seconds=5)
    resting.keep(asked("a"), later)
    assert resting.take(START, 10) == []
    assert names(resting.take(later, 10)) == ["a"]


def test_kept_twice_for_one_moment_it_is_taken_once() -> None:
    resting = Resting()
    resting.keep(asked("a"), START)
    resting.forget(ExecutionId("a"))
    resting.keep(asked("a"), START)
    assert names(resting.take(START, 10)) == ["a"]
    assert resting.take(START, 10) == []


def test_handles_keep_their_words_but_for_the_measurement() -> None:
    handle = '{"provider_job_id":"v-1","device_id":"d","measurement":{"registers":[],"measured":[]},"region":"é"}'
    (job,) = asked_from([Poll(ExecutionId("a"), 3, handle, "QUEUED", 90.0)], START)
    assert (job.version, job.vendor_status, job.submitted_at) == (3, "QUEUED", START - timedelta(seconds=90))
    (read,) = handles_of([job])
    assert read.model_dump(exclude_none=True) == {"provider_job_id": "v-1", "device_id": "d", "region": "é"}
