"""How values are shown: times, durations, texts of strangers cut to size, and what to do about a problem."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from qcompute.miner.job import Job, State

MAX_TEXT: Final = 4000
"""Characters of a vendor's or a validator's words on a page."""

MAX_DOCUMENT: Final = 20_000
"""Characters of a JSON document on a page."""

NOTHING: Final = "\N{EN DASH}"
"""Where there is no value."""

MINUTE: Final = 60
HOUR: Final = 3600
DAY: Final = 86400
_SUB_MINUTE_DIGITS: Final = 10


def duration(seconds: float | None) -> str:
    """A duration in words of two units at most."""
    if seconds is None:
        return NOTHING
    seconds = max(seconds, 0.0)
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < MINUTE:
        return f"{seconds:.1f} s" if seconds < _SUB_MINUTE_DIGITS else f"{seconds:.0f} s"
    whole = int(seconds)
    if whole < HOUR:
        return f"{whole // MINUTE} min {whole % MINUTE} s"
    if whole < DAY:
        return f"{whole // HOUR} h {whole % HOUR // MINUTE} min"
    return f"{whole // DAY} d {whole % DAY // HOUR} h"


def moment(at: datetime | None) -> str:
    """A time in UTC, to the second."""
    return NOTHING if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def words(text: str | None, most: int = MAX_TEXT) -> str:
    """A stranger's text: at most so long, with what cannot be printed made visible."""
    if not text:
        return ""
    kept = visible(text[:most])
    return kept if len(text) <= most else f"{kept}… ({len(text) - most} more characters)"


def visible(text: str) -> str:
    """A text whose characters can all be seen: none that turns the direction of writing, or commands a terminal."""
    if text.isprintable() or text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join(sign if sign.isprintable() or sign in "\n\t" else "\N{REPLACEMENT CHARACTER}" for sign in text)


def document(value: Mapping[str, Any] | None) -> str:
    """A mapping as indented JSON."""
    return words(json.dumps(value, indent=2, ensure_ascii=False, default=str), MAX_DOCUMENT) if value else ""


@dataclass(frozen=True, slots=True)
class Step:
    """A stretch of a job's road. ``seconds`` is how long it took, or has taken; ``share`` of the whole, 0 to 1."""

    title: str
    began: datetime
    ended: datetime | None
    seconds: float
    offset: float
    share: float


def road(job: Job, now: datetime) -> list[Step]:
    """A job's road from the request to the delivery, as far as it has come."""
    marks = [
        ("Circuit fetched, device chosen", job.received_at),
        ("Handed to the vendor", job.submit_started_at),
        ("Queued and run by the vendor", job.submitted_at),
        ("Result delivered", job.settled_at),
    ]
    reached = [(title, at) for title, at in marks if at is not None]
    end = job.closed_at or now
    whole = max((end - job.received_at).total_seconds(), 1e-6)
    steps: list[Step] = []
    for place, (title, began) in enumerate(reached):
        is_last = place + 1 == len(reached)
        ended = job.closed_at if is_last else reached[place + 1][1]
        seconds = max(((ended or now) - began).total_seconds(), 0.0)
        offset = max((began - job.received_at).total_seconds(), 0.0) / whole
        steps.append(Step(title, began, ended, seconds, min(offset, 1.0), min(seconds / whole, 1.0)))
    return steps


_ADVICE: Final[Mapping[str, str]] = {
    "submit_unknown": "Look at the vendor's own list of jobs. If the job is there, adopt it with the vendor's id; if "
    "it surely is not, release it as never submitted; else fail it.",
    "lost_job": "The vendor no longer knows this job. Look in its console; adopt the job if it has another id there, "
    "or fail it.",
    "unknown_status": "The vendor uses a status word this miner does not know. Look at the job in the vendor's "
    "console, then release it, or fail it.",
    "other_provider": "The account this job was given to is not configured any more. Bring it back, or fail the job.",
    "auth_failed": "The vendor does not accept our credentials: renew them, then restart or test the connection.",
    "quota_spent": "The account may not spend more at the vendor: raise its quota there, or wait for the next period.",
    "budget_spent": "The budget you set has no room. It goes on in the next period, or raise budget.per_day.",
    "dry_run": "Nothing is submitted while miner.dry_run is set.",
    "deadline": "The job did not end before its deadline. Nothing is to be done.",
    "bad_reply": "The vendor answered what this miner does not understand; it is tried again a few times.",
    "unavailable": "The vendor could not be reached; it is tried again by itself.",
    "delivery": "The job server or the store of results did not take it; it is tried again by itself, nothing is lost.",
    "upload_refused": "The place for the result was refused; a new one is asked for by itself.",
    "fetch_failed": "The host of the circuit did not answer well; it is tried again until the deadline.",
    "sandbox_unavailable": "No child process could be started: look at memory and the number of processes.",
    "store_error": "The ledger's disk or database fails: look at free space, permissions and the log.",
    "bug": "This is a mistake in qcompute: please report it with the log of this job.",
}

_HELD: Final = (
    "It waits for you: look at the vendor's own list of jobs first, then release, adopt or fail it. After its deadline "
    "it is failed by itself."
)
_BY_ITSELF: Final = "Nothing is to be done: it goes on by itself."


def advice(job: Job) -> str | None:
    """What the operator can do about the last problem of a job; None when there is none."""
    if job.state is State.HELD:
        return _ADVICE.get(job.error_code or "", _HELD)
    if job.error_code is None:
        return None
    if job.state is State.CLOSED:
        return _ADVICE.get(job.error_code)
    return _ADVICE.get(job.error_code, _BY_ITSELF)
