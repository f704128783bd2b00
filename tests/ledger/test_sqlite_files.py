"""The files of a ledger: what lies in them, who may open them, and what a later version does with them."""

from __future__ import annotations

import os
import re
import shutil
import stat
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from qcompute.errors import ConfigError, StoreError
from qcompute.ledger import migrations, open_ledger, opening
from qcompute.ledger.contract import Intake
from qcompute.ledger.database import open_database
from qcompute.ledger.schema import REVISIONS, metadata
from qcompute.ledger.settings import LedgerSettings
from qcompute.ledger.sqlite import SqliteLedger
from qcompute.miner.job import SPLIT_LANE, State, Verdict
from qcompute.protocol import FIRST_CURSOR
from qcompute.testing.ledger_records import (
    ALICE,
    SIGNED_URL,
    START_OF_TIME,
    SetClock,
    accepted,
    brought_to,
    new_job,
    nonce,
    own_nonce,
    succeeded,
)
from qcompute.units import ExecutionId, ProviderKey
from tests.ledger.database_side import python_says, run_sql
from tests.ledger.old_ledgers import BACK_TO_FIRST


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def key_of(settings: LedgerSettings) -> Path:
    return settings.file.with_name(settings.file.name + ".key")


async def test_everything_is_there_after_reopening(settings: LedgerSettings, clock: SetClock) -> None:
    first = SqliteLedger(settings, clock)
    waiting = await accepted(first, "a")
    closed = await brought_to(first, "b", State.CLOSED)
    ready = await first.save(
        waiting, replace(waiting, state=State.READY), circuit="c", outcome=succeeded(), receipt="r"
    )
    fetching = await accepted(first, "url")
    await first.use_nonce(nonce(100))
    await first.use_nonce(nonce(100, strictly_growing=False))
    cursor = (await first.finished_after(FIRST_CURSOR, 10)).cursor
    counts, by_validator = await first.count_by_state(), await first.open_by_validator()
    await first.close()

    second = SqliteLedger(settings, clock)
    for job in (ready, closed, fetching):
        assert await second.get(job.execution_id) == job
    assert await second.circuit(ready.execution_id) == "c"
    assert await second.outcome(ready.execution_id) == succeeded()
    assert await second.receipt(ready.execution_id) == "r"
    assert (await second.count_by_state(), await second.open_by_validator()) == (counts, by_validator)
    assert await second.accept(new_job("a"), nonce(1, scope="new")) is Intake.DUPLICATE
    assert not await second.use_nonce(nonce(100))
    assert not await second.use_nonce(nonce(100, strictly_growing=False))
    assert await second.accept(new_job("c"), own_nonce("b")) is Intake.REPLAYED
    later = await brought_to(second, "d", State.CLOSED)
    assert later.cursor_seq == 2
    assert [job.execution_id for job in (await second.finished_after(cursor, 10)).jobs] == ["d"]
    await second.close()


async def test_a_job_in_parts_is_one_in_its_validators_share_after_reopening_too(
    settings: LedgerSettings, clock: SetClock
) -> None:
    """Its open parts were counted as jobs when the file was opened, and never taken off again when they closed.

    Whoever had split jobs at a restart was refused new ones long before their share was used up, until the next one.
    """
    first = SqliteLedger(settings, clock)
    job = await brought_to(first, "a", State.READY)
    whole = replace(job, state=State.WAITING, provider=ProviderKey(SPLIT_LANE))
    part = replace(job, version=0, state=State.SUBMITTING, parent_id=job.execution_id, input_data_url=None)
    parts = [replace(part, execution_id=ExecutionId(f"a/{number}"), provider=ProviderKey("x")) for number in range(2)]
    await first.split(job, whole, parts)
    await first.close()
    second = SqliteLedger(settings, clock)
    assert await second.open_by_validator() == {ALICE: 1}
    for name in ("a/0", "a/1", "a"):
        one = await second.get(ExecutionId(name))
        assert one is not None
        waits = one if one.state is State.WAITING else await second.save(one, replace(one, state=State.WAITING))
        settled = await second.save(waits, replace(waits, state=State.SETTLED, verdict=Verdict.SUCCEEDED))
        await second.save(settled, replace(settled, state=State.CLOSED))
    assert await second.open_by_validator() == {}
    clock.move(10)
    assert await second.purge(clock.now) == 3
    assert await second.count_by_state() == dict.fromkeys(State, 0)
    await second.close()


async def test_numbers_of_purged_jobs_are_not_given_again_after_reopening(
    settings: LedgerSettings, clock: SetClock
) -> None:
    first = SqliteLedger(settings, clock)
    await brought_to(first, "a", State.CLOSED)
    await first.purge(clock.now + timedelta(seconds=1))
    await first.close()
    second = SqliteLedger(settings, clock)
    assert (await brought_to(second, "b", State.CLOSED)).cursor_seq == 2
    await second.close()


