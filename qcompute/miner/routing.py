"""How a device is chosen: from what is known of every account's devices to an ordered list with reasons. Pure.

`ranked` is given one `Option` for each device, those that cannot run the job too, each with its reason, and answers a
`Placement`, or an `Unplaced` that says why there is none and whether waiting may help. It does no I/O and reads no
clock, so the same facts always give the same order.

What stands above every policy:

- a device that is available goes before one that is not;
- a device of another type than the job asks for is never chosen, unless the operator declared it as a fallback, and
  then only behind all devices of the asked type (`RoutingSettings.fallback`);
- amounts in different currencies are never compared, and what is not known goes last, with the reason.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Final, assert_never

from pydantic import BaseModel, ConfigDict, Field

from qcompute.circuits.program import JobOptions
from qcompute.circuits.success import Success
from qcompute.errors import CannotRun
from qcompute.miner.placement import MAX_CANDIDATES, MAX_REFUSALS, Candidate, Placement, Policy, Price, Rejection
from qcompute.units import CURRENCY_PATTERN, ExecutionId, Money

TYPICAL_JOB_SECONDS: Final = 10.0
"""What a job ahead in a queue takes where nobody says it: about a thousand shots with their overhead on hardware."""

NO_DEVICE: Final = "this miner has no device"

TAG_PREFIX: Final = "tag:"
"""Before a tag in ``routing.fallback``, to tell it from an account or a device."""


class DeviceType(StrEnum):
    """What kind of device may answer."""

    QPU = "QPU"
    SIMULATOR = "SIMULATOR"
    ANY = "any"


class RoutingSettings(BaseModel):
    """How a device is chosen where there are several, in one account or in many."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: Policy = Policy.ORDER
    """``order``: the first in the operator's order; ``fastest``: where it starts first; ``cheapest``;
    ``best_fidelity``: most likely without an error, by calibration; ``round_robin``: spread evenly. Available devices
    go first. A job may name another in ``configuration_data.routing_policy``."""

    device_type: DeviceType | None = None
    """What answers jobs: ``QPU``, ``SIMULATOR``, or ``any`` of them. None is the type of the first device in the
    operator's order. A job that names one device in ``configuration_data.device`` gets that one whatever its type."""

    fallback: tuple[str, ...] = ()
    """Stand-ins of another type, in this order, for when no device of the asked type can be used: accounts, devices
    (``account/device``) or tags (``tag:NAME``). Empty: such jobs wait. The receipt tells that a stand-in answered. A
    name that is in no account ends the start."""

    currency: str = Field(default="USD", pattern=CURRENCY_PATTERN)
    """What ``cheapest`` compares in. Prices in another currency or unit go last: they are never converted."""

    split_shots_from: int | None = Field(default=None, ge=2)
    """Jobs with at least so many shots are split over all nodes alike, where a simulator has several: processes of one
    account, and accounts of one adapter with the same device. None: only jobs that ask for it, in
    ``configuration_data.split``. Each part is a job of its own there, with its own fee."""

    max_unavailable_seconds: float = Field(default=600, ge=0)
    """A job waits so long for a device that is offline or an account that cannot be asked, before the next
    candidate's turn. Without another it waits on."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a device cannot run a job.

    ``is_for_now``: asking again later may give another answer, after ``until`` at the latest where that is known.
    """

    code: str
    message: str
    is_for_now: bool = False
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Option:
    """What is known of one device for one job; None is "not known".

    ``place`` is its place in the operator's order, over all accounts. An account that cannot be asked for its devices
    is one option with ``device_id`` and ``device_type`` None and a refusal. ``queue_seconds`` is the vendor's own
    estimate; without one it is made of ``pending_jobs``, the ``unseen_jobs`` of ours that are not among them yet, and
    ``job_seconds`` for each. ``success`` is an estimate or why there is none. ``is_prepared``: the circuit was made
    ready for it, so ``estimate`` and ``refusal`` are the last word.
    """

    account: str
    place: int
    device_id: str | None
    device_type: str | None
    tags: frozenset[str] = frozenset()
    is_available: bool | None = None
    next_available: datetime | None = None
    pending_jobs: int | None = None
    unseen_jobs: int = 0
    queue_seconds: float | None = None
    job_seconds: float = TYPICAL_JOB_SECONDS
    estimate: Money | None = None
    success: Success | str = "nobody has looked at its calibration"
    refusal: Refusal | None = None
    is_prepared: bool = False

    @property
    def name(self) -> str:
        """Account and device; of an account that cannot be asked, the account."""
        return self.account if self.device_id is None else f"{self.account}/{self.device_id}"

    @property
    def is_down(self) -> bool:
        """Whether it is known not to be available now."""
        return self.is_available is False

    def is_called(self, name: str) -> bool:
        """Whether a pin or a fallback means this one device."""
        return self.device_id is not None and name in (self.device_id, self.name)

    def starts_in_seconds(self, now: datetime) -> float | None:
        """When a job submitted now is expected to start; None where the queue, or when it opens, is not known."""
        opens = 0.0
        if self.is_down:
            if self.next_available is None:
                return None
            opens = max((self.next_available - now).total_seconds(), 0.0)
        ours = self.unseen_jobs * self.job_seconds
        if self.queue_seconds is not None and math.isfinite(self.queue_seconds):
            return opens + ours + max(self.queue_seconds, 0.0)
        if self.pending_jobs is None:
            return None
        return opens + ours + max(self.pending_jobs, 0) * self.job_seconds


