"""Jobs that wait for the account's next submission and can share it.

Where a vendor bears few submissions but takes several circuits in one, jobs for one device, of one validator, with the
same shots and options are submitted together. They wait in memory, unmarked: a stop or a crash loses nothing, they are
submitted later. Only one validator's jobs share a vendor job, so that nobody's circuit can fail another's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from qcompute.circuits.program import JobOptions
from qcompute.errors import VendorError
from qcompute.miner.job import Charge, Job
from qcompute.miner.providers.base import Prepared
from qcompute.units import ExecutionId, Hotkey

LINGER_SECONDS: Final = 0.5
"""How long the first of a pack waits for others: jobs come in bursts and are compiled one after the other, and a vendor
that takes packs makes them wait for much longer."""


@dataclass(slots=True)
class Member:
    """One job of a pack; ``done`` carries what came of its submission to the task that handles it."""

    job: Job
    prepared: Prepared
    charge: Charge | None
    """What is reserved for it, to be stored with the mark."""
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Left(Exception):
    """The daemon stops, and this job was not submitted."""


Submit = Callable[[list[Member]], Awaitable[None]]
Turn = Callable[[], Awaitable[None]]

_Key = tuple[Hotkey, str | None, int, str]


class Packer:
    """Collects members while the account's turn is awaited, ``largest`` at most, and submits them together."""

    def __init__(self, *, largest: int, turn: Turn, submit: Submit) -> None:
        self._largest = largest
        self._turn = turn
        self._submit = submit
        self._open: dict[_Key, list[Member]] = {}
        self._waiting: dict[asyncio.Task[None], list[Member]] = {}
        self._submitting: set[asyncio.Task[None]] = set()
        self._closed = False
        self._alone: set[ExecutionId] = set()

    def alone(self, jobs: list[Job]) -> None:
        """Let each of these be submitted by itself from now on: together they were refused."""
        self._alone.update(job.execution_id for job in jobs)

    def close(self) -> None:
        """Send away whoever still waits; packs being submitted go on."""
        self._closed = True
        for task in list(self._waiting):
            task.cancel()

    async def join(self, job: Job, prepared: Prepared, charge: Charge | None) -> None:
        """Submit ``job`` with whoever else is waiting; returns once its row says what came of it.

        ``charge`` is what is reserved for it.

        Raises:
            Left: the packer was closed first; the job is as it was.
            Unavailable: the account may not submit now.
        """
        if self._closed:
            raise Left
        member = Member(job, prepared, charge)
        if job.execution_id in self._alone or self._largest == 1:
            self._start([member])
        else:
            key = _key(job, prepared)
            pack = self._open.get(key)
            if pack is None or len(pack) >= self._largest:
                pack = self._open[key] = []
                self._start(pack, key)
            pack.append(member)
        await member.done

    def _start(self, pack: list[Member], key: _Key | None = None) -> None:
        task = asyncio.create_task(self._run(pack, key))
        self._waiting[task] = pack
        task.add_done_callback(lambda done: self._waiting.pop(done, None))

    async def _run(self, pack: list[Member], key: _Key | None) -> None:
        try:
            if key is not None:
                await asyncio.sleep(LINGER_SECONDS)
            await self._turn()
        except asyncio.CancelledError:
            _fail(pack, Left())
            return
        except VendorError as error:
            _fail(pack, error)
            return
        finally:
            self._close(pack, key)
        here = [member for member in pack if not member.done.done()]
        task = asyncio.create_task(self._submitted(here))
        self._submitting.add(task)
        task.add_done_callback(self._submitting.discard)

    async def _submitted(self, pack: list[Member]) -> None:
        if not pack:
            return
        self._alone.difference_update(member.job.execution_id for member in pack)
        try:
            await self._submit(pack)
        except Exception as error:  # noqa: BLE001 - it belongs to the tasks that handle the rows
            _fail(pack, error)
        else:
            for member in pack:
                if not member.done.done():
                    member.done.set_result(None)

    def _close(self, pack: list[Member], key: _Key | None) -> None:
        if key is not None and self._open.get(key) is pack:
            del self._open[key]


def _fail(pack: list[Member], error: Exception) -> None:
    for member in pack:
        if not member.done.done():
            member.done.set_exception(error)


def _key(job: Job, prepared: Prepared) -> _Key:
    return job.validator_hotkey, job.device_id, job.shots, _options(prepared.options)


def _options(options: JobOptions) -> str:
    """What of the options goes to the vendor with the job, as one text."""
    return repr((options.optimization_level, options.seed, sorted(options.passed_on.items(), key=lambda item: item[0])))
