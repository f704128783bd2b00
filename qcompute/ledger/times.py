"""Times as the ledger stores them: whole microseconds since 1970 in UTC, which sort as they are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from qcompute.errors import Bug

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

DAY_MICROS: Final = 86_400_000_000
"""Microseconds of a UTC day; there are no leap seconds in these times."""


def micros(time: datetime) -> int:
    """Microseconds since 1970.

    Raises:
        Bug: the time says no time zone, so it is no point in time.
    """
    if time.tzinfo is None:
        raise Bug("a time without a time zone cannot be stored")
    return (time - _EPOCH) // _MICROSECOND


def from_micros(value: int) -> datetime:
    """The aware UTC time."""
    return _EPOCH + timedelta(microseconds=value)
