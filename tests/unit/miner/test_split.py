"""A job whose shots run in several places: exact, paid once, and one job to everybody outside."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from typing_extensions import override

from qcompute.errors import AuthFailed, Refused, StaleRow
from qcompute.ledger.contract import Ledger
from qcompute.ledger.memory import MemoryLedger
from qcompute.miner.account import Account
from qcompute.miner.budget import Budget, Budgets
from qcompute.miner.fleet import Fleet
from qcompute.miner.job import SPLIT_LANE, CostKind, Job, State, Verdict
from qcompute.miner.limits import BudgetSettings
from qcompute.miner.outbox import OutboxStage
from qcompute.miner.placement import Placement
from qcompute.miner.providers.base import Device, Limits
from qcompute.miner.road import Road
from qcompute.miner.router import RouterStage, token_of
from qcompute.miner.routing import RoutingSettings
from qcompute.miner.runner import WaitStage
from qcompute.miner.split import LOOK_SECONDS, SplitStage, part_id, part_options
from qcompute.miner.submit import SubmitStage
from qcompute.protocol import ExecutionStatus, is_execution_id, is_row_id
from qcompute.receipts import verify_receipt
from qcompute.units import DeviceId, ExecutionId, Money, ProviderKey
from tests.unit.miner.scripted import Clock, Scene, Server, Vendor

SPLIT = {"kind": "shots", "parts": 2}


class Node(Vendor):
    """A simulator that runs ``at_once`` jobs side by side."""

    at_once: int | None = None

    @override
    def limits(self) -> Limits:
        return Limits(max_running_jobs=self.at_once)


class OtherNode(Node):
    """One of another make."""


class Nodes(Scene):
    """A road with two accounts of simulators."""

    def __init__(
        self,
        right: type[Node] = Node,
        *,
        budget: BudgetSettings | None = None,
        ledger: Callable[[Clock], Ledger] = MemoryLedger,
    ) -> None:
        super().__init__(ledger=ledger)
        self.vendors: dict[str, Node] = {"left": Node(), "right": right()}
        for vendor in self.vendors.values():
            vendor.devices = [Device(device_id="sim", provider="scripted", device_type="SIMULATOR")]
            vendor.counts = {"00": 30, "11": 20}
        self.accounts = [
            Account(ProviderKey(name), vendor, threads=2, clock=lambda: self.clock().timestamp())
            for name, vendor in self.vendors.items()
        ]
        budgets = Budgets([Budget(one.key, budget or BudgetSettings(), clock=self.clock) for one in self.accounts])
        self.road = Road(self.ledger, self.signer, self.told, budgets=budgets, clock=self.clock)
        self.fleet = Fleet(self.accounts, budgets)
        self.server = Server()
        self.routing = RoutingSettings()

    async def routed(self, *, split_from: int | None = None, **configuration: Any) -> list[Job]:
        """The parts of a job of 100 shots, once it was routed."""
        settings = self.routing.model_copy(update={"split_shots_from": split_from})
        await RouterStage(self.road, self.fleet, self.circuits, settings, concurrency=1).handle(
            await self.ready(**configuration)
        )
        return await self.ledger.parts(ExecutionId("job-1"))

    async def submit(self) -> None:
        for account in self.accounts:
            stage = SubmitStage(
                self.road, account, self.circuits, concurrency=4, held_seconds=600, second_look_seconds=1
            )
            for job in await self.ledger.due(State.SUBMITTING, self.clock(), 10, lane=account.key):
                await stage.handle(job)

    async def poll(self) -> None:
        self.clock.pass_seconds(3)
        for account in self.accounts:
            stage = WaitStage(self.road, account, self.circuits, held_seconds=600, unknown_seconds=300)
            for job in await self.ledger.due(State.WAITING, self.clock(), 10, lane=account.key):
                await stage.handle(job)

    async def deliver(self) -> None:
        outbox = OutboxStage(self.road, self.server, concurrency=4, longest_pause_seconds=60)
        for job in await self.ledger.due(State.SETTLED, self.clock(), 10):
            await outbox.handle(job)

    async def look(self) -> Job:
        """Let the whole look at its parts when it is due; the whole afterwards."""
        for job in await self.ledger.due(State.WAITING, self.clock(), 10, lane=SPLIT_LANE):
            await SplitStage(self.road, concurrency=4).handle(job)
        return await self.row()

    @override
    async def close(self) -> None:
        for account in self.accounts:
            await account.close(limit_seconds=1)
        await super().close()


@pytest.fixture
async def nodes() -> AsyncIterator[Nodes]:
    nodes = Nodes()
    yield nodes
    await nodes.close()


async def test_a_split_job_waits_for_parts_of_its_own(nodes: Nodes) -> None:
    parts = await nodes.routed(split=SPLIT, optimization_level=1)
    whole = await nodes.row()
    assert (whole.state, whole.lane, whole.submit_started_at) == (State.WAITING, SPLIT_LANE, None)
    assert [(part.execution_id, part.provider, part.device_id, part.shots) for part in parts] == [
        ("job-1~00", "left", "sim", 50),
        ("job-1~01", "right", "sim", 50),
    ]
    assert {part.state for part in parts} == {State.SUBMITTING}
    assert [part.token for part in parts] == [token_of(part) for part in parts]
    assert len({token_of(whole), *(part.token for part in parts)}) == 3
    assert parts[0].configuration_data == {"optimization_level": 1, "device": "sim"}
    for part in parts:
        placement = Placement.of(part.placement)
        assert placement is not None
        assert (placement.current.account, placement.current.device_id) == (part.provider, part.device_id)


async def test_the_counts_of_all_parts_are_the_result(nodes: Nodes) -> None:
    await nodes.routed(split=SPLIT)
    await nodes.submit()
    nodes.vendors["right"].counts = {"00": 20, "01": 30}
    await nodes.poll()
    await nodes.deliver()
    whole = await nodes.look()
    assert (whole.state, whole.verdict, whole.provider, whole.device_id) == (
        State.SETTLED,
        Verdict.SUCCEEDED,
        None,
        "sim",
    )
    await nodes.deliver()
    assert nodes.server.puts == [("up-1", {"00": 50, "01": 30, "11": 20})]
    assert nodes.server.failed == []
    assert [(row.execution_id, row.shots) for row in (await nodes.ledger.finished_after("", 9)).jobs] == [
        ("job-1", 100)
    ]
    assert {name for name, _, _ in nodes.told.changes} == {"job-1"}
    assert nodes.told.changes[-1][2] is ExecutionStatus.COMPLETED


async def test_its_receipt_names_the_receipts_of_its_parts(nodes: Nodes) -> None:
    parts = await nodes.routed(split=SPLIT)
    await nodes.submit()
    await nodes.poll()
    await nodes.deliver()
    await nodes.look()
    document = await nodes.ledger.receipt(ExecutionId("job-1"))
    assert document is not None
    receipt = verify_receipt(document)
    assert receipt.parts is not None
    for named, part in zip(receipt.parts, parts, strict=True):
        own = await nodes.ledger.receipt(part.execution_id)
        assert own is not None
        assert named.receipt_sha256 == hashlib.sha256(own.encode()).hexdigest()
        assert (named.execution_id, named.shots) == (part.execution_id, verify_receipt(own).shots_requested)
        assert (named.provider, named.device_id, named.verdict) == (part.provider, "sim", Verdict.SUCCEEDED)
        assert verify_receipt(own).parts is None


async def test_each_part_is_charged_to_its_account_and_the_whole_is_not_charged_again(nodes: Nodes) -> None:
    """The price is 1 for a job and a hundredth for a shot."""
    for vendor in nodes.vendors.values():
        vendor.get_pricing = lambda device_id=None: {"perTask": 1.0, "perShot": 0.01}  # noqa: ARG005 - as in base
    parts = await nodes.routed(split=SPLIT)
    assert [part.estimate for part in parts] == [Money(Decimal("1.50"), "USD")] * 2
    await nodes.submit()
    await nodes.poll()
    await nodes.deliver()
    await nodes.look()
    outcome = await nodes.ledger.outcome(ExecutionId("job-1"))
    assert outcome is not None
    assert (outcome.cost, outcome.cost_kind) == (Money(Decimal("3.00"), "USD"), CostKind.OUR_ESTIMATE)
    for account in nodes.accounts:
        (day,) = await nodes.ledger.charged_by_day(account.key, nodes.clock().replace(hour=0))
        assert day.money == Money(Decimal("1.50"), "USD")
    assert await nodes.ledger.charged_by_day(ProviderKey(SPLIT_LANE), nodes.clock().replace(hour=0)) == []
    assert await nodes.ledger.charged_by_day(ProviderKey(""), nodes.clock().replace(hour=0)) == []


async def test_a_part_that_fails_calls_the_others_off_and_lends_the_job_its_words(nodes: Nodes) -> None:
    nodes.vendors["right"].fail_submit = [Refused("no more than 40 shots here")]
    nodes.vendors["left"].status = "RUNNING"
    parts = await nodes.routed(split=SPLIT)
    await nodes.ledger.save(parts[1], replace(parts[1], placement=None))  # nowhere else to go
    await nodes.submit()
    await nodes.deliver()
    whole = await nodes.look()
    assert whole.state is State.WAITING, "what was paid for is waited for"
    await nodes.poll()
    assert nodes.vendors["left"].cancelled == ["vendor-1"]
    nodes.vendors["left"].status = "CANCELLED"
    await nodes.poll()
    await nodes.deliver()
    whole = await nodes.look()
    assert (whole.state, whole.verdict, whole.error) == (State.SETTLED, Verdict.REFUSED, "no more than 40 shots here")
    await nodes.deliver()
    assert nodes.server.failed == [("job-1", "no more than 40 shots here")]
    assert nodes.server.puts == []


async def test_a_part_in_the_middle_of_a_paid_call_is_not_called_off(nodes: Nodes) -> None:
    """Its row would have another version, and the handle of what was just paid could not be stored."""
    parts = await nodes.routed(split=SPLIT)
    marked = await nodes.ledger.save(parts[0], replace(parts[0], submit_started_at=nodes.clock()))
    await nodes.road.end_without_result(parts[1], Verdict.FAILED, code="deadline", message="too late")
    await nodes.look()
    assert await nodes.row("job-1~00") == marked
    await nodes.ledger.save(marked, replace(marked, submit_started_at=None))
    nodes.clock.pass_seconds(LOOK_SECONDS)
    await nodes.look()
    assert (await nodes.row("job-1~00")).deadline_at == nodes.clock()


async def test_a_whole_that_nobody_woke_looks_by_itself(nodes: Nodes) -> None:
    """Killed between a part's last move and the waking, the daemon must not wait for ever."""
    await nodes.routed(split=SPLIT)
    await nodes.submit()
    await nodes.look()
    await nodes.poll()
    assert (await nodes.row()).state is State.WAITING
    nodes.clock.pass_seconds(LOOK_SECONDS)
    assert (await nodes.look()).state is State.SETTLED


