"""The ledger in one SQLite file, for one daemon."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from typing_extensions import override

from qcompute.ledger.database import open_database, prepare_folder
from qcompute.ledger.dialect import SQLITE
from qcompute.ledger.keepers import Reader, Writer
from qcompute.ledger.lock import LedgerLock
from qcompute.ledger.settings import LedgerSettings
from qcompute.ledger.sql import SqlLedger
from qcompute.ledger.worker import Worker
from qcompute.units import utc_now


class SqliteLedger(SqlLedger):
    """See `Ledger`. Constructing it opens the file, which blocks for some milliseconds, longer when it is upgraded.

    ``clock`` says when a job was closed.

    Raises:
        ConfigError: the file, its folder, key or lock cannot be used; the message says what to do.
        StoreError: the database failed.
    """

    def __init__(self, settings: LedgerSettings, clock: Callable[[], datetime] = utc_now) -> None:
        super().__init__(clock)
        prepare_folder(settings.file)
        self._lock = LedgerLock(settings.file.with_name(settings.file.name + ".lock"))
        try:
            opened = open_database(settings)
            most = settings.max_pending
            writer = Writer(opened.engine, SQLITE, opened.box, clock, self._learn)
            # Reads share nothing, so each is answered as soon as it is done.
            reader = Reader(opened.reading_engine)
            self._start(
                opened,
                Worker("ledger-writer", writer, max_pending=most, batch_limit=settings.batch_limit),
                [Worker("ledger-reader", reader, max_pending=most, batch_limit=1)],
            )
        except BaseException:
            self._lock.release()
            raise

    @override
    def _release(self) -> None:
        self._lock.release()
