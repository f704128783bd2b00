"""A ledger's way from its file to Postgres: everything arrives, once, wherever it is broken off."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from qcompute.console.__main__ import main
from qcompute.console.doctor import machine
from qcompute.console.doctor.findings import Level
from qcompute.console.exit_codes import ExitCode
from qcompute.errors import ConfigError, StoreError
from qcompute.ledger import move as moving
from qcompute.ledger import open_ledger, postgres_open
from qcompute.ledger.backup import key_file, make_backup
from qcompute.ledger.contract import Ledger
from qcompute.ledger.move import mark_database, move
from qcompute.ledger.moved import moved_file, moving_file
from qcompute.ledger.restore import floor_of, restore
from qcompute.ledger.settings import LedgerSettings
from qcompute.ledger.sqlite import SqliteLedger
from qcompute.miner.job import Charge, State
from qcompute.miner.router import token_of
from qcompute.protocol import FIRST_CURSOR
from qcompute.testing.ledger_records import SIGNED_URL
from qcompute.units import ExecutionId, Money, ProviderKey, utc_now
from tests.ledger.old_ledgers import lay_down
from tests.ledger.postgres_server import empty_database, shared_server
from tests.ledger.whole_jobs import one_in_each_state, whole_job

ACCOUNT = ProviderKey("mock")
SKEW = 10.0


@pytest.fixture
def database() -> Iterator[str]:
    """An empty database's name."""
    with empty_database() as name:
        yield name


@pytest.fixture
def target(settings: LedgerSettings, database: str) -> LedgerSettings:
    """Where the ledger of ``settings`` is moved to."""
    return settings.model_copy(update={"url": SecretStr(shared_server().url(database))})


@pytest.fixture
async def told(settings: LedgerSettings) -> dict[str, Any]:
    """What a file with a job in every state said when its daemon stopped."""
    ledger = SqliteLedger(settings)
    waiting = (await one_in_each_state(ledger))[State.WAITING]
    await ledger.save(waiting, waiting, charge=Charge(ACCOUNT, Money(Decimal("0.30"), "USD"), utc_now()))
    facts = await all_of(ledger)
    await ledger.close()
    return facts


async def all_of(ledger: Ledger) -> dict[str, Any]:
    """All that a ledger says of its jobs; cursors and URLs in the clear among it."""
    facts: dict[str, Any] = {
        "page": await ledger.finished_after(FIRST_CURSOR, 10),
        "states": await ledger.count_by_state(),
        "validators": await ledger.open_by_validator(),
        "open charges": await ledger.open_charges(ACCOUNT),
        "charges": await ledger.charged_by_day(ACCOUNT, utc_now() - timedelta(days=2)),
    }
    for name in (ExecutionId(f"job-{state}") for state in State):
        facts[name] = await ledger.get(name)
        facts[f"{name}'s"] = [await ledger.circuit(name), await ledger.outcome(name), await ledger.receipt(name)]
    return facts


async def reopened(settings: LedgerSettings) -> dict[str, Any]:
    ledger = open_ledger(settings)
    try:
        return await all_of(ledger)
    finally:
        await ledger.close()


async def test_the_database_says_what_the_file_said(
    settings: LedgerSettings, target: LedgerSettings, told: dict[str, Any]
) -> None:
    moved = move(target)
    assert moved.aside == moved_file(settings.file)
    assert moved.rows == {
        "jobs": 7,
        "circuits": 6,
        "outcomes": 2,
        "receipts": 2,
        "nonces": 7,
        "used_nonces": 0,
        "charges": 1,
    }
    assert await reopened(target) == told
    assert told["job-accepted"].input_data_url == SIGNED_URL


async def test_validators_go_on_where_they_were(target: LedgerSettings, told: dict[str, Any]) -> None:
    move(target)
    ledger = open_ledger(target)
    closed = await whole_job(ledger, "later", State.CLOSED)
    page = await ledger.finished_after(told["page"].cursor, 10)
    await ledger.close()
    assert [job.execution_id for job in page.jobs] == ["later"]
    assert closed.cursor_seq == 2


