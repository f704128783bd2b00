"""A database that fails, and works again."""

from __future__ import annotations

import resource
import sqlite3
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

import pytest
from sqlalchemy import Connection

from qcompute.errors import StoreError
from qcompute.ledger.contract import Intake
from qcompute.ledger.settings import LedgerSettings
from qcompute.ledger.sqlite import SqliteLedger
from qcompute.miner.job import State
from qcompute.testing.ledger_records import SIGNED_URL, START_OF_TIME, accepted, new_job, own_nonce
from qcompute.units import ExecutionId
from tests.ledger.database_side import every_transaction_with, run_sql

BIG_CIRCUIT = "OPENQASM 2.0;" + "x" * 2_000_000


@contextmanager
def files_limited_to(size_bytes: int) -> Generator[None]:
    """Let no file grow beyond a size: the system then refuses the write, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def every_text(error: BaseException) -> Iterator[str]:
    chained: BaseException | None = error
    while chained is not None:
        yield str(chained)
        yield repr(chained)
        chained = chained.__cause__ or chained.__context__


async def test_a_disk_that_takes_no_more_fails_the_write_and_works_again_with_space(sqlite: SqliteLedger) -> None:
    job = await accepted(sqlite, "a")
    with files_limited_to(1_000_000), pytest.raises(StoreError, match=r"ledger\.path"):
        await sqlite.save(job, replace(job, state=State.READY), circuit=BIG_CIRCUIT)
    assert await sqlite.get(job.execution_id) == job
    assert await sqlite.circuit(job.execution_id) is None
    ready = await sqlite.save(job, replace(job, state=State.READY), circuit=BIG_CIRCUIT)
    assert await sqlite.circuit(ready.execution_id) == BIG_CIRCUIT


async def test_a_full_database_fails_the_large_write_and_takes_the_small_one(sqlite: SqliteLedger) -> None:
    job = await accepted(sqlite, "a")
    with every_transaction_with("max_page_count = 200"):
        with pytest.raises(StoreError, match="disk is full"):
            await sqlite.save(job, replace(job, state=State.READY), circuit=BIG_CIRCUIT)
        assert await sqlite.accept(new_job("b"), own_nonce("b")) is Intake.ACCEPTED
    assert await sqlite.get(job.execution_id) == job


async def test_a_read_only_database_fails_writes_and_answers_questions(sqlite: SqliteLedger) -> None:
    job = await accepted(sqlite, "a")
    with every_transaction_with("query_only = ON"):
        with pytest.raises(StoreError, match="read-only"):
            await sqlite.accept(new_job("b"), own_nonce("b"))
        assert await sqlite.due(State.ACCEPTED, START_OF_TIME, 10) == [job]
    with every_transaction_with("query_only = OFF"):
        assert await sqlite.accept(new_job("b"), own_nonce("b")) is Intake.ACCEPTED


async def test_the_reader_cannot_write(sqlite: SqliteLedger) -> None:
    def write(connection: Connection) -> None:
        connection.exec_driver_sql("DELETE FROM jobs")

    with pytest.raises(StoreError, match="read-only"):
        await sqlite._readers[0].do(write)


async def test_an_error_keeps_its_cause_and_shows_nothing_of_what_was_written(
    sqlite: SqliteLedger, settings: LedgerSettings
) -> None:
    run_sql(settings, "CREATE TRIGGER no BEFORE INSERT ON jobs BEGIN SELECT RAISE(ABORT, 'no'); END")
    with pytest.raises(StoreError) as caught:
        await sqlite.accept(new_job("secret-id"), own_nonce("secret-id"))
    texts = "\n".join(every_text(caught.value))
    assert "INSERT INTO jobs" in texts
    for secret in (SIGNED_URL, "secret-id", "5GrwvaEF", str(settings.file)):
        assert secret not in texts


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
async def test_a_file_locked_by_another_program_does_not_open_until_it_is_free(
    settings: LedgerSettings, mode: str
) -> None:
    """In the other journal mode, switching it is what fails."""
    await SqliteLedger(settings).close()
    run_sql(settings, f"PRAGMA journal_mode = {mode}")
    with closing(sqlite3.connect(settings.file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked"):
            SqliteLedger(settings)
    await SqliteLedger(settings).close()


async def test_a_damaged_file_is_said_to_be_damaged(settings: LedgerSettings) -> None:
    ledger = SqliteLedger(settings)
    job = await accepted(ledger, "a")
    await ledger.save(job, replace(job, attempts=1), circuit=BIG_CIRCUIT)
    await ledger.close()
    pages = bytearray(settings.file.read_bytes())
    pages[200 * 4096 :] = b"\xff" * (len(pages) - 200 * 4096)
    settings.file.write_bytes(pages)
    ledger = SqliteLedger(settings)
    with pytest.raises(StoreError, match="damaged"):
        await ledger.circuit(ExecutionId("a"))
    await ledger.close()
