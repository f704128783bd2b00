"""Which nodes share the shots of a job, and what each of them is given.

Split are jobs that ask for it (``configuration_data.split``), and, where the operator wants that
(``routing.split_shots_from``), large jobs on simulators of which the fleet has several alike. Counts of different
devices are the counts of neither, so unlike nodes share a job only when it asks for that in so many words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from qcompute.circuits.program import CompiledCircuit, JobOptions
from qcompute.cluster.splitting import MAX_PARTS, SplitKind, SplitRequest, check_job_may_split
from qcompute.errors import Bug, CannotRun
from qcompute.miner.account import Account
from qcompute.miner.circuit_cache import CircuitCache
from qcompute.miner.fleet import Fleet
from qcompute.miner.job import Job
from qcompute.miner.placement import Candidate, Placement, Price
from qcompute.miner.prepare import look_at, made_ready
from qcompute.miner.providers.base import Verb
from qcompute.miner.routing import DeviceType
from qcompute.miner.split import Place, parts_of
from qcompute.units import DeviceId, Money, ProviderKey


def asked_split(configuration_data: Mapping[str, Any]) -> SplitRequest | None:
    """What a job asks for; None when it is to run in one piece unless the operator has it otherwise.

    Raises:
        CannotRun: it asks for what cannot be: circuit cutting (a job is answered with counts), or a split by qubits.
    """
    if configuration_data.get("cutting") is not None:
        check_job_may_split(SplitKind.CUTTING)
    return SplitRequest.of(configuration_data)


class Shares:
    """Divides jobs over a fleet; ``split_from`` is the number of shots from which that is done unasked."""

    def __init__(self, fleet: Fleet, circuits: CircuitCache, *, split_from: int | None) -> None:
        self._fleet = fleet
        self._circuits = circuits
        self._split_from = split_from

    async def parts(self, job: Job, circuit: CompiledCircuit, placement: Placement) -> list[Job]:
        """The parts of a job that has its placement, without their tokens; none when it is to run in one piece.

        Raises:
            CannotRun: the job asks for a split that cannot be, for more parts than it has shots, or for parts that
                cost more together than one job may.
            VendorError, SandboxUnavailable: what a part will cost cannot be told now.
        """
        request = asked_split(job.configuration_data)
        is_large = self._split_from is not None and job.shots >= self._split_from
        if request is None and not (is_large and placement.current.device_type == DeviceType.SIMULATOR):
            return []
        alike = self._alike(placement, mixed=request is not None and request.mixed)
        places = self._places(alike)
        wanted = min(len(places), job.shots, MAX_PARTS) if request is None else request.parts
        if wanted == 1:
            return []
        known: dict[tuple[str | None, str | None, int], Money | None] = {}
        parts: list[Job] = []
        try:
            for part in parts_of(job, places, wanted):
                key = (part.provider, part.device_id, part.shots)
                if key not in known:
                    known[key] = await self._estimate(part, circuit)
                parts.append(_placed(part, placement, alike, known[key]))
            self._check_together(parts)
        except CannotRun:
            if request is not None:
                raise
            return []  # nobody asked for parts, and in one piece it can run
        return parts

    def _check_together(self, parts: Sequence[Job]) -> None:
        """Raise `CannotRun` when an account's parts cost more together than it may spend on one job."""
        estimates: dict[ProviderKey, list[Money | None]] = {}
        for part in parts:
            estimates.setdefault(self._account(part.provider).key, []).append(part.estimate)
        for account, ours in estimates.items():
            try:
                self._fleet.budgets.of(account).check_together(ours)
            except CannotRun as refusal:
                raise CannotRun(f"in {len(parts)} parts, {refusal.message}", reason=refusal.reason) from None

    def _alike(self, placement: Placement, *, mixed: bool) -> list[Candidate]:
        """The current candidate, and those further back that may share a job with it; never a stand-in for it."""
        first = placement.current
        others = (
            one for one in placement.candidates[placement.index + 1 :] if one.fallback_from == first.fallback_from
        )
        return [first, *(other for other in others if mixed or self._are_alike(first, other))]

    def _are_alike(self, one: Candidate, other: Candidate) -> bool:
        """Whether two candidates are the same kind of device: of one vendor's adapter, under one name there."""
        names = {(each.device_id, each.device_type) for each in (one, other)}
        return len(names) == 1 and _kind(self._account(one.account)) is _kind(self._account(other.account))

    def _places(self, candidates: Sequence[Candidate]) -> list[Place]:
        """One for each job a device runs at once, so that a part does not wait for another; every device in turn."""
        counted = [(one, min(self._account(one.account).limits.max_running_jobs or 1, MAX_PARTS)) for one in candidates]
        return [
            Place(ProviderKey(one.account), DeviceId(one.device_id))
            for turn in range(MAX_PARTS)
            for one, at_once in counted
            if turn < at_once
        ]

    async def _estimate(self, part: Job, circuit: CompiledCircuit) -> Money | None:
        account = self._account(part.provider)
        for device in await account.ask(Verb.DESCRIBE, account.devices):
            if device.device_id == part.device_id:
                options = JobOptions.of(part.configuration_data)
                looked = await account.call("check", look_at, account, circuit, device, part.shots, options)
                ready = await made_ready(account, self._circuits, part, circuit, looked)
                self._fleet.budgets.of(account.key).checked(ready.estimate)
                return ready.estimate
        return None  # it is gone; the submit will say so

    def _account(self, name: str | None) -> Account:
        account = self._fleet.get(None if name is None else ProviderKey(name))
        if account is None:
            raise Bug(f"a part of a job was given to {name}, which is not in the fleet")
        return account


def _placed(part: Job, placement: Placement, alike: list[Candidate], estimate: Money | None) -> Job:
    """A part with a placement of its own: its node first, then the others that may share the job."""
    mine = next(one for one in alike if (one.account, one.device_id) == (part.provider, part.device_id))
    others = [one.model_copy(update={"estimate": None}) for one in alike if one is not mine]
    candidates = (mine.model_copy(update={"estimate": Price.of(estimate)}), *others)
    own = Placement(policy=placement.policy, asked=placement.asked, candidates=candidates)
    return replace(part, placement=own.document(), estimate=estimate)


def _kind(account: Account) -> object:
    """The adapter's class, also of one that has the nine methods alone and is wrapped."""
    adapter: object = getattr(account.adapter, "inner", account.adapter)
    return type(adapter)
