"""Jobs that wait at their vendor and are asked for from memory: their rows are written once in a long while.

When a row of ten thousand that wait is asked for next would be ten thousand writes a poll, for nothing that anybody
reads: after a restart every job that waits is asked for at once anyway. So the row is told to rest, and what asking
needs stays here. Whoever begins to work on an account asks for the rows that rest too, as nobody rests them any more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from heapq import heappop, heappush
from typing import Any, Final, NamedTuple

import orjson
from pydantic import TypeAdapter

from qcompute.ledger.contract import Poll
from qcompute.miner.providers.base import JobHandle
from qcompute.units import ExecutionId

REST: Final = timedelta(minutes=10)
"""A row rests for so long at most: what is forgotten here by mistake is found in the table again."""

FIRST_REST: Final = 2 * REST
"""Rows of whoever worked on the account before rest past `REST` from now where their clock was ahead. So we look for
them until then, and let ours rest for longer meanwhile, to be told from them."""

MOST_RESTING: Final = 200_000
"""Half a kilobyte each. Of more jobs, each has its next time written at every poll."""

_HANDLES: Final = TypeAdapter(list[JobHandle])


class Asked(NamedTuple):
    """A job to be asked for. ``handle`` is the JSON of its JobHandle without the measurement, which no poll needs."""

    execution_id: ExecutionId
    version: int
    handle: str
    vendor_status: str | None
    submitted_at: datetime
    rests_until: datetime | None
    """Its row is not due before; None where it is due."""


class Resting:
    """Who rests, found by when each is asked for next."""

    def __init__(self, most: int = MOST_RESTING) -> None:
        self._most = most
        self._jobs: dict[ExecutionId, tuple[datetime, Asked]] = {}
        self._due: defaultdict[datetime, list[ExecutionId]] = defaultdict(list)
        self._times: list[datetime] = []

    @property
    def is_full(self) -> bool:
        """Whether no more can rest."""
        return len(self._jobs) >= self._most

    @property
    def next_due_at(self) -> datetime | None:
        """A time before which nobody is to be asked for; None while nobody rests."""
        return self._times[0] if self._times else None

    def keep(self, job: Asked, due_at: datetime) -> None:
        """Ask for ``job`` at that time."""
        if due_at not in self._due:
            heappush(self._times, due_at)
        self._due[due_at].append(job.execution_id)
        self._jobs[job.execution_id] = due_at, job

    def forget(self, execution_id: ExecutionId) -> None:
        """Its row is in hand, or has changed; a no-op for who does not rest."""
        self._jobs.pop(execution_id, None)

    def take(self, now: datetime, most: int) -> list[Asked]:
        """Those to be asked for by now, ``most`` of them. They rest no more."""
        taken: list[Asked] = []
        while self._times and self._times[0] <= now and len(taken) < most:
            due_at = self._times[0]
            names = self._due[due_at]
            while names and len(taken) < most:
                at, job = self._jobs.get(names[-1], (None, None))
                if at == due_at and job is not None:  # else it was forgotten, and kept for another time perhaps
                    del self._jobs[names[-1]]
                    taken.append(job)
                names.pop()
            if not names:
                del self._due[heappop(self._times)]
        return taken


def asked_from(polls: Sequence[Poll], now: datetime, *, rested_until: datetime | None = None) -> list[Asked]:
    """Rows as they are asked for."""
    return [
        Asked(one.execution_id, one.version, _to_poll(one.handle), one.vendor_status, _before(now, one), rested_until)
        for one in polls
    ]


def handles_of(jobs: Sequence[Asked]) -> list[JobHandle]:
    """Their handles, in order."""
    documents: list[dict[str, Any]] = [orjson.loads(job.handle) for job in jobs]
    return _HANDLES.validate_python(documents)


def _to_poll(handle: str) -> str:
    words = orjson.loads(handle)
    words.pop("measurement", None)
    return orjson.dumps(words).decode()  # its bytes keep the four kilobytes they were written into


def _before(now: datetime, poll: Poll) -> datetime:
    return now - timedelta(seconds=poll.age_seconds)