@dataclass(frozen=True, slots=True)
class Wish:
    """What a job's ``configuration_data`` asks of the router."""

    device: str | None = None
    node: str | None = None
    tags: frozenset[str] = frozenset()
    policy: Policy | None = None

    @classmethod
    def of(cls, options: JobOptions) -> Wish:
        """The wishes in ``options``.

        Raises:
            CannotRun: the policy is none of ours; the message names those there are.
        """
        return cls(options.device, options.node, frozenset(options.tags), _policy(options.routing_policy))

    @property
    def text(self) -> str | None:
        """The pins, in words; None without one."""
        parts = [f"device {self.device}" if self.device else "", f"node {self.node}" if self.node else ""]
        parts += [f"tag {tag}" for tag in sorted(self.tags)]
        return ", ".join(part for part in parts if part) or None

    def allows(self, option: Option, others: frozenset[str]) -> bool:
        """Whether the pins leave this device.

        Of an account that cannot be asked: whether it may have such a device, ``others`` being the accounts beside it.
        """
        if option.device_id is None:
            pins = [pin for pin in (self.device, self.node) if pin is not None]
            return not any(pin == other or pin.startswith(f"{other}/") for pin in pins for other in others)
        if self.device is not None and not option.is_called(self.device):
            return False
        if self.node is not None and self.node != option.account and not option.is_called(self.node):
            return False
        return self.tags <= option.tags

    def names(self, option: Option) -> bool:
        """Whether the job asks for this very device, whatever its type."""
        return any(pin is not None and option.is_called(pin) for pin in (self.device, self.node))


@dataclass(frozen=True, slots=True)
class Unplaced:
    """No device can be chosen. When the refusal is for now, the job waits and is routed again."""

    refusal: Refusal
    rejections: tuple[Rejection, ...] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """What `ranked` needs beside the options. ``waited_seconds`` is the job's age."""

    execution_id: ExecutionId
    now: datetime
    waited_seconds: float = 0.0
    wish: Wish = Wish()


def ranked(options: Sequence[Option], question: Question, settings: RoutingSettings) -> Placement | Unplaced:
    """The candidates for one job, best first.

    Every option that is not a candidate is among the rejections with its reason, or counted there.
    """
    wish = question.wish
    ordered = sorted(options, key=lambda option: (option.place, option.name))
    accounts = {option.account for option in ordered}
    left = [option for option in ordered if wish.allows(option, frozenset(accounts - {option.account}))]
    kind = _asked_type(ordered, left, wish, settings)
    if isinstance(kind, Refusal):
        return Unplaced(kind, _rejected(ordered, _Left(left, left, wish.text, "another"), ()))
    asked = [option for option in left if _is_of(option, kind)]
    what = wish.text or ("any device" if kind == DeviceType.ANY else f"a {kind}")
    policy = wish.policy or settings.policy
    chosen = _candidates(asked, policy, question, settings.currency)
    if _may_fall_back(asked, question, settings):
        for tier in _tiers([option for option in left if not _is_of(option, kind)], settings):
            chosen += _candidates(tier, policy, question, settings.currency, fallback_from=what)
    chosen = chosen[:MAX_CANDIDATES]
    rejections = _rejected(ordered, _Left(left, asked, wish.text, f"a {kind}"), chosen)
    if not chosen:
        return Unplaced(_overall(asked, what), rejections)
    return Placement(
        policy=policy,
        asked=what,
        candidates=tuple(chosen),
        rejections=rejections[:MAX_REFUSALS],
        rejections_not_kept=max(len(rejections) - MAX_REFUSALS, 0),
    )


