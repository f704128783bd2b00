"""A server that goes away, and is there again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import Connection

from qcompute.errors import StoreError
from qcompute.ledger.contract import Intake
from qcompute.ledger.postgres import PostgresLedger
from qcompute.ledger.postgres_connect import connection_parameters, writing_engine
from qcompute.ledger.settings import LedgerSettings
from qcompute.miner.job import State
from qcompute.testing.ledger_fixtures import WAIT_SECONDS, listening
from qcompute.testing.ledger_records import (
    SIGNED_URL,
    START_OF_TIME,
    SetClock,
    accepted,
    brought_to,
    new_job,
    nonce,
    own_nonce,
)
from qcompute.units import ExecutionId
from tests.ledger.postgres_server import (
    PASSWORD,
    PostgresServer,
    empty_database,
    own_ledger_database,
    shared_server,
)
from tests.ledger.test_sqlite_failures import every_text
from tests.scene import until, until_true

END_ALL = (
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)
END_HOLDER = (
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks JOIN pg_stat_activity USING (pid) "
    "WHERE locktype = 'advisory' AND granted AND datname = current_database()"
)


def name_in(settings: LedgerSettings) -> str:
    assert settings.url is not None
    return settings.url.get_secret_value().rpartition("/")[2]


def run_sql(settings: LedgerSettings, *statements: str) -> list[tuple[object, ...]]:
    return shared_server().run_sql(name_in(settings), *statements)


async def nothing() -> str:
    return "nothing more is known"


async def until_it_works(ledger: PostgresLedger) -> None:
    """Ask until the store answers; it must do so by itself."""

    async def works() -> bool:
        try:
            await ledger.use_nonce(nonce(1, scope="until it works", strictly_growing=False))
            await ledger.due(State.ACCEPTED, START_OF_TIME, 1)
        except StoreError:
            return False
        return True

    await until(works, seconds=WAIT_SECONDS, what="a store that works again", facts=nothing)


@pytest.fixture
def changed_settings(tmp_path: Path) -> Iterator[LedgerSettings]:
    """A database that the test may give triggers."""
    with own_ledger_database() as name:
        yield LedgerSettings(path=tmp_path / "l.sqlite3", url=SecretStr(shared_server().url(name)))


@pytest.fixture
async def changed(changed_settings: LedgerSettings, clock: SetClock) -> AsyncIterator[PostgresLedger]:
    ledger = PostgresLedger(changed_settings, clock)
    yield ledger
    await ledger.close()


def trigger(body: str, table: str) -> tuple[str, str]:
    """The statements of a trigger that does something at a row named ``bad``."""
    condition = "NEW.document = 'bad'" if table == "receipts" else "NEW.execution_id = 'bad'"
    return (
        f"CREATE FUNCTION meet() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body}; RETURN NEW; END $$",
        f"CREATE TRIGGER bad BEFORE INSERT ON {table} FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION meet()",
    )


async def test_a_connection_lost_in_mid_transaction_leaves_nothing_half_done_and_comes_back(
    changed: PostgresLedger, changed_settings: LedgerSettings
) -> None:
    job = await accepted(changed, "a")
    run_sql(changed_settings, *trigger("PERFORM pg_terminate_backend(pg_backend_pid())", "receipts"))
    with pytest.raises(StoreError, match=r"ledger\.url.*connection broke"):
        await changed.save(job, replace(job, state=State.READY), circuit="c", receipt="bad")
    assert await changed.get(job.execution_id) == job
    assert await changed.circuit(job.execution_id) is None
    assert (await changed.count_by_state())[State.ACCEPTED] == 1
    ready = await changed.save(job, replace(job, state=State.READY), circuit="c", receipt="good")
    assert await changed.receipt(ready.execution_id) == "good"


async def test_connections_cut_while_nobody_used_them_are_made_again_unseen(
    postgres: PostgresLedger, postgres_settings: LedgerSettings
) -> None:
    job = await accepted(postgres, "a")
    for attempt in range(3):
        run_sql(postgres_settings, END_ALL)
        assert await postgres.get(job.execution_id) == job
        job = await postgres.save(job, replace(job, attempts=attempt + 1))


async def test_a_stage_that_listens_is_woken_when_its_connection_was_cut(
    postgres: PostgresLedger, postgres_settings: LedgerSettings
) -> None:
    """Something may have come meanwhile."""
    with listening(postgres, State.HELD) as ear:
        run_sql(postgres_settings, END_ALL)
        await ear.until_heard()


async def test_one_bad_operation_fails_alone(changed: PostgresLedger, changed_settings: LedgerSettings) -> None:
    run_sql(changed_settings, *trigger("RAISE EXCEPTION 'no %', NEW", "jobs"))
    names = ["a", "b", "bad", "c"]
    answers = await asyncio.gather(
        *(changed.accept(new_job(name), own_nonce(name)) for name in names), return_exceptions=True
    )
    assert isinstance(answers.pop(2), StoreError)
    assert answers == [Intake.ACCEPTED] * 3
    assert await changed.use_nonce(own_nonce("bad")), "its nonce was not used up"


async def test_an_error_shows_nothing_of_what_was_written(
    changed: PostgresLedger, changed_settings: LedgerSettings
) -> None:
    """Postgres quotes the row in its message; the error must have no such cause to print."""
    run_sql(changed_settings, *trigger("RAISE EXCEPTION 'no % %', NEW.execution_id, NEW", "jobs"))
    with pytest.raises(StoreError) as caught:
        await changed.accept(new_job("bad"), own_nonce("bad"))
    assert "SQLSTATE P0001" in str(caught.value)
    texts = "\n".join(every_text(caught.value))
    for secret in (SIGNED_URL, "bad", "5GrwvaEF", PASSWORD, "127.0.0.1"):
        assert secret not in texts


async def test_the_readers_cannot_write(postgres: PostgresLedger) -> None:
    def write(connection: Connection) -> None:
        connection.exec_driver_sql("DELETE FROM jobs")

    with pytest.raises(StoreError, match="read-only"):
        await postgres._readers[0].do(write)


async def test_rows_locked_by_another_program_fail_the_batch_after_one_wait(
    postgres: PostgresLedger, postgres_settings: LedgerSettings
) -> None:
    settled = [await brought_to(postgres, name, State.SETTLED) for name in ("a", "b", "c")]
    with shared_server().connect(name_in(postgres_settings)) as other:
        other.execute("BEGIN")
        other.execute("SELECT * FROM meta FOR UPDATE")
        async with asyncio.timeout(3 * postgres_settings.busy_timeout_seconds + WAIT_SECONDS / 4):
            answers = await asyncio.gather(
                *(postgres.save(job, replace(job, state=State.CLOSED)) for job in settled), return_exceptions=True
            )
        assert {type(answer) for answer in answers} == {StoreError}
        assert "keeps the rows locked" in str(answers[0])
        assert await postgres.accept(new_job("d"), own_nonce("d")) is Intake.ACCEPTED
        other.execute("ROLLBACK")
    closed = [await postgres.save(job, replace(job, state=State.CLOSED)) for job in settled]
    assert [job.cursor_seq for job in closed] == [1, 2, 3]


async def test_a_session_that_stops_in_mid_transaction_does_not_keep_its_rows(
    postgres: PostgresLedger, postgres_settings: LedgerSettings
) -> None:
    """As after SIGSTOP: the server ends the session by itself, and the other's write goes on."""
    job = await brought_to(postgres, "a", State.SETTLED)
    stopped = writing_engine(connection_parameters(postgres_settings), postgres_settings).connect()
    stopped.exec_driver_sql("SELECT * FROM meta FOR UPDATE")

    async def closes() -> bool:
        try:
            await postgres.save(job, replace(job, state=State.CLOSED))
        except StoreError:
            return False
        return True

    await until(closes, seconds=WAIT_SECONDS, what="the end of a stopped session", facts=nothing)
    closed = await postgres.get(job.execution_id)
    assert closed is not None
    assert closed.cursor_seq == 1
    stopped.invalidate()
    stopped.close()


