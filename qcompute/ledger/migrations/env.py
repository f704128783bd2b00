"""Run by alembic, on the connection that `qcompute.ledger.migrations.upgrade` hands over."""

from __future__ import annotations

from alembic import context

# All steps and the new version number are one transaction, the caller's: a failed upgrade leaves the file as it was.
context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
