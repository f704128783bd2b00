"""A thread that owns a database connection, and the way from the event loop to it and back.

The event loop never waits for the database and the thread never touches the loop's objects: calls gathered during one
turn of the loop are handed over together, and the answers to one batch come back together.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future as ThreadFuture
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from qcompute.errors import StoreError
from qcompute.ledger.failures import SQLITE_FAILURES, Failures

_log = logging.getLogger(__name__)

TaskT = TypeVar("TaskT")
TaskT_contra = TypeVar("TaskT_contra", contravariant=True)

_Entry: TypeAlias = tuple[TaskT, asyncio.Future[Any]]
_Batch: TypeAlias = list[_Entry[TaskT]]


def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Done:
    """A batch that is over: an answer for each task, an exception where it failed, and what the loop must know."""

    answers: Sequence[Any]
    tell: Callable[[], None] = _nothing
    """Called on the event loop before any caller goes on."""


class Actor(Protocol[TaskT_contra]):
    """What a worker does; every method is called on its thread."""

    def open(self) -> None:
        """Get ready; an error here ends the worker and is raised by `Worker.start`."""
        ...

    def work(self, tasks: Sequence[TaskT_contra]) -> Done:
        """Do all tasks or, raising, none of them; they are then done one by one."""
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...


class Worker(Generic[TaskT]):
    """Runs an actor on a thread of its own. At most ``max_pending`` tasks are under way; further callers wait."""

    def __init__(
        self,
        name: str,
        actor: Actor[TaskT],
        *,
        max_pending: int,
        batch_limit: int,
        failures: Failures = SQLITE_FAILURES,
    ) -> None:
        self._actor = actor
        self._failures = failures
        self._batch_limit = batch_limit
        self._max_pending = max_pending
        self._slots = asyncio.Semaphore(max_pending)
        self._gathered: _Batch[TaskT] = []
        self._inbox: SimpleQueue[_Batch[TaskT] | None] = SimpleQueue()
        self._stopping = False
        self._load = 0
        # A daemon thread, so that a program that forgets to close its ledger can still end: nothing that was not
        # committed was acknowledged.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._ready: ThreadFuture[None] = ThreadFuture()

    @property
    def load(self) -> int:
        """Tasks under way."""
        return self._load

    def start(self) -> None:
        """Start the thread and wait until its actor is open; raises what opening raised."""
        self._thread.start()
        try:
            self._ready.result()
        except BaseException:
            self._thread.join()
            raise

    async def do(self, task: TaskT) -> Any:  # noqa: ANN401 - each kind of task has its own answer
        """Hand a task over and return its answer. A cancelled caller does not take its task back.

        Raises:
            StoreError: the worker is stopping, or the database failed.
        """
        if self._stopping:
            raise StoreError("the ledger is closed")
        await self._slots.acquire()
        self._load += 1
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        if not self._gathered:
            loop.call_soon(self._hand_over)
        self._gathered.append((task, answer))
        return await answer

    async def stop(self) -> None:
        """Finish every task under way, then end the thread."""
        self._stopping = True
        # Slots are given in order, so holding all of them means that nobody who came before still waits.
        for _ in range(self._max_pending):
            await self._slots.acquire()
        await asyncio.to_thread(self.abandon)

    def abandon(self) -> None:
        """End the thread after the tasks it has; blocks until then, so it is for a worker that nobody waits for."""
        self._inbox.put(None)
        self._thread.join()

    def _hand_over(self) -> None:
        self._inbox.put(self._gathered)
        self._gathered = []

    def _run(self) -> None:
        try:
            self._actor.open()
        except BaseException as error:  # noqa: BLE001 - raised again by start, on the caller's thread
            self._actor.close()
            self._ready.set_exception(self._failures.translated(error) if isinstance(error, Exception) else error)
            return
        self._ready.set_result(None)
        waiting: deque[_Entry[TaskT]] = deque()
        more = True
        while more or waiting:
            more = more and self._take(waiting)
            batch = [waiting.popleft() for _ in range(min(len(waiting), self._batch_limit))]
            if batch:
                self._report(batch)
        self._actor.close()

    def _take(self, waiting: deque[_Entry[TaskT]]) -> bool:
        """Move what has arrived into ``waiting``, blocking while that is empty; False when nothing more will come."""
        while True:
            try:
                arrived = self._inbox.get(block=not waiting)
            except Empty:
                return True
            if arrived is None:
                return False
            waiting.extend(arrived)

    def _report(self, batch: _Batch[TaskT]) -> None:
        loop = batch[0][1].get_loop()
        for done, entries in self._outcomes(batch):
            try:
                loop.call_soon_threadsafe(self._finish, done, entries)
            except RuntimeError:
                _log.warning("an answer came after the end of the event loop", extra={"action": "ledger_orphan"})

    def _outcomes(self, batch: _Batch[TaskT]) -> Iterator[tuple[Done, _Batch[TaskT]]]:
        tried = self._attempt(batch)
        if isinstance(tried, Done):
            yield tried, batch
        elif len(batch) == 1 or self._failures.is_general(tried):
            yield Done([self._failures.translated(tried) for _ in batch]), batch
        else:
            yield from self._singly(batch)

    def _singly(self, batch: _Batch[TaskT]) -> Iterator[tuple[Done, _Batch[TaskT]]]:
        """Task by task, so that the bad one of a batch harms no other; a locked file would make each wait as long."""
        for place, entry in enumerate(batch):
            tried = self._attempt([entry])
            if isinstance(tried, Done):
                yield tried, [entry]
                continue
            rest = batch[place:] if self._failures.is_general(tried) else [entry]
            yield Done([self._failures.translated(tried) for _ in rest]), rest
            if self._failures.is_general(tried):
                return

    def _attempt(self, batch: _Batch[TaskT]) -> Done | Exception:
        try:
            return self._actor.work([task for task, _ in batch])
        except Exception as error:  # noqa: BLE001 - handed to the callers whose tasks these are
            return error

    def _finish(self, done: Done, entries: _Batch[TaskT]) -> None:
        done.tell()
        for (_, future), answer in zip(entries, done.answers, strict=True):
            self._slots.release()
            self._load -= 1
            if future.done():
                continue
            if isinstance(answer, BaseException):
                future.set_exception(answer)
            else:
                future.set_result(answer)
