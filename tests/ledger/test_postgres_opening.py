"""What happens before a daemon works on a database: where it is, who may have it, its tables, its key."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from pydantic import SecretStr
from sqlalchemy import Connection

from qcompute.errors import ConfigError, StoreError
from qcompute.ledger import migrations, open_ledger, opening, postgres_open
from qcompute.ledger.contract import Ledger
from qcompute.ledger.postgres import PostgresLedger
from qcompute.ledger.postgres_connect import connection_parameters, writing_engine
from qcompute.ledger.schema import REVISIONS, metadata
from qcompute.ledger.settings import LedgerSettings
from qcompute.miner.job import State
from qcompute.protocol import FIRST_CURSOR
from qcompute.testing.ledger_records import SIGNED_URL, SetClock, accepted, brought_to, succeeded
from qcompute.units import utc_now
from tests.ledger.database_side import python
from tests.ledger.postgres_server import PASSWORD, USER, empty_database, own_ledger_database, shared_server


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[LedgerSettings]:
    """A database without tables."""
    with empty_database() as name:
        yield LedgerSettings(path=tmp_path / "data" / "ledger.sqlite3", url=SecretStr(shared_server().url(name)))


DEFINED = (
    (
        "SELECT table_name, column_name, data_type, collation_name, is_nullable, column_default "
        "FROM information_schema.columns WHERE table_schema = 'public' ORDER BY table_name, column_name"
    ),
    "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY indexname",
    (
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE connamespace = 'public'::regnamespace ORDER BY conname"
    ),
)
"""What is known of columns, indexes and constraints; not of the columns' order."""


@pytest.fixture
def own(tmp_path: Path) -> Iterator[LedgerSettings]:
    """A database with tables that the test may change."""
    with own_ledger_database() as name:
        yield LedgerSettings(path=tmp_path / "data" / "ledger.sqlite3", url=SecretStr(shared_server().url(name)))


def name_in(settings: LedgerSettings) -> str:
    assert settings.url is not None
    return settings.url.get_secret_value().rpartition("/")[2]


def run_sql(settings: LedgerSettings, *statements: str) -> list[tuple[object, ...]]:
    return shared_server().run_sql(name_in(settings), *statements)


async def test_everything_is_there_after_reopening(empty: LedgerSettings, clock: SetClock) -> None:
    first = open_ledger(empty, clock)
    waiting = await accepted(first, "a")
    closed = await brought_to(first, "b", State.CLOSED)
    await first.save(waiting, waiting, outcome=succeeded(), receipt="r")
    cursor = (await first.finished_after(FIRST_CURSOR, 10)).cursor
    counts, by_validator = await first.count_by_state(), await first.open_by_validator()
    await first.close()

    second = open_ledger(empty, clock)
    job = await second.get(waiting.execution_id)
    assert job is not None
    assert job.input_data_url == SIGNED_URL
    assert await second.get(closed.execution_id) == closed
    assert await second.outcome(waiting.execution_id) == succeeded()
    assert (await second.count_by_state(), await second.open_by_validator()) == (counts, by_validator)
    assert (await brought_to(second, "d", State.CLOSED)).cursor_seq == 2
    assert [job.execution_id for job in (await second.finished_after(cursor, 10)).jobs] == ["d"]
    await second.close()


async def test_no_row_shows_a_url(postgres: PostgresLedger, postgres_settings: LedgerSettings) -> None:
    await accepted(postgres, "a")
    (row,) = run_sql(postgres_settings, "SELECT jobs::text, encode(input_data_url, 'escape') FROM jobs")
    assert "optimization_level" in str(row)
    assert "bucket.example" not in str(row)
    assert "X-Amz" not in str(row)


