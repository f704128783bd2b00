"""Jobs whose adapter says that they have ended: told by its threads, heard on the event loop, found without a look.

Polling stays as the safety net: whatever is not told, or told of a row that is not remembered here, is found by it.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from typing import Final

from qcompute.miner.job import Job
from qcompute.units import ExecutionId

Hear = Callable[[Sequence[str]], None]

MOST_REMEMBERED: Final = 4000
"""Rows that wait are remembered to be found by their vendor's job; of more of them, those that came first."""


class EndNews:
    """Carries the names of the vendor's jobs that have ended from any thread to the event loop, many in one call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._names: list[str] = []
        self._hearer: tuple[asyncio.AbstractEventLoop, Hear] | None = None

    def tell(self, provider_job_id: str) -> None:
        """A job has ended. Nothing is kept while nobody hears."""
        with self._lock:
            if self._hearer is None:
                return
            self._names.append(provider_job_id)
            if len(self._names) > 1:
                return  # whoever told the first of them has asked for the hand-over
            loop, _ = self._hearer
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(self._hand_over)

    @contextlib.contextmanager
    def heard(self, hear: Hear) -> Generator[None]:
        """Call ``hear`` on the running event loop with what is told inside the block; who came later is called."""
        mine = (asyncio.get_running_loop(), hear)
        with self._lock:
            self._hearer, self._names = mine, []
        try:
            yield
        finally:
            with self._lock:
                if self._hearer is mine:
                    self._hearer, self._names = None, []

    def _hand_over(self) -> None:
        with self._lock:
            names, self._names = self._names, []
            hearer = self._hearer
        if hearer is not None and names:
            hearer[1](names)


class EndedRows:
    """The rows that wait for vendor's jobs, as last stored, and those of them whose job has ended.

    A job may end before its row says that it waits for it, and while its row is in hand. Of rows that share one
    vendor's job one is found.
    """

    def __init__(self, most: int = MOST_REMEMBERED) -> None:
        self._most = most
        self._waiting: dict[str, Job] = {}
        self._early: dict[str, None] = {}
        self._ended: dict[ExecutionId, Job] = {}

    def waits(self, job: Job) -> bool:
        """``job`` has just been stored in this form; whether what it waits for has ended already."""
        name = job.provider_job_id
        if name is None:
            return False
        if name in self._early:
            del self._early[name]
            self._ended[job.execution_id] = job
            return True
        if name in self._waiting or len(self._waiting) < self._most:
            self._waiting[name] = job
        return False

    def forget(self, job: Job) -> None:
        """``job`` is in hand: it is stored anew, or waits no more."""
        if job.provider_job_id is not None:
            self._waiting.pop(job.provider_job_id, None)

    def heard(self, names: Iterable[str]) -> None:
        """The vendor's jobs of these names have ended."""
        for name in names:
            job = self._waiting.pop(name, None)
            if job is not None:
                self._ended[job.execution_id] = job
                continue
            self._early[name] = None
            while len(self._early) > self._most:
                del self._early[next(iter(self._early))]

    def take(self, in_hand: Collection[ExecutionId]) -> list[Job]:
        """Rows whose job has ended, each given out once, and none that is in hand."""
        if not self._ended:
            return []
        free = [job for name, job in self._ended.items() if name not in in_hand]
        for job in free:
            del self._ended[job.execution_id]
        return free
