"""Asks all accounts at once what their devices can do for one job: the `Option`s that are ranked.

What a vendor says of itself is asked for once every few seconds and not for every job. An account that fails, or does
not answer in time, is refused for now, with the reason; jobs for the others do not wait for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from qcompute.circuits.program import CompiledCircuit, JobOptions
from qcompute.circuits.success import Calibration, Work, estimated_success
from qcompute.errors import BudgetSpent, Bug, CannotRun, QComputeError, Refused, Unavailable, VendorError
from qcompute.miner.account import Account, caught
from qcompute.miner.circuit_cache import CircuitCache
from qcompute.miner.fleet import Fleet
from qcompute.miner.job import Job
from qcompute.miner.prepare import LookedAt, Ready, look_at, made_ready
from qcompute.miner.providers.base import AvailabilityStatus, Device, Verb
from qcompute.miner.routing import Option, Refusal
from qcompute.units import ProviderKey

_log = logging.getLogger(__name__)

ASK_SECONDS: Final = 10.0
"""An account that does not describe itself in this time is left out for now."""

FRESH_SECONDS: Final = 15.0
"""How long what a vendor said of itself is used: routing a burst of jobs must not ask it once for each."""

PREPARED_AT_MOST: Final = 16
"""Devices a circuit is compiled for to compare them; one further back is compared without its price."""


class Survey:
    """Looks at every account that new jobs go to, for each job; many are routed at once."""

    def __init__(self, fleet: Fleet, circuits: CircuitCache) -> None:
        self.fleet = fleet
        self.circuits = circuits
        self._described: dict[ProviderKey, _Described] = {}

    async def look(self, job: Job, circuit: CompiledCircuit, *, compare: bool) -> Findings:
        """What every device says of the circuit.

        ``compare``: it is made ready for the devices that fit, for their prices and chances of success.
        """
        of_accounts = [self._of_account(account, job, circuit) for account in self.fleet.offered]
        # A task for each costs more than the looking, and most miners have one account.
        found = await asyncio.gather(*of_accounts) if len(of_accounts) > 1 else [await one for one in of_accounts]
        findings = Findings(self, job, circuit, [one for some in found for one in some])
        if compare:
            await findings.compare()
        return findings

    def chosen(self, account: str, device_id: str) -> None:
        """A job goes there: until the vendor is asked again, its queue is longer than it said."""
        if (described := self._described.get(ProviderKey(account))) is not None:
            described.sent[device_id] += 1

    def unseen(self, option: Option) -> int:
        """Jobs that went there, or are about to, and are not in the queue that the vendor told of."""
        described, device_id = self._described.get(ProviderKey(option.account)), option.device_id
        return 0 if described is None or device_id is None else described.sent[device_id] + described.meant[device_id]

    @contextmanager
    def meaning(self, option: Option) -> Generator[None]:
        """While a job is made ready for a device, others that are routed meanwhile count it there."""
        described, device_id = self._described.get(ProviderKey(option.account)), option.device_id
        if described is None or device_id is None:
            yield
            return
        described.meant[device_id] += 1
        try:
            yield
        finally:
            described.meant[device_id] -= 1

    async def _of_account(self, account: Account, job: Job, circuit: CompiledCircuit) -> list[_Found]:
        described = self._described.get(account.key)
        if described is None or described.account is not account:  # it was opened since, or opened again
            described = self._described[account.key] = _Described(account)
        trouble: Exception | None = None
        try:
            self.fleet.budgets.of(account.key).require_room(None)
            if account.offline_because is not None:
                raise Unavailable(account.offline_because)
            known = await described.now()
        except (BudgetSpent, VendorError) as error:
            known, trouble = described.last, error
        if trouble is not None and not known:
            return [_Found(Option(account.key, 0, None, None, refusal=refusal_of(trouble)), None)]
        answers: list[LookedAt | Exception] = [trouble] * len(known) if trouble is not None else []
        if trouble is None:
            looked = await caught(account.call("check", _look_at_all, account, circuit, known, job))
            answers = [looked] * len(known) if isinstance(looked, Exception) else looked
        return [
            _found(account, one, place, answer) for place, (one, answer) in enumerate(zip(known, answers, strict=True))
        ]


@dataclass(slots=True)
class _Found:
    """An option, and what its device said of the circuit."""

    option: Option
    looked: LookedAt | None


class Findings:
    """What the devices of all accounts say of one job. ``options`` is in the operator's order."""

    def __init__(self, survey: Survey, job: Job, circuit: CompiledCircuit, found: list[_Found]) -> None:
        self._survey = survey
        self._job = job
        self._circuit = circuit
        self._found = found
        for place, one in enumerate(found):
            if one.option.place != place:
                one.option = replace(one.option, place=place)
            if one.looked is not None and one.looked.ready is not None:
                one.option = self._with(one.option, one.looked.ready)

    @property
    def options(self) -> list[Option]:
        """One for each device, with the jobs that went there up to now: many are routed at once."""
        counted = ((one.option, self._survey.unseen(one.option)) for one in self._found)
        return [replace(option, unseen_jobs=unseen) if unseen else option for option, unseen in counted]

    async def made_ready(self, name: str) -> Option:
        """The option of that name with its price, or with why it cannot run the job after all."""
        one = next(one for one in self._found if one.option.name == name)
        await self._make_ready(one)
        return one.option

    async def compare(self) -> None:
        """Make the circuit ready for the devices that can run it, and estimate its success on each."""
        fit = [one for one in self._found if one.option.refusal is None][:PREPARED_AT_MOST]
        await asyncio.gather(*(self._estimate(one) for one in fit))

    async def _make_ready(self, one: _Found) -> Ready | None:
        account = self._account(one)
        if one.option.refusal is not None or one.looked is None:
            return None
        answer = await caught(made_ready(account, self._survey.circuits, self._job, self._circuit, one.looked))
        if isinstance(answer, Exception):
            _tell(account, answer)
            one.option = replace(one.option, refusal=refusal_of(answer), is_prepared=True)
            return None
        if not one.option.is_prepared:
            one.option = self._with(one.option, answer)
        return answer

    async def _estimate(self, one: _Found) -> None:
        ready = await self._make_ready(one)
        if ready is None or one.option.refusal is not None:
            return
        account = self._account(one)
        capability = await caught(account.ask(Verb.DESCRIBE, account.adapter.get_capability, one.option.device_id))
        if isinstance(capability, Exception):
            one.option = replace(one.option, success=refusal_of(capability).message)
            return
        calibration = Calibration.of(None if capability is None else capability.extras)
        one.option = replace(one.option, success=estimated_success(Work.of(ready.prepared.compiled), calibration))

    def _with(self, option: Option, ready: Ready) -> Option:
        try:
            # Whether there is room for so much is seen at the submit, by whoever has the account: a job may wait there.
            self._survey.fleet.budgets.of(ProviderKey(option.account)).checked(ready.estimate)
        except CannotRun as error:
            return replace(option, refusal=refusal_of(error), is_prepared=True)
        return replace(option, estimate=ready.estimate, is_prepared=True)

    def _account(self, one: _Found) -> Account:
        account = self._survey.fleet.get(ProviderKey(one.option.account))
        if account is None:
            raise Bug(f"there is no account {one.option.account}")
        return account