class TestUrl:
    def test_a_password_of_any_characters_may_be_encoded_in_it(self, empty: LedgerSettings) -> None:
        assert quote(PASSWORD, safe="") in (empty.url or SecretStr("")).get_secret_value()
        assert connection_parameters(empty)["password"] == PASSWORD

    @pytest.mark.parametrize("by_file", [True, False])
    async def test_or_be_a_secret_by_name_written_as_it_is(
        self, empty: LedgerSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, by_file: bool
    ) -> None:
        if by_file:
            file = tmp_path / "password"
            file.write_text(PASSWORD + "\n", encoding="utf-8")
            file.chmod(0o600)
            monkeypatch.setenv("QCOMPUTE_SECRET_LEDGER_FILE", str(file))
        else:
            monkeypatch.setenv("QCOMPUTE_SECRET_LEDGER", PASSWORD)
        url = SecretStr(shared_server().url_without_password(name_in(empty)))
        ledger = open_ledger(empty.model_copy(update={"url": url, "password_secret": "ledger"}))
        await accepted(ledger, "a")
        await ledger.close()

    def test_a_secret_that_is_not_set_is_named(self, empty: LedgerSettings) -> None:
        with pytest.raises(ConfigError, match="QCOMPUTE_SECRET_NOT_SET"):
            connection_parameters(
                empty.model_copy(
                    update={
                        "url": SecretStr(shared_server().url_without_password("x")),
                        "password_secret": "not_set",
                    }
                )
            )

    def test_a_password_in_two_places_is_refused(self, empty: LedgerSettings) -> None:
        with pytest.raises(ConfigError, match="leave one out"):
            connection_parameters(empty.model_copy(update={"password_secret": "ledger"}))

    @pytest.mark.parametrize(
        "url",
        [
            f"postgresql://{USER}:p@hidden@127.0.0.1/db",
            f"postgresql://{USER}:p%hidden@127.0.0.1/db",
            f"postgresql://{USER}:hidden/x@127.0.0.1/db",
            f"postgresql://{USER}:hidden?x@127.0.0.1/db",
            f"postgresql://{USER}:hidden[x@127.0.0.1/db",
            f"postgresql://{USER}:hidden@127.0.0.1:port/db",
            f"postgresql://{USER}:hidden@127.0.0.1",
            f"mysql://{USER}:hidden@127.0.0.1/db",
            "hidden",
            "",
        ],
    )
    def test_one_that_cannot_be_read_is_refused_without_showing_it(self, tmp_path: Path, url: str) -> None:
        settings = LedgerSettings(path=tmp_path / "l", url=SecretStr(url))
        with pytest.raises((ConfigError, StoreError), match=r"ledger\.url") as caught:
            PostgresLedger(settings)
        assert "hidden" not in repr(caught.value) + str(caught.value.__cause__) + repr(settings)

    def test_parameters_of_libpq_follow_the_question_mark(self, tmp_path: Path) -> None:
        url = "postgres://u@h1:1,h2:2/d?sslmode=verify-full&connect_timeout=9&target_session_attrs=read-write"
        parameters = connection_parameters(LedgerSettings(path=tmp_path / "l", url=SecretStr(url)))
        assert parameters["host"] == "h1,h2"
        assert parameters["port"] == "1,2"
        assert parameters["sslmode"] == "verify-full"
        assert parameters["connect_timeout"] == "9"
        assert parameters["keepalives_idle"] == "2"


