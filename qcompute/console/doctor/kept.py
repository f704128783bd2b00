"""A ledger that is there: whether the daemon will take it, in a file or in Postgres. Loads the database."""

from __future__ import annotations

import sqlite3

from qcompute.console.doctor.findings import Finding, failed, ok
from qcompute.errors import ConfigError, StoreError
from qcompute.ledger.backup import NoTables, reading, revision_of
from qcompute.ledger.looking import looked_at
from qcompute.ledger.schema import REVISIONS
from qcompute.ledger.settings import LedgerSettings


def looked_into(settings: LedgerSettings) -> Finding:
    """What is wrong with the ledger, if anything is; nothing is changed."""
    if settings.url is not None:
        return _on_postgres(settings)
    try:
        with reading(settings.file) as connection:
            revision = revision_of(connection, settings.file)
    except ConfigError as error:
        fix = "name another file with --ledger.path; one of the reference miner: `qcompute ledger import-reference`"
        return failed("ledger", str(error), fix)
    except sqlite3.Error as error:
        fix = "`qcompute ledger check` says what is damaged, `qcompute ledger restore` puts a copy in its place"
        return failed("ledger", f"{settings.file} cannot be read ({type(error).__name__})", fix)
    return _with_key(settings, str(settings.file), revision)


def _on_postgres(settings: LedgerSettings) -> Finding:
    fix = "set ledger.url and ledger.password_secret; docs/how-to/postgres.md has the steps"
    try:
        at = looked_at(settings)
        with at.look() as look:
            return _with_key(settings, at.name, look.revision)
    except NoTables as empty:
        return ok("ledger", str(empty))
    except ConfigError as error:
        return failed("ledger", str(error), fix)
    except StoreError as error:
        return failed("ledger", error.message, f"start the server, or {fix}")


def _with_key(settings: LedgerSettings, name: str, revision: str) -> Finding:
    if not settings.key.exists():
        fix = "bring the key back from a backup, or set ledger.forget_unreadable_urls"
        return failed("ledger", f"its key {settings.key} is missing", fix)
    words = f"{name}, schema {revision}"
    return ok(
        "ledger", words if revision == REVISIONS[-1] else f"{words}: the next start brings it up to {REVISIONS[-1]}"
    )
