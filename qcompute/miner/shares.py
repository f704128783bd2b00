"""Which nodes share the shots of a job, and what each of them is given.

Split are jobs that ask for it (``configuration_data.split``), and, where the operator wants that
(``routing.split_shots_from``), large jobs on simulators of which the fleet has several alike. Counts of different
devices are the counts of neither, so unlike nodes share a job only when it asks for that in so many words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from qcompute.circuits.program import CompiledCircuit, JobOptions
from qcompute.cluster.splitting import MAX_PARTS, SplitKind, SplitRequest, check_job_may_split
from qcompute.errors import Bug
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
            CannotRun: the job asks for a split that cannot be, or for more parts than it has shots.
            VendorError, SandboxUnavailable: what a part will cost cannot be told now.
        """
        request = asked_split(job.configuration_data)
        is_large = self._split_from is not None and job.shots >= self._split_from
        if request is None and not (is_large and placement.current.device_type == DeviceType.SIMULATOR):
            return []
        alike = self._alike(placement, mixed=request is not None and request.mixed)
        places = [place for candidate in alike for place in self._places(candidate)]
        wanted = min(len(places), job.shots, MAX_PARTS) if request is None else request.parts
        if wanted == 1:
            return []
        parts: list[Job] = []
        known: dict[tuple[Place, int], Money | None] = {}
        for part in parts_of(job, places, wanted):
            key = (places[len(parts) % len(places)], part.shots)
            if key not in known:
                known[key] = await self._estimate(part, circuit)
            parts.append(_placed(part, placement, alike, known[key]))
        return parts

    def _alike(self, placement: Placement, *, mixed: bool) -> list[Candidate]:
        """The current candidate, and those further back that may share a job with it."""
        first = placement.current
        others = placement.candidates[placement.index + 1 :]
        return [first, *(other for other in others if mixed or self._are_alike(first, other))]

    def _are_alike(self, one: Candidate, other: Candidate) -> bool:
        """Whether two candidates are the same kind of device: of one vendor's adapter, under one name there."""
        names = {(each.device_id, each.device_type, each.fallback_from) for each in (one, other)}
        return len(names) == 1 and _kind(self._account(one.account)) is _kind(self._account(other.account))

    def _places(self, candidate: Candidate) -> list[Place]:
        """One for each job the account runs at once, so that a part does not wait for another."""
        at_once = self._account(candidate.account).limits.max_running_jobs or 1
        place = Place(ProviderKey(candidate.account), DeviceId(candidate.device_id))
        return [place] * min(at_once, MAX_PARTS)

    async def _estimate(self, part: Job, circuit: CompiledCircuit) -> Money | None:
        account = self._account(part.provider)
        for device in await account.ask(Verb.DESCRIBE, account.devices):
            if device.device_id == part.device_id:
                options = JobOptions.of(part.configuration_data)
                looked = await account.call("check", look_at, account.adapter, circuit, device, part.shots, options)
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