async def test_no_file_shows_a_url(settings: LedgerSettings) -> None:
    ledger = SqliteLedger(settings)
    secret = b"X-Amz-Signature=5b1eb0a7c0ffee"
    assert secret.decode() in SIGNED_URL
    for number in range(50):
        job = await accepted(ledger, f"j{number}")
        await ledger.save(job, replace(job, attempts=1))

    def found() -> list[str]:
        files = {path.name: path.read_bytes() for path in settings.file.parent.iterdir()}
        assert b"bucket" not in files["ledger.sqlite3.key"]
        assert any(b"optimization_level" in content for content in files.values()), "the jobs are on disk"
        return [name for name, content in files.items() if secret in content or b"bucket.example" in content]

    assert found() == []
    assert "ledger.sqlite3-wal" in names(settings.file.parent)
    await ledger.close()
    assert found() == []


async def test_a_wiped_url_leaves_no_ciphertext_in_its_row(sqlite: SqliteLedger, settings: LedgerSettings) -> None:
    job = await accepted(sqlite, "a")
    sealed = "SELECT count(input_data_url) FROM jobs"
    assert run_sql(settings, sealed) == [(1,)]
    await sqlite.save(job, replace(job, state=State.READY), circuit="c")
    assert run_sql(settings, sealed) == [(0,)]


async def test_a_url_is_not_sealed_again_by_every_save(sqlite: SqliteLedger, settings: LedgerSettings) -> None:
    job = await accepted(sqlite, "a")
    before = run_sql(settings, "SELECT input_data_url FROM jobs")
    await sqlite.save(job, replace(job, attempts=1))
    assert run_sql(settings, "SELECT input_data_url FROM jobs") == before


async def test_the_files_are_for_their_owner_alone(sqlite: SqliteLedger, settings: LedgerSettings) -> None:
    await accepted(sqlite, "a")
    folder = settings.file.parent
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    expected = {f"ledger.sqlite3{ending}": 0o600 for ending in ("", "-wal", "-shm", ".key", ".lock")}
    assert modes == expected
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


async def test_commits_are_synced_and_logged_ahead(sqlite: SqliteLedger, settings: LedgerSettings) -> None:
    pragmas = ("journal_mode", "foreign_keys")
    connection = sqlite._readers[0].do(
        lambda connection: [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in pragmas]
    )
    assert await connection == ["wal", 1]
    opened = open_database(settings)
    with opened.engine.connect() as writing:
        assert writing.exec_driver_sql("PRAGMA synchronous").scalar() == 2


async def test_an_odd_file_name_is_a_file_name(tmp_path: Path) -> None:
    path = tmp_path / "a?mode=memory %20#'.db"
    ledger = open_ledger(LedgerSettings(path=path))
    await accepted(ledger, "a")
    await ledger.close()
    assert path.stat().st_size > 0


def test_a_home_folder_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert LedgerSettings().file == tmp_path / ".qcompute" / "ledger.sqlite3"


async def test_nothing_is_left_open_after_the_end(settings: LedgerSettings) -> None:
    def open_files() -> list[str]:
        links = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        return [target.name for target in links if "ledger" in target.name]

    def threads() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("ledger")]

    ledger = SqliteLedger(settings)
    await accepted(ledger, "a")
    await ledger.get(ExecutionId("a"))
    assert len(threads()) == 2
    assert open_files()
    await ledger.close()
    assert threads() == []
    assert open_files() == []
    assert names(settings.file.parent) == [f"ledger.sqlite3{ending}" for ending in ("", ".key", ".lock")]


class TestLock:
    async def test_a_second_ledger_in_this_process_is_refused(
        self, sqlite: SqliteLedger, settings: LedgerSettings
    ) -> None:
        with pytest.raises(ConfigError, match=rf"Process {os.getpid()} .* ledger\.path"):
            SqliteLedger(settings)
        assert (await accepted(sqlite, "a")).version == 0

    async def test_a_second_daemon_is_refused_and_told_who_has_it(
        self, sqlite: SqliteLedger, settings: LedgerSettings
    ) -> None:
        await accepted(sqlite, "a")
        script = (
            "import sys, pathlib\n"
            "from qcompute.ledger import open_ledger\n"
            "from qcompute.ledger.settings import LedgerSettings\n"
            "from qcompute.errors import ConfigError\n"
            "try: open_ledger(LedgerSettings(path=pathlib.Path(sys.argv[1])))\n"
            "except ConfigError as error: print(error)\n"
        )
        said = python_says("-c", script, str(settings.file))
        assert re.search(rf"Process {os.getpid()} .* ledger\.path", said)

    async def test_the_end_of_a_ledger_frees_it(self, settings: LedgerSettings) -> None:
        for _ in range(2):
            ledger = SqliteLedger(settings)
            await ledger.close()

    async def test_a_ledger_that_could_not_open_is_free(self, settings: LedgerSettings) -> None:
        settings.file.parent.mkdir()
        settings.file.write_text("not a database, but more than a few bytes of text " * 50)
        for _ in range(2):
            with pytest.raises(ConfigError, match=r"not a SQLite database.*ledger\.path"):
                SqliteLedger(settings)
        settings.file.unlink()
        await SqliteLedger(settings).close()


