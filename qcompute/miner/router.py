"""Stage 3: a row with a circuit gets its device, its estimate and its idempotency token.

The circuit is parsed in the sandbox first, so whatever cannot run anywhere ends here, before anything is paid.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Final

from qcompute.circuits.program import CompiledCircuit, JobOptions
from qcompute.circuits.target import Target
from qcompute.errors import BudgetSpent, CannotRun, Refused, SandboxUnavailable, VendorError
from qcompute.miner.account import Account
from qcompute.miner.budget import Budget
from qcompute.miner.circuit_cache import CircuitCache
from qcompute.miner.job import Job, State, Verdict
from qcompute.miner.providers.base import Device, Prepared, ProviderAdapter, Verb
from qcompute.miner.road import Road
from qcompute.miner.stage import Stage
from qcompute.units import DeviceId, IdempotencyToken, Money

_TOKENS: Final = uuid.UUID("6f0c5c2e-3f0a-5b7e-9a43-0e5d3a6a7f48")
"""Namespace of idempotency tokens: the same job has the same token for ever, whatever happens to the row."""


NO_ROOM: Final = "this miner's budget had no room for the job"
"""What the user of a job is told that waited for it until its deadline."""

ROOM_SECONDS: Final = 60.0
"""How often a job that waits for the budget looks for room."""


def token_of(job: Job) -> IdempotencyToken:
    """The job's idempotency token: 36 characters, made of the execution id alone."""
    return token_of_pack([job])


def token_of_pack(jobs: Sequence[Job]) -> IdempotencyToken:
    """The token of jobs that are submitted together: of one job its own, of several one made of all their ids."""
    ids = sorted(job.execution_id for job in jobs)
    return IdempotencyToken(str(uuid.uuid5(_TOKENS, "\n".join(ids))))


@dataclass(frozen=True, slots=True)
class Choice:
    """A device, the circuit made ready for it, and what it is expected to cost."""

    device: Device
    prepared: Prepared
    estimate: Money | None


class RouterStage(Stage):
    """Chooses the device."""

    state: ClassVar[State] = State.READY

    def __init__(self, road: Road, account: Account, circuits: CircuitCache, *, concurrency: int) -> None:
        super().__init__(road, concurrency=concurrency)
        self._account = account
        self._circuits = circuits
        self._budget = road.budgets.of(account.key)

    async def handle(self, job: Job) -> None:
        """Parse, choose, estimate; see `Stage.handle`."""
        if self.road.clock() >= job.deadline_at:
            fault = "no device could be chosen"
            if job.error_code == BudgetSpent.code:
                fault = NO_ROOM
            await self._end(job, Verdict.FAILED, "deadline", f"{fault} before the job's deadline")
            return
        try:
            if job.estimate is not None:  # it waits for room: looking again must cost next to nothing
                self._budget.require_room(job.estimate)
            circuit = await self._circuits.compiled(job)
            self._budget.require_room(None)
            choice = await choose(self._account, self._circuits, job, circuit, self._budget)
        except BudgetSpent as spent:
            await self._wait(job, spent)
        except CannotRun as refusal:
            await self._end(job, Verdict.REFUSED, refusal.reason, refusal.message)
        except Refused as refusal:
            await self._end(job, Verdict.REFUSED, refusal.code, refusal.message)
        except (VendorError, SandboxUnavailable) as error:
            await self.road.again(job, code=error.code, message=error.message, first_seconds=2.0, longest_seconds=120.0)
        else:
            await self._on_to_submit(replace(job, estimate=choice.estimate), choice.device)

    async def _on_to_submit(self, job: Job, device: Device) -> None:
        routed = replace(
            job,
            state=State.SUBMITTING,
            due_at=self.road.clock(),
            provider=self._account.key,
            device_id=DeviceId(device.device_id),
            token=token_of(job),
            error_code=None,
            error=None,
        )
        await self.road.save(job, routed)

    async def _wait(self, job: Job, spent: BudgetSpent) -> None:
        await wait_for_room(self.road, job, spent)

    async def _end(self, job: Job, verdict: Verdict, code: str, message: str) -> None:
        await self.road.end_without_result(job, verdict, code=code, message=message)


