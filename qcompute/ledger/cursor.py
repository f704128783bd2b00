"""A validator's place in the order in which jobs were closed, as text.

The validator keeps the text in a SQLite column of numeric affinity, so anything that looks like a number comes back as
one and ends the validator; and cursors of the reference miner (``YYYY-MM-DD HH:MM:SS``, first ``0000-00-00 00:00:00``)
are already stored there (wire study 4.2). Ours is ``YYYY-MM-DD HH:MM:SS.ffffff|<ledger id>|<seq>``: it begins like
theirs, so old and new compare as text, and it is never a number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from qcompute.ledger.times import micros

_OURS = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6})\|([0-9a-f]+)\|(\d{1,18})", re.ASCII)
_LEADING_TIME = re.compile(r"\s*(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the order of closing: behind the job numbered ``seq``, closed at ``micros`` (microseconds UTC).

    Both numbers grow strictly from one closed job to the next, so each alone would do. A job lies behind a place when
    *either* of its numbers is greater: should the two disagree (a ledger brought back from a backup counts again from
    an earlier number), the earlier place wins and jobs are sent twice, never missed.
    """

    seq: int
    micros: int

    def is_before(self, other: Place) -> bool:
        """Whether ``other`` lies behind this place."""
        return other.seq > self.seq or other.micros > self.micros

    def next(self, now: datetime) -> Place:
        """The place of the job closed next; a clock that stands still or steps back does not turn the order."""
        return Place(self.seq + 1, max(micros(now), self.micros + 1))


START: Final = Place(0, 0)
"""Before every job."""

_ANY_SEQ: Final = 2**62
"""Greater than every number: a place known by its time alone."""


def write_cursor(seq: int, closed_at: datetime, ledger_id: str) -> str:
    """The text a validator keeps to continue behind the job with this number."""
    return f"{closed_at:%Y-%m-%d %H:%M:%S.%f}|{ledger_id}|{seq}"


def read_cursor(text: str, ledger_id: str, latest_us: int) -> Place:
    """The place a validator's text means to the ledger with this id; never raises.

    ``latest_us`` is the latest time a job can have been closed. A foreign cursor beyond it was made by another clock
    and says nothing about our jobs, so it is read from the start.
    """
    ours = _OURS.fullmatch(text)
    if ours is not None and ours[2] == ledger_id:
        closed_us = _parse(ours[1])
        return START if closed_us is None else Place(int(ours[3]), closed_us)
    leading = _LEADING_TIME.match(text)
    second_us = _parse(f"{leading[1]} {leading[2]}") if leading is not None else None
    if second_us is None or second_us > latest_us:
        return START
    return Place(_ANY_SEQ, second_us - 1)


def _parse(text: str) -> int | None:
    try:
        return micros(datetime.fromisoformat(f"{text}+00:00"))
    except ValueError:
        return None
