"""The first schema: jobs, their parts, nonces and the ledger's own name."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "r0001"
down_revision = None

_KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Create every table."""
    _create_jobs()
    _create_parts()
    _create_nonces()
    op.create_table(
        "meta",
        sa.Column("one", sa.Integer(), sa.CheckConstraint("one = 1", name="meta_one_row"), primary_key=True),
        sa.Column("ledger_id", sa.Text(), nullable=False),
        sa.Column("last_cursor_seq", sa.BigInteger(), nullable=False),
        sa.Column("last_closed_at", sa.BigInteger(), nullable=False),
    )


def _create_jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("execution_id", _KEY, primary_key=True),
        sa.Column("validator_hotkey", _KEY, nullable=False),
        sa.Column("shots", sa.BigInteger(), nullable=False),
        sa.Column("configuration_data", sa.Text(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("deadline_at", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("state", _KEY, nullable=False),
        sa.Column("verdict", sa.Text()),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("input_data_url", sa.LargeBinary()),
        sa.Column("circuit_sha256", sa.Text()),
        sa.Column("provider", sa.Text()),
        sa.Column("device_id", sa.Text()),
        sa.Column("token", sa.Text()),
        sa.Column("submit_attempts", sa.Integer(), nullable=False),
        sa.Column("submit_started_at", sa.BigInteger()),
        sa.Column("estimate_amount", sa.Text()),
        sa.Column("estimate_currency", sa.Text()),
        sa.Column("provider_job_id", sa.Text()),
        sa.Column("handle", sa.Text()),
        sa.Column("submitted_at", sa.BigInteger()),
        sa.Column("vendor_status", sa.Text()),
        sa.Column("cancel_requested_at", sa.BigInteger()),
        sa.Column("upload_id", sa.Text()),
        sa.Column("error_code", sa.Text()),
        sa.Column("error", sa.Text()),
        sa.Column("settled_at", sa.BigInteger()),
        sa.Column("closed_at", sa.BigInteger()),
        sa.Column("cursor_seq", sa.BigInteger()),
        sa.CheckConstraint(
            "state IN ('accepted', 'ready', 'submitting', 'waiting', 'settled', 'closed', 'held')", name="jobs_state"
        ),
        sa.CheckConstraint("verdict IN ('succeeded', 'failed', 'cancelled', 'refused')", name="jobs_verdict"),
        sa.CheckConstraint("(state = 'closed') = (cursor_seq IS NOT NULL)", name="jobs_numbered_when_closed"),
        sa.CheckConstraint("(cursor_seq IS NULL) = (closed_at IS NULL)", name="jobs_timed_when_numbered"),
        sa.CheckConstraint("cursor_seq IS NULL OR verdict IS NOT NULL", name="jobs_verdict_when_closed"),
    )
    op.create_index("jobs_due", "jobs", ["state", "due_at", "execution_id"])
    for name, column in (("jobs_closing_order", "cursor_seq"), ("jobs_closing_time", "closed_at")):
        closed = sa.text(f"{column} IS NOT NULL")
        op.create_index(name, "jobs", [column], unique=True, sqlite_where=closed, postgresql_where=closed)


def _create_parts() -> None:
    op.create_table("circuits", _of_job(), sa.Column("text", sa.Text(), nullable=False))
    op.create_table(
        "outcomes",
        _of_job(),
        sa.Column("counts", sa.Text()),
        sa.Column("counts_source", sa.Text()),
        sa.Column("shots_returned", sa.BigInteger()),
        sa.Column("cost_amount", sa.Text()),
        sa.Column("cost_currency", sa.Text()),
        sa.Column("cost_kind", sa.Text(), nullable=False),
        sa.Column("message", sa.Text()),
        sa.Column("timestamps", sa.Text(), nullable=False),
        sa.Column("metadata", sa.Text(), nullable=False),
    )
    op.create_table("receipts", _of_job(), sa.Column("document", sa.Text(), nullable=False))


def _of_job() -> sa.Column[str]:
    job = sa.ForeignKey("jobs.execution_id", ondelete="CASCADE")
    return sa.Column("execution_id", _KEY, job, primary_key=True)


def _create_nonces() -> None:
    op.create_table(
        "nonces",
        sa.Column("hotkey", _KEY, primary_key=True),
        sa.Column("scope", _KEY, primary_key=True),
        sa.Column("value_ns", sa.BigInteger(), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "used_nonces",
        sa.Column("hotkey", _KEY, primary_key=True),
        sa.Column("scope", _KEY, primary_key=True),
        sa.Column("value_ns", sa.BigInteger(), primary_key=True),
        sqlite_with_rowid=False,
    )
    op.create_index("nonces_age", "nonces", ["value_ns"])
    op.create_index("used_nonces_age", "used_nonces", ["value_ns"])
