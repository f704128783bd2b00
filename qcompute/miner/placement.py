"""Where a job is to run: the ordered candidates, which one is its turn, and why. Pure: no I/O, no clock.

A placement is saved with the row before anything is submitted. Its candidates never change afterwards; only the index
grows, and each step says why. So after a crash the same candidate is looked at again, and nobody can be asked twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from qcompute.errors import Bug
from qcompute.faults import first_fault
from qcompute.units import CURRENCY_PATTERN, Money

MAX_CANDIDATES: Final = 8
"""A job that eight devices did not take will not be taken by the ninth."""

MAX_REFUSALS: Final = 12
"""Refusals that are kept with a job; how many more there were is kept as a number."""

MAX_REASON: Final = 200
"""Characters of a reason; rows are read by the thousand."""


class Policy(StrEnum):
    """By what a device is chosen among those that can run the job. Available ones always go first."""

    ORDER = "order"
    """The operator's order: that of the accounts, and within one that of its devices."""
    FASTEST = "fastest"
    """Where the job is expected to start first."""
    CHEAPEST = "cheapest"
    """Where it is expected to cost least."""
    BEST_FIDELITY = "best_fidelity"
    """Where it is most likely to run without an error, by the device's calibration."""
    ROUND_ROBIN = "round_robin"
    """Spread evenly, by the execution id."""


def clipped(reason: str) -> str:
    """A reason as it is kept: at most `MAX_REASON` characters, all printable (vendors' words may be anything)."""
    if len(reason) <= MAX_REASON and reason.isprintable():
        return reason
    reason = "".join(sign if sign.isprintable() else " " for sign in reason[: MAX_REASON + 1])
    return reason if len(reason) <= MAX_REASON else f"{reason[: MAX_REASON - 1]}…"


Reason = Annotated[str, BeforeValidator(lambda text: clipped(text) if isinstance(text, str) else text)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Price(_Part):
    """An estimate as it is stored: ``amount`` is a decimal text."""

    amount: Decimal
    currency: str = Field(pattern=CURRENCY_PATTERN)

    @classmethod
    def of(cls, money: Money | None) -> Price | None:
        """``money`` in this form."""
        return None if money is None else cls(amount=money.amount, currency=money.currency)

    @property
    def money(self) -> Money:
        """The same amount."""
        return Money(self.amount, self.currency)


class Candidate(_Part):
    """One device of one account. ``reason`` says why it stands where it stands.

    ``fallback_from`` is what the job asked for when this device is only a declared stand-in for it, else None.
    """

    account: str
    device_id: str
    device_type: str
    estimate: Price | None = None
    reason: Reason
    fallback_from: str | None = None

    @property
    def name(self) -> str:
        """How operators and users name it: account and device."""
        return f"{self.account}/{self.device_id}"


class Rejection(_Part):
    """A device, or with ``device_id`` None a whole account, that was not chosen, and why."""

    account: str
    device_id: str | None = None
    reason: Reason

    @property
    def name(self) -> str:
        """See `Candidate.name`."""
        return self.account if self.device_id is None else f"{self.account}/{self.device_id}"


class Placement(_Part):
    """A job's candidates. ``left[k]`` says why candidate k was left; the one whose turn it is comes after those.

    ``asked`` is what was asked for, in words. ``unavailable_since`` is when the current candidate was first found not
    to be available, None while it is.
    """

    version: Literal[1] = 1
    policy: Policy
    asked: Reason
    candidates: tuple[Candidate, ...] = Field(min_length=1, max_length=MAX_CANDIDATES)
    left: tuple[Reason, ...] = ()
    rejections: tuple[Rejection, ...] = Field(default=(), max_length=MAX_REFUSALS)
    rejections_not_kept: int = Field(default=0, ge=0)
    unavailable_since: datetime | None = None

    @model_validator(mode="after")
    def _has_a_current(self) -> Placement:
        if len(self.left) >= len(self.candidates):
            raise ValueError("every candidate was left")
        return self

    @property
    def index(self) -> int:
        """Place of the current candidate, from 0."""
        return len(self.left)

    @property
    def current(self) -> Candidate:
        """The device the job is to be submitted to."""
        return self.candidates[self.index]

    @property
    def is_last(self) -> bool:
        """Whether there is no other to move to."""
        return self.index + 1 == len(self.candidates)

    @property
    def fallback_from(self) -> str | None:
        """What the job asked for and does not get, when the current candidate is a declared stand-in."""
        return self.current.fallback_from

    def next(self, reason: str) -> Placement | None:
        """The placement moved on to the next candidate, the current one left for ``reason``; None after the last."""
        if self.is_last:
            return None
        return self.model_copy(update={"left": (*self.left, clipped(reason)), "unavailable_since": None})

    def waiting(self, since: datetime | None) -> Placement:
        """The placement with the time from which its current candidate has not been available."""
        return self.model_copy(update={"unavailable_since": since})

    def priced(self, estimate: Money | None) -> Placement:
        """The placement with what its current candidate is now expected to cost."""
        at = self.index
        current = self.current.model_copy(update={"estimate": Price.of(estimate)})
        return self.model_copy(update={"candidates": (*self.candidates[:at], current, *self.candidates[at + 1 :])})

    def document(self) -> dict[str, Any]:
        """The placement as a JSON object, as the ledger keeps it; written at most some 14,000 characters."""
        return self.model_dump(mode="json", exclude_none=True)

    @classmethod
    def of(cls, document: dict[str, Any] | None) -> Placement | None:
        """The placement `document` wrote; None for None.

        Raises:
            Bug: it is something else.
        """
        if document is None:
            return None
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            raise Bug(f"the stored placement cannot be read: {first_fault(error)}") from None


NOT_CHOSEN: Final = "not_chosen"
"""Where the outcome of a job that no device could run keeps which there were; see `not_chosen`."""
_NOT_KEPT: Final = "not_chosen_not_kept"


def not_chosen(rejections: Sequence[Rejection]) -> dict[str, Any]:
    """What is kept with the outcome of a job that has no placement, because nobody could run it."""
    kept = [one.model_dump(mode="json", exclude_none=True) for one in rejections[:MAX_REFUSALS]]
    return {NOT_CHOSEN: kept, _NOT_KEPT: max(len(rejections) - MAX_REFUSALS, 0)}


def kept_not_chosen(metadata: Mapping[str, Any]) -> tuple[list[Rejection], int]:
    """What `not_chosen` kept, and how many more there were; none of an outcome that has no such thing.

    Raises:
        Bug: it is something else.
    """
    try:
        kept = [Rejection.model_validate(one) for one in metadata.get(NOT_CHOSEN, ())]
    except (ValidationError, TypeError):
        raise Bug("the stored reasons why no device was chosen cannot be read") from None
    more = metadata.get(_NOT_KEPT, 0)
    return kept, more if isinstance(more, int) else 0
