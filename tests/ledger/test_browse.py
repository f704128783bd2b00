"""Looking through a ledger page by page: all three stores answer alike, and none reads more than a page needs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection

from qcompute.ledger.contract import Ledger
from qcompute.ledger.listing import OPEN_STATES, JobLine, Wish
from qcompute.ledger.memory import MemoryLedger
from qcompute.ledger.postgres import PostgresLedger
from qcompute.ledger.settings import LedgerSettings
from qcompute.ledger.sqlite import SqliteLedger
from qcompute.miner.job import State, Verdict
from qcompute.testing.ledger_records import BOB, START_OF_TIME, SetClock, accepted, brought_to
from qcompute.units import Hotkey, ProviderJobId, ProviderKey
from tests.ledger.database_side import SqlLog, counted_steps


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def opened(request: pytest.FixtureRequest) -> Callable[[SetClock], Ledger]:
    if request.param == "memory":
        return MemoryLedger
    if request.param == "sqlite":
        settings: LedgerSettings = request.getfixturevalue("settings")
        return lambda clock: SqliteLedger(settings, clock)
    on_postgres: LedgerSettings = request.getfixturevalue("postgres_settings")
    return lambda clock: PostgresLedger(on_postgres, clock)


@pytest.fixture
async def ledger(opened: Callable[[SetClock], Ledger], clock: SetClock) -> AsyncIterator[Ledger]:
    ledger = opened(clock)
    yield ledger
    await ledger.close()


async def close_one(ledger: Ledger, name: str, **changes: Any) -> None:
    job = await accepted(ledger, name)
    verdict = changes.pop("verdict", Verdict.SUCCEEDED)
    job = await ledger.save(job, replace(job, state=State.SETTLED, verdict=verdict, **changes))
    await ledger.save(job, replace(job, state=State.CLOSED))


async def all_closed(ledger: Ledger, wish: Wish, *, limit: int, look: int) -> list[JobLine]:
    found: list[JobLine] = []
    below: int | None = None
    while True:
        page = await ledger.closed_jobs(wish, limit, below=below, look=look)
        assert len(page.lines) <= limit
        found += page.lines
        below = page.below
        if below is None:
            return found


@pytest.mark.parametrize(("limit", "look"), [(3, 1000), (3, 2), (100, 4)])
async def test_closed_jobs_come_latest_first_and_each_once(ledger: Ledger, limit: int, look: int) -> None:
    for number in range(10):
        await close_one(ledger, f"j{number}")
    found = await all_closed(ledger, Wish(), limit=limit, look=look)
    assert [line.execution_id for line in found] == [f"j{number}" for number in range(9, -1, -1)]


async def test_a_wish_is_granted_and_nothing_else(ledger: Ledger) -> None:
    """Postgres once made all letters small that its locale knows, and then found no text with an Ö."""
    await close_one(ledger, "good", provider=ProviderKey("mock"), provider_job_id=ProviderJobId("Vendor-1_A"))
    await close_one(ledger, "bad", verdict=Verdict.FAILED, error="50% Off/_ Öl", provider=ProviderKey("aer"))
    wishes = {
        Wish(verdict=Verdict.FAILED): ["bad"],
        Wish(provider=ProviderKey("mock")): ["good"],
        Wish(validator=Hotkey(BOB)): [],
        Wish(text="vendor-1_a"): ["good"],
        Wish(text="vendor-1xa"): [],
        Wish(text="50% o"): ["bad"],
        Wish(text="f/_"): ["bad"],
        Wish(text="ÖL"): ["bad"],
        Wish(text="öl"): [],
        Wish(text="\0"): [],
        Wish(state=State.CLOSED, text="OO"): ["good"],
        Wish(state=State.HELD): [],
    }
    for wish, expected in wishes.items():
        found = await all_closed(ledger, wish, limit=10, look=100)
        assert [line.execution_id for line in found] == expected, wish


async def test_open_jobs_come_last_received_first_and_page_by_page(ledger: Ledger) -> None:
    states = list(OPEN_STATES)
    for number in range(7):
        received = START_OF_TIME + timedelta(seconds=number // 2)
        await brought_to(ledger, f"j{number}", states[number % len(states)], received_at=received)
    await close_one(ledger, "closed")
    found: list[JobLine] = []
    before = None
    while page := await ledger.open_jobs(Wish(), 2, before=before):
        found += page
        before = (page[-1].received_at, page[-1].execution_id)
    assert [line.execution_id for line in found] == ["j6", "j4", "j5", "j2", "j3", "j0", "j1"]
    (held,) = await ledger.open_jobs(Wish(state=State.HELD), 10)
    assert held.state is State.HELD
    assert await ledger.open_jobs(Wish(state=State.CLOSED), 10) == []
    assert await ledger.open_jobs(Wish(text="J3"), 10) == [line for line in found if line.execution_id == "j3"]


async def test_throughput_is_counted_between_times(ledger: Ledger, clock: SetClock) -> None:
    began = clock.now
    for seconds in (10, 20, 20, 70):
        clock.now = began + timedelta(seconds=seconds)
        await close_one(ledger, f"at-{seconds}-{len((await ledger.closed_jobs(Wish(), 9)).lines)}")
    times = [began + timedelta(seconds=seconds) for seconds in (0, 15, 60, 120)]
    assert await ledger.closed_between(times) == [1, 2, 1]


async def test_what_was_purged_is_not_looked_for(ledger: Ledger, clock: SetClock) -> None:
    for number in range(6):
        clock.move(10)
        await close_one(ledger, f"j{number}")
    await ledger.purge(START_OF_TIME + timedelta(seconds=45))
    page = await ledger.closed_jobs(Wish(), 10, look=3)
    assert [line.execution_id for line in page.lines] == ["j5", "j4"]
    assert page.below is None


async def _close_many(ledger: Ledger, count: int) -> None:
    await asyncio.gather(*(brought_to(ledger, f"j{number}", State.CLOSED) for number in range(count)))


@pytest.mark.parametrize("closed", [60, 2000])
async def test_a_page_costs_the_same_however_long_the_ledger(sqlite: SqliteLedger, closed: int) -> None:
    """In steps of SQLite's machine, which do not depend on how busy this one is: a page, and a look in vain."""
    await _close_many(sqlite, closed)
    steps = await counted_steps(sqlite)
    assert len((await sqlite.closed_jobs(Wish(), 20)).lines) == 20
    assert 0 < steps.taken() < 1500
    assert (await sqlite.closed_jobs(Wish(verdict=Verdict.FAILED, text="nowhere"), 20, look=50)).lines == []
    assert 0 < steps.taken() < 4000
    assert await sqlite.open_jobs(Wish(), 20) == []
    assert await sqlite.closed_between([START_OF_TIME, START_OF_TIME]) == [0]
    assert 0 < steps.taken() < 600


@pytest.fixture
def statements(sql: SqlLog) -> SqlLog:
    sql.clear()
    return sql


async def test_lists_are_found_by_indexes(sqlite: SqliteLedger, statements: SqlLog) -> None:
    await _close_many(sqlite, 10)
    statements.clear()
    await sqlite.open_jobs(Wish(), 5, before=None)
    await sqlite.closed_jobs(Wish(verdict=Verdict.FAILED, provider=ProviderKey("x"), text="y"), 5)
    await sqlite.closed_between([START_OF_TIME, START_OF_TIME])
    plans: list[str] = []
    asked = list(statements.statements)

    def explain(connection: Connection) -> None:
        for statement, parameters in asked:
            rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.extend(str(row[3]) for row in rows)

    await sqlite._readers[0].do(explain)
    assert len(plans) >= 4
    assert not [plan for plan in plans if plan.startswith("SCAN")]
    assert any("jobs_closing_order" in plan for plan in plans)
    assert any("jobs_due" in plan for plan in plans)
