"""Several accounts, and several processes that share them: whose work a row is, and who works on what."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "r0005"
down_revision = "r0004"

_KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add ``jobs.lane``, ``jobs.placement``, ``jobs.parent_id`` and the table ``owners``."""
    op.add_column("jobs", sa.Column("lane", _KEY, nullable=False, server_default=""))
    op.add_column("jobs", sa.Column("placement", sa.Text()))
    op.add_column("jobs", sa.Column("parent_id", _KEY))
    op.execute("UPDATE jobs SET lane = provider WHERE state IN ('submitting', 'waiting') AND provider IS NOT NULL")
    op.drop_index("jobs_due", "jobs")
    op.create_index("jobs_due", "jobs", ["state", "lane", "due_at", "execution_id"])
    part = sa.text("parent_id IS NOT NULL")
    op.create_index("jobs_parts", "jobs", ["parent_id"], sqlite_where=part, postgresql_where=part)
    if op.get_bind().dialect.name == "postgresql":
        unclosed = sa.text("cursor_seq IS NULL")
        op.drop_index("jobs_open", "jobs")
        op.create_index("jobs_open", "jobs", ["state", "validator_hotkey", "parent_id"], postgresql_where=unclosed)
    op.create_table(
        "owners",
        sa.Column("lane", _KEY, primary_key=True),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("holder", sa.Text()),
        sa.Column("beat", sa.BigInteger(), nullable=False),
        sa.Column("taken_at", sa.BigInteger(), nullable=False),
        sqlite_with_rowid=False,
    )
