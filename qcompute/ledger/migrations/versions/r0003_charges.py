"""What each job counts in the budgets of its account."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "r0003"
down_revision = "r0002"

_KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add ``charges``; jobs under way have none and are charged when they end."""
    op.create_table(
        "charges",
        sa.Column("execution_id", _KEY, primary_key=True),
        sa.Column("account", _KEY, nullable=False),
        sa.Column("amount", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("charged_at", sa.BigInteger(), nullable=False),
        sa.Column("settled_at", sa.BigInteger()),
        sqlite_with_rowid=False,
    )
    op.create_index("charges_time", "charges", ["charged_at", "account"])
    unsettled = sa.text("settled_at IS NULL")
    op.create_index("charges_open", "charges", ["account"], sqlite_where=unsettled, postgresql_where=unsettled)
