"""Polls that share a vendor call: whoever asks while a turn is awaited comes along."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from qcompute.errors import VendorError
from qcompute.miner.providers.base import BaseExecutionStatus, JobHandle

Status = BaseExecutionStatus | Exception
Ask = Callable[[list[JobHandle]], Awaitable[list[Status]]]
Turn = Callable[[], Awaitable[None]]


class PollQueue:
    """Handles waiting for the account's next poll, ``size`` at most in one call.

    Calls do not wait for one another, only for their turns; the slower the account must be asked, the more handles each
    call carries.
    """

    def __init__(self, *, size: int, turn: Turn, ask: Ask) -> None:
        self._size = max(size, 1)
        self._turn = turn
        self._ask = ask
        self._waiting: list[tuple[JobHandle, asyncio.Future[Status]]] = []
        self._serving: asyncio.Task[None] | None = None
        self._calls: set[asyncio.Task[None]] = set()

    async def status(self, handle: JobHandle) -> Status:
        """The handle's status, or what asking for it raised, as a value."""
        future: asyncio.Future[Status] = asyncio.get_running_loop().create_future()
        self._waiting.append((handle, future))
        if self._serving is None:
            self._serving = asyncio.create_task(self._serve())
        return await future

    async def _serve(self) -> None:
        try:
            await asyncio.sleep(0)  # lets every row taken in this turn of the loop join
            while self._waiting:
                try:
                    await self._turn()
                except VendorError as error:
                    everyone, self._waiting = self._waiting, []
                    _answer(everyone, [error] * len(everyone))
                    continue
                batch, self._waiting = self._waiting[: self._size], self._waiting[self._size :]
                call = asyncio.create_task(self._call(batch))
                self._calls.add(call)
                call.add_done_callback(self._calls.discard)
        finally:
            self._serving = None

    async def _call(self, batch: list[tuple[JobHandle, asyncio.Future[Status]]]) -> None:
        _answer(batch, await self._ask([handle for handle, _ in batch]))


def _answer(batch: list[tuple[JobHandle, asyncio.Future[Status]]], answers: list[Status]) -> None:
    for (_, future), answer in zip(batch, answers, strict=True):
        if not future.done():
            future.set_result(answer)
