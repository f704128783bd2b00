"""How processes on one Postgres ledger wake one another: LISTEN and NOTIFY.

A message is a hint, sent within the transaction it tells of. What is lost, while a connection is down say, is found by
looking: the stages look at the table from time to time anyway.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import select
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
import psycopg
from psycopg import sql
from pydantic import TypeAdapter, ValidationError

from qcompute.ledger.cursor import START, Place
from qcompute.ledger.figures import Effects
from qcompute.ledger.postgres_connect import tell_session
from qcompute.miner.job import State

_log = logging.getLogger(__name__)

_RECONNECT_SECONDS: Final = 1.0

_LONGEST_ARRIVALS: Final = 4000

_ARRIVALS: Final[TypeAdapter[list[tuple[State, str]] | None]] = TypeAdapter(list[tuple[State, str]] | None)


@dataclass(frozen=True, slots=True)
class News:
    """What another process committed."""

    arrivals: frozenset[tuple[State, str]] | None
    """The states and lanes where something new is to be done; None for all of them."""
    latest: Place
    """The place of the job closed last, as far as the message says."""


EVERYTHING: Final = News(None, START)
"""What may have come while nobody listened."""


@dataclass(frozen=True, slots=True)
class Channel:
    """The channel of one ledger, and the words on it: ``SENDER SEQ MICROS ARRIVALS``, the last a list in JSON.

    Words of other kinds go over it too, as ``SENDER words TEXT``; see `qcompute.ledger.contract.Ledger.tell_others`.
    Postgres refuses a message of 8,000 bytes, so many arrivals are told as ``null``: look everywhere.
    """

    ledger_id: str
    sender: str = field(default_factory=lambda: secrets.token_hex(6))

    @property
    def name(self) -> str:
        """As LISTEN takes it; ledgers in two schemas of one database have two names."""
        return f"qcompute_{self.ledger_id}"

    def message(self, effects: Effects) -> str | None:
        """What to tell of a batch; None when it brought nothing to anybody."""
        if not effects.arrivals and effects.latest is None:
            return None
        place = effects.latest or START
        arrivals = orjson.dumps(sorted(effects.arrivals)).decode()
        if len(arrivals) > _LONGEST_ARRIVALS:
            arrivals = "null"
        return f"{self.sender} {place.seq} {place.micros} {arrivals}"

    def words(self, text: str) -> str:
        """How words for the other processes are sent."""
        return f"{self.sender} words {text}"

    def read(self, message: str) -> News | str | None:
        """What a message says; None for our own and for what no qcompute wrote."""
        match message.split(" ", 2):
            case [sender, "words", text]:
                return text if sender != self.sender else None
            case _:
                return self._news(message)

    def _news(self, message: str) -> News | None:
        match message.split(" ", 3):
            case [sender, seq, micros, arrivals] if sender != self.sender and seq.isdecimal() and micros.isdecimal():
                return News(_arrivals(arrivals), Place(int(seq), int(micros)))
            case _:
                return None


def _arrivals(text: str) -> frozenset[tuple[State, str]] | None:
    try:
        pairs = _ARRIVALS.validate_json(text)
    except ValidationError:
        return None  # of a newer qcompute, with a state we do not know: look everywhere
    return None if pairs is None else frozenset(pairs)


class Listener:
    """Hears of other processes' commits on a thread and a connection of its own.

    The constructor connects, so that nothing committed after it is missed; a connection that breaks is made again,
    and whoever waits is woken then, because something may have come meanwhile.

    Raises:
        psycopg.Error: the first connection cannot be made.
    """

    def __init__(self, parameters: dict[str, Any], channel: Channel, hear: Callable[[News | str], None]) -> None:
        self._parameters = parameters
        self._channel = channel
        self._hear = hear
        self._guard = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._unheard: list[News | str] = []
        self._stopping = threading.Event()
        self._connection: psycopg.Connection[Any] | None = self._connect()
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="ledger-listener", daemon=True)
        self._thread.start()

    def attach(self) -> None:
        """Tell the running event loop what is heard from now on, and what was heard before."""
        loop = asyncio.get_running_loop()
        if loop is self._loop:
            return
        with self._guard:
            self._loop = loop
            unheard, self._unheard = self._unheard, []
        for news in unheard:
            self._hear(news)

    def stop(self) -> None:
        """End the thread; blocks until it has."""
        self._stopping.set()
        os.write(self._wake_write, b"x")
        self._thread.join()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _connect(self) -> psycopg.Connection[Any]:
        connection = psycopg.connect(**self._parameters)
        try:
            tell_session(connection, {})
            connection.autocommit = True
            connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel.name)))
        except BaseException:
            connection.close()
            raise
        return connection

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._listen()
            except psycopg.Error:
                _log.warning("the ledger's listening connection broke", extra={"action": "ledger_deaf"})
                self._reconnect()
        if self._connection is not None:
            self._connection.close()

    def _listen(self) -> None:
        connection = self._connection
        if connection is None:
            return
        # Not select(): a daemon with many requests has descriptors beyond those it can wait for.
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        while not self._stopping.is_set():
            for notice in connection.notifies(timeout=0):
                news = self._channel.read(notice.payload)
                if news is not None:
                    self._pass_on(news)
            poll.poll()

    def _reconnect(self) -> None:
        """Connect again, however long that takes."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        while not self._stopping.wait(_RECONNECT_SECONDS):
            with suppress(psycopg.Error):
                self._connection = self._connect()
                self._pass_on(EVERYTHING)
                return

    def _pass_on(self, news: News | str) -> None:
        with self._guard:
            if self._loop is None:
                self._unheard.append(news)
                return
            # The loop has ended: nobody waits any more.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._hear, news)
