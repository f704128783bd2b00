"""The two who touch the database, each on its own thread with its own connection: one writes, one reads."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any, TypeAlias

from sqlalchemy import Connection, Engine

from qcompute.errors import StoreError
from qcompute.ledger.batch import Batch, Effects
from qcompute.ledger.cursor import Place
from qcompute.ledger.operations import Operation
from qcompute.ledger.secretbox import SecretBox
from qcompute.ledger.worker import Actor, Done

Read: TypeAlias = Callable[[Connection], Any]
"""A question to the database."""


class _Keeper:
    """One connection, opened and closed on the worker's thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None
        self._path = engine.url.database or ""
        self._file: tuple[int, int] | None = None

    @property
    def connection(self) -> Connection:
        if self._connection is None:
            self._connection = self._engine.connect()
        return self._connection

    def open(self) -> None:
        self.connection  # noqa: B018 - the first use connects
        self._file = _identity(self._path)

    def check_file(self) -> None:
        """Make sure that the file we have open is still the ledger: one removed is written to without any error.

        Raises:
            StoreError: its name is gone or is another file's now; what is written would be lost with the process.
        """
        if _identity(self._path) != self._file:
            raise StoreError(
                f"The ledger's file {self._path} (setting ledger.path) was removed or replaced while in use; "
                "bring it back, with the files -wal and -shm beside it, and start again."
            )

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._engine.dispose()


class Writer(_Keeper, Actor[Operation]):
    """Commits a batch of operations at once. ``learn`` is called on the event loop after each commit."""

    def __init__(
        self,
        engine: Engine,
        box: SecretBox,
        latest: Place,
        clock: Callable[[], datetime],
        learn: Callable[[Effects], None],
    ) -> None:
        super().__init__(engine)
        self._box = box
        self._latest = latest
        self._clock = clock
        self._learn = learn

    def work(self, tasks: Sequence[Operation]) -> Done:
        """Do all operations in one transaction."""
        self.check_file()
        batch = Batch(self.connection, self._box, self._latest, self._clock)
        with self.connection.begin():
            answers = batch.run(tasks)
        self._latest = batch.effects.latest
        return Done(answers, partial(self._learn, batch.effects))


class Reader(_Keeper, Actor[Read]):
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
