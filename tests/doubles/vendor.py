"""What all doubles of vendors share: a real HTTP server in a thread of its own, its job table, and ordered faults.

A double holds its table in the test's process, so it outlives a daemon that is killed, and every job that reaches it is
a row, wanted or not. It proves our client's side only: what the vendor's server does is the vendor's to say.
"""

from __future__ import annotations

import asyncio
import threading
import time
from abc import abstractmethod
from collections.abc import Coroutine, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self, TypeVar

from aiohttp import web

from qcompute.local.service import Fault, FaultKind, LocalService

T = TypeVar("T")

START_SECONDS = 10.0


@dataclass(slots=True)
class VendorJob:
    """One row of the vendor's own table. ``word`` is the vendor's status word; times are seconds since 1970."""

    job_id: str
    device: str
    shots: int
    request: Any
    word: str
    created: float = field(default_factory=time.time)
    started: float | None = None
    ended: float | None = None
    result: Any = None
    failure: str | None = None

    @property
    def created_at(self) -> datetime:
        """Aware UTC."""
        return datetime.fromtimestamp(self.created, UTC)


class VendorDouble(LocalService):
    """A vendor. Use it as a context manager; ``url`` is its base.

    ``queue_seconds`` and ``run_seconds`` are how long jobs take; `hold` keeps those that come from ending;
    ``list_lag_seconds`` hides young jobs from lists.
    """

    def __init__(self, *, queue_seconds: float = 0.02, run_seconds: float = 0.02) -> None:
        super().__init__()
        self.queue_seconds = queue_seconds
        self.run_seconds = run_seconds
        self.list_lag_seconds = 0.0
        self.latency_seconds = 0.0
        self.jobs: dict[str, VendorJob] = {}
        self._may_go = asyncio.Event()
        self._may_go.set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @abstractmethod
    async def execute(self, job: VendorJob) -> Any:
        """What the job's result is; raises for a job that fails."""

    def words(self) -> tuple[str, str, str, str, str]:
        """The vendor's words for queued, running, completed, failed and cancelled."""
        return ("queued", "running", "completed", "failed", "canceled")

    @property
    def created(self) -> int:
        """Jobs that ever reached this vendor: what an operator would pay for."""
        return len(self.jobs)

    def asked_for(self, match: str) -> int:
        """How many requests had ``match`` in their ``METHOD /path``."""
        return sum(match in f"{one.method} {one.path}" for one in list(self.asked))

    @contextmanager
    def hold(self) -> Generator[None]:
        """Jobs that come meanwhile stay queued until the end."""
        self.call(self._let_go(False))
        try:
            yield
        finally:
            self.call(self._let_go(True))

    async def _let_go(self, may_go: bool) -> None:  # noqa: FBT001
        if may_go:
            self._may_go.set()
        else:
            self._may_go.clear()

    def fault(self, match: str, kind: FaultKind, **more: Any) -> Fault:
        """Order a fault and return it."""
        ordered = Fault(match, kind, **more)
        self.faults.append(ordered)
        return ordered

    def add(self, job: VendorJob) -> VendorJob:
        """Take a job in and let it run its course; called from handlers."""
        self.jobs[job.job_id] = job
        task = asyncio.get_running_loop().create_task(self._run(job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return job

    def cancel_job(self, job: VendorJob) -> bool:
        """Whether it had not ended."""
        *_, cancelled = self.words()
        if job.ended is not None:
            return False
        job.word, job.ended = cancelled, time.time()
        return True

    def listed(self) -> list[VendorJob]:
        """What lists show, newest first."""
        newest = time.time() - self.list_lag_seconds
        return sorted((job for job in self.jobs.values() if job.created <= newest), key=lambda job: -job.created)

    async def _run(self, job: VendorJob) -> None:
        _, running, completed, failed, _ = self.words()
        await asyncio.sleep(self.queue_seconds)
        await self._may_go.wait()
        if job.ended is not None:
            return
        job.word, job.started = running, time.time()
        await asyncio.sleep(self.run_seconds)
        try:
            result = await self.execute(job)
        except Exception as error:  # noqa: BLE001 - a vendor reports whatever went wrong
            result, job.failure = None, f"{type(error).__name__}: {error}"
        if job.ended is None:
            job.result, job.ended = result, time.time()
            job.word = failed if job.failure is not None else completed

    def __enter__(self) -> Self:
        started = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(started,), name=type(self).__name__, daemon=True)
        self._thread.start()
        if not started.wait(START_SECONDS):
            raise TimeoutError("the double did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
        if self._thread is not None:
            self._thread.join(START_SECONDS)

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the server's loop, from the test's thread."""
        if self._loop is None:
            raise RuntimeError("the double is not running")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(START_SECONDS)

    def _serve(self, started: threading.Event) -> None:
        with asyncio.Runner() as runner:
            self._loop = runner.get_loop()
            runner.run(self.start())
            self._loop.call_soon(started.set)
            self._loop.run_forever()
            runner.run(self._end())

    async def _end(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.stop()

    @web.middleware
    async def _middleware(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if self.latency_seconds:
            await asyncio.sleep(self.latency_seconds)
        return await super()._middleware(request, handler)
