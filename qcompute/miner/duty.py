"""Work that only one process may do at a time: an account's, and what all jobs share.

A duty takes the claim on its lane, does its work while the lane is ours, and starts over when it was lost. Where one
daemon has the ledger to itself every claim is given at once and never lost; on a shared ledger (ADR 0004) a process
that does not get it stands by. What a lost tenure left unfinished stands in the rows, for whoever has the lane now.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeVar

from qcompute.errors import QComputeError, StoreError
from qcompute.ledger.claims import Claims, Tenure
from qcompute.miner.stage import STORE_PATIENCE_SECONDS, STORE_PAUSE_SECONDS, Stage

_log = logging.getLogger(__name__)

T = TypeVar("T")

ROAD_LANE: Final = "@road"
"""The lane of the work that belongs to no account: downloads, routing, deliveries, reports. No account has such a
name."""

TAKE_SECONDS: Final = 0.5
"""How often a process that stands by looks whether it may take over."""

Part = Callable[[], Awaitable[None]]


class SideTaskEnded(QComputeError):
    """A side task of the daemon ended by itself."""

    code = "side_task_ended"


@dataclass(frozen=True, slots=True)
class Shift:
    """What is done under one tenure: stages, and tasks beside them, each with its name."""

    stages: Sequence[Stage]
    tasks: list[tuple[str, Part]] = field(default_factory=list[tuple[str, Part]])

    def parts(self) -> list[tuple[str, Part]]:
        """Everything that runs until it is told to stop."""
        return [*((stage.name, stage.run) for stage in self.stages), *self.tasks]


class Duty:
    """Does the work of one lane whenever it is ours. ``begin`` makes the parts of a tenure; it may read the ledger."""

    def __init__(self, claims: Claims, lane: str, begin: Callable[[Tenure], Awaitable[Shift]]) -> None:
        self.lane = lane
        self._claims = claims
        self._begin = begin
        self._stopping = asyncio.Event()
        self._tenure: Tenure | None = None
        self._shift: Shift | None = None
        self._failing_since: float | None = None

    @property
    def stopping(self) -> asyncio.Event:
        """Set once `stop` was called."""
        return self._stopping

    @property
    def is_ours(self) -> bool:
        """Whether this process does the work now."""
        return self._tenure is not None

    async def run(self) -> None:
        """Work until `stop`, which ends it with the caller's cancelling.

        Raises:
            SideTaskEnded: a part of the work ended by itself, in a group.
            StoreError: the database kept failing.
        """
        while not self._stopping.is_set():
            tenure = await self._bearing(self._take)
            if tenure is None:
                await self._pause(TAKE_SECONDS)
                continue
            shift = await self._bearing(partial(self._begin, tenure))
            if shift is not None:
                await self._work(tenure, shift)
        await asyncio.Event().wait()

    async def stop(self) -> None:
        """Take no more rows, and wait until those taken are left in a stored state. The caller sets the limit."""
        self._stopping.set()
        if self._shift is not None:
            await asyncio.gather(*(stage.stop() for stage in self._shift.stages))

    async def let_go(self) -> None:
        """Leave the lane to another process at once. Call it after `stop`; a no-op while rows are still in hand."""
        if self._tenure is None or self._shift is None or any(stage.busy for stage in self._shift.stages):
            return
        tenure, self._tenure = self._tenure, None
        await self._claims.let_go(tenure)

    async def _take(self) -> Tenure | None:
        tenure = await self._claims.take(self.lane)
        self._failing_since = None
        return tenure

    async def _work(self, tenure: Tenure, shift: Shift) -> None:
        self._tenure, self._shift = tenure, shift
        lost = asyncio.create_task(self._claims.wait_until_lost(tenure))
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(must_run(name, part, self._stopping), name=name) for name, part in shift.parts()
                ]
                await lost
                _log.warning(
                    "this process does not work on %s any more: another one does, or the database cannot be reached",
                    self.lane,
                    extra={"action": "lost", "lane": self.lane},
                )
                for task in tasks:
                    task.cancel()
        finally:
            lost.cancel()
            if not self._stopping.is_set():
                self._tenure = self._shift = None
                for stage in shift.stages:
                    stage.abandon()

    async def _bearing(self, step: Callable[[], Awaitable[T | None]]) -> T | None:
        """What ``step`` answers; None, after a pause, when the database fails and that is still to be borne."""
        try:
            return await step()
        except StoreError as error:
            now = asyncio.get_running_loop().time()
            if self._failing_since is None:
                self._failing_since = now
                _log.error("%s: %s", self.lane, error, extra={"action": "store_failed", "lane": self.lane})
            elif now - self._failing_since > STORE_PATIENCE_SECONDS:
                raise
            await self._pause(STORE_PAUSE_SECONDS)
            return None

    async def _pause(self, seconds: float) -> None:
        await asyncio.wait([asyncio.ensure_future(self._stopping.wait())], timeout=seconds)


async def must_run(name: str, part: Part, stopping: asyncio.Event) -> None:
    """Run a part that may not end before ``stopping`` is set.

    Raises:
        SideTaskEnded: it did; the message says how.
        BaseExceptionGroup: as the part raised it, with such errors in it.
    """
    try:
        await part()
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if stopping.is_set() or task is None or task.cancelling():
            raise
        # Not from us, so it came out of the part. A task group takes it for an orderly end and says nothing.
        raise SideTaskEnded(f"side task {name} was cancelled from within") from error
    except BaseExceptionGroup:
        raise
    except Exception as error:
        raise SideTaskEnded(f"side task {name} died: {type(error).__name__}: {error}") from error
    if not stopping.is_set():
        raise SideTaskEnded(f"side task {name} ended by itself")
