"""A job in words: its road with durations, why it is where it is, what went wrong and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from qcompute.errors import Bug
from qcompute.miner.job import Charge, Job, Outcome, State
from qcompute.miner.operator import job_document
from qcompute.miner.placement import NOT_CHOSEN, Placement, Rejection, kept_not_chosen
from qcompute.units import Money

ADVICE: Final[Mapping[str, str]] = {
    "submit_unknown": "look at the vendor's list of jobs around the time of the submit; see the choices of a held job",
    "other_provider": "set the account up again (PROVIDER, or its table in [[cluster.nodes]]), then release the job",
    "no_handle": "find the job in the vendor's list and adopt it",
    "restored": "look at the vendor's list of jobs; when the problem names the vendor's job, adopt that",
    "imported": "find the job in the vendor's list and adopt it, or fail it: its circuit is not here",
    "bad_reply": "release the job to try again, and report the log line: the adapter does not understand the vendor",
    "unknown_status": "look the job up at the vendor; report its word, which the adapter does not know",
    "delivery_failed": "nothing: delivery is tried until it works; look whether jobserver.url answers",
    "upload_refused": "nothing: a new upload URL is asked for; if it lasts, ask whoever runs the job server",
    "fetch_failed": "nothing: the circuit's host is asked again until miner.fetch_deadline_seconds",
    "fetch_refused": "if the host is one of yours, allow it in download.allow_hosts; otherwise nothing",
    "unavailable": "nothing: it is tried again; `qcompute devices` shows what the vendor says",
    "auth_failed": "renew the account's credentials: its provider's how-to page says where they are read",
    "quota_spent": "raise the quota at the vendor, or wait for its next period",
    "budget_spent": "wait for the next day or month, or raise budget.per_day or budget.per_month",
    "over_budget": "raise budget.per_job if such jobs are wanted",
    "no_estimate": "set the device's prices, or budget.unpriced_cost",
    "sandbox_unavailable": "look for memory and processes on this machine: no sandbox could be started",
    "deadline": "look at the device's queue; miner.job_deadline_seconds says how long a job may take",
    "dry_run": "switch miner.dry_run off to submit jobs",
    "lost_job": "nothing: it cost nothing and is submitted again",
    "no_device": "`qcompute devices` shows what this miner has; the job asked for something else",
    "store_error": "look at the disk and at `qcompute ledger check`",
    "bug": "report the log's traceback of this job; it is tried again",
    "cancelling": "nothing: the vendor is asked to cancel until it has",
    "released": "nothing: the operator let it go on",
    "adopted": "nothing: the vendor's job is waited for",
    "operator": "nothing: an operator decided so",
}
"""What an operator does about a problem, by its code."""

_REFUSED: Final = "nothing: the circuit or its options cannot be run here, and its user is told so"
_UNKNOWN: Final = "look at the daemon's log: `qcompute logs --job ID`"


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a job's road. ``seconds`` is how long it took since the step before it."""

    name: str
    at: datetime
    seconds: float | None
    note: str


@dataclass(frozen=True, slots=True)
class Choice:
    """What an operator can do with a held job, what that does, and the money at stake."""

    command: str
    effect: str
    money: str


def road_of(job: Job) -> list[Step]:
    """The steps a job has taken, in the order of their times."""
    place = "/".join(part for part in (job.provider, job.device_id) if part)
    there = "the first of its parts" if job.provider_job_id is None else f"it is {job.provider_job_id} there"
    times = (
        ("received", job.received_at, f"from validator {job.validator_hotkey}"),
        ("submit started", job.submit_started_at, f"to {place}, try {job.submit_attempts}"),
        ("submitted", job.submitted_at, there),
        ("cancel asked", job.cancel_requested_at, "the vendor is asked to cancel"),
        ("settled", job.settled_at, f"{job.verdict or ''}"),
        ("closed", job.closed_at, "validators may collect it" if job.parent_id is None else "a part of a job"),
    )
    steps: list[Step] = []
    for name, at, note in sorted(((n, t, w) for n, t, w in times if t is not None), key=lambda step: step[1]):
        before = (at - steps[-1].at).total_seconds() if steps else None
        steps.append(Step(name, at, before, note))
    return steps


def advice_of(job: Job) -> str | None:
    """What to do about a job's problem; None when it has none."""
    if job.error_code is None:
        return None
    if job.error_code in ADVICE:
        return ADVICE[job.error_code]
    return _REFUSED if job.verdict == "refused" else _UNKNOWN


def held_because(job: Job) -> list[str]:
    """What happened to a held job."""
    if job.handle is not None or job.provider_job_id is not None:
        where = f"It is job {job.provider_job_id} at {job.provider}: it was submitted, and its result cannot be had."
    elif job.submit_started_at is not None:
        where = (
            f"A paid submit to {job.provider} began at {job.submit_started_at:%Y-%m-%d %H:%M:%S} UTC, and it is not "
            "known whether the vendor has the job. Going on alone could pay twice."
        )
    else:
        where = "It is not known whether it was ever submitted."
    return [
        where,
        f"{job.error_code}: {job.error}",
        f"Undecided it ends as failed at {job.due_at:%Y-%m-%d %H:%M:%S} UTC; nothing is submitted again.",
    ]


