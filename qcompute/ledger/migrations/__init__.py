"""How older ledger files become today's. Importing this package imports alembic; only opening an older file does.

A revision is a module in ``versions`` named ``rNNNN_what.py`` with ``revision = "rNNNN"``, listed at the end of
`qcompute.ledger.schema.REVISIONS`. It spells its tables out: those of ``schema.py`` will have moved on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

FOLDER: Final = Path(__file__).parent


def upgrade(connection: Connection) -> None:
    """Bring the schema to the newest revision, within the transaction the caller has begun."""
    config = Config()
    # The configuration parser would read a percent sign in a path as a reference.
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
