"""What is asked of a list of jobs, and what it answers. Loads no database: settings and commands import it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from qcompute.miner.job import State, Verdict
from qcompute.units import DeviceId, ExecutionId, Hotkey, ProviderJobId, ProviderKey

OPEN_STATES: Final = tuple(state for state in State if state is not State.CLOSED)


@dataclass(frozen=True, slots=True)
class Wish:
    """Which jobs are wanted; what is None or empty is no condition. Case of ASCII letters in ``text`` is ignored."""

    state: State | None = None
    verdict: Verdict | None = None
    provider: ProviderKey | None = None
    validator: Hotkey | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class JobLine:
    """What a list shows of a job; field meanings are those of `qcompute.miner.job.Job`."""

    execution_id: ExecutionId
    validator_hotkey: Hotkey
    shots: int
    state: State
    verdict: Verdict | None
    provider: ProviderKey | None
    device_id: DeviceId | None
    provider_job_id: ProviderJobId | None
    received_at: datetime
    due_at: datetime
    settled_at: datetime | None
    closed_at: datetime | None
    cursor_seq: int | None
    error_code: str | None
    error: str | None


@dataclass(frozen=True, slots=True)
class ClosedJobs:
    """Some closed jobs, latest first; ``below`` continues behind them, None when there are no more to look at."""

    lines: list[JobLine]
    below: int | None
