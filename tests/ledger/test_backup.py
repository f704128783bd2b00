"""Copies of a ledger: whole, checked, and put back without paying twice."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from qcompute.errors import ConfigError, StoreError
from qcompute.ledger.backup import key_file, make_backup
from qcompute.ledger.check import MOST_TOLD, check_ledger
from qcompute.ledger.contract import Intake
from qcompute.ledger.restore import Restored, restore
from qcompute.ledger.schema import REVISIONS
from qcompute.ledger.settings import LedgerSettings
from qcompute.ledger.sqlite import SqliteLedger
from qcompute.miner.job import NOBODYS_LANE, Job, State
from qcompute.miner.router import token_of
from qcompute.protocol import FIRST_CURSOR
from qcompute.testing.ledger_records import new_job, nonce
from qcompute.units import utc_now
from tests.ledger.database_side import run_sql
from tests.ledger.old_ledgers import BACK_TO_FIRST
from tests.ledger.whole_jobs import SIGNER, one_in_each_state, whole_job

SKEW = 10.0


@pytest.fixture
def settings(tmp_path: Path) -> LedgerSettings:
    return LedgerSettings(path=tmp_path / "data" / "ledger.sqlite3")


@pytest.fixture
async def live(settings: LedgerSettings) -> AsyncIterator[SqliteLedger]:
    """A ledger that is in use, with a job in every state."""
    ledger = SqliteLedger(settings)
    await one_in_each_state(ledger)
    yield ledger
    await ledger.close()


@pytest.fixture
async def copy(live: SqliteLedger, settings: LedgerSettings, tmp_path: Path) -> Path:
    """A copy of it, its log folded in; the ledger is closed."""
    target = tmp_path / "copy.sqlite3"
    make_backup(settings.file, target)
    await live.close()
    return target


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file())


def change(file: Path, statement: str) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(statement)


async def every_job(ledger: SqliteLedger) -> dict[str, Job]:
    far = datetime(2100, 1, 1, tzinfo=UTC)
    found = [
        await ledger.due(state, far, 1000, lane=lane)
        for state in State
        for lane in {NOBODYS_LANE, *await ledger.lanes(state)}
    ]
    return {job.execution_id: job for jobs in found for job in jobs}


class TestBackup:
    async def test_the_copy_of_a_ledger_in_use_has_every_row(
        self, live: SqliteLedger, settings: LedgerSettings, tmp_path: Path
    ) -> None:
        target = tmp_path / "copy.sqlite3"
        made = await asyncio.to_thread(make_backup, settings.file, target)
        expected = await every_job(live)
        assert made.rows["jobs"] == len(State)
        assert (made.revision, made.size_bytes) == (REVISIONS[-1], target.stat().st_size)
        opened = SqliteLedger(LedgerSettings(path=target))
        assert await every_job(opened) == expected
        await opened.close()

    def test_it_is_for_its_owner_alone_and_nothing_else_is_left(self, copy: Path) -> None:
        assert [name for name in files(copy.parent) if name.startswith("copy")] == [copy.name, key_file(copy).name]
        for file in (copy, key_file(copy)):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600

    async def test_a_copy_that_is_there_is_replaced_only_by_force(
        self, live: SqliteLedger, settings: LedgerSettings, tmp_path: Path
    ) -> None:
        target = tmp_path / "copy.sqlite3"
        target.write_text("precious")
        with pytest.raises(ConfigError, match="--force"):
            make_backup(settings.file, target)
        assert target.read_text() == "precious"
        await live.count_by_state()
        assert make_backup(settings.file, target, force=True).rows["jobs"] == len(State)

    def test_the_ledger_itself_is_no_place_for_its_copy(self, copy: Path) -> None:
        with pytest.raises(ConfigError, match="the ledger itself"):
            make_backup(copy, copy, force=True)

    @pytest.mark.parametrize("target", ["missing/copy.sqlite3", "data/ledger.sqlite3.key/copy"])
    async def test_a_place_that_cannot_be_written_is_named(
        self, live: SqliteLedger, settings: LedgerSettings, tmp_path: Path, target: str
    ) -> None:
        await live.count_by_state()
        with pytest.raises(ConfigError, match=r"cannot be written"):
            make_backup(settings.file, tmp_path / target)

    def test_a_damaged_ledger_gives_no_copy(self, copy: Path, tmp_path: Path) -> None:
        damage(copy)
        target = tmp_path / "second.sqlite3"
        with pytest.raises(StoreError):
            make_backup(copy, target)
        assert [name for name in files(tmp_path) if name.startswith("second")] == []

    async def test_a_copy_taken_between_commits_is_of_one_moment(
        self, settings: LedgerSettings, tmp_path: Path
    ) -> None:
        """Copying page by page begins anew at every commit of another, and of a busy ledger there was no copy."""
        ledger = SqliteLedger(settings)
        ended = asyncio.Event()

        async def keep_writing() -> int:
            number = 0
            while not ended.is_set():
                await whole_job(ledger, f"job-{number}", State.CLOSED)
                number += 1
            return number

        writing = asyncio.create_task(keep_writing())
        rows = [
            (await asyncio.to_thread(make_backup, settings.file, tmp_path / f"copy-{number}.sqlite3")).rows["jobs"]
            for number in range(10)
        ]
        ended.set()
        assert await writing >= rows[-1]
        assert rows == sorted(rows)
        await ledger.close()
        for number in range(10):
            report = check_ledger(tmp_path / f"copy-{number}.sqlite3")
            # A job in the middle of its road lacks nothing that its state says it has.
            assert report.problems == []


def damage(file: Path) -> None:
    """Overwrite a page in the middle."""
    content = bytearray(file.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 4096] = b"\xa5" * 4096
    file.write_bytes(content)


class TestCheck:
    async def test_a_ledger_in_use_is_sound(self, live: SqliteLedger, settings: LedgerSettings) -> None:
        report = await asyncio.to_thread(check_ledger, settings.file, hotkey=SIGNER.hotkey)
        assert report.problems == []
        assert report.states == {state.value: 1 for state in State}
        assert report.signers == {SIGNER.hotkey: 2}
        assert (await live.count_by_state())[State.HELD] == 1

    @pytest.mark.parametrize(
        ("statement", "problem"),
        [
            ("DELETE FROM receipts WHERE execution_id = 'job-closed'", "job-closed: it has ended and has no receipt"),
            ("DELETE FROM outcomes WHERE execution_id = 'job-settled'", "job-settled: it has ended and has no outcome"),
            ("DELETE FROM circuits WHERE execution_id = 'job-ready'", "job-ready: it is ready and has no circuit"),
            ("UPDATE circuits SET text = 'other' WHERE execution_id = 'job-ready'", "not the one that was downloaded"),
            ("UPDATE jobs SET token = NULL WHERE state = 'submitting'", "has no provider, device or token"),
            ("UPDATE jobs SET handle = NULL WHERE state = 'waiting'", "waits for a vendor's job"),
            ("UPDATE jobs SET verdict = 'failed' WHERE state = 'ready'", "has a verdict before it has ended"),
            ("UPDATE jobs SET verdict = NULL WHERE state = 'settled'", "has ended and has no verdict"),
            ("UPDATE jobs SET shots = 101 WHERE state = 'closed'", "another number of shots than its row"),
            ("UPDATE jobs SET device_id = 'b' WHERE state = 'closed'", "another device than its row"),
            ('UPDATE outcomes SET counts = \'{"0":60,"1":41}\'', "do not add up"),
            ('UPDATE outcomes SET counts = \'{"0":"many"}\'', "cannot be read"),
            ("UPDATE outcomes SET timestamps = '{'", "cannot be read"),
            ("UPDATE jobs SET configuration_data = 'x' WHERE state = 'held'", "job-held: it cannot be read"),
            ("UPDATE jobs SET due_at = 'soon' WHERE state = 'held'", "a number in its row is no number"),
            ("UPDATE jobs SET due_at = 9000000000000000 WHERE state = 'held'", "its due_at is 2255"),
            ("UPDATE jobs SET input_data_url = x'00' WHERE state = 'accepted'", "cannot be opened with this key"),
            ("UPDATE jobs SET input_data_url = x'00' WHERE state = 'closed'", "its URL was not wiped"),
            ("UPDATE jobs SET closed_at = 9, cursor_seq = 7 WHERE state = 'closed'", "lies before a closed job"),
            ("DELETE FROM meta", "no name of its own"),
            ("UPDATE nonces SET value_ns = 9000000000000000000", "rows of nonces hold no time"),
            ("INSERT INTO receipts VALUES ('nobody', '{}')", "a row of receipts belongs to no job"),
            ("UPDATE receipts SET document = replace(document, '100', '200')", "its receipt does not verify"),
        ],
    )
    def test_what_is_wrong_is_named(self, copy: Path, statement: str, problem: str) -> None:
        change(copy, statement)
        report = check_ledger(copy)
        assert problem in "\n".join(report.problems)

    def test_an_order_in_which_validators_would_miss_jobs_is_named(self, copy: Path) -> None:
        with closing(sqlite3.connect(copy)) as connection, connection:
            names = [str(row[1]) for row in connection.execute("PRAGMA table_info(jobs)")]
            columns = ", ".join(names)
            for seq, closed_at in ((3, "closed_at + 2"), (4, "closed_at - 5")):
                values = [
                    {"execution_id": f"'more-{seq}'", "cursor_seq": str(seq), "closed_at": closed_at}.get(name, name)
                    for name in names
                ]
                connection.execute(
                    f"INSERT INTO jobs ({columns}) SELECT {', '.join(values)} FROM jobs "  # noqa: S608 - a test's own
                    "WHERE execution_id = 'job-closed'"
                )
        problems = "\n".join(check_ledger(copy).problems)
        assert "between the closed jobs 1 and 3 numbers are missing" in problems
        assert "closed job 4 is older than the one before it" in problems

    def test_receipts_of_somebody_else_are_named(self, copy: Path) -> None:
        assert "not by 5Other" in "\n".join(check_ledger(copy, hotkey="5Other").problems)

    def test_a_lost_key_and_an_open_file_are_named(self, copy: Path) -> None:
        key_file(copy).unlink()
        copy.chmod(0o644)
        problems = "\n".join(check_ledger(copy).problems)
        assert "the key file is missing" in problems
        assert f"chmod 600 {copy}" in problems

    @pytest.mark.parametrize("harm", ["page", "cut", "text", "header"])
    def test_a_damaged_file_is_told_and_raises_nothing(self, copy: Path, harm: str) -> None:
        harms: dict[str, Callable[[], object]] = {
            "page": lambda: damage(copy),
            "cut": lambda: copy.write_bytes(copy.read_bytes()[: copy.stat().st_size // 2]),
            "text": lambda: copy.write_text("no database " * 500),
            "header": lambda: copy.write_bytes(b"\0" * 100 + copy.read_bytes()[100:]),
        }
        harms[harm]()
        report = check_ledger(copy)
        assert not report.is_sound
        assert not report.is_database

    def test_an_empty_file_is_no_ledger(self, copy: Path) -> None:
        copy.write_bytes(b"")
        with pytest.raises(ConfigError, match="is empty: the first start of the daemon makes the ledger"):
            check_ledger(copy)

    def test_many_problems_of_a_kind_are_counted_not_listed(self, copy: Path) -> None:
        with closing(sqlite3.connect(copy)) as connection, connection:
            connection.execute("PRAGMA foreign_keys = OFF")
            connection.executemany("INSERT INTO receipts VALUES (?, '{}')", [(f"x{n}",) for n in range(50)])
        assert len(check_ledger(copy).problems) == MOST_TOLD + 1

    def test_another_program_s_database_and_a_newer_one_are_refused(self, copy: Path, tmp_path: Path) -> None:
        other = tmp_path / "other.sqlite3"
        change(other, "CREATE TABLE executions (id)")
        with pytest.raises(ConfigError, match="no ledger of qcompute"):
            check_ledger(other)
        change(copy, "UPDATE alembic_version SET version_num = 'r9999'")
        with pytest.raises(ConfigError, match=r"newer qcompute \(schema r9999"):
            check_ledger(copy)


class TestRestore:
    def put_back(self, copy: Path, settings: LedgerSettings) -> Restored:
        return restore(copy, settings.file, token_of=token_of, now=utc_now(), ahead_seconds=SKEW)

    async def test_every_job_not_yet_at_its_vendor_may_have_been_submitted_since(
        self, copy: Path, settings: LedgerSettings
    ) -> None:
        assert self.put_back(copy, settings).marked.to_look_for == 4
        ledger = SqliteLedger(settings)
        jobs = await every_job(ledger)
        for state in (State.ACCEPTED, State.READY, State.SUBMITTING):
            job = jobs[f"job-{state}"]
            assert (job.submit_started_at, job.token) == (job.received_at, token_of(job)), state
            assert (job.prepared or {})["restored"], state
        held = jobs["job-held"]
        assert held.submit_started_at is not None
        assert held.prepared == {"restored": True}
        for state in (State.WAITING, State.SETTLED, State.CLOSED):
            assert jobs[f"job-{state}"].prepared is None, state
        assert jobs["job-accepted"].input_data_url is not None
        await ledger.close()

    async def test_a_copy_of_a_restored_ledger_can_be_restored_too(
        self, copy: Path, settings: LedgerSettings, tmp_path: Path
    ) -> None:
        self.put_back(copy, settings)
        make_backup(settings.file, tmp_path / "second")
        assert self.put_back(tmp_path / "second", settings).marked.to_look_for == 4
        assert check_ledger(settings.file).problems == []

    async def test_a_job_seen_absent_once_before_the_copy_is_looked_for_as_often_again(
        self, live: SqliteLedger, settings: LedgerSettings, tmp_path: Path
    ) -> None:
        job = await whole_job(live, "looked-for", State.SUBMITTING)
        written_down = {"measurement": None, "pack_index": None}
        await live.save(job, replace(job, attempts=1, submit_started_at=utc_now(), prepared=written_down))
        make_backup(settings.file, tmp_path / "copy")
        await live.close()
        self.put_back(tmp_path / "copy", settings)
        ledger = SqliteLedger(settings)
        found = await ledger.get(job.execution_id)
        assert found is not None
        assert found.attempts == 0
        assert found.prepared == written_down | {"restored": True}
        await ledger.close()

    async def test_requests_from_before_the_restore_are_refused_and_later_ones_taken(
        self, copy: Path, settings: LedgerSettings
    ) -> None:
        """Nonces used since the copy are not in it: each such request could be sent, and paid for, again."""
        before = utc_now()
        self.put_back(copy, settings)
        ledger = SqliteLedger(settings)

        def at(seconds: float) -> int:
            return int((before.timestamp() + seconds) * 1e9)

        for seconds in (-1.0, SKEW - 0.1):
            for growing in (True, False):
                use = nonce(at(seconds), scope=f"{seconds} {growing}", strictly_growing=growing)
                assert await ledger.accept(new_job(f"again-{seconds}"), use) is Intake.REPLAYED
        late = at(SKEW + 60)
        assert await ledger.accept(new_job("late"), nonce(late, scope="late")) is Intake.ACCEPTED
        assert await ledger.use_nonce(nonce(late, strictly_growing=False))
        await ledger.forget_nonces(at(SKEW + 30))
        assert await ledger.use_nonce(nonce(at(-1.0), scope="a day later"))
        await ledger.close()

    async def test_the_replaced_ledger_is_kept_and_its_log_does_not_meet_the_new_file(
        self, copy: Path, settings: LedgerSettings
    ) -> None:
        ledger = SqliteLedger(settings)
        await whole_job(ledger, "since-the-copy", State.READY)
        await ledger.close()
        # As a killed daemon leaves it: commits in the log only.
        with closing(sqlite3.connect(settings.file)) as killed:
            killed.execute("PRAGMA wal_autocheckpoint = 0")
            killed.execute("UPDATE jobs SET error = 'in the log' WHERE execution_id = 'since-the-copy'")
            killed.commit()
            kept = {name: (settings.file.parent / name).read_bytes() for name in files(settings.file.parent)}
        for name, content in kept.items():
            (settings.file.parent / name).write_bytes(content)
        assert settings.file.with_name("ledger.sqlite3-wal").stat().st_size > 0

        aside = self.put_back(copy, settings).aside
        assert aside is not None
        assert aside.name.startswith("ledger.sqlite3.before-restore-2")
        old, new = SqliteLedger(LedgerSettings(path=aside)), SqliteLedger(settings)
        since = (await every_job(old))["since-the-copy"]
        assert since.error == "in the log"
        assert "since-the-copy" not in await every_job(new)
        await old.close()
        await new.close()

    async def test_a_damaged_ledger_can_be_replaced(self, copy: Path, settings: LedgerSettings) -> None:
        settings.file.write_text("no database any more " * 500)
        aside = self.put_back(copy, settings).aside
        assert aside is not None
        assert aside.read_text().startswith("no database")
        ledger = SqliteLedger(settings)
        assert len(await every_job(ledger)) == len(State)
        await ledger.close()

    async def test_a_lost_ledger_comes_back_with_its_key(self, copy: Path, settings: LedgerSettings) -> None:
        shutil.rmtree(settings.file.parent)
        settings.file.parent.mkdir()
        assert self.put_back(copy, settings).aside is None
        assert files(settings.file.parent) == ["ledger.sqlite3", "ledger.sqlite3.key"]
        ledger = SqliteLedger(settings)
        assert (await every_job(ledger))["job-accepted"].input_data_url is not None
        await ledger.close()

    async def test_a_key_that_does_not_fit_changes_nothing(
        self, copy: Path, settings: LedgerSettings, tmp_path: Path
    ) -> None:
        other = LedgerSettings(path=tmp_path / "other.sqlite3")
        await SqliteLedger(other).close()
        shutil.copy(key_file(other.file), key_file(copy))
        shutil.copy(key_file(other.file), key_file(settings.file))
        before = settings.file.read_bytes()
        with pytest.raises(ConfigError, match="is not the key of this copy"):
            self.put_back(copy, settings)
        assert settings.file.read_bytes() == before
        assert not [name for name in files(settings.file.parent) if "partial" in name or "before" in name]

    @pytest.mark.parametrize("lost", ["the copy's", "both"])
    async def test_with_the_key_lost_only_urls_can_be_given_up(
        self, copy: Path, settings: LedgerSettings, lost: str
    ) -> None:
        key_file(copy).unlink()
        if lost == "both":
            key_file(settings.file).unlink()
            with pytest.raises(ConfigError, match=r"ledger\.forget_unreadable_urls"):
                self.put_back(copy, settings)
        restore(copy, settings.file, token_of=token_of, now=utc_now(), ahead_seconds=SKEW, forget_urls=True)
        ledger = SqliteLedger(settings)
        jobs = await every_job(ledger)
        assert len(jobs) == len(State)
        assert (jobs["job-accepted"].input_data_url is None) is (lost == "both")
        await ledger.close()

    async def test_validators_miss_nothing_after_a_restore(
        self, live: SqliteLedger, settings: LedgerSettings, tmp_path: Path
    ) -> None:
        """A cursor from after the copy points behind the jobs that now come to the same places."""
        make_backup(settings.file, tmp_path / "copy")
        await whole_job(live, "gone", State.CLOSED)
        cursor = (await live.finished_after(FIRST_CURSOR, 10)).cursor
        await live.close()
        self.put_back(tmp_path / "copy", settings)
        ledger = SqliteLedger(settings)
        await whole_job(ledger, "new", State.CLOSED)
        assert [job.execution_id for job in (await ledger.finished_after(cursor, 10)).jobs] == ["new"]
        await ledger.close()

    @pytest.mark.usefixtures("live")
    def test_an_old_copy_is_upgraded(self, settings: LedgerSettings, tmp_path: Path) -> None:
        copy = tmp_path / "copy"
        make_backup(settings.file, copy)
        for statement in BACK_TO_FIRST:
            change(copy, statement)
        assert check_ledger(copy).problems == []
        target = LedgerSettings(path=tmp_path / "back" / "ledger.sqlite3")
        target.file.parent.mkdir()
        assert self.put_back(copy, target).marked.to_look_for == 4
        assert run_sql(target, "SELECT version_num FROM alembic_version") == [(REVISIONS[-1],)]
        assert check_ledger(target.file, now=utc_now() + timedelta(seconds=1)).problems == []
