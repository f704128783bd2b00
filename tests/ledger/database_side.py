"""The ledger seen from its database: what reaches it, what lies in it, and how to make it fail."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, event

from qcompute.ledger.settings import LedgerSettings
from qcompute.ledger.sqlite import SqliteLedger


@dataclass
class SqlLog:
    """What reached any database since it was cleared."""

    statements: list[tuple[str, Any]] = field(default_factory=list[tuple[str, Any]])
    """Text and parameters, those of the first row where there are many."""
    threads: set[str] = field(default_factory=set[str])
    commits: int = 0

    def clear(self) -> None:
        self.statements.clear()
        self.threads.clear()
        self.commits = 0


@contextmanager
def logged_sql() -> Generator[SqlLog]:
    log = SqlLog()

    def executed(*call: Any) -> None:
        _, _, statement, parameters, _, is_many = call
        log.statements.append((statement, parameters[0] if is_many else parameters))
        log.threads.add(threading.current_thread().name)

    def committed(_connection: object) -> None:
        log.commits += 1

    event.listen(Engine, "before_cursor_execute", executed)
    event.listen(Engine, "commit", committed)
    try:
        yield log
    finally:
        event.remove(Engine, "before_cursor_execute", executed)
        event.remove(Engine, "commit", committed)


@contextmanager
def every_transaction_with(pragma: str) -> Generator[None]:
    """Set a pragma on the writer's connection, on the writer's thread, before each transaction."""

    def begun(connection: Connection) -> None:
        connection.exec_driver_sql(f"PRAGMA {pragma}")

    event.listen(Engine, "begin", begun)
    try:
        yield
    finally:
        event.remove(Engine, "begin", begun)


class Steps:
    """How much SQLite's machine did, which does not depend on how busy this one is."""

    def __init__(self) -> None:
        self._taken = 0

    def taken(self) -> int:
        """Since the last call, or the first question."""
        taken, self._taken = self._taken, 0
        return taken

    def count(self, connection: Connection) -> None:
        """Count the steps of this connection from now on."""
        driver: Any = connection.connection.driver_connection
        driver.set_progress_handler(self._step, 1)

    def _step(self) -> int:
        self._taken += 1
        return 0


async def counted_steps(ledger: SqliteLedger) -> Steps:
    """The steps of a ledger's reader, counted from now on."""
    steps = Steps()
    await ledger._readers[0].do(steps.count)
    return steps


def run_sql(settings: LedgerSettings, *statements: str) -> list[Any]:
    """Run statements as another program would; the rows of the last one."""
    with closing(sqlite3.connect(settings.file)) as connection, connection:
        rows: list[Any] = []
        for statement in statements:
            rows = connection.execute(statement).fetchall()
        return rows


def python(*arguments: str) -> subprocess.Popen[str]:
    """Another Python that finds this checkout; its output is to be read."""
    root = Path(__file__).parents[2]
    command = [sys.executable, *arguments]
    return subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)  # noqa: S603 - tests' own scripts


def python_says(*arguments: str) -> str:
    """What another Python prints until it ends well."""
    with python(*arguments) as process:
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return said
