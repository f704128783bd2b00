"""What a job was submitted as: how its result is read, and what became of its circuit."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "r0002"
down_revision = "r0001"


def upgrade() -> None:
    """Add ``jobs.prepared``; jobs already submitted have none and are read as they were written."""
    op.add_column("jobs", sa.Column("prepared", sa.Text()))