async def test_a_part_that_is_done_wakes_the_whole(nodes: Nodes) -> None:
    await nodes.routed(split=SPLIT)
    await nodes.submit()
    assert (await nodes.look()).due_at > nodes.clock()
    await nodes.poll()
    await nodes.deliver()
    assert (await nodes.row()).due_at <= nodes.clock()
    assert (await nodes.row("job-1~00")).state is State.CLOSED


async def test_waking_bears_with_a_whole_that_changes_just_then(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    await nodes.routed(split=SPLIT)
    await nodes.submit()
    await nodes.look()
    await nodes.poll()
    real, refused = nodes.ledger.save, [True]

    async def save(before: Job, after: Job, **parts: Any) -> Job:
        if before.execution_id == "job-1" and refused:
            refused.clear()
            raise StaleRow
        return await real(before, after, **parts)

    monkeypatch.setattr(nodes.ledger, "save", save)
    await nodes.deliver()
    assert (await nodes.row()).due_at <= nodes.clock()


async def test_parts_that_cannot_be_of_one_circuit_are_no_result(nodes: Nodes) -> None:
    parts = await nodes.routed(split=SPLIT)
    await nodes.submit()
    await nodes.poll()
    outcome = await nodes.ledger.outcome(parts[0].execution_id)
    assert outcome is not None
    assert isinstance(nodes.ledger, MemoryLedger)
    nodes.ledger._outcomes[parts[0].execution_id]["counts"] = '{"000": 50}'
    await nodes.deliver()
    whole = await nodes.look()
    assert (whole.verdict, whole.error_code) == (Verdict.FAILED, "bad_reply")


async def test_large_jobs_are_split_over_simulators_alike_when_the_operator_wants_it(nodes: Nodes) -> None:
    parts = await nodes.routed(split_from=100)
    assert [part.provider for part in parts] == ["left", "right"]


async def test_a_node_that_runs_several_at_once_gets_several_parts(nodes: Nodes) -> None:
    nodes.accounts[0].limits = Limits(max_running_jobs=3)
    parts = await nodes.routed(split_from=100)
    assert [(part.provider, part.shots) for part in parts] == [
        ("left", 25),
        ("right", 25),
        ("left", 25),
        ("left", 25),
    ]


async def test_parts_are_spread_before_a_node_gets_a_second_one(nodes: Nodes) -> None:
    """Two parts over a node with four processes and one beside it went to the first both, and the other had none."""
    nodes.accounts[0].limits = Limits(max_running_jobs=4)
    assert [part.provider for part in await nodes.routed(split=SPLIT)] == ["left", "right"]


@pytest.mark.parametrize("split_from", [None, 101])
async def test_other_jobs_run_in_one_piece(nodes: Nodes, split_from: int | None) -> None:
    assert await nodes.routed(split_from=split_from) == []
    assert (await nodes.row()).provider == "left"


async def test_a_quantum_computer_is_not_split_unasked(nodes: Nodes) -> None:
    for vendor in nodes.vendors.values():
        vendor.devices = [Device(device_id="qpu", provider="scripted", device_type="QPU")]
    assert await nodes.routed(split_from=2) == []


async def test_unlike_nodes_share_a_job_only_when_it_says_so() -> None:
    for mixed, want in ((False, ["left", "left"]), (True, ["left", "right"])):
        nodes = Nodes(OtherNode)
        parts = await nodes.routed(split={**SPLIT, "mixed": mixed})
        assert [part.provider for part in parts] == want
        await nodes.close()


async def test_no_stand_in_shares_a_job_with_the_device_it_stands_in_for() -> None:
    """``mixed`` let a simulator that was declared for outages give half the shots of a QPU's job, the QPU being up."""
    nodes = Nodes(OtherNode)
    nodes.vendors["left"].devices = [Device(device_id="qpu", provider="scripted", device_type="QPU")]
    nodes.routing = RoutingSettings(fallback=("right",))
    parts = await nodes.routed(split={**SPLIT, "mixed": True})
    assert [part.device_id for part in parts] == ["qpu", "qpu"]
    for part in parts:
        placement = Placement.of(part.placement)
        assert placement is not None
        assert [one.device_id for one in placement.candidates] == ["qpu"]
    await nodes.close()


async def test_all_parts_together_cost_no_more_than_one_job_may() -> None:
    """Each part was held to the limit of a whole job: 64 parts of 0.90 went past a limit of 1.00 as one job."""
    nodes = Nodes(budget=BudgetSettings(per_job=Decimal("2.50")))
    for vendor in nodes.vendors.values():
        vendor.get_pricing = lambda device_id=None: {"perTask": 1.0, "perShot": 0.01}  # noqa: ARG005 - as in base
    assert len(await nodes.routed(split={"kind": "shots", "parts": 2})) == 2
    await nodes.close()
    nodes = Nodes(budget=BudgetSettings(per_job=Decimal("2.50")))
    for vendor in nodes.vendors.values():
        vendor.get_pricing = lambda device_id=None: {"perTask": 1.0, "perShot": 0.01}  # noqa: ARG005 - as in base
    assert await nodes.routed(split={"kind": "shots", "parts": 6}) == []
    whole = await nodes.row()
    assert (whole.verdict, whole.error_code) == (Verdict.REFUSED, "over_budget")
    assert whole.error == (
        "in 6 parts, the job is expected to cost 3.50 USD, and this miner spends at most 2.50 USD on one job"
    )
    await nodes.close()


async def test_parts_that_move_to_another_account_cost_no_more_there_than_one_job_may() -> None:
    """The sum was looked at when the parts were made: a part whose account failed was then held to the limit alone.

    With 10 as the limit and a part of 8 at each of two accounts, the one that was left paid 16 for one job.
    """
    nodes = Nodes(budget=BudgetSettings(per_job=Decimal("2.50")))
    for vendor in nodes.vendors.values():
        vendor.get_pricing = lambda device_id=None: {"perTask": 1.0, "perShot": 0.01}  # noqa: ARG005 - as in base
    nodes.vendors["left"].fail_submit = [AuthFailed("the account is closed")]
    parts = await nodes.routed(split={"kind": "shots", "parts": 2})
    assert [(part.provider, str(part.estimate)) for part in parts] == [("left", "1.50 USD"), ("right", "1.50 USD")]
    await nodes.submit()
    assert {name: vendor.created for name, vendor in nodes.vendors.items()} == {"left": 0, "right": 1}
    moved, stayed = await nodes.ledger.parts(ExecutionId("job-1"))
    assert (moved.provider, moved.verdict, moved.error_code) == ("right", Verdict.REFUSED, "over_budget")
    assert moved.error == (
        "with its other parts here, the job is expected to cost 3.00 USD, and this miner spends at most 2.50 USD on "
        "one job"
    )
    assert stayed.state is State.WAITING
    await nodes.close()


async def test_a_job_that_nobody_asked_to_split_runs_in_one_piece_where_its_parts_would_cost_too_much() -> None:
    nodes = Nodes(budget=BudgetSettings(per_job=Decimal("2.50")))
    nodes.accounts[0].limits = Limits(max_running_jobs=5)
    for vendor in nodes.vendors.values():
        vendor.get_pricing = lambda device_id=None: {"perTask": 1.0, "perShot": 0.01}  # noqa: ARG005 - as in base
    assert await nodes.routed(split_from=100) == []
    assert ((await nodes.row()).state, (await nodes.row()).provider) == (State.SUBMITTING, "left")
    await nodes.close()


@pytest.mark.parametrize(
    ("configuration", "code"),
    [
        ({"split": {"kind": "qubits", "parts": 2}}, "cannot_split"),
        ({"split": {"kind": "shots", "parts": 0}}, "bad_option"),
        ({"cutting": {"observable": {"ZZ": 1.0}, "max_subcircuit_qubits": 1}}, "cannot_split"),
    ],
)
async def test_what_cannot_be_split_is_refused_with_the_reason(
    nodes: Nodes, configuration: dict[str, Any], code: str
) -> None:
    assert await nodes.routed(**configuration) == []
    whole = await nodes.row()
    assert (whole.verdict, whole.error_code) == (Verdict.REFUSED, code)


async def test_more_parts_than_shots_are_refused(nodes: Nodes) -> None:
    job = await nodes.ready(split={"kind": "shots", "parts": 3})
    few = await nodes.ledger.save(job, replace(job, shots=2))
    await RouterStage(nodes.road, nodes.fleet, nodes.circuits, RoutingSettings(), concurrency=1).handle(few)
    assert ((await nodes.row()).verdict, (await nodes.row()).error_code) == (Verdict.REFUSED, "cannot_split")


def test_a_part_can_be_asked_for_by_its_id_and_never_be_sent() -> None:
    name = part_id(ExecutionId("job-1"), 7)
    assert is_row_id(name)
    assert not is_execution_id(name)
    assert not is_row_id(f"{name}~01")
    assert not is_row_id("job-1~x")


def test_every_part_has_a_seed_of_its_own() -> None:
    """Two simulators alike gave the very same shots for one seed: 1,000 shots were worth 500."""
    seeds = [part_options({"seed": 7, "split": SPLIT}, number, DeviceId("sim"))["seed"] for number in range(8)]
    assert len(set(seeds)) == 8
    assert seeds == [part_options({"seed": 7}, number, DeviceId("sim"))["seed"] for number in range(8)]
    assert seeds != [part_options({"seed": 8}, number, DeviceId("sim"))["seed"] for number in range(8)]
    assert "seed" not in part_options({}, 0, DeviceId("sim"))


async def test_a_budget_holds_parts_back_one_by_one() -> None:
    budget = BudgetSettings(per_day=Decimal("1.00"), unpriced_cost=Decimal("1.00"))
    nodes = Nodes(budget=budget)
    await nodes.routed(split={"kind": "shots", "parts": 4})
    await nodes.submit()
    assert [len(vendor.submits) for vendor in nodes.vendors.values()] == [1, 1]
    assert len(await nodes.ledger.due(State.SUBMITTING, nodes.clock().replace(day=28), 10, lane="left")) == 1
    await nodes.close()