def _policy(word: str | None) -> Policy | None:
    if word is None:
        return None
    try:
        return Policy(word)
    except ValueError:
        known = ", ".join(Policy)
        raise CannotRun(f"configuration_data.routing_policy must be one of {known}", reason="bad_option") from None


def _is_of(option: Option, kind: str) -> bool:
    return option.device_type is None or kind == DeviceType.ANY or option.device_type.upper() == kind


def _asked_type(
    ordered: Sequence[Option], left: Sequence[Option], wish: Wish, settings: RoutingSettings
) -> str | Refusal:
    """The device type the job asks for, or why it cannot be told. ``left`` are those its pins allow."""
    if not left:
        is_one = len({option.account for option in ordered}) == 1
        names = ", ".join(option.device_id or option.name if is_one else option.name for option in ordered[:8])
        return Refusal(
            "no_device", f"this miner has no such device ({wish.text}); it has {names}" if names else NO_DEVICE
        )
    named = next((option.device_type for option in left if option.device_type and wish.names(option)), None)
    if named is not None:
        return named.upper()
    if settings.device_type is not None:
        return settings.device_type
    first = left[0]
    if first.device_type is not None:
        return first.device_type.upper()
    # The first account decides whether jobs are for a QPU. Guessing from the second would turn an outage of the
    # first into a simulator's answer.
    refusal = first.refusal or Refusal("unavailable", "it was not asked")
    message = f"{first.name} cannot be asked: {refusal.message}; unless routing.device_type is set, jobs wait for it"
    return Refusal(refusal.code, message, is_for_now=True)


def _may_fall_back(asked: Sequence[Option], question: Question, settings: RoutingSettings) -> bool:
    """Whether stand-ins may follow: never while a device of the asked type may be usable in a moment."""
    only_for_now = any(option.refusal is not None and option.refusal.is_for_now for option in asked)
    return not only_for_now or question.waited_seconds >= settings.max_unavailable_seconds


def _tiers(stand_ins: Sequence[Option], settings: RoutingSettings) -> list[list[Option]]:
    """The declared stand-ins, those of one entry together; each only where it is declared first."""
    left = list(stand_ins)
    tiers: list[list[Option]] = []
    for entry in settings.fallback:
        tiers.append([option for option in left if _is_meant(option, entry)])
        left = [option for option in left if not _is_meant(option, entry)]
    return tiers


def _is_meant(option: Option, entry: str) -> bool:
    if entry.startswith(TAG_PREFIX):
        return entry.removeprefix(TAG_PREFIX) in option.tags
    return entry == option.account or option.is_called(entry)


def _candidates(
    options: Sequence[Option], policy: Policy, question: Question, currency: str, fallback_from: str | None = None
) -> list[Candidate]:
    """Those that can run it, best first, each with the reason for its place."""
    fit = [option for option in options if option.refusal is None and option.device_id is not None]
    judged = _judge(policy, fit, question, currency)
    order = sorted(((judged(option), option) for option in fit), key=lambda pair: _key(*pair))
    made: list[Candidate] = []
    for number, (rank, option) in enumerate(order):
        reason = rank.text
        if number == 0:
            after = f"; next {order[1][0].text} at {order[1][1].name}" if len(order) > 1 else ""
            reason = f"{policy.replace('_', ' ')}: {rank.text}{after}"
        made.append(
            Candidate(
                account=option.account,
                device_id=option.device_id or "",
                device_type=option.device_type or "",
                estimate=Price.of(option.estimate),
                reason=reason + _down_text(option),
                fallback_from=fallback_from,
            )
        )
    return made


@dataclass(frozen=True, slots=True)
class _Rank:
    """``group`` 0 is what is known, later ones come later; ``value`` sorts within it."""

    group: int
    value: float | Decimal
    text: str


