"""Several processes on one database: whichever a request reaches, they answer as one ledger would."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from qcompute.errors import StaleRow
from qcompute.ledger.contract import Intake
from qcompute.ledger.postgres import FIGURES_SECONDS, PostgresLedger
from qcompute.ledger.settings import LedgerSettings
from qcompute.miner.job import State
from qcompute.protocol import FIRST_CURSOR
from qcompute.testing.ledger_fixtures import WAIT_SECONDS, listening
from qcompute.testing.ledger_records import (
    ALICE,
    START_OF_TIME,
    SetClock,
    accepted,
    brought_to,
    new_job,
    nonce,
    own_nonce,
)
from qcompute.units import ExecutionId
from tests.ledger.database_side import SqlLog, python

ROUNDS = 40


@pytest.fixture
async def pair(postgres_settings: LedgerSettings, clock: SetClock) -> AsyncIterator[tuple[PostgresLedger, ...]]:
    """Two stores that share nothing but the database and the key."""
    one, two = (PostgresLedger(postgres_settings, clock, alone=False) for _ in range(2))
    yield one, two
    await one.close()
    await two.close()


Pair = tuple[PostgresLedger, PostgresLedger]


async def test_what_one_accepts_the_other_finds(pair: Pair) -> None:
    one, two = pair
    job = await accepted(one, "a")
    assert await two.get(job.execution_id) == job
    assert await two.due(State.ACCEPTED, START_OF_TIME, 10) == [job]
    assert await two.accept(new_job("a"), nonce(7)) is Intake.DUPLICATE
    assert await two.accept(new_job("b"), own_nonce("a")) is Intake.REPLAYED
    moved = await two.save(job, replace(job, state=State.READY), circuit="c")
    assert await one.get(job.execution_id) == moved
    assert await one.circuit(job.execution_id) == "c"
    with pytest.raises(StaleRow):
        await one.save(job, replace(job, attempts=1))


@pytest.mark.parametrize("growing", [True, False])
async def test_a_nonce_brought_to_both_at_once_is_used_once(pair: Pair, *, growing: bool) -> None:
    for value in range(1, ROUNDS + 1):
        used = nonce(value, strictly_growing=growing)
        assert sorted(await asyncio.gather(*(ledger.use_nonce(used) for ledger in pair))) == [False, True]


async def test_nonces_of_many_scopes_brought_to_both_at_once_are_used_once_each(pair: Pair) -> None:
    """In opposite orders, so that each would wait for the other's rows if they were written in these orders."""
    for value in range(1, ROUNDS + 1):
        uses = [nonce(value, scope=f"s{scope}", strictly_growing=scope % 2 == 0) for scope in range(20)]
        first, second = await asyncio.gather(
            asyncio.gather(*(pair[0].use_nonce(use) for use in uses)),
            asyncio.gather(*(pair[1].use_nonce(use) for use in reversed(uses))),
        )
        assert [a != b for a, b in zip(first, reversed(second), strict=True)] == [True] * len(uses)


async def test_a_job_brought_to_both_at_once_is_accepted_once(pair: Pair) -> None:
    for number in range(ROUNDS):
        names = [f"j{number}-{part}" for part in range(10)]
        calls = [
            ledger.accept(new_job(name), nonce(1, scope=f"{place}{name}"))
            for place, ledger in enumerate(pair)
            for name in (names if place else reversed(names))
        ]
        answers = await asyncio.gather(*calls)
        assert answers.count(Intake.ACCEPTED) == answers.count(Intake.DUPLICATE) == len(names)
    assert (await pair[0].count_by_state())[State.ACCEPTED] <= ROUNDS * 10


async def test_a_row_saved_by_both_at_once_is_saved_once(pair: Pair) -> None:
    job = await accepted(pair[0], "a")
    for attempt in range(1, ROUNDS + 1):
        answers = await asyncio.gather(
            *(ledger.save(job, replace(job, attempts=attempt)) for ledger in pair), return_exceptions=True
        )
        lost = [answer for answer in answers if isinstance(answer, StaleRow)]
        saved = [answer for answer in answers if not isinstance(answer, BaseException)]
        assert (len(lost), len(saved)) == (1, 1)
        job = saved[0]