class TestKey:
    @pytest.fixture
    async def left(self, settings: LedgerSettings) -> LedgerSettings:
        """A closed ledger with one job whose circuit is not fetched yet and one further on."""
        ledger = SqliteLedger(settings)
        await accepted(ledger, "a")
        await brought_to(ledger, "b", State.SETTLED)
        await ledger.close()
        return settings

    async def test_a_lost_key_is_a_clear_error(self, left: LedgerSettings) -> None:
        key_of(left).unlink()
        with pytest.raises(ConfigError, match=r"\.key is missing.*ledger\.forget_unreadable_urls"):
            SqliteLedger(left)
        assert not key_of(left).exists()

    async def test_the_key_of_another_ledger_is_a_clear_error(self, left: LedgerSettings, tmp_path: Path) -> None:
        other = LedgerSettings(path=tmp_path / "other.sqlite3")
        await SqliteLedger(other).close()
        shutil.copy(key_of(other), key_of(left))
        with pytest.raises(ConfigError, match="not the one of this ledger"):
            SqliteLedger(left)

    async def test_the_jobs_of_a_lost_key_can_be_given_up(self, left: LedgerSettings) -> None:
        key_of(left).unlink()
        ledger = SqliteLedger(left.model_copy(update={"forget_unreadable_urls": True}))
        job = await ledger.get(ExecutionId("a"))
        assert job is not None
        assert job.input_data_url is None
        assert (await accepted(ledger, "c")).input_data_url == SIGNED_URL
        await ledger.close()
        await SqliteLedger(left).close()

    async def test_giving_up_keeps_a_key_that_fits(self, left: LedgerSettings) -> None:
        key = key_of(left).read_bytes()
        ledger = SqliteLedger(left.model_copy(update={"forget_unreadable_urls": True}))
        job = await ledger.get(ExecutionId("a"))
        assert job is not None
        assert job.input_data_url == SIGNED_URL
        await ledger.close()
        assert key_of(left).read_bytes() == key

    async def test_a_key_nothing_depends_on_is_made_anew(self, left: LedgerSettings) -> None:
        ledger = SqliteLedger(left)
        (job,) = await ledger.due(State.ACCEPTED, START_OF_TIME, 10)
        await ledger.save(job, replace(job, state=State.SETTLED, verdict=Verdict.FAILED))
        await ledger.close()
        key_of(left).unlink()
        ledger = SqliteLedger(left)
        assert (await accepted(ledger, "c")).input_data_url == SIGNED_URL
        await ledger.close()

    async def test_a_changed_ciphertext_fails_its_readers_only(
        self, left: LedgerSettings, caplog: pytest.LogCaptureFixture
    ) -> None:
        ledger = SqliteLedger(left)
        await accepted(ledger, "c")
        run_sql(left, "UPDATE jobs SET input_data_url = x'00' WHERE execution_id = 'c'")
        with pytest.raises(StoreError, match="decrypted"):
            await ledger.get(ExecutionId("c"))
        assert await ledger.get(ExecutionId("a")) is not None
        assert SIGNED_URL not in caplog.text
        await ledger.close()