@pytest.mark.usefixtures("told")
def test_the_file_is_nobody_s_any_more(settings: LedgerSettings, target: LedgerSettings) -> None:
    """A daemon whose operator forgot ledger.url would pay for every open job again, or know of none."""
    move(target)
    with pytest.raises(ConfigError, match=r"was moved to Postgres: set ledger\.url"):
        open_ledger(settings)
    assert not settings.file.exists()
    assert "was moved to Postgres" in machine.ledger(settings).words
    assert machine.ledger(target).level is Level.OK
    with pytest.raises(ConfigError, match="was moved before"):
        move(target)
    moved_file(settings.file).rename(settings.file.with_name("elsewhere"))
    assert f"there is no ledger {settings.file} to move" in move_refused(target)


def move_refused(target: LedgerSettings) -> str:
    with pytest.raises(ConfigError) as refused:
        move(target)
    return str(refused.value)


@pytest.mark.usefixtures("told")
async def test_an_earlier_version_s_file_is_brought_up_to_date(target: LedgerSettings) -> None:
    key_file(target.file).unlink()
    target.file.unlink()
    lay_down("r0001", target.file)
    assert move(target).rows["jobs"] > 0
    assert (await reopened(target))["states"][State.HELD] > 0


KILLED = """
import os, signal, sys
from pydantic import SecretStr
from pathlib import Path
from qcompute.ledger import move as moving
from qcompute.ledger.settings import LedgerSettings

def die(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)

setattr(moving, sys.argv[1], die)
moving.move(LedgerSettings(path=Path(sys.argv[2]), url=SecretStr(sys.argv[3])))
"""


@pytest.mark.parametrize("where", ["_require_empty", "_copied", "_compared", "_ended"])
async def test_a_second_run_ends_what_a_kill_broke_off(
    where: str, settings: LedgerSettings, target: LedgerSettings, told: dict[str, Any]
) -> None:
    """At no moment may a daemon start on both, and at none is there no way on."""
    assert target.url is not None
    command = [sys.executable, "-c", KILLED, where, str(settings.file), target.url.get_secret_value()]
    killed = await asyncio.create_subprocess_exec(*command)
    assert await killed.wait() == -signal.SIGKILL
    if where == "_require_empty":
        assert await reopened(settings) == told  # nothing was begun
    else:
        for either in (settings, target):
            with pytest.raises(ConfigError, match="run `qcompute ledger move` again"):
                open_ledger(either)
    again = move(target)
    assert bool(again.rows) == (where != "_ended")
    assert await reopened(target) == told


