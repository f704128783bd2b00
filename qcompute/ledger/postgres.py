"""The ledger in a Postgres database, which several processes on several machines may share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import datetime
from typing import Final

import psycopg
from typing_extensions import override

from qcompute.ledger.contract import Hear
from qcompute.ledger.figures import Figures
from qcompute.ledger.operations import Recount
from qcompute.ledger.postgres_claims import PostgresClaims
from qcompute.ledger.postgres_failures import POSTGRES_FAILURES, translated
from qcompute.ledger.postgres_keepers import PostgresReader, PostgresWriter
from qcompute.ledger.postgres_listener import Channel, Listener, News
from qcompute.ledger.postgres_open import open_postgres
from qcompute.ledger.settings import LedgerSettings
from qcompute.ledger.sql import SqlLedger
from qcompute.ledger.worker import Worker
from qcompute.miner.job import NOBODYS_LANE, State
from qcompute.units import utc_now

FIGURES_SECONDS: Final = 1.0
"""How old the figures of the whole ledger may be. What this process commits is in them at once."""


class PostgresLedger(SqlLedger):
    """See `Ledger`. Constructing it connects, which blocks for some milliseconds, longer when tables are made.

    Any number of processes may open one database: nonces, duplicates, versions and the closing order are then decided
    by the database, so it does not matter which process a request reaches. ``alone`` refuses to share: at most one
    daemon then works on the ledger, as on a SQLite file. Processes that share it take turns at its lanes; see
    `PostgresClaims`, also for ``enforce``.

    A connection that breaks is made again by itself. Operations in flight fail with `StoreError`; of one whose commit
    was in flight it is not known whether it was done, so it must be asked for again, which changes nothing twice.

    Raises:
        ConfigError: the URL, the server, the key or the lock will not do; the message says what to do.
        StoreError: the database failed.
    """

    def __init__(
        self,
        settings: LedgerSettings,
        clock: Callable[[], datetime] = utc_now,
        *,
        alone: bool = True,
        enforce: bool = False,
    ) -> None:
        super().__init__(clock)
        opened = open_postgres(settings, alone=alone)
        self._channel = channel = Channel(opened.ledger_id)
        self._hear_words: Callable[[str], None] = _ignore
        try:
            self._listener = Listener(opened.parameters, channel, self._hear)
        except psycopg.Error as error:
            opened.connection.close()
            raise translated(error) from None
        self._read_at = time.monotonic()
        most = settings.max_pending
        writer = PostgresWriter(opened, channel, clock, self._learn, self._relearn, alone=alone)
        try:
            self._start(
                opened,
                Worker(
                    "ledger-writer",
                    writer,
                    max_pending=most,
                    batch_limit=settings.batch_limit,
                    failures=POSTGRES_FAILURES,
                ),
                [
                    Worker(
                        f"ledger-reader-{number}",
                        PostgresReader(opened.reading_engine),
                        max_pending=most,
                        batch_limit=1,
                        failures=POSTGRES_FAILURES,
                    )
                    for number in range(settings.readers)
                ],
            )
        except BaseException:
            opened.connection.close()
            self._listener.stop()
            raise
        self._shared_claims = None if alone else PostgresClaims(opened.parameters, enforce=enforce)
        if self._shared_claims is not None:
            self._claims = self._shared_claims

    @override
    async def wait_for_arrival(self, state: State, timeout_seconds: float, *, lane: str = NOBODYS_LANE) -> None:
        self._listener.attach()
        await super().wait_for_arrival(state, timeout_seconds, lane=lane)

    @override
    @contextmanager
    def hearing(self, state: State, hear: Hear, *, lane: str = NOBODYS_LANE) -> Generator[None]:
        self._listener.attach()
        with super().hearing(state, hear, lane=lane):
            yield

    @override
    async def tell_others(self, words: str) -> None:
        if self._shared_claims is not None:
            await self._shared_claims.tell(self._channel.name, self._channel.words(words))

    @override
    def hear_others(self, hear: Callable[[str], None]) -> None:
        self._hear_words = hear
        self._listener.attach()

    @override
    async def _current(self) -> Figures:
        self._listener.attach()
        if time.monotonic() - self._read_at > FIGURES_SECONDS:
            # Calls of the same moment share one look.
            await self._write(Recount())
        return self._figures

    @override
    async def _close(self) -> None:
        if self._shared_claims is not None:
            await self._shared_claims.close()
        await super()._close()
        await asyncio.to_thread(self._listener.stop)

    def _relearn(self, figures: Figures) -> None:
        figures.move_latest(self._figures.latest)
        self._figures = figures
        self._read_at = time.monotonic()

    def _hear(self, news: News | str) -> None:
        """Called on the event loop for what another process committed, or says."""
        if isinstance(news, str):
            self._hear_words(news)
            return
        self._figures.move_latest(news.latest)
        arrivals = {*self._arrivals, *self._hearing} if news.arrivals is None else news.arrivals
        for state, lane in arrivals:
            self._arrived(state, lane, None)


def _ignore(words: str) -> None:
    """What nobody wants to hear."""
