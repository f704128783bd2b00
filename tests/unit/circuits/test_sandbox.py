"""The sandbox takes the damage: every limit bites, and the next call is served by a fresh child."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from qcompute.circuits import sandbox
from qcompute.circuits.sandbox import SandboxCancelled, SandboxLimits, SandboxPool
from qcompute.errors import CannotRun, SandboxUnavailable

ENTRY = "tests.unit.circuits.sandbox_entries:act"
LIMITS = SandboxLimits(memory_bytes=1 << 30, cpu_seconds=2, wall_seconds=10, max_reply_bytes=1 << 20)


@pytest.fixture
def pool() -> Iterator[SandboxPool]:
    made = SandboxPool(ENTRY, limits=LIMITS, size=2, name="test")
    yield made
    made.close()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.02)


def gone(pid: int) -> None:
    eventually(lambda: not alive(pid))


def test_a_child_answers_and_is_used_again(pool: SandboxPool) -> None:
    first, second = pool.call({"do": "echo", "text": "a"}), pool.call({"do": "echo", "text": "ü" * 50_000})
    assert first["echo"] == "a"
    assert second["echo"] == "ü" * 50_000
    assert first["pid"] == second["pid"]
    assert pool.children == 1


def test_nothing_of_ours_is_in_the_childs_environment(pool: SandboxPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IONQ_API_KEY", "secret")
    seen = pool.call({"do": "environment"})
    ours = {"HOME", "LANG", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "QISKIT_PARALLEL", "RAYON_NUM_THREADS"}
    assert set(seen["environment"]) <= ours | {"LC_CTYPE"}
    assert "secret" not in seen["environment"].values()
    assert seen["cwd"] == []
    assert seen["descriptors"] <= 8


def test_a_refusal_carries_reason_and_line(pool: SandboxPool) -> None:
    with pytest.raises(CannotRun) as caught:
        pool.call({"do": "refuse"})
    assert (caught.value.reason, caught.value.line, str(caught.value)) == ("just_because", 3, "line 3: no")


def test_the_text_of_an_unexpected_error_stays_inside(pool: SandboxPool) -> None:
    with pytest.raises(CannotRun) as caught:
        pool.call({"do": "leak"})
    assert "root" not in str(caught.value)
    assert "ValueError" in str(caught.value)


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("memory", "sandbox_memory"),
        ("spin", "sandbox_cpu"),
        ("abort", "sandbox_crash"),
        ("segfault", "sandbox_crash"),
        ("hang_up", "sandbox_memory"),
        ("recurse", "too_deep"),
        ("huge", "sandbox_reply"),
    ],
)
def test_each_limit_bites_and_the_next_call_is_served(pool: SandboxPool, what: str, reason: str) -> None:
    with pytest.raises(CannotRun) as caught:
        pool.call({"do": what})
    assert caught.value.reason == reason
    assert pool.call({"do": "echo", "text": "again"})["echo"] == "again"


def test_a_child_that_ran_out_of_memory_is_not_used_again(pool: SandboxPool) -> None:
    """A circuit that was refused for its memory left so little of it that the next one, honest, was refused as well."""
    first = pool.call({"do": "echo", "text": ""})["pid"]
    with pytest.raises(CannotRun):
        pool.call({"do": "memory"})
    assert pool.call({"do": "echo", "text": ""})["pid"] != first


def test_a_child_that_keeps_most_of_its_memory_is_not_used_again(pool: SandboxPool) -> None:
    small, large = {"do": "hoard", "bytes": 1 << 20}, {"do": "hoard", "bytes": LIMITS.memory_bytes * 3 // 4}
    first = pool.call(small)["pid"]
    assert pool.call(large, cpu_seconds=20)["pid"] == first  # every page of it is touched
    assert pool.call(small)["pid"] != first


def test_what_is_only_reserved_counts_where_address_space_does(pool: SandboxPool) -> None:
    with pytest.raises(CannotRun):
        pool.call({"do": "reserve"})
    limits = replace(LIMITS, counts_address_space=False)
    other = SandboxPool(ENTRY, limits=limits, size=1, name="test")
    assert other.call({"do": "reserve"})["size"] == 8 << 30
    with pytest.raises(CannotRun) as caught:
        other.call({"do": "memory"})
    assert caught.value.reason == "sandbox_memory"
    other.close()


def test_a_child_that_met_a_bug_is_not_used_again(pool: SandboxPool) -> None:
    """After a panic of a parser nobody knows what it has left locked."""
    first = pool.call({"do": "echo", "text": ""})["pid"]
    with pytest.raises(CannotRun):
        pool.call({"do": "leak"})
    assert pool.call({"do": "echo", "text": ""})["pid"] != first


def test_the_wall_limit_ends_a_child_that_sleeps(pool: SandboxPool) -> None:
    with pytest.raises(CannotRun, match=r"more than 0\.3 s to test"):
        pool.call({"do": "sleep", "seconds": 60}, wall_seconds=0.3)
    assert pool.call({"do": "echo", "text": "again"})["echo"] == "again"


def test_files_cannot_be_written(pool: SandboxPool) -> None:
    assert pool.call({"do": "write"})["refused"] is not None


def test_noise_does_not_mix_with_replies(pool: SandboxPool) -> None:
    assert pool.call({"do": "noise"}) == {"quiet": True}
    assert pool.call({"do": "echo", "text": "x"})["echo"] == "x"


def test_the_daemons_own_machine_cannot_be_reached(pool: SandboxPool) -> None:
    assert pool.call({"do": "connect"})["refused"] is not None


def test_no_more_children_than_the_size_and_all_are_served(pool: SandboxPool) -> None:
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(pool.call, [{"do": "echo", "text": number} for number in range(40)]))
    assert [answer["echo"] for answer in answers] == list(range(40))
    assert len({answer["pid"] for answer in answers}) <= 2


def test_a_call_is_cancelled_while_its_child_starts(pool: SandboxPool) -> None:
    """A child imports Aer before it is ready, for seconds on a machine under load, and a cancelled job went on."""
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(SandboxCancelled):
        pool.call({"do": "echo", "text": ""}, cancel=cancel)
    assert pool.children == 0
    assert pool.call({"do": "echo", "text": "again"})["echo"] == "again"


def test_a_cancelled_call_ends_its_child(pool: SandboxPool) -> None:
    cancel = threading.Event()
    threading.Timer(0.2, cancel.set).start()
    with pytest.raises(SandboxCancelled):
        pool.call({"do": "sleep", "seconds": 60}, cancel=cancel)
    assert pool.children == 0


def test_a_child_outlives_the_thread_that_asked_for_it(pool: SandboxPool) -> None:
    """A child is killed when the thread that started it ends; a thread of a pool of threads may end any time."""
    pids: list[int] = []
    thread = threading.Thread(target=lambda: pids.append(pool.call({"do": "echo", "text": ""})["pid"]))
    thread.start()
    thread.join()
    assert pool.call({"do": "echo", "text": ""})["pid"] == pids[0]


def test_an_idle_child_ends() -> None:
    pool = SandboxPool(ENTRY, limits=LIMITS, size=1, idle_seconds=0.2, name="test")
    pid = pool.call({"do": "echo", "text": ""})["pid"]
    gone(pid)
    assert pool.children == 0
    assert pool.call({"do": "echo", "text": "x"})["echo"] == "x"
    pool.close()


def test_closing_ends_children_and_later_calls_are_refused() -> None:
    pool = SandboxPool(ENTRY, limits=LIMITS, size=1, name="test")
    pid = pool.call({"do": "echo", "text": ""})["pid"]
    pool.close()
    pool.close()
    gone(pid)
    with pytest.raises(SandboxUnavailable):
        pool.call({"do": "echo", "text": ""})


def test_closing_ends_the_calls_under_way() -> None:
    pool = SandboxPool(ENTRY, limits=LIMITS, size=2, name="test")
    with ThreadPoolExecutor(2) as threads:
        calls = [threads.submit(pool.call, {"do": "sleep", "seconds": 60}, wall_seconds=60) for _ in range(2)]
        eventually(lambda: pool.children == 2)
        pool.close()
        for call in calls:
            with pytest.raises(SandboxUnavailable):
                call.result(timeout=10)
    assert pool.children == 0


@pytest.mark.parametrize("after_seconds", [0.0, 0.001, 0.01, 0.1])
def test_calls_that_meet_the_close_end_too(after_seconds: float) -> None:
    """One that ordered its child just after the last child was started used to wait for ever."""
    pool = SandboxPool(ENTRY, limits=LIMITS, size=4, name="test")

    def call_until_closed() -> None:
        while True:
            pool.call({"do": "echo", "text": ""})

    with ThreadPoolExecutor(8) as threads:
        calls = [threads.submit(call_until_closed) for _ in range(8)]
        threading.Event().wait(after_seconds)
        pool.close()
        for call in calls:
            with pytest.raises(SandboxUnavailable):
                call.result(timeout=10)
    assert pool.children == 0


def test_children_that_crash_leave_no_descriptor_open(pool: SandboxPool) -> None:
    def crash() -> int:
        with pytest.raises(CannotRun):
            pool.call({"do": "abort"})
        return len(list(Path("/proc/self/fd").iterdir()))

    assert crash() == crash() == crash()


def test_an_entry_that_does_not_exist_is_our_error_not_the_circuits() -> None:
    pool = SandboxPool("tests.unit.circuits.sandbox_entries:nothing", limits=LIMITS, size=1, name="test")
    with pytest.raises(SandboxUnavailable):
        pool.call({"do": "echo", "text": ""})
    pool.close()


def test_a_killed_parent_leaves_no_child_behind() -> None:
    script = (
        "from qcompute.circuits.sandbox import SandboxLimits, SandboxPool\n"
        f"pool = SandboxPool({ENTRY!r}, limits=SandboxLimits(memory_bytes=1 << 30), size=1)\n"
        "print(pool.call({'do': 'echo', 'text': ''})['pid'], flush=True)\n"
        "pool.call({'do': 'sleep', 'seconds': 600}, wall_seconds=600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own words
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert alive(child)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    gone(child)


def test_many_requests_share_an_exchange_and_each_has_its_own_answer(pool: SandboxPool) -> None:
    texts = ["a", "b", "c"]
    answers = pool.call_many([{"text": text} for text in texts], shared={"do": "echo"})
    assert [answer["echo"] for answer in answers if isinstance(answer, dict)] == texts
    assert pool.children == 1


def echo(text: str) -> dict[str, str]:
    return {"do": "echo", "text": text}


@pytest.mark.parametrize(("bad", "reason"), [("refuse", "just_because"), ("recurse", "too_deep")])
def test_one_that_is_refused_harms_no_other(pool: SandboxPool, bad: str, reason: str) -> None:
    first, second, third = pool.call_many([echo("first"), {"do": bad}, echo("last")])
    assert isinstance(first, dict)
    assert isinstance(third, dict)
    assert (first["echo"], third["echo"]) == ("first", "last")
    assert isinstance(second, CannotRun)
    assert second.reason == reason


@pytest.mark.parametrize(("bad", "reason"), [("leak", "sandbox_error"), ("memory", "sandbox_memory")])
def test_behind_one_that_wears_its_child_the_rest_is_for_another(pool: SandboxPool, bad: str, reason: str) -> None:
    first, second = pool.call_many([echo("first"), {"do": bad}, echo("last")])
    assert isinstance(first, dict)
    assert isinstance(second, CannotRun)
    assert second.reason == reason
    eventually(lambda: pool.children == 0)


@pytest.mark.parametrize(
    ("bad", "reason"), [("spin", "sandbox_cpu"), ("abort", "sandbox_crash"), ("huge", "sandbox_reply")]
)
def test_none_is_blamed_for_what_another_did_to_the_child(pool: SandboxPool, bad: str, reason: str) -> None:
    requests = [echo("first"), {"do": bad}, echo("last")]
    assert pool.call_many(requests) == []
    alone = [pool.call_many([request]) for request in requests]
    assert [answer["echo"] for [answer] in (alone[0], alone[2]) if isinstance(answer, dict)] == ["first", "last"]
    [refused] = alone[1]
    assert isinstance(refused, CannotRun)
    assert refused.reason == reason


def test_requests_that_are_too_slow_together_have_all_their_time_alone(
    pool: SandboxPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "TOGETHER_SECONDS", 0.1)
    slow = {"do": "sleep", "seconds": 0.6}
    assert pool.call_many([slow, slow]) == []
    assert pool.call_many([slow]) == [{}]


def test_a_child_with_much_to_do_answers_what_it_has_done(pool: SandboxPool) -> None:
    """A batch of slow circuits ran into its limit, its process was killed, and each was parsed a second time."""
    slow = {"do": "sleep", "seconds": 0.3}
    done = pool.call_many([slow] * 10)
    assert 0 < len(done) < 10
    assert all(answer == {} for answer in done)
    assert pool.children == 1


def test_a_child_works_before_it_is_asked_for_its_answer(pool: SandboxPool) -> None:
    answer, other = (pool.begin({"do": "echo", "text": text}) for text in ("one", "x" * 200_000))
    assert pool.children == 2
    assert answer()["echo"] == "one"
    assert len(other()["echo"]) == 200_000
    assert pool.has_idle


def test_an_answer_that_is_there_is_not_too_late(pool: SandboxPool) -> None:
    """Whoever asks late found a finished simulation over its time, and its process killed."""
    pool.call({"do": "echo", "text": "a child is up"})
    answer = pool.begin({"do": "echo", "text": "done"}, wall_seconds=0.3)
    [child] = pool._busy
    assert select.select([child._from], [], [], 10)[0]
    deadline = time.monotonic() + 0.4
    eventually(lambda: time.monotonic() > deadline)
    assert answer()["echo"] == "done"


def test_a_child_that_ends_before_it_is_asked_is_told_of(pool: SandboxPool) -> None:
    answers = [pool.begin({"do": "sleep", "seconds": 60}) for _ in range(2)]
    for child in list(pool._busy):
        child.end()
    for answer in answers:
        with pytest.raises(CannotRun) as caught:
            answer()
        assert caught.value.reason == "sandbox_memory"
    assert pool.call({"do": "echo", "text": "next"})["echo"] == "next"


def test_closing_ends_what_was_begun(pool: SandboxPool) -> None:
    answer = pool.begin({"do": "sleep", "seconds": 60})
    pool.close()
    with pytest.raises(SandboxUnavailable):
        answer()
    assert pool.children == 0


def test_a_closed_sandbox_says_so_for_all(pool: SandboxPool) -> None:
    pool.close()
    with pytest.raises(SandboxUnavailable):
        pool.call_many([{"do": "refuse"}] * 2)
