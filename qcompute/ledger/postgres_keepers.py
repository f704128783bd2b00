"""Those who touch Postgres: `qcompute.ledger.keepers` on connections that may break, beside other processes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError
from typing_extensions import override

from qcompute import meters
from qcompute.ledger.batch import Batch
from qcompute.ledger.figures import Effects, Figures, read_figures
from qcompute.ledger.keepers import Read, Reader, Writer
from qcompute.ledger.opening import identity
from qcompute.ledger.operations import Operation, Recount
from qcompute.ledger.postgres_dialect import POSTGRES
from qcompute.ledger.postgres_failures import is_lost, is_race
from qcompute.ledger.postgres_listener import Channel
from qcompute.ledger.postgres_open import PostgresOpened, retake_daemon_lock
from qcompute.ledger.races import Raced
from qcompute.ledger.worker import Done

_log = logging.getLogger(__name__)

_TRIES: Final = 8
"""Times a transaction is begun when other processes are at the same rows; each time one of them has got through."""


class PostgresWriter(Writer):
    """Commits a batch of operations at once, and tells the other processes what it brought them."""

    def __init__(
        self,
        opened: PostgresOpened,
        channel: Channel,
        clock: Callable[[], datetime],
        learn: Callable[[Effects], None],
        relearn: Callable[[Figures], None],
        *,
        alone: bool,
    ) -> None:
        super().__init__(opened.engine, POSTGRES, opened.box, clock, learn)
        self._connection = opened.connection
        self._channel = channel
        self._relearn = relearn
        self._alone = alone
        self._committing = False

    @override
    def _commit(self, tasks: Sequence[Operation]) -> Done:
        for trial in range(_TRIES):
            try:
                return self._try(tasks)
            except (SQLAlchemyError, Raced) as error:
                lost = is_lost(error)
                if lost:
                    self._drop()
                # Once: a connection that broke while nobody used it, at a restart of the server, say. Whether a
                # commit in flight was done is not known, so it is not done again.
                may_retry = (lost and trial == 0 and not self._committing) or is_race(error)
                if not may_retry or trial == _TRIES - 1:
                    raise
        raise Raced

    def _try(self, tasks: Sequence[Operation]) -> Done:
        self._committing = False
        self._connect()
        batch = Batch(self.connection, self._dialect, self._box, self._clock)
        began = time.perf_counter()
        with self.connection.begin():
            answers = batch.run(tasks)
            self._announce(batch.effects)
            self._committing = True
        meters.ledger_commit(time.perf_counter() - began)
        figures = self._figures() if any(isinstance(task, Recount) for task in tasks) else None
        return Done(answers, partial(self._tell, batch.effects, figures))

    def _connect(self) -> None:
        if self._connection is not None:
            return
        try:
            retake_daemon_lock(self.connection, alone=self._alone)
        except BaseException:
            # Nobody may write on a session without the lock.
            self._drop()
            raise
        _log.info("connected to the ledger's database again", extra={"action": "ledger_reconnect"})

    def _announce(self, effects: Effects) -> None:
        message = self._channel.message(effects)
        if message is not None:
            self.connection.execute(select(func.pg_notify(self._channel.name, message)))

    def _figures(self) -> Figures:
        # On this connection, between two batches: all that this process committed is in them, and nothing else of it.
        with self.connection.begin():
            return read_figures(self.connection, identity(self.connection)[1])

    def _tell(self, effects: Effects, figures: Figures | None) -> None:
        self._learn(effects)
        if figures is not None:
            self._relearn(figures)


class PostgresReader(Reader):
    """Answers questions; asks once more when its connection broke while nobody used it."""

    @override
    def open(self) -> None:
        """Connect at the first question: on a quiet day one of several is enough."""

    @override
    def work(self, tasks: Sequence[Read]) -> Done:
        """Answer all questions."""
        try:
            return super().work(tasks)
        except SQLAlchemyError as error:
            if not is_lost(error):
                raise
            self._drop()
            return self._again(tasks)

    def _again(self, tasks: Sequence[Read]) -> Done:
        try:
            return super().work(tasks)
        except SQLAlchemyError as error:
            if is_lost(error):
                self._drop()
            raise
