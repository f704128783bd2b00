"""The road's clock follows the machine's forward and makes a step back good slowly."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

import pytest

from qcompute.miner.clock import PACE, ForwardClock

START = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Machine:
    """A machine whose clock can be set; the seconds since it was switched on cannot."""

    def __init__(self) -> None:
        self.wall = START
        self.seconds = 1000.0
        self.clock = ForwardClock(wall=lambda: self.wall, monotonic=lambda: self.seconds)

    def pass_time(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)
        self.seconds += seconds


def test_it_shows_the_machines_time() -> None:
    machine = Machine()
    for _ in range(3):
        machine.pass_time(10)
        assert machine.clock() == machine.wall


def test_a_step_ahead_is_followed_at_once() -> None:
    machine = Machine()
    machine.wall += 24 * HOUR
    assert machine.clock() == START + 24 * HOUR


def test_after_a_step_back_it_goes_on_and_is_caught_up() -> None:
    """Rows due in a minute were due in an hour and a minute once the clock had been set back."""
    machine = Machine()
    machine.wall -= HOUR
    before = machine.clock()
    assert before == START
    machine.pass_time(60)
    assert machine.clock() - before == timedelta(seconds=60 * PACE)
    machine.pass_time(2 * HOUR.total_seconds())
    assert machine.clock() == machine.wall


def test_it_never_goes_back_however_the_machines_clock_jumps() -> None:
    machine = Machine()
    shown: list[datetime] = []
    for jump in (0, -3600, 5, 86400, -86400, 1, -1, 7200):
        machine.wall += timedelta(seconds=jump)
        machine.pass_time(1)
        shown.append(machine.clock())
    assert shown == sorted(shown)
    assert len(set(shown)) == len(shown)


def test_each_step_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    machine = Machine()
    with caplog.at_level(logging.WARNING):
        for jump in (-3600, 0, 3, -3, 86400, 0):
            machine.wall += timedelta(seconds=jump)
            machine.pass_time(1)
            machine.clock()
    told = ["the machine's clock was set back by 3600 s", "the machine's clock was set ahead by 86400 s"]
    assert [record.message for record in caplog.records] == told