def choices_of(job: Job, charge: Charge | None, again: Callable[[str], str]) -> list[Choice]:
    """The ways on for a held job, the safest first; ``again`` adds to a command which miner is meant."""
    price = _price(job.estimate or (charge.money if charge is not None else None))
    name = job.execution_id
    if job.handle is not None:
        return [
            Choice(again(f"qcompute jobs release {name}"), "ask the vendor for its result again", "nothing more"),
            _fail(name, price, again),
        ]
    return [
        Choice(
            again(f"qcompute jobs adopt {name} PROVIDER_JOB_ID"),
            "you have found it in the vendor's list: wait for that job and deliver its result",
            f"nothing more: {price} is due for the job you found",
        ),
        Choice(
            again(f"qcompute jobs release {name}"),
            "look for it at the vendor again; held again when that cannot be told",
            "nothing more: a release alone never pays a second time",
        ),
        Choice(
            again(f"qcompute jobs release {name} --never-submitted"),
            "you have seen that the vendor has no such job: submit it",
            f"{price}; if the vendor has it after all you pay twice",
        ),
        _fail(name, price, again),
    ]


def _fail(name: str, price: str, again: Callable[[str], str]) -> Choice:
    return Choice(
        again(f'qcompute jobs fail {name} --reason "…"'),
        "end it as failed; its user is told the reason, and nothing is cancelled at the vendor",
        f"what the vendor has is still to be paid: up to {price}",
    )


def _price(money: Money | None) -> str:
    return "a cost nobody knows" if money is None else str(money)


def placement_of(job: Job) -> Placement | None:
    """Why the job is where it is; None when that was not chosen yet or cannot be read."""
    try:
        return Placement.of(job.placement)
    except Bug:
        return None


def placement_words(placement: Placement) -> list[str]:
    """The choice of the device, one line for each candidate and each device that was not one."""
    lines = [f"asked for: {placement.asked}; policy: {placement.policy}"]
    for place, candidate in enumerate(placement.candidates):
        price = "" if candidate.estimate is None else f", expected to cost {candidate.estimate.money}"
        if place < placement.index:
            said = f"left: {placement.left[place]}"
        else:
            said = "chosen" if place == placement.index else "next"
        stand_in = "" if candidate.fallback_from is None else f", in place of {candidate.fallback_from}"
        lines.append(f"{said}: {candidate.name} ({candidate.reason}{price}{stand_in})")
    return [*lines, *_rejection_words(placement.rejections, placement.rejections_not_kept)]


def nowhere_words(outcome: Outcome) -> list[str]:
    """Why each device was not chosen for a job that none could run; empty for any other."""
    try:
        return _rejection_words(*kept_not_chosen(outcome.metadata))
    except Bug:
        return []


def _rejection_words(rejections: Sequence[Rejection], more: int) -> list[str]:
    lines = [f"not chosen: {rejection.name}: {rejection.reason}" for rejection in rejections]
    return [*lines, f"and {more} more that were not chosen"] if more else lines


def shown_job(
    job: Job, outcome: Outcome | None, charge: Charge | None, parts: Sequence[Job], again: Callable[[str], str]
) -> dict[str, Any]:
    """All that ``jobs show --json`` says: the fields of the operator port, and what is said here of them."""
    return {
        **job_document(job),
        "parent_id": job.parent_id,
        "submit_started_at": job.submit_started_at,
        "cancel_requested_at": job.cancel_requested_at,
        "estimate": _money_document(job.estimate),
        "charge": None if charge is None else {**_money(charge.money), "is_settled": charge.settled_at is not None},
        "timeline": [{"step": s.name, "at": s.at, "seconds": s.seconds, "note": s.note} for s in road_of(job)],
        "advice": advice_of(job),
        "choices": [
            {"command": one.command, "effect": one.effect, "money": one.money} for one in choices_of(job, charge, again)
        ]
        if job.state is State.HELD
        else [],
        "outcome": None if outcome is None else _outcome_document(outcome),
        "parts": [part.execution_id for part in parts],
    }


def _outcome_document(outcome: Outcome) -> dict[str, Any]:
    return {
        "counts": outcome.counts,
        "counts_source": outcome.counts_source,
        "shots_returned": outcome.shots_returned,
        "cost": _money_document(outcome.cost),
        "cost_kind": outcome.cost_kind,
        "message": outcome.message,
        "timestamps": outcome.timestamps,
        "not_chosen": outcome.metadata.get(NOT_CHOSEN, []),
    }


def _money_document(money: Money | None) -> dict[str, str] | None:
    return None if money is None else _money(money)


def _money(money: Money) -> dict[str, str]:
    return {"amount": str(money.amount), "currency": money.currency}
