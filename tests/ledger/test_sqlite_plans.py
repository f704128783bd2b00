"""No statement of the ledger reads a whole table, however long its history."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest

from qcompute.ledger.contract import Ledger, Postponed
from qcompute.ledger.settings import LedgerSettings
from qcompute.ledger.sqlite import SqliteLedger
from qcompute.miner.job import State
from qcompute.testing.ledger_charges import MOCK, charge
from qcompute.testing.ledger_records import SetClock, accepted, brought_to, failed, nonce
from qcompute.units import ExecutionId
from tests.ledger.database_side import SqlLog, counted_steps


async def use_every_method(ledger: Ledger, clock: SetClock) -> None:
    job = await accepted(ledger, "a")
    await ledger.save(
        job, replace(job, state=State.READY), circuit="c", outcome=failed(), receipt="r", charge=charge("1")
    )
    await brought_to(ledger, "b", State.CLOSED)
    await ledger.parts(ExecutionId("b"))
    await ledger.use_nonce(nonce(5, strictly_growing=False))
    await ledger.due(State.ACCEPTED, clock.now, 10)
    await ledger.next_due_at(State.ACCEPTED)
    await waiting_on(ledger, clock)
    await ledger.finished_after("", 10)
    for question in (ledger.circuit, ledger.outcome, ledger.receipt):
        await question(ExecutionId("a"))
    await ledger.open_work()
    await ledger.charged_by_day(MOCK, clock.now)
    await ledger.open_charges(MOCK)
    await ledger.forget_charges(clock.now)
    await ledger.forget_nonces(3)
    await ledger.purge(clock.now)


async def waiting_on(ledger: Ledger, clock: SetClock) -> None:
    """A look at what is to be asked for, and one that waits on."""
    waiting = await brought_to(ledger, "w", State.WAITING)
    await ledger.polls_due(clock.now, 10, lane=waiting.lane)
    await ledger.postpone([Postponed(waiting.execution_id, waiting.version, clock.now)])


def plan_of_last(log: SqlLog, words: str, connection: sqlite3.Connection) -> list[str]:
    """The plan of the statement with these words in it that was used last."""
    statement, parameters = [one for one in log.statements if words in one[0]][-1]
    return [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]


async def test_what_waits_is_found_by_its_place_and_waits_on_by_its_key(
    sqlite: SqliteLedger, settings: LedgerSettings, clock: SetClock, sql: SqlLog
) -> None:
    """These run for every poll of a hundred thousand jobs: nothing is read that is not due, nothing is sorted."""
    await waiting_on(sqlite, clock)
    with closing(sqlite3.connect(settings.file)) as connection:
        asked = plan_of_last(sql, "jobs.cancel_requested_at IS NULL", connection)
        moved = plan_of_last(sql, "UPDATE jobs SET due_at", connection)
    assert asked == ["SEARCH jobs USING INDEX jobs_due (state=? AND lane=? AND due_at<?)"]
    assert [step for step in moved if " jobs " in step] == [
        "SEARCH jobs USING INDEX sqlite_autoindex_jobs_1 (execution_id=?)"
    ], moved


async def test_no_statement_scans_a_table(
    sqlite: SqliteLedger, settings: LedgerSettings, clock: SetClock, sql: SqlLog
) -> None:
    sql.clear()
    await use_every_method(sqlite, clock)
    asked = {statement: parameters for statement, parameters in sql.statements if statement != "BEGIN IMMEDIATE"}
    assert len(asked) >= 20, "each method's statements were seen"
    with closing(sqlite3.connect(settings.file)) as connection:
        for statement, parameters in asked.items():
            plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]
            scans = [step for step in plan if step.startswith("SCAN") and not step.startswith(ALLOWED_SCANS)]
            assert scans == [], statement
            # The sums of a month are made once, when the daemon starts.
            assert "GROUP BY" in statement or not any("TEMP B-TREE" in step for step in plan), statement


ALLOWED_SCANS = ("SCAN anon_1 VIRTUAL TABLE", "SCAN meta")
"""The keys handed in, and the one row the ledger has about itself."""


async def close_many(ledger: SqliteLedger, count: int) -> None:
    async def close_one(name: str) -> None:
        await brought_to(ledger, name, State.CLOSED)

    await asyncio.gather(*(close_one(f"j{number}") for number in range(count)))


@pytest.mark.parametrize("closed", [50, 1500])
async def test_a_page_costs_the_same_however_many_jobs_are_closed(sqlite: SqliteLedger, closed: int) -> None:
    """Counted in steps of SQLite's machine, which do not depend on how busy this one is."""
    await close_many(sqlite, closed)
    middle = (await sqlite.finished_after("", closed // 2)).cursor
    steps = await counted_steps(sqlite)
    assert len((await sqlite.finished_after(middle, 20)).jobs) == 20
    assert 0 < steps.taken() < 600
