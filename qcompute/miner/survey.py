"""Asks all accounts at once what their devices can do for one job: the `Option`s that are ranked.

What a vendor says of itself is asked for once every few seconds and not for every job. An account that fails, or does
not answer in time, is refused for now, with the reason; jobs for the others do not wait for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from qcompute.circuits.program import CompiledCircuit
from qcompute.circuits.success import Calibration, Work, estimated_success
from qcompute.errors import BudgetSpent, CannotRun, QComputeError, Refused, Unavailable, VendorError
from qcompute.miner.account import Account, caught
from qcompute.miner.circuit_cache import CircuitCache
from qcompute.miner.fleet import Fleet
from qcompute.miner.job import Job
from qcompute.miner.prepare import made_ready
from qcompute.miner.providers.base import AvailabilityStatus, Device, ProviderAdapter, Verb
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
    """Looks at every account of the fleet, for one job after the other."""

    def __init__(self, fleet: Fleet, circuits: CircuitCache) -> None:
        self._fleet = fleet
        self._circuits = circuits
        self._described = {account.key: _Described(account) for account in fleet.accounts}

    async def options(self, job: Job, circuit: CompiledCircuit, *, compare: bool) -> list[Option]:
        """An option for each device, in the operator's order.

        ``compare``: circuits are made ready for the devices that fit, for their prices and chances of success.
        """
        accounts = self._fleet.accounts
        found = await asyncio.gather(*(self._of_account(account, job, circuit) for account in accounts))
        flat = [option for options in found for option in options]
        placed = [replace(option, place=place) for place, option in enumerate(flat)]
        if not compare:
            return placed
        fit = [option for option in placed if option.refusal is None][:PREPARED_AT_MOST]
        compared = await asyncio.gather(*(self._compared(option, job, circuit) for option in fit))
        by_place = {option.place: option for option in compared}
        return [by_place.get(option.place, option) for option in placed]

    async def made_ready(self, option: Option, job: Job, circuit: CompiledCircuit) -> Option:
        """``option`` with its price, or with why it cannot run the job after all."""
        return (await self._made_ready(option, job, circuit))[0]

    def chosen(self, account: str, device_id: str) -> None:
        """A job goes there: until the vendor is asked again, its queue is longer than it said."""
        if (described := self._described.get(ProviderKey(account))) is not None:
            described.sent[device_id] += 1

    async def _of_account(self, account: Account, job: Job, circuit: CompiledCircuit) -> list[Option]:
        described = self._described[account.key]
        trouble: Exception | None = None
        try:
            self._fleet.budgets.of(account.key).require_room(None)
            if account.offline_because is not None:
                raise Unavailable(account.offline_because)
            known = await described.now()
        except (BudgetSpent, VendorError) as error:
            known, trouble = described.last, error
        if trouble is not None and not known:
            return [Option(account.key, 0, None, None, refusal=refusal_of(trouble))]
        fits = [trouble] * len(known)
        if trouble is None:
            devices = [one.device for one in known]
            answer = await caught(account.call("check", _checked, account.adapter, circuit, devices, job.shots))
            fits = [answer] * len(known) if isinstance(answer, Exception) else answer
        return [
            _option(account, one, described.sent[one.device.device_id], fault or one.trouble)
            for one, fault in zip(known, fits, strict=True)
        ]

    async def _made_ready(self, option: Option, job: Job, circuit: CompiledCircuit) -> tuple[Option, Work | None]:
        account, device = self._found(option)
        budget = self._fleet.budgets.of(account.key)
        answer = await caught(made_ready(account, self._circuits, job, circuit, device))
        if isinstance(answer, Exception):
            _tell(account, answer)
            return replace(option, refusal=refusal_of(answer), is_prepared=True), None
        prepared, estimate = answer
        try:
            # Whether there is room for so much is seen at the submit, by whoever has the account: a job may wait there.
            budget.checked(estimate)
        except CannotRun as error:
            return replace(option, refusal=refusal_of(error), is_prepared=True), None
        return replace(option, estimate=estimate, is_prepared=True), Work.of(prepared.compiled)

    async def _compared(self, option: Option, job: Job, circuit: CompiledCircuit) -> Option:
        ready, work = await self._made_ready(option, job, circuit)
        if ready.refusal is not None:
            return ready
        account, device = self._found(option)
        capability = await caught(account.ask(Verb.DESCRIBE, account.adapter.get_capability, device.device_id))
        if isinstance(capability, Exception):
            return replace(ready, success=refusal_of(capability).message)
        calibration = Calibration.of(None if capability is None else capability.extras)
        return replace(ready, success=estimated_success(work, calibration))

    def _found(self, option: Option) -> tuple[Account, Device]:
        described = self._described[ProviderKey(option.account)]
        device = next(one.device for one in described.last if one.device.device_id == option.device_id)
        return described.account, device


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


def _checked(
    adapter: ProviderAdapter, circuit: CompiledCircuit, devices: list[Device], shots: int
) -> list[Exception | None]:
    faults: list[Exception | None] = []
    for device in devices:
        try:
            adapter.check(circuit, device, shots)
        except QComputeError as error:
            faults.append(error)
        else:
            faults.append(None)
    return faults


def _option(account: Account, known: _Known, sent: int, fault: Exception | None) -> Option:
    told = known.availability or AvailabilityStatus()
    return Option(
        account=account.key,
        place=0,
        device_id=known.device.device_id,
        device_type=known.device.device_type,
        tags=account.tags(known.device.device_id),
        is_available=told.is_available,
        next_available=_moment(told.next_available),
        pending_jobs=told.pending_jobs,
        unseen_jobs=sent,
        queue_seconds=told.queue_seconds,
        refusal=None if fault is None else refusal_of(fault),
    )


def _moment(text: str | None) -> datetime | None:
    """An RFC 3339 time as aware UTC; None for what is none."""
    try:
        moment = None if text is None else datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment is None:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
