"""The tables, in words every SQL database has.

Times are whole microseconds since 1970 in UTC (`qcompute.ledger.times`): they sort, compare and index as they are.
Money is two columns: the amount as decimal text, never a float, and the currency. Columns that hold a mapping hold JSON
text; nothing looks into it with SQL. ``jobs.input_data_url`` is ciphertext (`qcompute.ledger.secretbox`).

A change here needs a revision in ``migrations/versions`` and its name at the end of `REVISIONS`; a test compares them.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)

from qcompute.miner.job import State, Verdict

REVISIONS: Final = ("r0001", "r0002", "r0003", "r0004", "r0005")
"""Every schema version this qcompute can open, oldest first; a file of an older one is upgraded when it is opened."""

metadata: Final = MetaData()

_KEY: Final = Text().with_variant(Text(collation="C"), "postgresql")
"""A text that is looked up or sorted. Its bytes are compared, as SQLite does: the order of a language, which Postgres
would use, is another one, and changes with the system's library under the indexes' feet."""


def _one_of(column: str, words: type[State | Verdict]) -> CheckConstraint:
    listed = ", ".join(f"'{word}'" for word in words)
    return CheckConstraint(f"{column} IN ({listed})", name=f"jobs_{column}")


jobs: Final = Table(
    "jobs",
    metadata,
    Column("execution_id", _KEY, primary_key=True),
    Column("validator_hotkey", _KEY, nullable=False),
    Column("shots", BigInteger, nullable=False),
    Column("configuration_data", Text, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("deadline_at", BigInteger, nullable=False),
    Column("due_at", BigInteger, nullable=False),
    Column("state", _KEY, nullable=False),
    Column("verdict", Text),
    Column("version", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("input_data_url", LargeBinary),
    Column("circuit_sha256", Text),
    Column("provider", Text),
    Column("device_id", Text),
    Column("token", Text),
    Column("submit_attempts", Integer, nullable=False),
    Column("submit_started_at", BigInteger),
    Column("estimate_amount", Text),
    Column("estimate_currency", Text),
    Column("provider_job_id", Text),
    Column("handle", Text),
    Column("submitted_at", BigInteger),
    Column("vendor_status", Text),
    Column("cancel_requested_at", BigInteger),
    Column("upload_id", Text),
    Column("error_code", Text),
    Column("error", Text),
    Column("settled_at", BigInteger),
    Column("closed_at", BigInteger),
    Column("cursor_seq", BigInteger),
    Column("prepared", Text),
    Column("lane", _KEY, nullable=False, server_default=""),
    Column("placement", Text),
    Column("parent_id", _KEY),
    _one_of("state", State),
    _one_of("verdict", Verdict),
    CheckConstraint("(state = 'closed') = (cursor_seq IS NOT NULL)", name="jobs_numbered_when_closed"),
    CheckConstraint("(cursor_seq IS NULL) = (closed_at IS NULL)", name="jobs_timed_when_numbered"),
    CheckConstraint("cursor_seq IS NULL OR verdict IS NOT NULL", name="jobs_verdict_when_closed"),
)
"""One row for each job, from the request to the end of its retention."""

Index("jobs_due", jobs.c.state, jobs.c.lane, jobs.c.due_at, jobs.c.execution_id)
# Most jobs have no place in these, so the road's many saves do not touch them.
_part = jobs.c.parent_id.is_not(None)
Index("jobs_parts", jobs.c.parent_id, sqlite_where=_part, postgresql_where=_part)
_closed = jobs.c.cursor_seq.is_not(None)
Index("jobs_closing_order", jobs.c.cursor_seq, unique=True, sqlite_where=_closed, postgresql_where=_closed)
_timed = jobs.c.closed_at.is_not(None)
Index("jobs_closing_time", jobs.c.closed_at, unique=True, sqlite_where=_timed, postgresql_where=_timed)
# The daemon counts its open jobs once a second where other processes change them; SQLite's one daemon adds up instead.
_unclosed = jobs.c.cursor_seq.is_(None)
Index("jobs_open", jobs.c.state, jobs.c.validator_hotkey, jobs.c.parent_id, postgresql_where=_unclosed).ddl_if(
    dialect="postgresql"
)


def _of_job() -> Column[str]:
    return Column("execution_id", ForeignKey("jobs.execution_id", ondelete="CASCADE"), primary_key=True)


circuits: Final = Table("circuits", metadata, _of_job(), Column("text", Text, nullable=False))
"""The circuit as downloaded; apart from the row, which is read far more often."""

outcomes: Final = Table(
    "outcomes",
    metadata,
    _of_job(),
    Column("counts", Text),
    Column("counts_source", Text),
    Column("shots_returned", BigInteger),
    Column("cost_amount", Text),
    Column("cost_currency", Text),
    Column("cost_kind", Text, nullable=False),
    Column("message", Text),
    Column("timestamps", Text, nullable=False),
    Column("metadata", Text, nullable=False),
)
"""How a job ended."""

receipts: Final = Table("receipts", metadata, _of_job(), Column("document", Text, nullable=False))
"""The signed receipt, as canonical JSON."""

nonces: Final = Table(
    "nonces",
    metadata,
    Column("hotkey", _KEY, primary_key=True),
    Column("scope", _KEY, primary_key=True),
    Column("value_ns", BigInteger, nullable=False),
    Index("nonces_age", "value_ns"),
    sqlite_with_rowid=False,
)
"""The greatest nonce used in each scope in which nonces must grow."""

used_nonces: Final = Table(
    "used_nonces",
    metadata,
    Column("hotkey", _KEY, primary_key=True),
    Column("scope", _KEY, primary_key=True),
    Column("value_ns", BigInteger, primary_key=True, autoincrement=False),
    Index("used_nonces_age", "value_ns"),
    sqlite_with_rowid=False,
)
"""Every nonce used in the scopes in which nonces only must never repeat."""

charges: Final = Table(
    "charges",
    metadata,
    Column("execution_id", _KEY, primary_key=True),
    Column("account", _KEY, nullable=False),
    Column("amount", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("charged_at", BigInteger, nullable=False),
    Column("settled_at", BigInteger),
    Index("charges_time", "charged_at", "account"),
    sqlite_with_rowid=False,
)
"""What each job counts in its account's budgets. No foreign key: a month's charges outlive its jobs."""

_open = charges.c.settled_at.is_(None)
Index("charges_open", charges.c.account, sqlite_where=_open, postgresql_where=_open)

owners: Final = Table(
    "owners",
    metadata,
    Column("lane", _KEY, primary_key=True),
    Column("fence", BigInteger, nullable=False),
    Column("holder", Text),
    Column("beat", BigInteger, nullable=False),
    Column("taken_at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""Who works on what: see `qcompute.ledger.claims`. ``fence`` grows each time a lane is taken, ``beat`` while its holder
lives; ``holder`` is who it is, for people and for whoever must end its session, NULL once it let go."""

meta: Final = Table(
    "meta",
    metadata,
    Column("one", Integer, CheckConstraint("one = 1", name="meta_one_row"), primary_key=True, autoincrement=False),
    Column("ledger_id", Text, nullable=False),
    Column("last_cursor_seq", BigInteger, nullable=False),
    Column("last_closed_at", BigInteger, nullable=False),
    Column("key_check", LargeBinary),
)
"""One row: the name of this ledger in cursors, and the place given to the job closed last. The place outlives the job,
because its number must not be given again after a purge. ``key_check`` is a text sealed with the key of the URLs, where
several machines must have the same key; elsewhere NULL."""
