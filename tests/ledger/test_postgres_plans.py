"""No statement of the ledger reads a whole table of Postgres, however long its history."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import ClauseElement, Connection
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from qcompute.ledger import statements
from qcompute.ledger.operations import Recount
from qcompute.ledger.postgres import PostgresLedger
from qcompute.ledger.postgres_connect import connection_parameters, writing_engine
from qcompute.ledger.settings import LedgerSettings
from qcompute.testing.ledger_records import SetClock
from tests.ledger.database_side import SqlLog
from tests.ledger.postgres_server import own_ledger_database, shared_server
from tests.ledger.test_sqlite_plans import use_every_method

ROWS = 20_000

FILL = (
    (
        "INSERT INTO jobs (execution_id, validator_hotkey, shots, configuration_data, received_at, deadline_at, "
        "due_at, state, verdict, version, attempts, submit_attempts, closed_at, cursor_seq) "
        "SELECT 'old' || n, 'hotkey' || n % 50, 100, '{{}}', n, n, n, "
        "CASE WHEN n <= {half} THEN 'closed' ELSE 'waiting' END, CASE WHEN n <= {half} THEN 'succeeded' END, 1, 0, 0, "
        "CASE WHEN n <= {half} THEN n END, CASE WHEN n <= {half} THEN n END FROM generate_series(1, {rows}) n"
    ),
    "INSERT INTO meta VALUES (1, 'abcdef', {half}, {half})",
    "INSERT INTO circuits SELECT execution_id, 'text' FROM jobs",
    "INSERT INTO receipts SELECT execution_id, 'text' FROM jobs",
    (
        "INSERT INTO outcomes (execution_id, cost_kind, timestamps, metadata) "
        "SELECT execution_id, 'unknown', '', '' FROM jobs"
    ),
    "INSERT INTO nonces SELECT 'hotkey', 'scope' || n, n FROM generate_series(1, {rows}) n",
    "INSERT INTO used_nonces SELECT 'hotkey', 'scope', n FROM generate_series(1, {rows}) n",
    (
        "INSERT INTO charges SELECT 'old' || n, 'mock', '1', 'USD', n, CASE WHEN n <= {half} THEN n END "
        "FROM generate_series(1, {rows}) n"
    ),
)
WHOLE = "Seq Scan on (?!meta)"
"""``meta`` is one row."""

BY_THEIR_INDEX = {"jobs.cancel_requested_at IS NULL": "jobs_due", "UPDATE jobs SET due_at": "jobs_pkey"}
"""What runs for every poll of a hundred thousand jobs: which are to be asked for, and those that wait on."""


@pytest.fixture
def own(tmp_path: Path) -> Iterator[LedgerSettings]:
    with own_ledger_database() as name:
        yield LedgerSettings(path=tmp_path / "l.sqlite3", url=SecretStr(shared_server().url(name)))


@pytest.fixture
def full(own: LedgerSettings) -> LedgerSettings:
    """A database with a long history."""
    assert own.url is not None
    name = own.url.get_secret_value().rpartition("/")[2]
    shared_server().run_sql(name, *(statement.format(rows=ROWS, half=ROWS // 2) for statement in FILL))
    return own


async def statements_of(ledger: PostgresLedger, clock: SetClock, sql: SqlLog) -> dict[str, Any]:
    """Every statement of every method, with parameters."""
    sql.clear()
    await use_every_method(ledger, clock)
    await ledger._writer.do(Recount())
    left_out = ("BEGIN", "pg_notify", "pg_try_advisory", "pg_catalog", "set_config")
    return {
        statement: parameters
        for statement, parameters in sql.statements
        if not any(words in statement for words in left_out)
    }


@pytest.mark.parametrize("analysed", [True, False])
async def test_no_statement_reads_a_whole_table(
    full: LedgerSettings, clock: SetClock, sql: SqlLog, *, analysed: bool
) -> None:
    """Neither with the table's figures nor without them, as when it grew since the server last looked."""
    ledger = PostgresLedger(full, clock)
    asked = await statements_of(ledger, clock, sql)
    await ledger.close()
    assert len(asked) >= 20, "each method's statements were seen"
    engine = writing_engine(connection_parameters(full), full)
    with engine.connect() as connection:
        if analysed:
            connection.exec_driver_sql("ANALYZE")
        plans = {
            statement: "\n".join(connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).scalars())
            for statement, parameters in asked.items()
        }
        connection.rollback()
    for words, index in BY_THEIR_INDEX.items():
        (plan,) = [plan for statement, plan in plans.items() if words in statement]
        assert re.search(rf"Index Scan.* {index}\b", plan), plan
    for statement, plan in plans.items():
        assert not re.search(WHOLE, plan), f"{statement}\n{plan}"
        # With no filter on the index it would be read as a whole.
        for scan, condition in re.findall(r"((?:Index|Bitmap Index).* (?:Scan|on) .*)\n\s*(.*)", plan):
            assert "Cond" in condition or "jobs_open" in scan or "jobs_closing" in scan, f"{statement}\n{plan}"


@pytest.mark.parametrize("closed", [50, 10_000])
async def test_a_page_and_what_is_due_cost_the_same_however_long_the_history_is(
    own: LedgerSettings, clock: SetClock, closed: int
) -> None:
    """Counted in pages of the server's buffers, which do not depend on how busy this machine is."""
    server = shared_server()
    assert own.url is not None
    name = own.url.get_secret_value().rpartition("/")[2]
    server.run_sql(name, FILL[0].format(rows=2 * closed, half=closed), "VACUUM ANALYZE jobs")
    ledger = PostgresLedger(own, clock)
    read: dict[str, int] = {}
    for statement, parameters in (
        (statements.FINISHED, {"seq": closed // 2, "most": 20}),
        (statements.DUE, {"state": "waiting", "lane": "", "now": 10 * closed, "most": 20}),
        (statements.NEXT_DUE, {"state": "waiting", "lane": ""}),
        (statements.NEXT_LANE, {"state": "waiting", "after": ""}),
    ):
        explained = explain(statement)
        plan: Any = await ledger._readers[0].do(partial(plan_of, explained, parameters))
        read[explained] = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
        assert plan["Node Type"] != "Sort"
    assert all(pages < 60 for pages in read.values()), read
    await ledger.close()


def explain(statement: ClauseElement) -> str:
    compiled = statement.compile(dialect=PGDialect_psycopg())
    return f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {compiled}"


def plan_of(statement: str, parameters: dict[str, Any], connection: Connection) -> Any:
    return connection.exec_driver_sql(statement, parameters).scalar_one()[0]["Plan"]