class TestSchema:
    async def test_a_file_of_a_newer_version_is_refused_and_left_as_it_is(self, settings: LedgerSettings) -> None:
        await SqliteLedger(settings).close()
        run_sql(settings, "UPDATE alembic_version SET version_num = 'r9999'")
        before = settings.file.read_bytes()
        with pytest.raises(ConfigError, match=r"newer qcompute \(schema r9999.*ledger\.path"):
            SqliteLedger(settings)
        assert settings.file.read_bytes() == before

    async def test_a_database_of_another_program_is_refused(self, settings: LedgerSettings) -> None:
        settings.file.parent.mkdir()
        run_sql(settings, "CREATE TABLE jobs (id INTEGER)")
        with pytest.raises(ConfigError, match=r"another program.*ledger\.path"):
            SqliteLedger(settings)
        assert run_sql(settings, "SELECT name FROM sqlite_master") == [("jobs",)]

    async def test_an_older_file_is_upgraded_when_it_is_opened(
        self, settings: LedgerSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Against a later qcompute, with one more revision than this one has."""
        ledger = SqliteLedger(settings)
        job = await accepted(ledger, "a")
        await ledger.close()
        folder = tmp_path / "100% later"
        shutil.copytree(migrations.FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "versions" / "r9000_note.py").write_text(
            "import sqlalchemy as sa\nfrom alembic import op\n"
            f"revision = 'r9000'\ndown_revision = '{REVISIONS[-1]}'\n"
            "def upgrade():\n    op.add_column('jobs', sa.Column('note', sa.Text(), server_default='new'))\n"
        )
        monkeypatch.setattr(migrations, "FOLDER", folder)
        monkeypatch.setattr(opening, "REVISIONS", (*REVISIONS, "r9000"))
        ledger = SqliteLedger(settings)
        assert await ledger.get(job.execution_id) == job
        assert run_sql(settings, "SELECT note FROM jobs") == [("new",)]
        assert run_sql(settings, "SELECT version_num FROM alembic_version") == [("r9000",)]
        await ledger.close()

    async def test_a_file_of_the_first_schema_keeps_its_jobs(self, settings: LedgerSettings) -> None:
        """``jobs.prepared`` came with the clouds: jobs from before have none."""
        ledger = SqliteLedger(settings)
        before = await brought_to(ledger, "old-job", State.WAITING)
        await ledger.close()
        run_sql(settings, *BACK_TO_FIRST)
        ledger = SqliteLedger(settings)
        assert await ledger.get(before.execution_id) == before
        assert before.prepared is None
        await ledger.close()

    async def test_an_upgrade_that_fails_leaves_the_file_as_it_was(
        self, settings: LedgerSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await SqliteLedger(settings).close()
        folder = tmp_path / "broken"
        shutil.copytree(migrations.FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
        (folder / "versions" / "r9000_broken.py").write_text(
            "from alembic import op\n"
            f"revision = 'r9000'\ndown_revision = '{REVISIONS[-1]}'\n"
            "def upgrade():\n    op.drop_table('receipts')\n    op.drop_table('no such table')\n"
        )
        with monkeypatch.context() as later:
            later.setattr(migrations, "FOLDER", folder)
            later.setattr(opening, "REVISIONS", (*REVISIONS, "r9000"))
            with pytest.raises(StoreError):
                SqliteLedger(settings)
        ledger = SqliteLedger(settings)
        assert await ledger.receipt(ExecutionId("a")) is None
        await ledger.close()

    def test_the_revisions_lead_to_the_tables_the_code_knows(self) -> None:
        from alembic.autogenerate import compare_metadata  # noqa: PLC0415 - a test of the lazy import needs it unloaded
        from alembic.migration import MigrationContext  # noqa: PLC0415

        engine = create_engine("sqlite://")
        with engine.begin() as connection:
            migrations.upgrade(connection)
            # An index for Postgres alone, which tests/ledger/test_postgres_server.py looks for.
            context = MigrationContext.configure(connection, opts={"include_object": for_sqlite_too})
            assert compare_metadata(context, metadata) == []
            migrated = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()
        engine.dispose()
        engine = create_engine("sqlite://")
        with engine.begin() as connection:
            opening.upgrade(connection, opening.Where("a new file", "give another"))
            defined = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()
        engine.dispose()
        assert [(name, normal(sql)) for name, sql in migrated] == [(name, normal(sql)) for name, sql in defined]

    def test_the_newest_revision_is_listed_last(self) -> None:
        from alembic.script import ScriptDirectory  # noqa: PLC0415

        scripts = ScriptDirectory(str(migrations.FOLDER))
        assert tuple(reversed([script.revision for script in scripts.walk_revisions()])) == REVISIONS

    def test_opening_a_new_or_up_to_date_file_does_not_import_alembic(self, tmp_path: Path) -> None:
        script = (
            "import asyncio, pathlib, sys\n"
            "from qcompute.ledger import open_ledger\n"
            "from qcompute.ledger.settings import LedgerSettings\n"
            "ledger = open_ledger(LedgerSettings(path=pathlib.Path(sys.argv[1])))\n"
            "asyncio.run(ledger.close())\n"
            "print('alembic' in sys.modules)\n"
        )
        said = [python_says("-c", script, str(tmp_path / "ledger.sqlite3")) for _ in range(2)]
        assert said == ["False\n", "False\n"]


def for_sqlite_too(_thing: object, name: str | None, *_: object) -> bool:
    return name != "jobs_open"


def normal(sql: str | None) -> set[str] | None:
    """The pieces of a table's definition, whatever their order and spacing.

    SQLite writes an added column into the line of the one before it.
    """
    if sql is None:
        return None
    text = re.sub(r", (?=\w+ (?:TEXT|BIGINT|BLOB)\b[^()\n]*,)", ",\n", sql.replace("\t", " "))
    return {piece.strip(" \t\n()") for piece in re.split(r",\s*\n", text)}
