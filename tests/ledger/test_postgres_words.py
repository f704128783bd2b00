"""What processes on one ledger say to one another beside their jobs."""

from __future__ import annotations

import asyncio

import pytest

from qcompute.errors import StoreError
from qcompute.ledger.contract import LONGEST_WORDS
from qcompute.ledger.memory import MemoryLedger
from qcompute.ledger.postgres import PostgresLedger
from qcompute.ledger.postgres_listener import Channel
from qcompute.ledger.settings import LedgerSettings
from qcompute.testing.ledger_fixtures import WAIT_SECONDS


async def test_words_come_to_all_others_and_not_back(postgres_settings: LedgerSettings) -> None:
    ledgers = [PostgresLedger(postgres_settings, alone=False) for _ in range(3)]
    heard: list[asyncio.Queue[str]] = []
    for ledger in ledgers:
        heard.append(asyncio.Queue())
        ledger.hear_others(heard[-1].put_nowait)
    said = ["", "a b  c", "ö" * (LONGEST_WORDS // 2), '{"x": 1}']
    for words in said:
        await ledgers[0].tell_others(words)
    async with asyncio.timeout(WAIT_SECONDS):
        assert [[await queue.get() for _ in said] for queue in heard[1:]] == [said, said]
    assert heard[0].empty()
    for ledger in ledgers:
        await ledger.close()
    with pytest.raises(StoreError, match="closed"):
        await ledgers[0].tell_others("x")


async def test_a_store_of_one_process_has_nobody_to_tell(postgres: PostgresLedger) -> None:
    for ledger in (MemoryLedger(), postgres):
        ledger.hear_others(pytest.fail)
        await ledger.tell_others("x")


def test_words_are_no_news_and_news_no_words() -> None:
    one, two = Channel("l"), Channel("l")
    assert two.read(one.words("7 8 []")) == "7 8 []"
    assert two.read(one.words("")) == ""
    assert one.read(one.words("x")) is None
    assert two.read("nonsense") is None