async def test_numbers_are_given_once_and_in_the_order_of_commits(pair: Pair) -> None:
    """A reader that follows the cursor while both close jobs misses none; a plain sequence would show gaps."""
    count = 60
    seen: list[str] = []

    async def close_all(ledger: PostgresLedger, prefix: str) -> None:
        await asyncio.gather(*(brought_to(ledger, f"{prefix}{number}", State.CLOSED) for number in range(count)))

    async def collect() -> None:
        cursors = dict.fromkeys(pair, FIRST_CURSOR)
        found: dict[PostgresLedger, list[str]] = {ledger: [] for ledger in pair}
        async with asyncio.timeout(WAIT_SECONDS):
            while any(len(names) < 2 * count for names in found.values()):
                for ledger in pair:
                    page = await ledger.finished_after(cursors[ledger], 7)
                    found[ledger] += [job.execution_id for job in page.jobs]
                    cursors[ledger] = page.cursor
                    await asyncio.sleep(0)
        assert found[pair[0]] == found[pair[1]]
        seen.extend(found[pair[0]])

    await asyncio.gather(close_all(pair[0], "a"), close_all(pair[1], "b"), collect())
    assert len(seen) == len(set(seen)) == 2 * count


async def test_two_processes_that_close_jobs_hide_none_from_a_third_that_collects(
    postgres_settings: LedgerSettings,
) -> None:
    """As above, with real processes; each says what it closed, and all of that must be collected in order."""
    assert postgres_settings.url is not None
    ledger = PostgresLedger(postgres_settings, alone=False)
    arguments = [postgres_settings.url.get_secret_value(), str(postgres_settings.key), "40"]
    with (
        python("-m", "tests.ledger.closing_writer", "a", *arguments) as one,
        python("-m", "tests.ledger.closing_writer", "b", *arguments) as two,
    ):
        cursor, seen = FIRST_CURSOR, list[str]()
        async with asyncio.timeout(3 * WAIT_SECONDS):
            while one.poll() is None or two.poll() is None or len(seen) < 80:
                page = await ledger.finished_after(cursor, 9)
                seen += [job.execution_id for job in page.jobs]
                assert [job.cursor_seq for job in page.jobs] == list(
                    range(len(seen) - len(page.jobs) + 1, len(seen) + 1)
                )
                cursor = page.cursor
                await asyncio.sleep(0.005)
        said = [line for process in (one, two) if process.stdout for line in process.stdout.read().split()]
    assert sorted(said) == sorted(seen)
    assert (one.returncode, two.returncode) == (0, 0)
    await ledger.close()


async def test_an_arrival_at_one_wakes_the_stage_of_the_other(pair: Pair) -> None:
    with listening(pair[1], State.ACCEPTED) as new, listening(pair[1], State.READY) as ready:
        job = await accepted(pair[0], "a")
        await new.until_heard()
        await pair[0].save(job, replace(job, state=State.READY))
        await ready.until_heard()


async def test_what_the_other_closed_is_collected_at_once_when_it_was_heard_of(pair: Pair) -> None:
    assert (await pair[1].finished_after(FIRST_CURSOR, 10)).jobs == []
    with listening(pair[1], State.CLOSED) as closed:
        await brought_to(pair[0], "a", State.CLOSED)
        await closed.until_heard()
    assert [job.execution_id for job in (await pair[1].finished_after(FIRST_CURSOR, 10)).jobs] == ["a"]


async def test_the_figures_are_those_of_all_processes_within_a_second(pair: Pair) -> None:
    one, two = pair
    for number in range(3):
        await accepted(one, f"a{number}")
        await brought_to(two, f"b{number}", State.CLOSED)
    asked_at = time.monotonic()
    while True:
        counts = [await ledger.count_by_state() for ledger in pair]
        if all((each[State.ACCEPTED], each[State.CLOSED]) == (3, 3) for each in counts):
            break
        assert time.monotonic() - asked_at < FIGURES_SECONDS + WAIT_SECONDS, counts
        await asyncio.sleep(0.02)
    assert await one.open_by_validator() == await two.open_by_validator() == {ALICE: 3}


async def test_own_commits_are_in_the_figures_at_once_and_others_looks_are_once_a_second(
    pair: Pair, sql: SqlLog
) -> None:
    one, _ = pair
    started = time.monotonic()
    for number in range(20):
        await accepted(one, f"a{number}")
        assert (await one.count_by_state())[State.ACCEPTED] == number + 1
    looks = sum("GROUP BY" in statement for statement, _ in sql.statements)
    assert looks <= 1 + (time.monotonic() - started) / FIGURES_SECONDS


async def test_a_purge_by_one_is_seen_by_the_other(pair: Pair, clock: SetClock) -> None:
    one, two = pair
    for number in range(4):
        await brought_to(one, f"a{number}", State.CLOSED)
    clock.move(60)
    assert await two.purge(clock.now) == 4
    assert await one.get(ExecutionId("a0")) is None
    assert (await brought_to(one, "b", State.CLOSED)).cursor_seq == 5
