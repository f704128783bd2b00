"""A request of the operator's that is made of many jobs, and what its jobs are called.

The id of a job follows from the id of its request, its number there, and how often that part was tried before. So a
command that was killed, or that lost the daemon, may say everything again: what is here is not made a second time.
"""

from __future__ import annotations

import secrets
import time
import uuid
from datetime import UTC, datetime
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from qcompute.protocol import OWN_PREFIX
from qcompute.units import ExecutionId

MAX_PARTS: Final = 10_000
"""Jobs of one request, and parts that are asked about at once."""

MAX_TRIES: Final = 100

_VERSION: Final = 7
_VERSION_AND_VARIANT: Final = (_VERSION << 76) | (0b10 << 62)
_RANDOM: Final = (0xFFF << 64) | ((1 << 62) - 1)
_TIME_SHIFT: Final = 80


class PartOf(BaseModel):
    """The place of a job in a request: number ``number``, tried for the ``attempt``-th time after the first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    request: uuid.UUID
    number: int = Field(ge=0, lt=MAX_PARTS)
    attempt: int = Field(default=0, ge=0, lt=MAX_TRIES)

    @property
    def execution_id(self) -> ExecutionId:
        """What its job is called."""
        name = f"{self.number}" if self.attempt == 0 else f"{self.number}.{self.attempt}"
        return ExecutionId(f"{OWN_PREFIX}{uuid.uuid5(self.request, name)}")


def new_request_id() -> uuid.UUID:
    """A UUID that says when it was made: version 7 of RFC 9562, which Python 3.11 does not make."""
    milliseconds = time.time_ns() // 1_000_000
    return uuid.UUID(int=(milliseconds << _TIME_SHIFT) | _VERSION_AND_VARIANT | (secrets.randbits(128) & _RANDOM))


def made_at(request: uuid.UUID) -> datetime | None:
    """When the id of a request was made, to the millisecond; None of a UUID that does not say so."""
    if request.version != _VERSION:
        return None
    return datetime.fromtimestamp((request.int >> _TIME_SHIFT) / 1000, UTC)
