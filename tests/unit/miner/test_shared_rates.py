"""Processes of one miner count together whom they let in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from typing_extensions import override

from qcompute.axon.contract import Scheme
from qcompute.axon.gate import Gate
from qcompute.axon.settings import AxonSettings, BlacklistSettings
from qcompute.errors import NotAllowed, StoreError
from qcompute.ledger.contract import LONGEST_WORDS
from qcompute.ledger.memory import MemoryLedger
from qcompute.miner.shared_rates import SHARE_SECONDS, SharedRates
from qcompute.testing.ledger_records import ALICE, BOB
from qcompute.units import Hotkey
from tests.scene import until_true

BURST = 10


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Room:
    """Brings what one process says to all others."""

    def __init__(self) -> None:
        self.ledgers: list[Told] = []
        self.notices: list[str] = []

    def ledger(self) -> Told:
        self.ledgers.append(Told(self))
        return self.ledgers[-1]


class Told(MemoryLedger):
    """A ledger of one of the processes; ``failing`` while its database is away."""

    def __init__(self, room: Room) -> None:
        super().__init__()
        self._room = room
        self._hear: Callable[[str], None] = room.notices.append
        self.failing = False

    @override
    async def tell_others(self, words: str) -> None:
        if self.failing:
            raise StoreError("the database is away")
        assert len(words.encode()) <= LONGEST_WORDS
        for ledger in self._room.ledgers:
            if ledger is not self:
                ledger._hear(words)

    @override
    def hear_others(self, hear: Callable[[str], None]) -> None:
        self._hear = hear


def gate(clock: Clock) -> Gate:
    limits = AxonSettings(requests_per_second=1, request_burst=BURST)
    return Gate(limits, BlacklistSettings(allowed_hotkeys=(ALICE, BOB)), lambda: None, monotonic=clock)


def let_in(gate: Gate, wanted: int, hotkey: Hotkey = ALICE) -> int:
    admitted = 0
    for _ in range(wanted):
        with suppress(NotAllowed):
            gate.admit(hotkey, Scheme.DENDRITE)
            admitted += 1
    return admitted


@asynccontextmanager
async def sharing(*pairs: tuple[Gate, Told]) -> AsyncGenerator[None]:
    tasks = [asyncio.create_task(SharedRates(gate, ledger).run()) for gate, ledger in pairs]
    await asyncio.sleep(0)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def heard(gate: Gate, left: float, hotkey: Hotkey = ALICE) -> None:
    await until_true(lambda: gate._tokens(hotkey) == left, what=f"{left} requests left")


async def test_what_one_lets_in_the_other_counts() -> None:
    clock, room = Clock(), Room()
    one, two = gate(clock), gate(clock)
    async with sharing((one, room.ledger()), (two, room.ledger())):
        assert let_in(one, 7) == 7
        await heard(two, BURST - 7)
        assert let_in(two, BURST) == BURST - 7
        await heard(one, 0)
        assert let_in(one, 1) == 0
        assert let_in(two, BURST, BOB) == BURST, "another validator's are its own"


async def test_a_burst_at_all_at_once_is_made_up_for_before_the_next_request_is_let_in() -> None:
    """The bound: the rate times the time, and a burst for each process."""
    clock, room = Clock(), Room()
    gates = [gate(clock) for _ in range(3)]
    async with sharing(*((each, room.ledger()) for each in gates)):
        assert [let_in(each, 2 * BURST) for each in gates] == [BURST] * 3
        for each in gates:
            await heard(each, -2.0 * BURST)
        clock.now += 2 * BURST
        assert [let_in(each, 5) for each in gates] == [0] * 3
        clock.now += 5
        assert let_in(gates[0], 2 * BURST) == 5
        await heard(gates[1], 0)


async def test_a_process_whose_database_is_away_keeps_the_rate_by_itself() -> None:
    clock, room = Clock(), Room()
    one, two = gate(clock), gate(clock)
    away = room.ledger()
    away.failing = True
    async with sharing((one, away), (two, room.ledger())):
        assert let_in(one, 2 * BURST) == BURST
        await until_true(lambda: not one._admitted, what="a try to tell")
        away.failing = False
        clock.now += 3
        assert let_in(one, 2 * BURST) == 3
        await heard(two, BURST - 3)


async def test_many_validators_take_several_notices() -> None:
    clock, room = Clock(), Room()
    one, two = gate(clock), gate(clock)
    hotkeys = [Hotkey(f"5{number:047}") for number in range(256)]
    for each in (one, two):
        each._allowed = frozenset(hotkeys)
    async with sharing((one, room.ledger()), (two, room.ledger())):
        for hotkey in hotkeys:
            let_in(one, 2, hotkey)
        for hotkey in hotkeys:
            await heard(two, BURST - 2, hotkey)


@pytest.mark.parametrize("words", ["", "[]", "{", '{"a": -1}', '{"a": "many"}', '{"' + "a" * 65 + '": 1}'])
async def test_words_of_another_kind_change_nothing(words: str) -> None:
    clock, room = Clock(), Room()
    one, other = gate(clock), room.ledger()
    async with sharing((one, room.ledger())):
        await other.tell_others(words)
        assert not one._buckets


async def test_nobody_is_told_anything_while_nobody_asks() -> None:
    clock, room = Clock(), Room()
    async with sharing((gate(clock), room.ledger())):
        room.ledger()
        await asyncio.sleep(2 * SHARE_SECONDS)
    assert room.notices == []