def _key(rank: _Rank, option: Option) -> tuple[bool, int, float | Decimal, int, str]:
    return (option.is_down, rank.group, rank.value, option.place, option.name)


def _judge(policy: Policy, options: Sequence[Option], question: Question, currency: str) -> Callable[[Option], _Rank]:
    match policy:
        case Policy.ORDER:
            return lambda option: _Rank(0, option.place, f"place {option.place + 1} in the operator's order")
        case Policy.FASTEST:
            return lambda option: _by_start(option, question.now)
        case Policy.CHEAPEST:
            return lambda option: _by_price(option, currency)
        case Policy.BEST_FIDELITY:
            found = [option.success for option in options if isinstance(option.success, Success)]
            with_idling = all(success.idling is not None for success in found)
            return lambda option: _by_success(option, with_idling=with_idling)
        case Policy.ROUND_ROBIN:
            return lambda option: _by_turn(option, question.execution_id, len(options))
    assert_never(policy)


def _by_start(option: Option, now: datetime) -> _Rank:
    seconds = option.starts_in_seconds(now)
    if seconds is None:
        return _Rank(1, 0.0, "when it would start is not known")
    jobs = option.pending_jobs
    queue = "" if jobs is None else f", {jobs + option.unseen_jobs} jobs ahead"
    return _Rank(0, seconds, f"starts in about {seconds:.0f} s{queue}")


def _by_price(option: Option, currency: str) -> _Rank:
    money = option.estimate
    if money is None:
        return _Rank(2, 0.0, "its price is not known")
    if money.currency != currency:
        return _Rank(1, 0.0, f"{money}, which cannot be compared with {currency}")
    return _Rank(0, money.amount, str(money))


def _by_success(option: Option, *, with_idling: bool) -> _Rank:
    if not isinstance(option.success, Success):
        return _Rank(1, 0.0, option.success)
    probability = option.success.probability(with_idling=with_idling)
    return _Rank(0, -probability, f"about {probability:.3g} expected to run without an error")


def _by_turn(option: Option, execution_id: ExecutionId, among: int) -> _Rank:
    # Rendezvous hashing. A counter would be exact in one process and start anew at each restart; the id of the job
    # gives the same turn in every process and after every restart, with nothing to store, and when a device goes
    # down only its own jobs move. Over n jobs a device's share differs from even by about the root of its share.
    digest = hashlib.sha256(f"{execution_id}\n{option.name}".encode()).digest()
    return _Rank(0, int.from_bytes(digest[:6]), f"its turn among {among}")


def _down_text(option: Option) -> str:
    if not option.is_down:
        return ""
    opens = "" if option.next_available is None else f" before {option.next_available:%Y-%m-%d %H:%M} UTC"
    return f"; not available{opens}"


@dataclass(frozen=True, slots=True)
class _Left:
    """What the job's wishes leave, and of these what is of the kind it asks for; both as options and in words."""

    as_wished: Sequence[Option]
    of_kind: Sequence[Option]
    wishes: str | None
    kind: str


def _rejected(ordered: Sequence[Option], left: _Left, chosen: Sequence[Candidate]) -> tuple[Rejection, ...]:
    """All that are not candidates, each with its reason: not as wished, of another kind, or what it cannot do."""
    names = {candidate.name for candidate in chosen}
    as_wished, of_kind = ({option.name for option in some} for some in (left.as_wished, left.of_kind))

    def why_not(option: Option) -> str:
        if option.name not in as_wished:
            return f"the job asks for {left.wishes}"
        if option.name not in of_kind:
            return f"it is a {option.device_type or 'device of unknown type'}, and the job asks for {left.kind}"
        return f"there are {MAX_CANDIDATES} before it" if option.refusal is None else option.refusal.message

    return tuple(
        Rejection(account=option.account, device_id=option.device_id, reason=why_not(option))
        for option in ordered
        if option.name not in names
    )


def _overall(asked: Sequence[Option], what: str) -> Refusal:
    """What the job is told: the first refusal that may pass, else the first one; and how many more there are."""
    refusals = [option.refusal for option in asked if option.refusal is not None]
    if not refusals:
        return Refusal("no_device", f"this miner has no such device: {what}")
    best = next((refusal for refusal in refusals if refusal.is_for_now), refusals[0])
    more = len(refusals) - 1
    return replace(best, message=f"{best.message}; and {more} more cannot run it") if more else best
