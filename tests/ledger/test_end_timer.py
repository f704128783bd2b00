"""The kernel's timer, in processes of their own."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager

from qcompute.ledger.end_timer import EndTimer

WAIT_SECONDS = 30.0
BEGIN = (
    "import subprocess, sys; from qcompute.ledger.end_timer import EndTimer; from qcompute.ledger.lease import now\n"
)
SET = "timer = EndTimer(enforced=True); timer.end_process_at(now() + 0.5)\n"
READY = "print('ready', flush=True)\n"
GO_ON = "sys.stdin.readline(); print('went on', flush=True)\n"


@contextmanager
def process(*lines: str) -> Generator[subprocess.Popen[str]]:
    """One that has said that it is ready."""
    script = "".join([BEGIN, *lines])
    with subprocess.Popen(  # noqa: S603 - our own words
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as started:
        try:
            assert started.stdout is not None
            assert started.stdout.readline() == "ready\n"
            yield started
        finally:
            started.kill()


def told_to_go_on(started: subprocess.Popen[str]) -> tuple[str, int]:
    """What it said then, and how it ended."""
    said, _ = started.communicate("\n", timeout=WAIT_SECONDS)
    return said, started.returncode


def test_a_process_ends_when_its_time_has_come_though_its_threads_wait() -> None:
    with process(SET, READY, GO_ON) as started:
        assert started.wait(WAIT_SECONDS) == -signal.SIGKILL


def test_a_stopped_process_ends_where_it_stands() -> None:
    """With SIGALRM it ended when it was continued, and a second thread could run for a moment before."""
    with process(SET, READY, GO_ON) as started:
        started.send_signal(signal.SIGSTOP)
        assert started.wait(WAIT_SECONDS) == -signal.SIGKILL, "and nobody has continued it"


def test_a_process_that_ignores_and_blocks_all_it_can_ends_too() -> None:
    deaf = (
        "import signal\n"
        "able = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, able)\n"
    )
    with process(deaf, SET, READY, GO_ON) as started:
        assert started.wait(WAIT_SECONDS) == -signal.SIGKILL


def test_a_time_that_is_past_is_now() -> None:
    with process(READY, GO_ON, "EndTimer(enforced=True).end_process_at(now() - 5); print('not reached')") as started:
        assert told_to_go_on(started) == ("went on\n", -signal.SIGKILL)


def test_a_later_time_takes_the_place_of_the_earlier_and_a_cancel_of_both() -> None:
    later = "timer.end_process_at(now() + 1000); timer.end_process_at(now() + 0.2)\n"
    for last, ending in (("timer.cancel()\n", 0), ("timer.end_process_at(now() + 1000)\n", 0)):
        with process(SET, later, last, READY, GO_ON) as started:
            outlived(0.8)
            assert told_to_go_on(started) == ("went on\n", ending)


def test_what_a_process_starts_does_not_end_with_its_timer() -> None:
    child = "child = subprocess.Popen([sys.executable, '-c', 'input(); print(1, flush=True)'])\n"
    with process(SET, child, READY, "child.wait()") as started:
        assert started.wait(WAIT_SECONDS) == -signal.SIGKILL
        said, _ = started.communicate("\n", timeout=WAIT_SECONDS)
        assert said == "1\n"


def test_not_enforced_it_ends_nobody() -> None:
    timer = EndTimer(enforced=False)
    timer.end_process_at(0.001)
    timer.cancel()


def outlived(seconds: float) -> None:
    """Let a time pass after which whoever has not been cancelled is dead: there is no event to wait for."""
    time.sleep(seconds)
