"""What becomes of a job when its vendor fails in one way at one call: the real stages, the real adapter, a real server.

Time is simulated between looks, so that a second look a minute later costs nothing; everything that is sent is sent.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from qcompute.chain.keys import signer_from_uri
from qcompute.ledger.memory import MemoryLedger
from qcompute.local.demo_jobs import ASYMMETRIC
from qcompute.miner.account import Account
from qcompute.miner.budget import Budget, Budgets
from qcompute.miner.circuit_cache import CircuitCache, Compiler
from qcompute.miner.fleet import Fleet
from qcompute.miner.job import Job, NewJob, Nonce, State, Verdict
from qcompute.miner.limits import BudgetSettings
from qcompute.miner.providers.base import ProviderAdapter, Verb
from qcompute.miner.road import Road
from qcompute.miner.router import RouterStage
from qcompute.miner.routing import RoutingSettings
from qcompute.miner.runner import HeldStage, WaitStage
from qcompute.miner.stage import Stage
from qcompute.miner.submit import SubmitStage
from qcompute.protocol import ExecutionStatus
from qcompute.testing.provider_contract import compiler
from qcompute.testing.vendor_faults import FAULTS, VendorFault
from qcompute.units import ExecutionId, Hotkey, ProviderKey
from tests.doubles.kits import Kit
from tests.doubles.vendor import VendorDouble

VALIDATOR: Final = Hotkey("5CDe8uJMiZUJqMMJKciGjB78oebwQKeyiLWB79Lbrx43Bjnv")
FAULTY_VERBS: Final = (Verb.SUBMIT, Verb.POLL, Verb.RECEIPT, Verb.CANCEL)
SHOTS: Final = 100
PATIENCE_SECONDS: Final = 90.0
FIRST_PAUSE_SECONDS: Final = 0.02
LONGEST_PAUSE_SECONDS: Final = 0.5
"""Each step lets simulated time jump by up to a minute, so a vendor that is slow to start is asked less and less."""


class SimulatedClock:
    """Starts now, and jumps to when something is due."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now

    def jump_to(self, moment: datetime) -> None:
        self.now = max(self.now, moment)


class Silent:
    """Nobody hears of status changes here."""

    def status_changed(self, job: Job, old: ExecutionStatus, new: ExecutionStatus) -> None:
        del job, old, new


class _SharedCompiler:
    """The test run's sandbox; closing a road leaves it open."""

    def __init__(self, real: Compiler) -> None:
        self.compile_many = real.compile_many
        self.translate = real.translate

    def close(self) -> None:
        return


class AdapterRoad:
    """Router, submit and wait stages around one adapter, on the in-memory ledger."""

    def __init__(self, key: str, adapter: ProviderAdapter) -> None:
        self.clock = SimulatedClock()
        self.ledger = MemoryLedger(clock=self.clock)
        self.account = Account(ProviderKey(key), adapter, threads=4, clock=lambda: self.clock().timestamp())
        self.circuits = CircuitCache(self.ledger, _SharedCompiler(compiler()), processes=2)
        budgets = Budgets([Budget(ProviderKey(key), BudgetSettings(), clock=self.clock)])
        road = Road(self.ledger, signer_from_uri("//matrix-miner"), Silent(), budgets=budgets, clock=self.clock)
        self.road = road
        self.submitting = SubmitStage(
            road, self.account, self.circuits, concurrency=8, held_seconds=600, second_look_seconds=60
        )
        self.stages: dict[State, Stage] = {
            State.READY: RouterStage(
                road, Fleet([self.account], road.budgets), self.circuits, RoutingSettings(), concurrency=8
            ),
            State.SUBMITTING: self.submitting,
            State.WAITING: WaitStage(road, self.account, self.circuits, held_seconds=600, unknown_seconds=3600),
            State.HELD: HeldStage(road),
        }
        self._nonces = 0

    async def ready(self, name: str, source: str = ASYMMETRIC, *, shots: int = SHOTS, device: str | None = None) -> Job:
        """A job whose circuit is stored."""
        self._nonces += 1
        new = NewJob(
            execution_id=ExecutionId(name),
            validator_hotkey=VALIDATOR,
            input_data_url="https://circuits.test/a.qasm",
            shots=shots,
            configuration_data={} if device is None else {"device": device},
            received_at=self.clock(),
            deadline_at=self.clock() + timedelta(days=1),
        )
        await self.ledger.accept(new, Nonce(VALIDATOR, "matrix", self._nonces))
        job = await self.row(name)
        sha256 = compiler().compile(source).sha256
        after = replace(job, state=State.READY, circuit_sha256=sha256, due_at=self.clock())
        return await self.road.save(job, after, circuit=source)

    async def row(self, name: str) -> Job:
        job = await self.ledger.get(ExecutionId(name))
        if job is None:
            raise LookupError(name)
        return job

    async def step(self, name: str) -> Job:
        """Let the row's stage handle it when it is due; time jumps there."""
        job = await self.row(name)
        self.clock.jump_to(job.due_at)
        await self.stages[job.state].handle(job)
        return await self.row(name)

    async def until(self, name: str, *states: State) -> Job:
        """Step until the row is in one of ``states``; the vendor gets a little real time for each step."""
        pause = FIRST_PAUSE_SECONDS
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            job = await self.row(name)
            if job.state in states:
                return job
            job = await self.step(name)
            await asyncio.sleep(pause)
            pause = min(1.1 * pause, LONGEST_PAUSE_SECONDS)
        raise AssertionError(f"the job does not move on: {await self.row(name)}")

    async def close(self) -> None:
        """Everything but the adapter, which is the caller's."""
        await self.circuits.close()
        self.account._threads.close()
        await self.ledger.close()


