"""When a job whose submit provably did not happen may go on to its next candidate, and as what row. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import assert_never

from qcompute.miner.job import Job
from qcompute.miner.placement import Placement
from qcompute.units import DeviceId, ProviderKey


class Cause(StrEnum):
    """Why the current candidate will not do."""

    REFUSED = "refused"
    """It says no to this job, and would again."""
    ACCOUNT = "account"
    """Its account may do nothing now: not let in, spent, over its budget."""
    AWAY = "away"
    """It is offline, or does not answer."""


def onward(job: Job, cause: Cause, message: str, now: datetime, *, patience: timedelta) -> Job | None:
    """The row of the next candidate, or None while the job stays where it is.

    A refusal moves it at once. An account that can do nothing moves it at once to another device of the asked type,
    and to a declared stand-in only after ``patience``: a stand-in is for when nothing else can be used. A candidate
    that is away gets ``patience`` in any case.
    """
    placement = Placement.of(job.placement)
    moved = None if placement is None else placement.next(message)
    if placement is None or moved is None:
        return None
    match cause:
        case Cause.REFUSED:
            waits = False
        case Cause.ACCOUNT:
            waits = moved.fallback_from != placement.fallback_from
        case Cause.AWAY:
            waits = True
        case _:
            assert_never(cause)
    if waits and now - (placement.unavailable_since or now) < patience:
        return None
    there = moved.current
    return replace(
        job,
        provider=ProviderKey(there.account),
        device_id=DeviceId(there.device_id),
        placement=moved.document(),
        estimate=None if there.estimate is None else there.estimate.money,
        submit_started_at=None,
        prepared=None,
        attempts=0,
        due_at=now,
        error_code=None,
        error=None,
    )


def staying(job: Job, now: datetime) -> Job:
    """``job`` with the time from which its candidate could not be used, where there is another to go to."""
    placement = Placement.of(job.placement)
    if placement is None or placement.is_last or placement.unavailable_since is not None:
        return job
    return replace(job, placement=placement.waiting(now).document())


def has_another(job: Job) -> bool:
    """Whether there is a candidate after the current one."""
    placement = Placement.of(job.placement)
    return placement is not None and not placement.is_last
