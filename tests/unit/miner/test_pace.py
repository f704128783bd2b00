"""An account is asked no faster than it bears, in the order of asking, and not at all while its vendor wants a rest."""

from __future__ import annotations

import asyncio

import pytest

from qcompute.errors import Unavailable
from qcompute.miner.account import LONGEST_PAUSE_SECONDS, Account
from qcompute.miner.pace import Pace
from qcompute.miner.providers.base import Limits, Rate, Verb
from qcompute.units import ProviderKey
from tests.unit.miner.scripted import Clock, Vendor


class Ticks:
    """A monotonic clock that a patched sleep moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.slept: list[float] = []
        self._real_sleep = asyncio.sleep
        monkeypatch.setattr("qcompute.miner.pace.asyncio.sleep", self._sleep)

    def __call__(self) -> float:
        return self.now

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 6))
        await self._real_sleep(0)


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> Ticks:
    return Ticks(monkeypatch)


async def test_a_burst_is_free_and_the_rest_is_spread(ticks: Ticks) -> None:
    pace = Pace({Verb.SUBMIT: Rate(5 / 60, burst=5)}, ticks)
    for _ in range(8):
        await pace.turn(Verb.SUBMIT)
    assert ticks.slept == [12.0, 24.0, 36.0]
    ticks.now += 96.0
    await pace.turn(Verb.SUBMIT)
    assert len(ticks.slept) == 3, "after a rest there is a burst again"


async def test_a_verb_without_a_rate_is_not_bounded(ticks: Ticks) -> None:
    pace = Pace({Verb.SUBMIT: Rate(1)}, ticks)
    for _ in range(100):
        await pace.turn(Verb.POLL)
    assert ticks.slept == []


async def test_a_burst_never_grows_beyond_itself(ticks: Ticks) -> None:
    pace = Pace({Verb.POLL: Rate(1, burst=2)}, ticks)
    ticks.now += 3600
    for _ in range(3):
        await pace.turn(Verb.POLL)
    assert ticks.slept == [1.0]


async def test_whoever_stops_waiting_gives_the_turn_back() -> None:
    pace = Pace({Verb.SUBMIT: Rate(0.001)})
    await pace.turn(Verb.SUBMIT)
    waiting = asyncio.create_task(pace.turn(Verb.SUBMIT))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert pace._buckets[Verb.SUBMIT]._tokens > -0.1


async def test_a_pause_stops_one_verb_and_a_shorter_one_does_not_end_it(ticks: Ticks) -> None:
    pace = Pace({}, ticks)
    pace.pause(Verb.POLL, 30)
    pace.pause(Verb.POLL, 5)
    with pytest.raises(Unavailable) as raised:
        await pace.turn(Verb.POLL)
    assert raised.value.retry_after_seconds == 30
    await pace.turn(Verb.SUBMIT)
    ticks.now += 30
    await pace.turn(Verb.POLL)


async def test_a_retry_after_is_every_jobs_and_has_a_cap() -> None:
    """A thousand waiting jobs must not each find out that the vendor wants a rest."""

    class Busy(Vendor):
        def limits(self) -> Limits:
            return Limits(rates={Verb.CANCEL: Rate(1000)})

    def busy() -> None:
        raise Unavailable("429", retry_after_seconds=86_400)

    clock = Clock()
    vendor = Busy()
    account = Account(ProviderKey("busy"), vendor, threads=1, clock=lambda: clock().timestamp())
    with pytest.raises(Unavailable, match="429"):
        await account.ask(Verb.FIND, busy)
    with pytest.raises(Unavailable, match="asked for a pause") as raised:
        await account.ask(Verb.FIND, busy)
    assert raised.value.retry_after_seconds == LONGEST_PAUSE_SECONDS
    assert await account.ask(Verb.CANCEL, lambda: "other verbs go on") == "other verbs go on"
    clock.pass_seconds(LONGEST_PAUSE_SECONDS)
    with pytest.raises(Unavailable, match="429"):
        await account.ask(Verb.FIND, busy)
    await account.close(limit_seconds=1)
