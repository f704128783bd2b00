"""Whatever happens to the road, in any order and wherever the daemon is killed: paid once, delivered, never lost."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from typing_extensions import override

from qcompute.chain.keys import signer_from_uri
from qcompute.circuits.program import Language
from qcompute.errors import Bug
from qcompute.ledger.settings import LedgerSettings
from qcompute.ledger.sqlite import SqliteLedger
from qcompute.miner.account import Account
from qcompute.miner.budget import Budget, Budgets
from qcompute.miner.circuit_cache import CircuitCache
from qcompute.miner.fetch import FetchStage
from qcompute.miner.fleet import Fleet
from qcompute.miner.job import FinishedJob, Job, NewJob, Nonce, State, Verdict
from qcompute.miner.limits import BudgetSettings
from qcompute.miner.outbox import OutboxStage
from qcompute.miner.providers.base import Idempotency, ProviderStatus
from qcompute.miner.road import Road
from qcompute.miner.router import RouterStage, token_of
from qcompute.miner.routing import RoutingSettings
from qcompute.miner.runner import HeldStage, WaitStage
from qcompute.miner.stage import Stage
from qcompute.miner.submit import SubmitStage
from qcompute.protocol import FIRST_CURSOR
from qcompute.receipts.document import counts_sha256, verify_receipt
from qcompute.units import ExecutionId, ProviderKey
from tests.crash.road_world import (
    CALL_FAULTS,
    Cloud,
    CloudAdapter,
    DeliveryFault,
    Life,
    Platform,
    PlatformClient,
    SubmitFault,
    counts_of,
)
from tests.unit.miner.scripted import START, VALIDATOR, Clock, Parser, Told

_A = TypeVar("_A")
_B = TypeVar("_B")

ACCOUNT = ProviderKey("cloud")
SIGNER = signer_from_uri("//road-machine")
NAMES = [ExecutionId(f"job-{number}") for number in range(4)]
COST = Decimal("1.3")
"""Of each job, by the cloud's prices and by its receipts."""

PATIENT_ROUNDS = 15
MAX_EXAMPLES = 25
STEPS = 40

WORKING = [state for state in State if state is not State.CLOSED]
NOT_THE_VENDORS_WORD = {"deadline", "submit_unknown"}
"""Codes of jobs that ended without the vendor's last word, because it never came."""

VENDOR_WORDS = [ProviderStatus.RUNNING, ProviderStatus.COMPLETED, ProviderStatus.FAILED]

fuses = st.none() | st.integers(0, 25)


def screen(source: str) -> Language:
    """Every text will do."""
    del source
    return Language.OPENQASM_2


class Daemon:
    """Everything that dies with the daemon, over a ledger file and a world that do not."""

    def __init__(self, path: Path, clock: Clock, cloud: Cloud, platform: Platform, limits: BudgetSettings) -> None:
        self.life = Life()
        self.ledger = SqliteLedger(LedgerSettings(path=path), clock)
        _make_mortal(self.ledger, self.life)
        self.budget = Budget(ACCOUNT, limits, clock=clock)
        road = Road(self.ledger, SIGNER, Told(), budgets=Budgets([self.budget]), clock=clock)
        self._account = Account(ACCOUNT, CloudAdapter(cloud, self.life), threads=2, clock=lambda: clock().timestamp())
        self._circuits = CircuitCache(self.ledger, Parser(), processes=1)
        client = PlatformClient(platform, self.life)
        stages: tuple[Stage, ...] = (
            FetchStage(road, client, screen, concurrency=8, deadline_seconds=900),
            RouterStage(road, Fleet([self._account], road.budgets), self._circuits, RoutingSettings(), concurrency=8),
            SubmitStage(road, self._account, self._circuits, concurrency=8, held_seconds=600, second_look_seconds=60),
            WaitStage(road, self._account, self._circuits, held_seconds=600, unknown_seconds=3600),
            HeldStage(road),
            OutboxStage(road, client, concurrency=8, longest_pause_seconds=60),
        )
        self.stages = {stage.state: stage for stage in stages}

    async def work(self, states: list[State], moments: int | None) -> None:
        """Let these stages handle what is due, all at once, until all is done or the fuse has burnt down."""
        stages = [self.stages[state] for state in states]
        for stage in stages:
            await stage._look_for_rows()
        self.life.light(moments)
        for stage in stages:
            stage._start_rows()
        working = asyncio.gather(*(task for stage in stages for task in stage._taken.values()), return_exceptions=True)
        killed = asyncio.create_task(self.life.killed.wait())
        await asyncio.wait({working, killed}, return_when=asyncio.FIRST_COMPLETED)
        self.life.light(None)
        if not self.life.dead:
            killed.cancel()

    async def throw_away(self) -> None:
        """Let go of it as the system lets go of a process that was killed: it reaches nothing any more."""
        self.life.kill()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._account._threads.close()
        await self._circuits.close()
        await self.ledger.close()


