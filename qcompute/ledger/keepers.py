"""Those who touch the database, each on its own thread with its own connection: one writes, others read."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any, TypeAlias

from sqlalchemy import Connection, Engine

from qcompute import meters
from qcompute.errors import StoreError
from qcompute.ledger.batch import Batch
from qcompute.ledger.dialect import Dialect
from qcompute.ledger.figures import Effects
from qcompute.ledger.operations import Operation
from qcompute.ledger.secretbox import SecretBox
from qcompute.ledger.worker import Actor, Done

Read: TypeAlias = Callable[[Connection], Any]
"""A question to the database."""


class Keeper:
    """One connection, opened and closed on the worker's thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None
        self._path = engine.url.database or ""
        self._file: tuple[int, int] | None = None

    @property
    def connection(self) -> Connection:
        """Made at its first use."""
        if self._connection is None:
            self._connection = self._engine.connect()
        return self._connection

    def open(self) -> None:
        """Connect."""
        self.connection  # noqa: B018 - the first use connects
        self._file = _identity(self._path)

    def check_file(self) -> None:
        """Make sure that the file we have open is still the ledger: one removed is written to without any error.

        The database of a server has no file of ours.

        Raises:
            StoreError: its name is gone or is another file's now; what is written would be lost with the process.
        """
        if self._path and _identity(self._path) != self._file:
            raise StoreError(
                f"The ledger's file {self._path} (setting ledger.path) was removed or replaced while in use; "
                "bring it back, with the files -wal and -shm beside it, and start again."
            )

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
        self._engine.dispose()

    def _drop(self) -> None:
        """Forget a connection that broke; the next use makes a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


class Writer(Keeper, Actor[Operation]):
    """Commits a batch of operations at once. ``learn`` is called on the event loop after each commit."""

    def __init__(
        self,
        engine: Engine,
        dialect: Dialect,
        box: SecretBox,
        clock: Callable[[], datetime],
        learn: Callable[[Effects], None],
    ) -> None:
        super().__init__(engine)
        self._dialect = dialect
        self._box = box
        self._clock = clock
        self._learn = learn

    def work(self, tasks: Sequence[Operation]) -> Done:
        """Do all operations in one transaction."""
        return self._commit(tasks)

    def _commit(self, tasks: Sequence[Operation]) -> Done:
        self.check_file()
        batch = Batch(self.connection, self._dialect, self._box, self._clock)
        began = time.perf_counter()
        with self.connection.begin():
            answers = batch.run(tasks)
        meters.ledger_commit(time.perf_counter() - began)
        return Done(answers, partial(self._learn, batch.effects))


class Reader(Keeper, Actor[Read]):
    """Answers questions. Each statement sees one state of the database; two may see different ones."""

    def work(self, tasks: Sequence[Read]) -> Done:
        """Answer all questions."""
        self.check_file()
        return Done([task(self.connection) for task in tasks])


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - asked before each commit
    except OSError:
        return None
    return found.st_dev, found.st_ino
