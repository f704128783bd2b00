"""Texts that wait for a parser go to it together, and none is left behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence

import pytest
from typing_extensions import override

from qcompute.circuits.program import CompiledCircuit
from qcompute.errors import CannotRun, SandboxUnavailable
from qcompute.ledger.memory import MemoryLedger
from qcompute.miner.circuit_cache import TOGETHER, TOGETHER_CHARACTERS, CircuitCache
from tests.unit.miner.scripted import Parser


class Slow(Parser):
    """Waits to be let go at each exchange, and remembers what came together."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.begun, self.go = threading.Semaphore(0), threading.Semaphore(0)

    @override
    def compile_many(self, sources: Sequence[str]) -> list[CompiledCircuit | CannotRun]:
        self.batches.append(list(sources))
        self.begun.release()
        assert self.go.acquire(timeout=20)
        bad = CannotRun("line 1: no", reason="parse_error", line=1)
        if "broken" in sources:
            raise SandboxUnavailable("no process")
        if len(sources) > 1 and "bomb" in sources:
            return []
        answers = zip(sources, super().compile_many(sources), strict=True)
        return [bad if text.startswith("bad") else circuit for text, circuit in answers]


@pytest.fixture
def parser() -> Slow:
    return Slow()


@pytest.fixture
async def circuits(parser: Slow) -> AsyncIterator[CircuitCache]:
    cache = CircuitCache(MemoryLedger(), parser, processes=1)
    yield cache
    await cache.close()


async def test_what_comes_while_the_parser_is_busy_goes_to_it_together(circuits: CircuitCache, parser: Slow) -> None:
    first = asyncio.create_task(circuits.parsed("first"))
    assert await asyncio.to_thread(parser.begun.acquire, timeout=20)
    others = [asyncio.create_task(circuits.parsed(text)) for text in ("a", "bad", "c")]
    parser.go.release(2)
    assert (await first).source == "first"
    texts = await asyncio.gather(*others, return_exceptions=True)
    assert [one.source if isinstance(one, CompiledCircuit) else str(one) for one in texts] == ["a", "line 1: no", "c"]
    assert parser.batches == [["first"], ["a", "bad", "c"]]


async def test_no_exchange_is_larger_than_is_allowed(circuits: CircuitCache, parser: Slow) -> None:
    long = "x" * (TOGETHER_CHARACTERS // 2 + 1)
    texts = [long, long, *(str(number) for number in range(TOGETHER + 1))]
    parser.go.release(10)
    await asyncio.gather(*(circuits.parsed(text) for text in texts))
    assert [len(batch) for batch in parser.batches] == [1, TOGETHER, 2]
    assert [text for batch in parser.batches for text in batch] == texts


async def test_a_text_that_comes_as_the_parser_ends_is_parsed_too(circuits: CircuitCache, parser: Slow) -> None:
    """Two jobs of a benchmark were never parsed.

    A parser counted as busy until its task was seen to have ended, one turn of the loop after it had found nothing more
    to do; what came in that turn was left lying until the next text.
    """
    parser.go.release(10)
    async with asyncio.timeout(20):
        for text in ("one", "two", "three"):
            assert (await circuits.parsed(text)).source == text


async def test_a_sandbox_that_cannot_start_is_told_to_all_who_wait(circuits: CircuitCache, parser: Slow) -> None:
    parser.go.release(10)
    answers = await asyncio.gather(*(circuits.parsed(text) for text in ("broken", "fine")), return_exceptions=True)
    assert [type(answer) for answer in answers] == [SandboxUnavailable, SandboxUnavailable]
    assert (await circuits.parsed("again")).source == "again"


async def test_a_caller_that_went_away_harms_no_other(circuits: CircuitCache, parser: Slow) -> None:
    first = asyncio.create_task(circuits.parsed("first"))
    assert await asyncio.to_thread(parser.begun.acquire, timeout=20)
    gone, stays = (asyncio.create_task(circuits.parsed(text)) for text in ("gone", "stays"))
    await asyncio.sleep(0)
    gone.cancel()
    parser.go.release(2)
    assert (await first).source == "first"
    assert (await stays).source == "stays"


async def test_one_that_breaks_the_parser_holds_up_only_those_behind_it(circuits: CircuitCache, parser: Slow) -> None:
    first = asyncio.create_task(circuits.parsed("first"))
    assert await asyncio.to_thread(parser.begun.acquire, timeout=20)
    tasks = [asyncio.create_task(circuits.parsed(text)) for text in ("before", "bomb", "behind")]
    parser.go.release(3)  # of the first, of all together, of the one in front of the bomb
    assert (await first).source == "first"
    assert (await tasks[0]).source == "before"
    assert not tasks[2].done()
    parser.go.release(2)
    assert [(await task).source for task in tasks[1:]] == ["bomb", "behind"]
    assert parser.batches[1:] == [["before", "bomb", "behind"], ["before"], ["bomb"], ["behind"]]


async def test_what_nobody_waits_for_any_more_is_not_parsed(circuits: CircuitCache, parser: Slow) -> None:
    first = asyncio.create_task(circuits.parsed("first"))
    assert await asyncio.to_thread(parser.begun.acquire, timeout=20)
    gone, stays = (asyncio.create_task(circuits.parsed(text)) for text in ("gone", "stays"))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0)
    parser.go.release(2)
    await asyncio.gather(first, stays)
    assert parser.batches == [["first"], ["stays"]]


async def test_each_parser_has_its_part_and_one_that_meets_a_bomb_holds_up_no_other(parser: Slow) -> None:
    """One parser took all that waited, kept them while it tried them one by one, and the others had nothing to do."""
    cache = CircuitCache(MemoryLedger(), parser, processes=2)
    tasks = [asyncio.create_task(cache.parsed(text)) for text in ("bomb", "a", "b", "c")]
    for _ in range(2):
        assert await asyncio.to_thread(parser.begun.acquire, timeout=20)
    assert sorted(parser.batches) == [["b"], ["bomb", "a"]]
    parser.go.release(100)
    await asyncio.gather(*tasks)
    assert sorted(parser.batches[2:]) == [["a"], ["bomb"], ["c"]]
    await cache.close()