async def test_a_daemon_whose_lock_was_taken_over_writes_no_more_until_it_is_free(
    postgres_settings: LedgerSettings, clock: SetClock
) -> None:
    first = PostgresLedger(postgres_settings, clock)
    await accepted(first, "a")
    # The first is cut off; before it notices, a second daemon has started.
    run_sql(postgres_settings, END_HOLDER)
    second = PostgresLedger(postgres_settings, clock)
    for _ in range(3):
        with pytest.raises(StoreError, match="another daemon works on the ledger now"):
            await first.accept(new_job("b"), own_nonce("b"))
    assert await second.accept(new_job("c"), own_nonce("c")) is Intake.ACCEPTED
    await second.close()
    assert await first.accept(new_job("b"), own_nonce("b")) is Intake.ACCEPTED
    await first.close()


class TestRestart:
    @pytest.fixture
    def server(self) -> Iterator[PostgresServer]:
        """A server of its own, whose operator thought speed more important than yesterday's jobs."""
        server = PostgresServer({"synchronous_commit": "off", "wal_writer_delay": "10s", "max_connections": "40"})
        server.start()
        yield server
        server.remove()

    @pytest.fixture
    def settings(self, server: PostgresServer, tmp_path: Path) -> Iterator[LedgerSettings]:
        with empty_database(server) as name:
            yield LedgerSettings(path=tmp_path / "l.sqlite3", url=SecretStr(server.url(name)))

    async def test_what_was_acknowledged_survives_a_crash_of_the_server(
        self, server: PostgresServer, settings: LedgerSettings
    ) -> None:
        """The server's default would lose the last ten seconds; the ledger's sessions do not take it."""
        ledger = PostgresLedger(settings)
        names = [f"j{number}" for number in range(50)]
        assert {await ledger.accept(new_job(name), own_nonce(name)) for name in names} == {Intake.ACCEPTED}
        server.crash()
        with pytest.raises(StoreError, match=r"ledger\.url"):
            await ledger.accept(new_job("later"), own_nonce("later"))
        with pytest.raises(StoreError, match=r"ledger\.url"):
            await ledger.get(ExecutionId("j0"))
        server.start()
        await until_it_works(ledger)
        assert {job.execution_id for job in await ledger.due(State.ACCEPTED, START_OF_TIME, 99)} == set(names)
        assert await ledger.accept(new_job("later"), own_nonce("later")) is Intake.ACCEPTED
        await ledger.close()

    async def test_restarts_under_load_lose_nothing_that_was_acknowledged(
        self, server: PostgresServer, settings: LedgerSettings
    ) -> None:
        ledger = PostgresLedger(settings)
        acknowledged: set[str] = set()
        stopping = asyncio.Event()

        async def keep_storing(caller: int) -> None:
            number = 0
            while not stopping.is_set():
                number += 1
                name = f"{caller}-{number}"
                try:
                    if await ledger.accept(new_job(name), own_nonce(name)) is Intake.ACCEPTED:
                        acknowledged.add(name)
                except StoreError:
                    await asyncio.sleep(0.01)

        callers = [asyncio.create_task(keep_storing(caller)) for caller in range(6)]
        for end in (server.stop, server.crash):
            before = len(acknowledged)
            await until_true(lambda: len(acknowledged) > before + 50, what="acknowledgements", seconds=WAIT_SECONDS)  # noqa: B023 - awaited here
            await asyncio.to_thread(end)
            server.start()
        await until_it_works(ledger)
        stopping.set()
        await asyncio.gather(*callers)
        stored = {job.execution_id for job in await ledger.due(State.ACCEPTED, START_OF_TIME, 1_000_000)}
        assert acknowledged <= stored
        # A commit whose answer was lost is in the figures after the next look.

        async def counted() -> bool:
            return (await ledger.count_by_state())[State.ACCEPTED] == len(stored)

        await until(counted, seconds=WAIT_SECONDS, what="every job counted", facts=nothing)
        await ledger.close()


async def test_no_server_is_an_error_that_names_the_setting(tmp_path: Path) -> None:
    settings = LedgerSettings(path=tmp_path / "l", url=SecretStr("postgresql://u:hidden@127.0.0.1:1/d"))
    with pytest.raises(StoreError, match=r"ledger\.url.*cannot be reached") as caught:
        PostgresLedger(settings)
    assert "hidden" not in "\n".join(every_text(caught.value))


async def test_a_wrong_password_is_an_error_that_does_not_show_it(tmp_path: Path) -> None:
    url = shared_server().url("postgres").replace("%40", "%41")
    with pytest.raises(StoreError, match="refuses user or password") as caught:
        PostgresLedger(LedgerSettings(path=tmp_path / "l", url=SecretStr(url)))
    assert "pA:" not in "\n".join(every_text(caught.value))


async def test_a_database_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    url = shared_server().url("nothing_here")
    with pytest.raises(StoreError, match="no such database"):
        PostgresLedger(LedgerSettings(path=tmp_path / "l", url=SecretStr(url)))
