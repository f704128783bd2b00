"""Follows jobs live, by looking at the ledger again and again: it works beside any daemon and holds up none."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Any, Final

from qcompute.console.exit_codes import ExitCode
from qcompute.console.output import Output, Style
from qcompute.console.rows import Rows
from qcompute.miner.commands import CommandRefused
from qcompute.miner.job import Job, State, Verdict
from qcompute.units import utc_now

LOOK_SECONDS: Final = 0.5

_OVERLAP: Final = timedelta(seconds=10)
"""How far behind the last look closed jobs are looked for: the daemon's clock and commit are not ours."""

_Seen = tuple[State, Verdict | None, str | None, str | None]


def follow(rows: Rows, execution_id: str | None, output: Output, *, limit_seconds: float | None) -> ExitCode:
    """Tell every step of every job, or of one until it is closed, until the limit is over."""
    started = time.monotonic()
    seen: dict[str, _Seen] = {}
    since = utc_now() if execution_id is None else utc_now() - timedelta(days=366)
    while True:
        looked_at = utc_now()
        for job in _now(rows, execution_id, since):
            step = (job.state, job.verdict, job.vendor_status, job.error_code)
            if seen.get(job.execution_id) != step:
                seen[job.execution_id] = step
                _tell(job, looked_at, output)
            if job.execution_id == execution_id and job.state is State.CLOSED:
                return ExitCode.DONE if job.verdict is Verdict.SUCCEEDED else ExitCode.FAILED
        since = looked_at - _OVERLAP if execution_id is None else since
        if limit_seconds is not None and time.monotonic() - started + LOOK_SECONDS > limit_seconds:
            return ExitCode.DONE
        time.sleep(LOOK_SECONDS)


def _now(rows: Rows, execution_id: str | None, since: datetime) -> list[Job]:
    if execution_id is None:
        return rows.moving(since)
    job = rows.job(execution_id)
    if job is None:
        raise CommandRefused(f"there is no job {execution_id} in {rows.name}")
    return [job]


def _tell(job: Job, at: datetime, output: Output) -> None:
    if output.as_json:
        output.record(_record(job, at))
        return
    place = "/".join(part for part in (job.provider, job.device_id) if part)
    words = [f"{at:%H:%M:%S}", job.execution_id, f"{job.state:<10}", job.verdict or "", place, job.vendor_status or ""]
    problem = f"{job.error_code}: {job.error}" if job.error_code else ""
    output.line("  ".join(word for word in (*words, problem) if word), _style(job))


def _record(job: Job, at: datetime) -> dict[str, Any]:
    return {
        "at": at,
        "execution_id": job.execution_id,
        "state": job.state,
        "verdict": job.verdict,
        "provider": job.provider,
        "device_id": job.device_id,
        "vendor_status": job.vendor_status,
        "error_code": job.error_code,
        "error": job.error,
    }


def _style(job: Job) -> Style:
    if job.state is State.HELD:
        return Style.BAD
    if job.verdict is Verdict.SUCCEEDED:
        return Style.GOOD
    return Style.WARNING if job.error_code or job.verdict else Style.PLAIN