class TestSession:
    async def test_commits_are_on_disk_whatever_the_server_s_default(self, own: LedgerSettings) -> None:
        run_sql(own, f"ALTER DATABASE {name_in(own)} SET synchronous_commit = off")
        engine = writing_engine(connection_parameters(own), own)
        with engine.connect() as connection:
            names = ("synchronous_commit", "lock_timeout", "idle_in_transaction_session_timeout")
            seen = [connection.exec_driver_sql(f"SHOW {name}").scalar() for name in names]
        assert seen == ["on", "5s", "2s"]

    async def test_statements_are_prepared_once(self, postgres: PostgresLedger) -> None:
        for number in range(12):
            await brought_to(postgres, f"j{number}", State.CLOSED)

        def prepared(connection: Connection) -> list[str]:
            return list(connection.exec_driver_sql("SELECT statement FROM pg_prepared_statements").scalars())

        for number in range(12):
            await postgres.get((await accepted(postgres, f"more{number}")).execution_id)
        statements = await postgres._readers[0].do(prepared)
        assert statements
        assert len(statements) == len(set(statements))

    def test_a_server_that_may_lose_commits_is_named(
        self, empty: LedgerSettings, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The server of these tests is not synced to disk."""
        with caplog.at_level(logging.WARNING):
            asyncio.run(open_ledger(empty).close())
        assert "a power cut there may lose jobs that were paid" in caplog.text


class TestSchema:
    async def test_processes_that_start_at_once_make_the_tables_once(self, empty: LedgerSettings) -> None:
        """Both find no table and no key; the second waits and finds both."""

        def opened() -> PostgresLedger:
            return PostgresLedger(empty, alone=False)

        ledgers = await asyncio.gather(*(asyncio.to_thread(opened) for _ in range(4)))
        for number, ledger in enumerate(ledgers):
            await accepted(ledger, f"j{number}")
        assert run_sql(empty, "SELECT count(*) FROM alembic_version") == [(1,)]
        assert run_sql(empty, "SELECT count(*) FROM meta") == [(1,)]
        for ledger in ledgers:
            await ledger.close()

    async def test_a_newer_schema_is_refused(self, own: LedgerSettings) -> None:
        run_sql(own, "UPDATE alembic_version SET version_num = 'r9999'")
        with pytest.raises(ConfigError, match=r"newer qcompute \(schema r9999.*ledger\.url"):
            PostgresLedger(own)

    async def test_another_program_s_tables_are_left_alone(self, empty: LedgerSettings) -> None:
        run_sql(empty, "CREATE TABLE jobs (mine text)")
        with pytest.raises(ConfigError, match=r"belongs to another program.*ledger\.url"):
            PostgresLedger(empty)
        assert run_sql(empty, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(1,)]

    async def test_older_tables_are_upgraded(
        self, own: LedgerSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ledger = PostgresLedger(own)
        job = await accepted(ledger, "a")
        await ledger.close()
        later(tmp_path / "later", monkeypatch, "    op.add_column('jobs', sa.Column('note', sa.Text()))\n")
        ledger = PostgresLedger(own)
        assert await ledger.get(job.execution_id) == job
        assert run_sql(own, "SELECT version_num FROM alembic_version") == [("r9000",)]
        await ledger.close()

    async def test_an_upgrade_that_fails_leaves_the_tables_as_they_were(
        self, own: LedgerSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            later(tmp_path / "broken", patch, "    op.drop_table('receipts')\n    op.drop_table('no such table')\n")
            with pytest.raises(StoreError):
                PostgresLedger(own)
        ledger = PostgresLedger(own)
        await accepted(ledger, "a")
        await ledger.close()

    def test_the_revisions_lead_to_the_tables_a_new_ledger_has(self, own: LedgerSettings) -> None:
        made = [run_sql(own, question) for question in DEFINED]
        run_sql(own, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
        with writing_engine(connection_parameters(own), own).begin() as connection:
            migrations.upgrade(connection)
            assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        assert [run_sql(own, question) for question in DEFINED] == made
        assert all(made)

    async def test_a_database_that_is_not_utf_8_is_refused(self, tmp_path: Path) -> None:
        server = shared_server()
        server.run_sql("postgres", "CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
        try:
            with pytest.raises(ConfigError, match="not encoded in UTF-8"):
                PostgresLedger(LedgerSettings(path=tmp_path / "l", url=SecretStr(server.url("latin"))))
        finally:
            server.drop("latin")

    async def test_a_role_that_may_make_no_tables_is_told_so(self, empty: LedgerSettings) -> None:
        run_sql(empty, "CREATE ROLE guest LOGIN PASSWORD 'guest'")
        try:
            url = SecretStr(f"postgresql://guest:guest@127.0.0.1:{shared_server().port}/{name_in(empty)}")
            with pytest.raises(StoreError, match="owner of database and schema"):
                PostgresLedger(empty.model_copy(update={"url": url}))
        finally:
            run_sql(empty, "DROP ROLE guest")


def later(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """A qcompute with one more revision."""
    shutil.copytree(migrations.FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "versions" / "r9000_later.py").write_text(
        "import sqlalchemy as sa\nfrom alembic import op\n"
        f"revision = 'r9000'\ndown_revision = '{REVISIONS[-1]}'\ndef upgrade():\n{body}"
    )
    monkeypatch.setattr(migrations, "FOLDER", folder)
    monkeypatch.setattr(opening, "REVISIONS", (*REVISIONS, "r9000"))


class TestKey:
    """The key of the stored URLs, which all machines of one ledger need."""

    @pytest.fixture
    async def first(self, postgres_settings: LedgerSettings) -> LedgerSettings:
        """The machine that started first, and made the key."""
        await PostgresLedger(postgres_settings).close()
        return postgres_settings

    @pytest.fixture
    def second(self, first: LedgerSettings, tmp_path: Path) -> LedgerSettings:
        """Another machine, without the key."""
        return first.model_copy(update={"key_file": tmp_path / "second" / "key"})

    def test_a_machine_without_it_is_told_where_to_get_it(self, second: LedgerSettings) -> None:
        with pytest.raises(ConfigError, match=r"ledger\.key_file\) is missing.*Copy the file from a machine"):
            PostgresLedger(second)
        assert not second.key.exists(), "no key was made that fits nothing"

    async def test_a_machine_with_another_s_is_told_so(self, second: LedgerSettings) -> None:
        with empty_database() as other:
            url = SecretStr(shared_server().url(other))
            await PostgresLedger(second.model_copy(update={"url": url})).close()
        with pytest.raises(ConfigError, match=r"ledger\.key_file\) holds another ledger's key"):
            PostgresLedger(second)

    async def test_a_machine_with_a_copy_works_on_the_ledger(
        self, first: LedgerSettings, second: LedgerSettings
    ) -> None:
        second.key.parent.mkdir()
        shutil.copy(first.key, second.key)
        one, two = PostgresLedger(first, alone=False), PostgresLedger(second, alone=False)
        job = await accepted(one, "a")
        assert await two.get(job.execution_id) == job
        await one.close()
        await two.close()

    async def test_a_lost_one_can_be_given_up_with_the_urls_it_locks(
        self, first: LedgerSettings, second: LedgerSettings, caplog: pytest.LogCaptureFixture
    ) -> None:
        ledger: Ledger = PostgresLedger(first)
        waiting = await accepted(ledger, "a")
        ready = await brought_to(ledger, "b", State.WAITING)
        await ledger.close()
        ledger = PostgresLedger(second.model_copy(update={"forget_unreadable_urls": True}))
        job = await ledger.get(waiting.execution_id)
        assert job is not None
        assert job.input_data_url is None
        assert await ledger.get(ready.execution_id) == replace(ready, input_data_url=None)
        assert "stored URLs given up" in caplog.text
        await ledger.close()
        await PostgresLedger(second).close()


class TestLock:
    async def test_a_second_daemon_is_refused_and_told_who_works_there(
        self, postgres: PostgresLedger, postgres_settings: LedgerSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert postgres is not None
        monkeypatch.setattr(postgres_open, "LOCK_WAIT_SECONDS", 0.1)
        for alone in (True, False):
            told = r"qcompute \S+ \d+ [0-9a-f]+ at 127\.0\.0\.1.*already works.*ledger\.url"
            with pytest.raises(ConfigError, match=told):
                PostgresLedger(postgres_settings, alone=alone)

    async def test_a_daemon_that_wants_to_be_alone_waits_for_those_who_share(
        self, postgres_settings: LedgerSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shared = PostgresLedger(postgres_settings, alone=False)
        with monkeypatch.context() as patch:
            patch.setattr(postgres_open, "LOCK_WAIT_SECONDS", 0.1)
            with pytest.raises(ConfigError, match="already works"):
                PostgresLedger(postgres_settings)
        waiting = asyncio.create_task(asyncio.to_thread(PostgresLedger, postgres_settings))
        await shared.close()
        await (await waiting).close()

    async def test_a_killed_daemon_leaves_the_ledger_to_the_next_at_once(
        self, postgres_settings: LedgerSettings
    ) -> None:
        assert postgres_settings.url is not None
        arguments = (postgres_settings.url.get_secret_value(), str(postgres_settings.key))
        with python("-m", "tests.ledger.acknowledging_writer", *arguments) as writer:
            assert writer.stdout is not None
            lines = [writer.stdout.readline() for _ in range(100)]
            writer.kill()
            lines += writer.stdout.readlines()
        acknowledged = {line.strip() for line in lines if line.endswith("\n")}
        ledger = PostgresLedger(postgres_settings)
        stored = {job.execution_id for job in await ledger.due(State.ACCEPTED, utc_now(), 1_000_000)}
        assert acknowledged <= stored
        await ledger.close()

    async def test_two_schemas_of_one_database_are_two_ledgers(self, empty: LedgerSettings) -> None:
        run_sql(empty, "CREATE SCHEMA one", "CREATE SCHEMA two")
        assert empty.url is not None
        url = empty.url.get_secret_value()
        ledgers = [
            PostgresLedger(
                empty.model_copy(
                    update={
                        "url": SecretStr(f"{url}?options=-csearch_path%3D{name}"),
                        "key_file": empty.key.with_name(name),
                    }
                )
            )
            for name in ("one", "two")
        ]
        await accepted(ledgers[0], "a")
        assert [(await ledger.count_by_state())[State.ACCEPTED] for ledger in ledgers] == [1, 0]
        for ledger in ledgers:
            await ledger.close()
