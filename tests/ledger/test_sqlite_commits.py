"""How writers share a commit, and what a failing one does to the others."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import replace

import blockbuster
import pytest

from qcompute.errors import StaleRow, StoreError
from qcompute.ledger.contract import Intake
from qcompute.ledger.settings import LedgerSettings
from qcompute.ledger.sqlite import SqliteLedger
from qcompute.miner.job import State, Verdict
from qcompute.protocol import FIRST_CURSOR
from qcompute.testing.ledger_records import (
    SetClock,
    accepted,
    brought_to,
    failed,
    new_job,
    nonce,
    own_nonce,
    succeeded,
)
from qcompute.units import ExecutionId
from tests.ledger.database_side import SqlLog, run_sql


def accept_all(ledger: SqliteLedger, names: Iterable[str]) -> asyncio.Future[list[Intake | BaseException]]:
    return asyncio.gather(*(ledger.accept(new_job(name), own_nonce(name)) for name in names), return_exceptions=True)


async def assert_figures_match_the_table(ledger: SqliteLedger, settings: LedgerSettings) -> None:
    states = dict(run_sql(settings, "SELECT state, count(*) FROM jobs GROUP BY state"))
    assert {state: count for state, count in (await ledger.count_by_state()).items() if count} == states
    hotkeys = run_sql(
        settings, "SELECT validator_hotkey, count(*) FROM jobs WHERE state <> 'closed' GROUP BY validator_hotkey"
    )
    assert await ledger.open_by_validator() == dict(hotkeys)


async def test_concurrent_intakes_share_one_commit(sqlite: SqliteLedger, sql: SqlLog) -> None:
    assert await accept_all(sqlite, (f"j{number}" for number in range(64))) == [Intake.ACCEPTED] * 64
    assert sql.commits == 1


async def test_operations_of_every_kind_share_one_commit(sqlite: SqliteLedger, sql: SqlLog, clock: SetClock) -> None:
    job = await accepted(sqlite, "a")
    settled = await brought_to(sqlite, "b", State.SETTLED)
    sql.clear()
    await asyncio.gather(
        sqlite.accept(new_job("c"), own_nonce("c")),
        sqlite.use_nonce(nonce(5)),
        sqlite.save(job, replace(job, state=State.READY), circuit="c"),
        sqlite.save(settled, replace(settled, state=State.CLOSED)),
        sqlite.forget_nonces(0),
        sqlite.purge(clock.now),
    )
    assert sql.commits == 1


async def test_replays_duplicates_and_stale_rows_do_not_break_a_batch_up(sqlite: SqliteLedger, sql: SqlLog) -> None:
    job = await accepted(sqlite, "a")
    sql.clear()
    same = [nonce(5), nonce(6, strictly_growing=False)]
    answers = await asyncio.gather(
        *(sqlite.use_nonce(used) for used in same * 2),
        sqlite.accept(new_job("b"), own_nonce("b")),
        sqlite.accept(new_job("b"), nonce(7)),
        sqlite.save(job, replace(job, attempts=1)),
        sqlite.save(job, replace(job, attempts=2)),
        return_exceptions=True,
    )
    assert answers[:6] == [True, True, False, False, Intake.ACCEPTED, Intake.DUPLICATE]
    assert isinstance(answers[7], StaleRow)
    assert sql.commits == 1


async def test_a_batch_has_a_limit(settings: LedgerSettings, sql: SqlLog) -> None:
    ledger = SqliteLedger(settings.model_copy(update={"batch_limit": 16}))
    sql.clear()
    await accept_all(ledger, (f"j{number}" for number in range(64)))
    assert sql.commits == 4
    await ledger.close()


async def test_callers_wait_their_turn_when_too_many_writes_are_pending(settings: LedgerSettings, sql: SqlLog) -> None:
    ledger = SqliteLedger(settings.model_copy(update={"max_pending": 4}))
    sql.clear()
    assert await accept_all(ledger, (f"j{number}" for number in range(50))) == [Intake.ACCEPTED] * 50
    assert sql.commits >= 50 / 4
    await ledger.close()


async def test_the_event_loop_never_touches_the_database(sqlite: SqliteLedger, sql: SqlLog) -> None:
    with blockbuster.blockbuster_ctx():
        job = await brought_to(sqlite, "a", State.CLOSED)
        await sqlite.get(job.execution_id)
        await sqlite.due(State.ACCEPTED, job.due_at, 10)
        await sqlite.next_due_at(State.ACCEPTED)
        await sqlite.finished_after(FIRST_CURSOR, 10)
        await sqlite.outcome(job.execution_id)
        await sqlite.close()
    assert sql.threads == {"ledger-writer", "ledger-reader"}


async def test_looking_when_up_to_date_and_counting_cost_no_read(
    sqlite: SqliteLedger, sql: SqlLog, clock: SetClock
) -> None:
    await sqlite.finished_after(FIRST_CURSOR, 10)
    await brought_to(sqlite, "a", State.CLOSED)
    cursor = (await sqlite.finished_after(FIRST_CURSOR, 10)).cursor
    clock.move(60)
    sql.clear()
    assert (await sqlite.finished_after(cursor, 10)).jobs == []
    assert (await sqlite.finished_after("2026-11-21 02:47:00", 10)).jobs == []
    await sqlite.count_by_state()
    await sqlite.open_by_validator()
    assert sql.statements == []


class TestOneBadOperation:
    @pytest.fixture
    async def settings(self, settings: LedgerSettings) -> LedgerSettings:
        """A ledger whose database refuses the job ``bad``, as a broken page or a bug of ours would."""
        await SqliteLedger(settings).close()
        run_sql(
            settings,
            "CREATE TRIGGER no_bad_job BEFORE INSERT ON jobs WHEN NEW.execution_id = 'bad' "
            "BEGIN SELECT RAISE(ABORT, 'no'); END",
            "CREATE TRIGGER no_bad_receipt BEFORE INSERT ON receipts WHEN NEW.document = 'bad' "
            "BEGIN SELECT RAISE(ABORT, 'no'); END",
        )
        return settings

    async def test_fails_alone(self, sqlite: SqliteLedger, settings: LedgerSettings) -> None:
        answers = await accept_all(sqlite, ["a", "b", "bad", "c", "d"])
        assert isinstance(answers.pop(2), StoreError)
        assert answers == [Intake.ACCEPTED] * 4
        await assert_figures_match_the_table(sqlite, settings)

    async def test_keeps_its_nonce(self, sqlite: SqliteLedger) -> None:
        await accept_all(sqlite, ["a", "bad"])
        assert await sqlite.use_nonce(own_nonce("bad"))
        assert not await sqlite.use_nonce(own_nonce("a"))

    async def test_moves_no_row_when_one_of_its_parts_fails(
        self, sqlite: SqliteLedger, settings: LedgerSettings
    ) -> None:
        bad, good = await accepted(sqlite, "x"), await accepted(sqlite, "y")
        answers = await asyncio.gather(
            sqlite.save(bad, replace(bad, state=State.SETTLED), outcome=failed(), receipt="bad"),
            sqlite.save(good, replace(good, state=State.SETTLED), outcome=succeeded(), receipt="good"),
            return_exceptions=True,
        )
        assert isinstance(answers[0], StoreError)
        assert await sqlite.get(bad.execution_id) == bad
        assert await sqlite.outcome(bad.execution_id) is None
        assert await sqlite.receipt(good.execution_id) == "good"
        await assert_figures_match_the_table(sqlite, settings)

    async def test_takes_no_number_in_the_closing_order(self, sqlite: SqliteLedger) -> None:
        settled = [await brought_to(sqlite, name, State.SETTLED) for name in ("a", "b", "c")]
        answers = await asyncio.gather(
            *(
                sqlite.save(job, replace(job, state=State.CLOSED), receipt="bad" if number == 1 else "good")
                for number, job in enumerate(settled)
            ),
            return_exceptions=True,
        )
        assert isinstance(answers[1], StoreError)
        assert [job.cursor_seq for job in (await sqlite.finished_after("", 10)).jobs] == [1, 2]
        closed = await brought_to(sqlite, "d", State.CLOSED)
        assert closed.cursor_seq == 3


async def test_figures_match_the_table_after_all_kinds_of_moves(
    sqlite: SqliteLedger, settings: LedgerSettings, clock: SetClock
) -> None:
    for state in State:
        await brought_to(sqlite, f"a-{state}", state)
        await brought_to(sqlite, f"b-{state}", state)
    clock.move(1)
    await brought_to(sqlite, "late", State.CLOSED)
    assert await sqlite.purge(clock.now) == 2
    await assert_figures_match_the_table(sqlite, settings)


async def test_a_large_purge_is_several_transactions(sqlite: SqliteLedger, sql: SqlLog, clock: SetClock) -> None:
    async def close_one(number: int) -> None:
        job = await accepted(sqlite, f"j{number}")
        settled = await sqlite.save(job, replace(job, state=State.SETTLED, verdict=Verdict.FAILED))
        await sqlite.save(settled, replace(settled, state=State.CLOSED))

    await asyncio.gather(*(close_one(number) for number in range(501)))
    clock.move(60)
    sql.clear()
    assert await sqlite.purge(clock.now) == 501
    assert sql.commits == 2
    assert (await sqlite.finished_after("", 1000)).jobs == []
    assert await sqlite.get(ExecutionId("j0")) is None


@pytest.fixture
def locked(settings: LedgerSettings, sqlite: SqliteLedger) -> Iterator[sqlite3.Connection]:
    """Another program that holds the write lock of the ledger's file."""
    assert sqlite is not None
    connection = sqlite3.connect(settings.file, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    yield connection
    connection.close()


async def test_a_locked_file_fails_the_batch_after_one_wait_and_works_again_afterwards(
    sqlite: SqliteLedger, locked: sqlite3.Connection, sql: SqlLog
) -> None:
    answers = await accept_all(sqlite, (f"j{number}" for number in range(20)))
    assert {type(answer) for answer in answers} == {StoreError}
    assert len({id(answer) for answer in answers}) == 20
    assert "locked" in str(answers[0])
    assert [statement for statement, _ in sql.statements] == ["BEGIN IMMEDIATE"]
    locked.execute("ROLLBACK")
    assert await accept_all(sqlite, ["j1"]) == [Intake.ACCEPTED]


async def test_a_locked_file_does_not_keep_readers_away(sqlite: SqliteLedger, locked: sqlite3.Connection) -> None:
    assert locked.in_transaction
    assert await sqlite.due(State.ACCEPTED, SetClock().now, 10) == []