async def test_a_database_that_breaks_leaves_the_file_as_it_was(
    settings: LedgerSettings,
    target: LedgerSettings,
    database: str,
    told: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared = moving._compared

    def cut_off(table: Any, here: sqlite3.Connection, driver: psycopg.Connection[Any]) -> int:
        pid = driver.info.backend_pid
        shared_server().run_sql("postgres", f"SELECT pg_terminate_backend({pid}, 5000)")
        return compared(table, here, driver)

    monkeypatch.setattr(moving, "_compared", cut_off)
    with pytest.raises(StoreError, match="connection broke"):
        move(target)
    monkeypatch.undo()
    assert await reopened(settings) == told
    assert shared_server().run_sql(database, "SELECT count(*) FROM jobs") == [(0,)]
    assert move(target).rows["jobs"] == 7


async def test_a_row_that_arrives_changed_is_seen(
    settings: LedgerSettings, target: LedgerSettings, told: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = moving._copy

    def changed(table: Any, here: sqlite3.Connection, driver: psycopg.Connection[Any]) -> None:
        copy(table, here, driver)
        driver.execute("UPDATE jobs SET shots = shots + 1 WHERE execution_id = 'job-held'")

    monkeypatch.setattr(moving, "_copy", changed)
    with pytest.raises(StoreError, match="table jobs did not arrive as it was sent"):
        move(target)
    assert await reopened(settings) == told


@pytest.mark.usefixtures("told")
async def test_two_ledgers_do_not_become_one(settings: LedgerSettings, target: LedgerSettings, tmp_path: Path) -> None:
    other = target.model_copy(update={"path": tmp_path / "other" / "ledger.sqlite3", "key_file": settings.key})
    ledger = open_ledger(other)
    await whole_job(ledger, "theirs", State.READY)
    await ledger.close()
    assert "has a ledger already (rows in jobs, circuits, nonces)" in move_refused(target)
    assert settings.file.exists()
    assert not moving_file(settings.file).exists()


@pytest.mark.usefixtures("told")
def test_a_key_of_another_ledger_is_not_taken_for_this_one_s(
    settings: LedgerSettings, target: LedgerSettings, tmp_path: Path
) -> None:
    elsewhere = target.model_copy(update={"key_file": tmp_path / "shared.key"})
    (tmp_path / "shared.key").write_bytes(Fernet.generate_key())
    (tmp_path / "shared.key").chmod(0o600)
    assert "is the key of another ledger" in move_refused(elsewhere)
    shutil.copy(tmp_path / "shared.key", key_file(settings.file))
    assert "is this ledger's key, and jobs wait" in move_refused(elsewhere)


async def test_the_key_is_put_where_the_settings_have_it(
    settings: LedgerSettings, target: LedgerSettings, told: dict[str, Any], tmp_path: Path
) -> None:
    elsewhere = target.model_copy(update={"key_file": tmp_path / "shared.key"})
    move(elsewhere)
    assert (tmp_path / "shared.key").read_bytes() == key_file(settings.file).read_bytes()
    assert await reopened(elsewhere) == told


@pytest.mark.usefixtures("told")
def test_the_command_says_what_it_did(
    settings: LedgerSettings,
    target: LedgerSettings,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert target.url is not None
    line = ["ledger", "move", "--ledger.path", str(settings.file)]
    assert main(line) == ExitCode.USAGE
    assert "needs the database: name it with ledger.url" in capsys.readouterr().err
    monkeypatch.setenv("QCOMPUTE_LEDGER__URL", target.url.get_secret_value())
    assert main([*line, "--json"]) == ExitCode.DONE
    said = json.loads(capsys.readouterr().out)
    assert (said["aside"], said["rows"]["jobs"]) == (str(moved_file(settings.file)), 7)
    assert main(["ledger", "mark-restored", "--ledger.path", str(settings.file)]) == ExitCode.DONE
    assert "4 jobs may have been submitted since" in capsys.readouterr().out


@pytest.mark.usefixtures("told")
def test_a_damaged_file_is_not_moved(
    settings: LedgerSettings,
    target: LedgerSettings,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with closing(sqlite3.connect(settings.file)) as connection, connection:
        connection.execute("UPDATE jobs SET configuration_data = 'no json' WHERE execution_id = 'job-held'")
    assert target.url is not None
    monkeypatch.setenv("QCOMPUTE_LEDGER__URL", target.url.get_secret_value())
    assert main(["ledger", "move", "--ledger.path", str(settings.file)]) == ExitCode.FAILED
    assert "is not sound; nothing was changed" in capsys.readouterr().err
    assert settings.file.exists()


class TestMarkRestored:
    @pytest.mark.usefixtures("told")
    async def test_a_dump_put_back_is_marked_as_a_copy_of_a_file_is(
        self, settings: LedgerSettings, target: LedgerSettings, tmp_path: Path
    ) -> None:
        """Without it a job submitted since the dump was made was submitted, and paid for, once more."""
        make_backup(settings.file, tmp_path / "copy")
        now = utc_now()
        restored = restore(tmp_path / "copy", settings.file, token_of=token_of, now=now, ahead_seconds=SKEW)
        marked_file = await reopened(settings)
        settings.file.unlink()
        shutil.copy(tmp_path / "copy", settings.file)
        move(target)
        marked = mark_database(target, token_of, floor_of(now, SKEW))
        assert marked == restored.marked
        assert marked.to_look_for == 4
        assert await reopened(target) == marked_file
        assert marked_file["job-submitting"].prepared == {"restored": True}

    @pytest.mark.usefixtures("told")
    async def test_it_is_refused_while_a_daemon_works(
        self, target: LedgerSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        move(target)
        monkeypatch.setattr(postgres_open, "LOCK_WAIT_SECONDS", 0.2)
        daemon = open_ledger(target, shared=True)
        with pytest.raises(ConfigError, match="already works on the ledger"):
            mark_database(target, token_of, 0)
        await daemon.close()
