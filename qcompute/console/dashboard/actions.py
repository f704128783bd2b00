"""What an operator may do with a job from the page: the commands of ADR 0014, each with a question first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError

from qcompute.errors import Rejected
from qcompute.faults import first_fault
from qcompute.miner.commands import AboutJob, Adopt, Cancel, Fail, Release, RetryDelivery
from qcompute.miner.job import Job, State


class WrongField(Rejected):
    """A field of the form will not do."""

    code = "wrong_field"


@dataclass(frozen=True, slots=True)
class Action:
    """One button. ``asks`` are the fields of its form; ``danger``: it cannot be taken back, or may cost money."""

    name: str
    title: str
    question: str
    asks: tuple[str, ...]
    danger: bool = False


RELEASE: Final = Action(
    "release",
    "Release",
    "The job goes on where it was held: one that has a vendor's job is polled again, one that may have been submitted "
    "is looked for again.",
    ("never_submitted", "reason"),
)
FAIL: Final = Action(
    "fail", "Fail", "The job ends as failed, and its user is told the reason.", ("required_reason",), danger=True
)
ADOPT: Final = Action(
    "adopt",
    "Adopt",
    "The vendor's job of this id is taken for it. Look twice: another's job gives this one another's result.",
    ("provider_job_id", "reason"),
    danger=True,
)

CANCEL: Final = Action(
    "cancel",
    "Cancel",
    "The job is called off: at once while it is not submitted, by way of its vendor afterwards. What the vendor has "
    "begun may have to be paid, and may still complete.",
    ("reason",),
    danger=True,
)
RETRY: Final = Action(
    "retry",
    "Retry the delivery",
    "The delivery of its result is tried now, instead of after the pause.",
    (),
)

ACTIONS: Final[Mapping[str, Action]] = {action.name: action for action in (RELEASE, FAIL, ADOPT, CANCEL, RETRY)}

_NOT_ENDED: Final = frozenset({State.ACCEPTED, State.READY, State.SUBMITTING, State.WAITING})


def actions_for(job: Job) -> list[Action]:
    """What may be done with a job now."""
    if job.state is State.HELD:
        return [RELEASE, FAIL, ADOPT]
    if job.state is State.SETTLED:
        return [RETRY]
    return [CANCEL] if job.state in _NOT_ENDED and job.parent_id is None else []


def command_of(action: Action, job: Job, fields: Mapping[str, str]) -> AboutJob:
    """The command a form asks for.

    Raises:
        WrongField: a field is missing or too long; the message names it.
    """
    name, reason = job.execution_id, fields.get("reason", "").strip()
    try:
        match action.name:
            case "release":
                return Release(execution_id=name, reason=reason, never_submitted=fields.get("never_submitted") == "yes")
            case "fail":
                return Fail(execution_id=name, reason=reason)
            case "cancel":
                return Cancel(execution_id=name, reason=reason)
            case "retry":
                return RetryDelivery(execution_id=name)
            case _:
                vendors = fields.get("provider_job_id", "").strip()
                return Adopt(execution_id=name, reason=reason, provider_job_id=vendors)
    except ValidationError as error:
        raise WrongField(first_fault(error)) from None
