"""Writing many rows at once, with as little work for each as a database allows.

A batch of a busy ledger writes hundreds of rows with a handful of statements. What SQLAlchemy does for each row of an
``executemany`` costs several times what SQLite does with it, so here the text is made once and rows go to the driver as
they are: the ledger's columns hold plain values, which need no conversion.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, Protocol

from sqlalchemy import ClauseElement, Connection

from qcompute.ledger.rows import Row


class Many(Protocol):
    """Writes rows, all of the same keys. Nothing is said of their order."""

    def __call__(self, connection: Connection, rows: Sequence[Row]) -> int:
        """Write them; returns how many rows of the table were inserted or changed."""
        ...


class OneByOne:
    """A statement that the driver runs for each row: where the database is in our own process, that costs nothing."""

    def __init__(self, statement: ClauseElement) -> None:
        self._statement = statement
        self._compiled: tuple[str, Callable[[Row], tuple[Any, ...]]] | None = None

    def __call__(self, connection: Connection, rows: Sequence[Row]) -> int:
        """See `Many`."""
        if not rows:
            return 0
        if self._compiled is None:
            self._compiled = self._compile(connection, rows[0])
        text, values = self._compiled
        return connection.exec_driver_sql(text, [values(row) for row in rows]).rowcount

    def _compile(self, connection: Connection, row: Row) -> tuple[str, Callable[[Row], tuple[Any, ...]]]:
        """The text, and what takes its parameters out of a row."""
        compiled: Any = self._statement.compile(dialect=connection.dialect, column_keys=list(row))
        first, second, *more = compiled.positiontup  # a getter of one name would make no tuple
        return str(compiled), itemgetter(first, second, *more)
