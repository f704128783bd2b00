"""The loop every stage runs: take rows that are due, do one thing with each, leave each in a later state.

A stage keeps nothing that a restart would lose: what it is doing stands in the rows. Within one daemon a row is
handled by one task at a time, because only its state's stage takes it and that remembers what it has taken.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar, Final

from qcompute.errors import Bug, StaleRow, StoreError
from qcompute.miner.job import NOBODYS_LANE, Job, State
from qcompute.miner.road import Road
from qcompute.units import ExecutionId

_log = logging.getLogger(__name__)

LOOK_AGAIN_SECONDS: Final = 30.0
"""Rows become due by the clock as well as by arriving; a wake-up costs one index look-up."""

BUSY_LOOK_SECONDS: Final = 0.5
"""The same while rows are in hand: slow ones must not keep others waiting."""

RELOOK_SECONDS: Final = 0.1
"""Between two looks while rows in hand come to an end."""

STORE_PATIENCE_SECONDS: Final = 60.0
"""A database that fails for so long ends the daemon; the process manager starts it again."""

STORE_PAUSE_SECONDS: Final = 1.0
"""Between two tries of a database that fails."""

LOOK_AHEAD: Final = 4
"""A look fetches so many times the rows that may be in hand at once."""

MOST_HEARD: Final = 1000
"""So many rows handed over by other stages wait in memory to be taken; more wait in the table."""

BUG_PAUSE_SECONDS: Final = 30.0
BUG_PAUSE_MAX_SECONDS: Final = 3600.0


class Stage(ABC):
    """One step of the road. ``concurrency`` bounds the rows handled at once; ``lane`` says whose rows they are."""

    state: ClassVar[State]

    def __init__(self, road: Road, *, concurrency: int, lane: str = NOBODYS_LANE) -> None:
        self.road = road
        self.lane = lane
        self._concurrency = concurrency
        self._backlog: dict[ExecutionId, Job] = {}
        self._taken: dict[ExecutionId, asyncio.Task[None]] = {}
        self._poke = asyncio.Event()
        self._stopping = False
        self._store_failing_since: float | None = None
        self._looked_at = 0.0
        self._look_at = 0.0
        self._is_looking = False
        self._is_behind = True
        self._heard: set[ExecutionId] = set()
        self._heard_at = math.inf
        self._has_ended = False

    @abstractmethod
    async def handle(self, job: Job) -> None:
        """Do this stage's one thing with ``job`` and save what came of it."""

    def due_until(self) -> datetime:
        """Rows due until then are taken by the look that is about to be made."""
        return self.road.clock()

    async def run(self) -> None:
        """Work until `stop`.

        Raises:
            StoreError: the database kept failing for `STORE_PATIENCE_SECONDS`.
        """
        with self.road.ledger.hearing(self.state, self._hear, lane=self.lane):
            while not self._stopping:
                try:
                    if self._is_time_to_look():
                        await self._look_for_rows()
                except StoreError as error:
                    await self._bear(error)
                    continue
                self._store_failing_since = None
                self._start_rows()
                await self._sleep()

    async def stop(self) -> None:
        """Take no more rows and wait until those taken are left in a stored state. The caller sets the limit."""
        self._stopping = True
        self._poke.set()
        while self._taken:
            await asyncio.wait(list(self._taken.values()))

    def abandon(self) -> None:
        """Drop the rows in hand, as a crash would: they are another process's now. Nothing is stored for them."""
        self._stopping = True
        self._backlog.clear()
        for task in self._taken.values():
            task.cancel()

    @property
    def name(self) -> str:
        """For people."""
        return f"stage {self.state}" + (f" of {self.lane}" if self.lane else "")

    @property
    def busy(self) -> int:
        """Rows being handled now."""
        return len(self._taken)

    def _is_time_to_look(self) -> bool:
        can_take = not self._backlog and len(self._taken) < self._concurrency
        return can_take and asyncio.get_running_loop().time() >= min(self._look_at, self._heard_at)

    async def _look_for_rows(self) -> None:
        """Fetch what is due, and note when to look again."""
        self._heard.clear()
        self._heard_at = math.inf
        self._is_looking = True
        try:
            await self._fetch_rows()
        except StoreError:
            self._heard_at = 0.0
            raise
        finally:
            self._is_looking = False

    async def _fetch_rows(self) -> None:
        # A row in hand is still due in the table. If it is done by the time the answer is here, the answer shows it as
        # it was before, and handling that once more would, say, upload a result twice.
        in_hand = frozenset(self._taken)
        limit = self._most_fetched()
        rows = await self.road.ledger.due(self.state, self.due_until(), limit, lane=self.lane, skip=in_hand)
        # What was heard of meanwhile is newer than the answer.
        self._backlog.update((job.execution_id, job) for job in rows if job.execution_id not in self._heard)
        # A full answer may have left some behind: they are looked for as soon as these are taken.
        self._is_behind = len(rows) == limit
        pause = 0.0 if self._is_behind else await self._pause_seconds()
        self._looked_at = asyncio.get_running_loop().time()
        self._look_at = self._looked_at + pause

    def _most_fetched(self) -> int:
        """How many rows the look that is being made asks for."""
        return LOOK_AHEAD * self._concurrency

    def _start_rows(self) -> None:
        while self._backlog and len(self._taken) < self._concurrency and not self._stopping:
            execution_id = next(iter(self._backlog))
            job = self._backlog.pop(execution_id)
            self._taken[execution_id] = asyncio.create_task(self._guarded(job))

    def _hear(self, jobs: Sequence[Job] | None) -> None:
        """Take up what has just been stored for this stage, without a look at the table."""
        loop_now = asyncio.get_running_loop().time()
        if jobs is None or len(self._backlog) >= MOST_HEARD:
            self._is_behind = True
            self._heard_at = loop_now
        elif self._is_looking or not self._is_behind:
            now = self.road.clock()
            for job in jobs:
                if self._is_looking:
                    self._heard.add(job.execution_id)
                self._backlog.pop(job.execution_id, None)
                if job.due_at > now:
                    due_at = loop_now + (job.due_at - now).total_seconds()
                    self._heard_at = min(self._heard_at, max(due_at, self._looked_at + RELOOK_SECONDS))
                elif job.execution_id not in self._taken:
                    self._backlog[job.execution_id] = job
        # Else rows that have been due for longer are in the table, and these are found behind them.
        self._poke.set()

    async def _pause_seconds(self) -> float:
        """How long nothing can become due unless a row arrives or one in hand is left here for later."""
        next_due_at = await self.road.ledger.next_due_at(self.state, lane=self.lane)
        if next_due_at is None:
            return LOOK_AGAIN_SECONDS
        left = (next_due_at - self.road.clock()).total_seconds()
        if left <= 0 and (self._taken or self._backlog):
            # Rows in hand are still due in the table, and may hide one that becomes due behind them.
            return BUSY_LOOK_SECONDS
        return min(max(left, 0.0), LOOK_AGAIN_SECONDS)

    async def _sleep(self) -> None:
        """Until a row arrives, one in hand comes to its end, or it is time to look."""
        loop = asyncio.get_running_loop()
        is_full = self._backlog or len(self._taken) >= self._concurrency
        wake_at = loop.time() + LOOK_AGAIN_SECONDS if is_full else min(self._look_at, self._heard_at)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(wake_at):
                await self._poke.wait()
        self._poke.clear()
        if self._has_ended:
            # A row that was in hand may be due again soon. A thousand of them end in a second, so not at each.
            self._has_ended = False
            self._look_at = min(self._look_at, max(self._looked_at + RELOOK_SECONDS, loop.time()))

    async def _guarded(self, job: Job) -> None:
        try:
            await self.handle(job)
        except StaleRow:
            _log.debug("dropped: the row moved on", extra={"action": "stale", "execution_id": job.execution_id})
        except StoreError as error:
            # Nothing was written, so the row is still ours to take; the loop decides how long to bear it.
            _log.warning("%s", error, extra={"action": "store_failed", "execution_id": job.execution_id})
            await asyncio.sleep(STORE_PAUSE_SECONDS)
        except Exception:  # noqa: BLE001 - a bug met in one job must not stop the others
            await self._bug(job)
        finally:
            del self._taken[job.execution_id]
            self._has_ended = True
            self._poke.set()

    async def _bug(self, job: Job) -> None:
        _log.exception(
            "an unexpected error in stage %s; trying again later",
            self.state,
            extra={"action": "bug", "execution_id": job.execution_id},
        )
        with contextlib.suppress(StoreError):
            fresh = await self.road.ledger.get(job.execution_id)
            if fresh is not None and (fresh.state, fresh.lane) == (self.state, self.lane):
                await self.road.again(
                    fresh,
                    code=Bug.code,
                    message="an internal error of the miner; see its log",
                    first_seconds=BUG_PAUSE_SECONDS,
                    longest_seconds=BUG_PAUSE_MAX_SECONDS,
                )

    async def _bear(self, error: StoreError) -> None:
        now = asyncio.get_running_loop().time()
        if self._store_failing_since is None:
            self._store_failing_since = now
            _log.error("stage %s: %s", self.state, error, extra={"action": "store_failed"})
        elif now - self._store_failing_since > STORE_PATIENCE_SECONDS:
            raise error
        await asyncio.sleep(STORE_PAUSE_SECONDS)
