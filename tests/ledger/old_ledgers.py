"""Ledgers as earlier versions of qcompute wrote them, one for each schema before today's, with a job in every state.

They lie in ``data`` as SQL, with the key of their URLs (a throwaway). A new revision needs one more of them:
``python -m tests.ledger.old_ledgers`` writes those that are missing, and a test says so when one is.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

from qcompute.ledger import migrations
from qcompute.ledger.backup import key_file
from qcompute.ledger.schema import REVISIONS
from qcompute.ledger.secretbox import load_box
from qcompute.ledger.settings import LedgerSettings
from qcompute.ledger.sqlite import SqliteLedger
from qcompute.ledger.times import micros
from qcompute.units import utc_now
from tests.ledger.whole_jobs import one_in_each_state

DATA: Final = Path(__file__).parent / "data"
KEY: Final = DATA / "throwaway.key"

EARLIER: Final = REVISIONS[:-1]

PREPARED: Final = '{"measurement":null,"translation":null,"pack_index":null}'
"""What r0002 and later store with the mark of a paid call."""

BACK_TO_FIRST: Final = (
    "DROP TABLE charges",
    "DROP TABLE owners",
    "DROP INDEX jobs_parts",
    "DROP INDEX jobs_due",
    "CREATE INDEX jobs_due ON jobs (state, due_at, execution_id)",
    *(f"ALTER TABLE jobs DROP COLUMN {column}" for column in ("prepared", "lane", "placement", "parent_id")),
    "ALTER TABLE meta DROP COLUMN key_check",
    "UPDATE alembic_version SET version_num = 'r0001'",
)
"""Makes today's SQLite file one of the first schema."""

_TIMES: Final = (
    "received_at",
    "deadline_at",
    "due_at",
    "submit_started_at",
    "submitted_at",
    "cancel_requested_at",
    "settled_at",
    "closed_at",
)


def dump_of(revision: str) -> Path:
    """Where the ledger of a revision lies."""
    return DATA / f"{revision}.sql"


def lay_down(revision: str, ledger: Path, *, url: str | None = None) -> None:
    """Make the ledger of a revision as if it had been written now; ``url`` is where its circuits are fetched."""
    ledger.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(KEY, key_file(ledger))
    key_file(ledger).chmod(0o600)
    with closing(sqlite3.connect(ledger)) as connection, connection:
        connection.executescript(dump_of(revision).read_text())
        (written,) = connection.execute("SELECT max(received_at) FROM jobs").fetchone()
        shift = micros(utc_now()) - written
        connection.execute(f"UPDATE jobs SET {', '.join(f'{name} = {name} + {shift}' for name in _TIMES)}")  # noqa: S608
        connection.execute("UPDATE meta SET last_closed_at = (SELECT max(closed_at) FROM jobs)")
        box = load_box(key_file(ledger))
        if url is not None and box is not None:
            sealed = (box.seal(url),)
            connection.execute("UPDATE jobs SET input_data_url = ? WHERE input_data_url IS NOT NULL", sealed)
        connection.execute("PRAGMA journal_mode = WAL")
    ledger.chmod(0o600)


def _write(revision: str, folder: Path) -> None:
    """A ledger of today's, row by row in the tables of then."""
    today, then = folder / "today.sqlite3", folder / f"{revision}.sqlite3"
    if KEY.exists():
        shutil.copy(KEY, key_file(today))
        key_file(today).chmod(0o600)
    asyncio.run(_fill(today))
    shutil.copy(key_file(today), KEY)
    _create(then, revision)
    with closing(sqlite3.connect(then)) as connection:
        connection.execute("ATTACH ? AS today", (str(today),))
        tables = [name for (name,) in connection.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'")]
        for table in tables:
            columns = [row[1] for row in connection.execute(f"PRAGMA main.table_info({table})")]
            if table == "alembic_version":
                continue
            listed = ", ".join(columns)
            connection.execute(f"INSERT INTO main.{table} ({listed}) SELECT {listed} FROM today.{table}")  # noqa: S608
        if any(row[1] == "prepared" for row in connection.execute("PRAGMA main.table_info(jobs)")):
            connection.execute("UPDATE main.jobs SET prepared = ? WHERE submit_started_at IS NOT NULL", (PREPARED,))
        connection.commit()
        connection.execute("DETACH today")
        dump_of(revision).write_text("\n".join(connection.iterdump()) + "\n")


async def _fill(file: Path) -> None:
    ledger = SqliteLedger(LedgerSettings(path=file))
    await one_in_each_state(ledger)
    await ledger.close()


def _create(file: Path, revision: str) -> None:
    engine = create_engine(f"sqlite:///{file}")
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(migrations.FOLDER).replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


if __name__ == "__main__":
    DATA.mkdir(exist_ok=True)
    for missing in EARLIER:
        if not dump_of(missing).exists():
            with tempfile.TemporaryDirectory() as folder:
                _write(missing, Path(folder))