async def wait_for_room(road: Road, job: Job, spent: BudgetSpent) -> None:
    """Look again from time to time, and not only when the period ends: jobs that cost less than expected make room."""
    pause = min(ROOM_SECONDS, max((spent.until - road.clock()).total_seconds(), 1.0))
    await road.again(job, code=spent.code, message=spent.message, first_seconds=pause, longest_seconds=pause)


async def choose(
    account: Account, circuits: CircuitCache, job: Job, circuit: CompiledCircuit, budget: Budget
) -> Choice:
    """The best device that can run ``circuit``.

    Available devices come before others, then the adapter's own order decides. Without a wish in
    ``configuration_data.device`` only devices of the first one's type are considered: a job for a quantum computer
    must never fall back to a simulator by itself.

    Raises:
        CannotRun: no device can run it, or for no more than ``budget`` allows for one job; the message is the only or
            the best device's reason.
        VendorError: the vendor cannot be asked now.
    """
    options = JobOptions.of(job.configuration_data)
    refusals: list[CannotRun] = []
    for device in await account.ask(Verb.DESCRIBE, _candidates, account, options):
        try:
            prepared = await _made_ready(account, circuits, job, circuit, device)
            estimate = await account.call(Verb.DESCRIBE, account.adapter.estimate, prepared, device, job.shots)
            budget.checked(estimate)
        except CannotRun as refusal:
            refusals.append(refusal)
            continue
        return Choice(device, prepared, estimate)
    raise refusals[-1] if refusals else CannotRun("this miner has no device", reason="no_device")


def _candidates(account: Account, options: JobOptions) -> list[Device]:
    devices = account.adapter.list_devices()
    if options.device is not None:
        wished = [device for device in devices if device.device_id == options.device]
        if not wished:
            known = ", ".join(device.device_id for device in devices[:8])
            raise CannotRun(f"this miner has no such device; it has {known}", reason="no_device")
        return wished
    kind = devices[0].device_type if devices else ""
    same_kind = [device for device in devices if device.device_type == kind]
    return sorted(same_kind, key=lambda device: not _is_available(account, device))


def _is_available(account: Account, device: Device) -> bool:
    availability = account.availability(device.device_id)
    return availability is None or availability.is_available is not False


async def prepare_again(account: Account, circuits: CircuitCache, job: Job) -> Prepared:
    """What `submit` is given: the same text for the same job, computed anew instead of stored.

    Raises:
        CannotRun: the device is gone or cannot run it any more.
    """
    circuit = await circuits.compiled(job)
    devices = await account.ask(Verb.DESCRIBE, account.adapter.list_devices)
    for device in devices:
        if device.device_id == job.device_id:
            return await _made_ready(account, circuits, job, circuit, device)
    raise CannotRun("the chosen device is not there any more", reason="no_device")


async def _made_ready(
    account: Account, circuits: CircuitCache, job: Job, circuit: CompiledCircuit, device: Device
) -> Prepared:
    """Checked, compiled in the sandbox for the device where it has a target of its own, and prepared."""
    options = JobOptions.of(job.configuration_data)
    target = await account.call(Verb.DESCRIBE, _checked, account.adapter, circuit, device, job.shots, options)
    if target is not None:
        circuit = await circuits.translated(circuit, target, options.optimization_level)
    return await account.call("prepare", account.adapter.prepare, circuit, device, job.shots, options)


def _checked(
    adapter: ProviderAdapter, circuit: CompiledCircuit, device: Device, shots: int, options: JobOptions
) -> Target | None:
    adapter.check(circuit, device, shots)
    return adapter.target(device, options)
