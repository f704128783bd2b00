"""Lanes on a Postgres that several processes share: who has one keeps it by beats, and others watch for their end.

`qcompute.ledger.lease` has the times and what they promise, `qcompute.ledger.postgres_owners` the rows and locks. A
thread of its own beats and watches, with a connection of its own, so that neither a busy event loop nor a long
transaction costs a lane.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

import psycopg
from typing_extensions import override

from qcompute.errors import StoreError
from qcompute.ledger.claims import Claims, NotOurs, Tenure
from qcompute.ledger.end_timer import EndTimer
from qcompute.ledger.lease import (
    BEAT_SECONDS,
    END_SECONDS,
    HELD_SECONDS,
    LOOK_SECONDS,
    now,
)
from qcompute.ledger.postgres_failures import translated
from qcompute.ledger.postgres_owners import FREE, OwnerTable, Watch

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

_RETRY_SECONDS: Final = 0.1
"""The pause before a session that broke is made again while lanes are ours."""


_IDLE_SECONDS: Final = 3600.0


@dataclass(eq=False, slots=True)
class _Holding:
    """A lane that is ours, or was."""

    tenure: Tenure
    beaten_at: float
    """Before the latest beat was sent."""
    loop: asyncio.AbstractEventLoop
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    is_over: bool = False

    @property
    def is_held(self) -> bool:
        return not self.is_over and now() < self.beaten_at + HELD_SECONDS


class PostgresClaims(Claims):
    """See `Claims`. Nothing is connected before the first lane is taken.

    ``enforce`` lets the kernel kill this process when a paid call outlives its lease: for a daemon, not for a test.
    """

    def __init__(self, parameters: Mapping[str, Any], *, enforce: bool = False) -> None:
        self._table = OwnerTable(parameters)
        self._timer = EndTimer(enforced=enforce)
        self._watch = Watch()
        self._wanted: set[str] = set()
        # Changed on the thread only, read by any.
        self._holdings: dict[str, _Holding] = {}
        self._guard = threading.Lock()
        self._paid: dict[str, int] = {}
        self._orders: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._closed = False
        self._beat_at = self._look_at = 0.0
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="ledger-claims", daemon=True)
        self._thread.start()

    @override
    async def take(self, lane: str) -> Tenure | None:
        """See `Claims.take`. A second call of the owner ends its tenure; a new one begins when no paid call runs."""
        answer = self._order(partial(self._take, lane, asyncio.get_running_loop()))
        try:
            return await asyncio.shield(asyncio.wrap_future(answer))
        except asyncio.CancelledError:
            answer.add_done_callback(self._give_back)
            raise

    @override
    async def let_go(self, tenure: Tenure) -> None:
        with suppress(StoreError):
            await asyncio.wrap_future(self._order(partial(self._let_go, tenure)))

    @override
    def is_held(self, tenure: Tenure) -> bool:
        return self._holding(tenure) is not None

    @override
    async def wait_until_lost(self, tenure: Tenure) -> None:
        while (holding := self._holding(tenure)) is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(holding.beaten_at + HELD_SECONDS - now()):
                    await holding.ended.wait()

    @override
    def paid_call(self, tenure: Tenure) -> AbstractContextManager[None]:
        return self._paid_call(tenure)

    async def tell(self, channel: str, message: str) -> None:
        """Send a notice to every process that listens, without waiting behind the ledger's writes."""
        await asyncio.wrap_future(self._order(partial(self._table.tell, channel, message)))

    async def close(self) -> None:
        """Let every lane go, but those in whose name a paid call runs, and end the thread. A second call waits too."""
        if not self._closed:
            self._closed = True
            self._orders.put(None)
        await asyncio.to_thread(self._thread.join)

    def _holding(self, tenure: Tenure) -> _Holding | None:
        holding = self._holdings.get(tenure.lane)
        return holding if holding is not None and holding.tenure == tenure and holding.is_held else None

    @contextmanager
    def _paid_call(self, tenure: Tenure) -> Generator[None]:
        self._check(tenure)
        with self._guard:
            self._paid[tenure.lane] = self._paid.get(tenure.lane, 0) + 1
            self._set_timer()
        try:
            # Again: a process that stands still behind this look has the timer running.
            self._check(tenure)
            yield
        finally:
            with self._guard:
                self._paid[tenure.lane] -= 1
                self._set_timer()

    def _check(self, tenure: Tenure) -> None:
        if not self.is_held(tenure):
            raise NotOurs(f"another process may work on {tenure.lane} now")

    def _set_timer(self) -> None:
        """To the end of the first lease in whose name something is paid. The caller has the guard."""
        holdings = list(self._holdings.items())
        ends = [holding.beaten_at + END_SECONDS for lane, holding in holdings if self._paid.get(lane)]
        if ends:
            self._timer.end_process_at(min(ends))
        elif not any(self._paid.values()):
            self._timer.cancel()

    def _order(self, question: Callable[[], _T]) -> Future[_T]:
        """Have something done on the thread."""
        if self._closed:
            raise StoreError("the ledger is closed")
        answer: Future[_T] = Future()
        self._orders.put(partial(_answer, answer, question))
        return answer

    def _give_back(self, answer: Future[Tenure | None]) -> None:
        """Let go of a lane that was taken for somebody who was cancelled meanwhile."""
        if not answer.cancelled() and answer.exception() is None and (tenure := answer.result()) is not None:
            self._orders.put(partial(self._let_go, tenure))

    # From here on: the thread.

    def _run(self) -> None:
        while True:
            with suppress(queue.Empty):
                order = self._orders.get(timeout=max(min(self._beat_at, self._look_at) - now(), 0.0))
                if order is None:
                    break
                order()
            if now() >= self._beat_at:
                self._beat()
            if now() >= self._look_at:
                self._look_for_wanted()
        self._end()

    def _take(self, lane: str, loop: asyncio.AbstractEventLoop) -> Tenure | None:
        mine = self._holdings.get(lane)
        if mine is not None:
            # First: whoever enters a paid call sees this, or we see them.
            self._over(mine)
        if self._paid.get(lane):
            return None
        looked_at = now()
        sight = self._table.look([lane]).get(lane, FREE)
        is_mine = mine is not None and sight.holder is not None and sight.fence == mine.tenure.fence
        if not is_mine and not self._watch.may_be_taken(lane, sight, looked_at):
            self._watch.note(lane, sight, now())
            self._wanted.add(lane)
            self._look_at = min(self._look_at, now() + LOOK_SECONDS)
            return None
        beaten_at = now()
        try:
            fence = self._table.take(lane, sight)
        except psycopg.errors.LockNotAvailable:
            return None
        if fence is None:
            return None
        self._wanted.discard(lane)
        self._watch.forget(lane)
        tenure = Tenure(lane, fence)
        self._holdings[lane] = _Holding(tenure, beaten_at, loop)
        self._beat_at = min(self._beat_at, beaten_at + BEAT_SECONDS)
        _log.info("works on %s now", lane, extra={"action": "lane_taken", "lane": lane, "fence": fence})
        return tenure

    def _let_go(self, tenure: Tenure) -> None:
        holding = self._holdings.get(tenure.lane)
        if holding is None or holding.tenure != tenure:
            return
        self._over(holding)
        if self._paid.get(tenure.lane):
            return
        del self._holdings[tenure.lane]
        with suppress(psycopg.Error):
            self._table.let_go(tenure.lane, tenure.fence)

    def _beat(self) -> None:
        self._beat_at = now() + BEAT_SECONDS
        for holding in [one for one in self._holdings.values() if not one.is_held and not one.is_over]:
            _log.error(
                "%s is not ours any more: the database did not answer in time",
                holding.tenure.lane,
                extra={"action": "lane_lost"},
            )
            self._over(holding)
        self._forget_ended()
        ours = [holding for holding in self._holdings.values() if not holding.is_over]
        if not ours:
            self._beat_at = now() + _IDLE_SECONDS
            return
        try:
            if not self._table.is_connected:
                self._table.connect()
                self._resume(ours)
            self._beat_for([holding for holding in ours if not holding.is_over])
        except psycopg.Error as error:
            self._bear(error)
        else:
            self._failing = False

    def _beat_for(self, holdings: list[_Holding]) -> None:
        sent_at = now()
        still_ours = self._table.beat({one.tenure.lane: one.tenure.fence for one in holdings})
        with self._guard:
            for holding in holdings:
                if holding.tenure.lane in still_ours:
                    holding.beaten_at = sent_at
            self._set_timer()
        for holding in holdings:
            if holding.tenure.lane not in still_ours:
                self._taken_away(holding)

    def _resume(self, holdings: list[_Holding]) -> None:
        for holding in holdings:
            if not self._table.resume(holding.tenure.lane, holding.tenure.fence):
                self._taken_away(holding)

    def _taken_away(self, holding: _Holding) -> None:
        _log.error("another process took %s", holding.tenure.lane, extra={"action": "lane_lost"})
        self._over(holding)

    def _forget_ended(self) -> None:
        """Give back what is over, once no paid call runs in its name."""
        for lane, holding in list(self._holdings.items()):
            if holding.is_over and not self._paid.get(lane):
                del self._holdings[lane]
                with suppress(psycopg.Error):
                    self._table.let_go(lane, holding.tenure.fence)

    def _bear(self, error: Exception) -> None:
        self._beat_at = now() + _RETRY_SECONDS
        if not self._failing:
            self._failing = True
            what = " and a paid call runs: this process ends with its lease" if any(self._paid.values()) else ""
            _log.warning("no beat: %s%s", translated(error), what, extra={"action": "beat_failed"})

    def _look_for_wanted(self) -> None:
        self._look_at = now() + (LOOK_SECONDS if self._wanted else _IDLE_SECONDS)
        if not self._wanted:
            return
        with suppress(psycopg.Error):
            sights = self._table.look(self._wanted)
            seen_at = now()
            for lane in self._wanted:
                self._watch.note(lane, sights.get(lane, FREE), seen_at)

    def _over(self, holding: _Holding) -> None:
        holding.is_over = True
        # The loop may have ended: nobody waits any more.
        with suppress(RuntimeError):
            holding.loop.call_soon_threadsafe(holding.ended.set)

    def _end(self) -> None:
        for holding in list(self._holdings.values()):
            self._let_go(holding.tenure)
        self._table.close()
        while True:
            try:
                order = self._orders.get_nowait()
            except queue.Empty:
                return
            if order is not None:
                order()


def _answer(answer: Future[_T], question: Callable[[], _T]) -> None:
    if not answer.set_running_or_notify_cancel():
        return
    try:
        answer.set_result(question())
    except Exception as error:  # noqa: BLE001 - raised again where it was asked
        answer.set_exception(translated(error))
