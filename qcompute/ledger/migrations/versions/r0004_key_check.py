"""How a machine knows that it has the key of the ledger's URLs, where several machines work on one ledger."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "r0004"
down_revision = "r0003"


def upgrade() -> None:
    """Add ``meta.key_check``, and an index of the open jobs where the daemon counts them again and again."""
    op.add_column("meta", sa.Column("key_check", sa.LargeBinary()))
    if op.get_bind().dialect.name == "postgresql":
        unclosed = sa.text("cursor_seq IS NULL")
        op.create_index("jobs_open", "jobs", ["state", "validator_hotkey"], postgresql_where=unclosed)