@dataclass(frozen=True, slots=True)
class Cell:
    """One fault at one call: how many vendor jobs there were in the end, and what became of ours."""

    vendor: str
    verb: Verb
    fault: str
    created: int
    submits_sent: int
    outcome: str
    ok: bool


async def cell(kit: Kit, adapter: ProviderAdapter, double: VendorDouble, verb: Verb, fault: VendorFault) -> Cell:
    """Run one job through one fault, on a road and a clock of its own."""
    road = AdapterRoad(kit.key, adapter)
    try:
        return await _cell(road, kit, double, verb, fault)
    finally:
        double.faults.clear()
        await road.close()


async def _cell(road: AdapterRoad, kit: Kit, double: VendorDouble, verb: Verb, fault: VendorFault) -> Cell:
    name = f"{kit.key}-{verb}-{fault.slug}"
    created, sent = double.created, _sent(double, kit)
    double.faults.clear()
    if verb is Verb.CANCEL:
        job = await _cancelled(road, kit, double, name, fault)
    else:
        await road.ready(name, device=kit.device)
        if verb is not Verb.SUBMIT:
            await road.until(name, State.WAITING)
        await road.until(name, State.SUBMITTING, State.WAITING)
        double.faults.append(fault.ordered(kit.calls[verb]))
        job = await road.until(name, State.SETTLED, State.HELD)
    used = not double.faults or double.faults[0].times == 0
    made, submits = double.created - created, _sent(double, kit) - sent
    outcome = _outcome(job, made, submits) if used else "the fault was never met"
    return Cell(kit.key, verb, fault.name, made, submits, outcome, used and _is_right(job, verb, made))


async def _cancelled(road: AdapterRoad, kit: Kit, double: VendorDouble, name: str, fault: VendorFault) -> Job:
    """A job that is still queued when its deadline comes."""
    with double.hold():
        await road.ready(name, device=kit.device)
        job = await road.until(name, State.WAITING)
        double.faults.append(fault.ordered(kit.calls[Verb.CANCEL]))
        road.clock.jump_to(job.deadline_at)
        for _ in range(3):
            if (await road.row(name)).state is State.WAITING:
                await road.step(name)
    return await road.until(name, State.SETTLED, State.HELD)


def _sent(double: VendorDouble, kit: Kit) -> int:
    return sum(bool(re.search(kit.calls[Verb.SUBMIT], f"{one.method} {one.path}")) for one in list(double.asked))


def _outcome(job: Job, made: int, submits: int) -> str:
    if job.state is State.HELD:
        return f"held: {job.error}"
    if job.verdict is Verdict.REFUSED:
        return f"refused, nothing created: {job.error}"
    how = {0: "nothing created", 1: "one job"}.get(made, f"{made} jobs")
    tries = "" if submits == 1 else f" after {submits} submits"
    return f"{job.verdict}: {how}{tries}"


def _is_right(job: Job, verb: Verb, made: int) -> bool:
    """One vendor job and a result; or one that was cancelled; or none, and the user is told; or held."""
    if job.state is State.HELD:
        return made <= 1
    if job.verdict is Verdict.REFUSED:
        return made == 0 and verb is Verb.SUBMIT
    wanted = {Verdict.CANCELLED, Verdict.SUCCEEDED} if verb is Verb.CANCEL else {Verdict.SUCCEEDED}
    return made == 1 and job.verdict in wanted


async def cells(kit: Kit, adapter: ProviderAdapter, double: VendorDouble, verb: Verb) -> Sequence[Cell]:
    """All faults at one call of one vendor."""
    return [await cell(kit, adapter, double, verb, fault) for fault in FAULTS]