def refusal_of(error: Exception) -> Refusal:
    """What an error met on the way to an option means for it."""
    match error:
        case CannotRun():
            return Refusal(error.reason, error.message)
        case Refused():
            return Refusal(error.code, error.message)
        case BudgetSpent():
            return Refusal(error.code, error.message, is_for_now=True, until=error.until)
        case QComputeError():
            return Refusal(error.code, error.message, is_for_now=True)
        case _:
            return Refusal("adapter_failed", f"the adapter raised {type(error).__name__}", is_for_now=True)


@dataclass(frozen=True, slots=True)
class _Known:
    """A device as its vendor describes it now; ``trouble`` is why its availability cannot be told."""

    device: Device
    availability: AvailabilityStatus | None
    trouble: Exception | None = None


class _Described:
    """What one account says of itself, asked for by one task at a time. ``last`` is what it said last."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.last: list[_Known] = []
        self.sent: Counter[str] = Counter()
        self.meant: Counter[str] = Counter()
        self._asking: asyncio.Task[list[_Known] | Exception] | None = None
        self._asked_at = 0.0
        self._fresh_until = float("-inf")

    async def now(self) -> list[_Known]:
        """Its devices, not older than `FRESH_SECONDS`.

        Raises:
            VendorError: it cannot be asked, or does not answer in time.
        """
        if self.account.monotonic() < self._fresh_until:
            return self.last
        loop = asyncio.get_running_loop()
        if self._asking is None:
            self._asked_at = loop.time()
            self._asking = asyncio.create_task(caught(self.account.ask(Verb.DESCRIBE, _describe, self.account)))
        asking = self._asking
        left = self._asked_at + ASK_SECONDS - loop.time()
        await asyncio.wait({asking}, timeout=max(left, 0.0))
        if not asking.done():
            raise Unavailable(f"{self.account.key} has not answered for {ASK_SECONDS:.0f} s")
        if self._asking is asking:
            self._asking = None
            self._take(asking.result())
        answer = asking.result()
        if isinstance(answer, VendorError):
            raise answer
        if isinstance(answer, Exception):
            raise Unavailable(refusal_of(answer).message) from answer
        return answer

    def _take(self, answer: list[_Known] | Exception) -> None:
        if isinstance(answer, Exception):
            _tell(self.account, answer)
            return
        self.last = answer
        self.sent.clear()
        self._fresh_until = self.account.monotonic() + FRESH_SECONDS


def _tell(account: Account, error: Exception) -> None:
    """Log what an adapter raised that it should not have; refusals and outages are told with the job."""
    if not isinstance(error, QComputeError):
        _log.warning(
            "%s: the adapter raised %s",
            account.key,
            type(error).__name__,
            extra={"action": "adapter_failed", "provider": account.key},
            exc_info=error,
        )


def _describe(account: Account) -> list[_Known]:
    known: list[_Known] = []
    for device in account.devices():
        try:
            known.append(_Known(device, account.availability(device.device_id)))
        except VendorError as error:
            known.append(_Known(device, None, error))
    return known


def _look_at_all(
    account: Account, circuit: CompiledCircuit, known: list[_Known], job: Job
) -> list[LookedAt | Exception]:
    options = JobOptions.of(job.configuration_data)
    answers: list[LookedAt | Exception] = []
    for one in known:
        try:
            answers.append(one.trouble or look_at(account, circuit, one.device, job.shots, options))
        except QComputeError as error:
            answers.append(error)
    return answers


def _found(account: Account, known: _Known, place: int, answer: LookedAt | Exception) -> _Found:
    told = known.availability or AvailabilityStatus()
    option = Option(
        account=account.key,
        place=place,
        device_id=known.device.device_id,
        device_type=known.device.device_type,
        tags=account.tags(known.device.device_id),
        is_available=told.is_available,
        next_available=_moment(told.next_available),
        pending_jobs=told.pending_jobs,
        queue_seconds=told.queue_seconds,
        refusal=refusal_of(answer) if isinstance(answer, Exception) else None,
    )
    return _Found(option, None if isinstance(answer, Exception) else answer)


def _moment(text: str | None) -> datetime | None:
    """An RFC 3339 time as aware UTC; None for what is none."""
    try:
        moment = None if text is None else datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment is None:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