def _make_mortal(ledger: SqliteLedger, life: Life) -> None:
    """A kill may come before a commit, or after it and before anybody knows of it."""
    save = ledger.save

    async def saving(*rows: Job, **parts: Any) -> Job:
        life.moment()
        stored = await save(*rows, **parts)
        life.moment()
        return stored

    setattr(ledger, "save", saving)  # noqa: B010 - a method


async def _both(one: Awaitable[_A], other: Awaitable[_B]) -> tuple[_A, _B]:
    return await one, await other


class RoadMachine(RuleBasedStateMachine):
    """The operations of the world, in any order."""

    empty_ledger: Path

    def __init__(self) -> None:
        super().__init__()
        self._folder = TemporaryDirectory()
        self._path = Path(self._folder.name) / "ledger.sqlite3"
        shutil.copytree(self.empty_ledger.parent, self._folder.name, dirs_exist_ok=True)
        self._runner = asyncio.Runner()
        self._clock, self._vendor_clock = Clock(), Clock()
        self._cloud = Cloud(self._vendor_clock)
        self._platform = Platform()
        self._limits = BudgetSettings()
        self._arrived: dict[ExecutionId, int] = {}
        self._nonce = 0
        self._cursor = FIRST_CURSOR
        self._collected: dict[ExecutionId, FinishedJob] = {}
        self._closed: dict[ExecutionId, Job] = {}
        self._daemon = self._runner.run(self._started())

    @override
    def teardown(self) -> None:
        try:
            self._runner.run(self._to_the_end())
            self.check_rows()
            self._check_the_end()
        finally:
            self._runner.run(self._daemon.throw_away())
            self._runner.close()
            self._folder.cleanup()

    @initialize(idempotency=st.sampled_from(Idempotency), jobs_a_day=st.none() | st.integers(1, 3), lags=st.booleans())
    def begin(self, idempotency: Idempotency, jobs_a_day: int | None, *, lags: bool) -> None:
        self._cloud.idempotency, self._cloud.lags = idempotency, lags
        self._limits = BudgetSettings(per_day=None if jobs_a_day is None else jobs_a_day * COST)
        self._restart()
        for name in NAMES[:2]:
            self.arrive(name)

    @rule(name=st.sampled_from(NAMES))
    def arrive(self, name: ExecutionId) -> None:
        """A new job, or the same one once more: a validator that got no answer asks again."""
        self._nonce += 1
        job = NewJob(
            execution_id=name,
            validator_hotkey=VALIDATOR,
            input_data_url=f"https://circuits.test/{name}",
            shots=100,
            configuration_data={},
            received_at=self._clock(),
            deadline_at=self._clock() + timedelta(hours=2),
        )
        self._runner.run(self._daemon.ledger.accept(job, Nonce(VALIDATOR, "machine", self._nonce)))
        self._arrived.setdefault(name, self._nonce)

    @rule(states=st.sets(st.sampled_from(WORKING), min_size=1), fuse=fuses)
    def work(self, states: set[State], fuse: int | None) -> None:
        """Some stages at once; with a fuse the daemon may be killed at any moment of it."""
        self._work([state for state in WORKING if state in states], fuse)

    @rule(fuse_of_each=st.lists(fuses, min_size=2, max_size=6))
    def work_along(self, fuse_of_each: list[int | None]) -> None:
        """All stages, again and again, as jobs go on from one to the next."""
        for fuse in fuse_of_each:
            self._pass(1)
            self._work(WORKING, fuse)

    def _work(self, states: list[State], fuse: int | None) -> None:
        self._runner.run(self._daemon.work(states, fuse))
        if self._daemon.life.dead:
            self._restart()

    @rule()
    def crash(self) -> None:
        self._restart()

    def _restart(self) -> None:
        self._runner.run(self._daemon.throw_away())
        self._daemon = self._runner.run(self._started())

    async def _started(self) -> Daemon:
        daemon = Daemon(self._path, self._clock, self._cloud, self._platform, self._limits)
        await daemon.budget.load(daemon.ledger)
        return daemon

    @rule(words=st.lists(st.sampled_from(VENDOR_WORDS), min_size=1, max_size=4))
    def the_vendor_goes_on(self, words: list[ProviderStatus]) -> None:
        under_way = [job for job in self._cloud.jobs if not job.status.is_terminal]
        for job, word in zip(under_way, words, strict=False):
            job.status = word

    @rule(faults=st.lists(st.sampled_from(SubmitFault), min_size=1, max_size=3))
    def paid_calls_will_go_wrong(self, faults: list[SubmitFault]) -> None:
        self._cloud.submit_faults += faults

    @rule(fault=st.sampled_from([*CALL_FAULTS, *DeliveryFault]))
    def another_call_will_go_wrong(self, fault: str) -> None:
        if isinstance(fault, DeliveryFault):
            self._platform.faults.append(fault)
        else:
            self._cloud.call_faults.append(CALL_FAULTS[fault]())

    @rule(job_server=st.booleans(), hosts=st.booleans(), gone=st.none() | st.sampled_from(NAMES))
    def the_platform(self, gone: ExecutionId | None, *, job_server: bool, hosts: bool) -> None:
        """Is up or down, and may have lost a circuit for good."""
        self._platform.is_up, self._platform.hosts_answer = job_server, hosts
        if gone is not None:
            self._platform.gone.add(f"https://circuits.test/{gone}")

    @rule(seconds=st.sampled_from([-300, 1, 10, 70, 70, 700, 4000, 90000]))
    def time_passes(self, seconds: float) -> None:
        """Also a step back, of our own clock only."""
        if seconds < 0:
            self._clock.pass_seconds(seconds)
        else:
            self._pass(seconds)

    def _pass(self, seconds: float) -> None:
        self._clock.pass_seconds(seconds)
        self._vendor_clock.pass_seconds(seconds)

    @rule(limit=st.integers(1, 3))
    def collect(self, limit: int) -> None:
        """A validator comes with its cursor."""
        page = self._runner.run(self._daemon.ledger.finished_after(self._cursor, limit))
        self._cursor = page.cursor
        for job in page.jobs:
            assert self._collected.setdefault(job.execution_id, job) == job, "collected twice with different content"

    @invariant()
    def pay_once(self) -> None:
        twice = {token: jobs for token, jobs in self._cloud.by_token.items() if len(jobs) > 1}
        assert twice == {}, "the vendor was paid twice for one job"

    @invariant()
    def check_rows(self) -> None:
        rows = self._rows()
        for row in rows:
            assert row.error_code != Bug.code, row
            if row.state is State.WAITING:
                assert [job.id for job in self._cloud.by_token[row.token or ""]] == [row.provider_job_id]
            if row.state is State.CLOSED:
                assert self._closed.setdefault(row.execution_id, row) == row, "a closed job was changed"
                self._check_delivered(row)
        self._check_charges(rows)
        ended = {row.execution_id for row in rows if row.verdict not in (None, Verdict.SUCCEEDED)}
        assert {name for name, _ in self._platform.failed} <= ended, "reported as failed, and it is not"

    def _check_charges(self, rows: list[Job]) -> None:
        """Reserved is for what may have to be paid, nothing else; and no day costs more than it may."""
        ledger, since = self._daemon.ledger, START
        reserved, days = self._runner.run(_both(ledger.open_charges(ACCOUNT), ledger.charged_by_day(ACCOUNT, since)))
        under_way = [row for row in rows if row.provider is not None and row.verdict is None]
        must_be = {row.execution_id for row in under_way if row.submit_started_at is not None}
        assert must_be <= set(reserved) <= {row.execution_id for row in under_way}
        limit = self._limits.per_day
        assert limit is None or all(day.money.amount <= limit for day in days), days

    def _check_delivered(self, row: Job) -> None:
        if row.verdict is Verdict.SUCCEEDED:
            (job,) = self._cloud.by_token[row.token or ""]
            assert self._platform.objects[row.upload_id or ""] == counts_of(job)
        else:
            assert row.execution_id in {name for name, _ in self._platform.failed}

    def _rows(self) -> list[Job]:
        async def ask() -> list[Job | None]:
            return [await self._daemon.ledger.get(name) for name in self._arrived]

        rows = self._runner.run(ask())
        assert None not in rows, "an accepted job was lost"
        return [row for row in rows if row is not None]

    async def _to_the_end(self) -> None:
        """Everything is healed, and the daemon goes on until no row is under way."""
        self._cloud.heal()
        self._platform.heal()
        for round_ in range(200):
            for job in self._cloud.jobs:
                if not job.status.is_terminal:
                    job.status = ProviderStatus.COMPLETED
            await self._daemon.work(WORKING, None)
            stages = self._daemon.stages.values()
            due = [await self._daemon.ledger.next_due_at(stage.state, lane=stage.lane) for stage in stages]
            if not any(due):
                return
            left = (min(moment for moment in due if moment is not None) - self._clock()).total_seconds()
            # A job that waits for tomorrow's budget looks every minute; nobody wants to watch it all day.
            self._pass(max(left, 0.0 if round_ < PATIENT_ROUNDS else 1000.0))
        raise AssertionError(f"stuck: {await self._daemon.ledger.count_by_state()}")

    def _check_the_end(self) -> None:
        rows = self._rows()
        assert {row.state for row in rows} <= {State.CLOSED}
        for row in rows:
            paid = self._cloud.by_token[token_of(row)]
            self._check_verdict(row, [job.status for job in paid])
            self._check_receipt(row)
        while len(self._collected) < len(rows):
            before = self._cursor
            self.collect(3)
            assert self._cursor != before, "a closed job cannot be collected"

    def _check_verdict(self, row: Job, paid: list[ProviderStatus]) -> None:
        match row.verdict:
            case Verdict.SUCCEEDED:
                assert paid == [ProviderStatus.COMPLETED]
            case Verdict.CANCELLED:
                assert paid == [ProviderStatus.CANCELLED]
            case Verdict.REFUSED:
                assert paid == [], "refused, and yet paid"
            case _ if row.error_code in NOT_THE_VENDORS_WORD:
                assert len(paid) <= 1
            case _:
                assert paid in ([ProviderStatus.FAILED], []), row
                assert bool(paid) is (row.error_code == "vendor_failed")

    def _check_receipt(self, row: Job) -> None:
        text = self._runner.run(self._daemon.ledger.receipt(row.execution_id))
        receipt = verify_receipt(text or "")
        assert (receipt.execution_id, receipt.verdict) == (row.execution_id, row.verdict)
        paid = self._cloud.by_token[token_of(row)]
        counts = counts_of(paid[0]) if row.verdict is Verdict.SUCCEEDED else None
        assert receipt.counts_sha256 == (None if counts is None else counts_sha256(counts))


@pytest.fixture
def empty_ledger(tmp_path: Path) -> Path:
    """A new ledger's file: making one takes longer than all that is done with it."""
    path = tmp_path / "ledger.sqlite3"

    async def make() -> None:
        await SqliteLedger(LedgerSettings(path=path)).close()

    asyncio.run(make())
    return path


def test_paid_once_delivered_and_never_lost(empty_ledger: Path) -> None:
    RoadMachine.empty_ledger = empty_ledger
    run_state_machine_as_test(
        RoadMachine,
        settings=settings(
            max_examples=MAX_EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
