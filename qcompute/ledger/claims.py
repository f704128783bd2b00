"""Who works on what: a lane of the ledger belongs to one process at a time.

A lane is an account's name, or another name for work that only one process may do. Whoever takes one gets a `Tenure`
with a fencing number that is greater than every one before, and hands it in with each write: the ledger refuses what is
written under an older one. SQLite has one daemon, which gets every lane at once (`SoleClaims`); processes on one
Postgres take turns (`qcompute.ledger.postgres_claims`).
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Final

from typing_extensions import override

from qcompute.errors import StaleRow, Unavailable


class Fenced(StaleRow):
    """Another process took the lane since; nothing was written."""

    code = "fenced"

    def __init__(self, lane: str) -> None:
        super().__init__(f"another process works on {lane} now")


class NotOurs(Unavailable):
    """The lane may be another process's by now, so the paid call was not made: provably nothing was created."""

    code = "not_ours"


@dataclass(frozen=True, slots=True)
class Tenure:
    """The time for which a lane is ours. ``fence`` grows with each tenure of the lane."""

    lane: str
    fence: int


class Claims(ABC):
    """One process's claims. Methods but `is_held` and `paid_call` belong to the event loop."""

    @abstractmethod
    async def take(self, lane: str) -> Tenure | None:
        """Become the one who works on ``lane``; None while another process does, or may.

        Raises:
            StoreError: the database failed.
        """

    @abstractmethod
    async def let_go(self, tenure: Tenure) -> None:
        """Leave the lane to whoever wants it, at once. Call it when nothing is done in its name any more.

        A no-op for a tenure that is over. Never raises: a lane that could not be let go is free after the lease.
        """

    @abstractmethod
    def is_held(self, tenure: Tenure) -> bool:
        """Whether the lane is certainly still ours, now. Any thread may ask."""

    @abstractmethod
    async def wait_until_lost(self, tenure: Tenure) -> None:
        """Return when the lane is not certainly ours any more; at once when it is not."""

    @abstractmethod
    def paid_call(self, tenure: Tenure) -> AbstractContextManager[None]:
        """Surrounds a call that costs money, in the thread that makes it.

        A process that stands still inside, for longer than its lease, does not go on: it ends before it can send
        anything, because another process may be looking for the job by then.

        Raises:
            NotOurs: on entering, when the lane is not certainly ours.
        """


class SoleClaims(Claims):
    """The claims of a process that has the ledger to itself. ``claim`` raises a lane's fence and returns it."""

    def __init__(self, claim: Callable[[str, str], Awaitable[int]]) -> None:
        self._claim = claim

    @override
    async def take(self, lane: str) -> Tenure | None:
        return Tenure(lane, await self._claim(lane, SOLE_HOLDER))

    @override
    async def let_go(self, tenure: Tenure) -> None:
        """See `Claims.let_go`. Nobody else could take it."""

    @override
    def is_held(self, tenure: Tenure) -> bool:
        return True

    @override
    async def wait_until_lost(self, tenure: Tenure) -> None:
        await asyncio.Event().wait()

    @override
    def paid_call(self, tenure: Tenure) -> AbstractContextManager[None]:
        return nullcontext()


SOLE_HOLDER: Final = "the only process"
