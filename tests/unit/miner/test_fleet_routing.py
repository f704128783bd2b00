"""Jobs over several accounts: where they go, and who gets them when one will not do. Nothing is ever paid twice."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qcompute.errors import AuthFailed, CannotRun, ConfigError, QuotaSpent, Refused, SubmitUnknown, Unavailable
from qcompute.miner import survey
from qcompute.miner.account import Account
from qcompute.miner.budget import Budget, Budgets
from qcompute.miner.fleet import Fleet
from qcompute.miner.job import Job, State, Verdict
from qcompute.miner.limits import BudgetSettings
from qcompute.miner.placement import Placement
from qcompute.miner.providers.base import CannotTell, Capability, Device, Idempotency
from qcompute.miner.road import Road
from qcompute.miner.router import RouterStage, token_of
from qcompute.miner.routing import RoutingSettings
from qcompute.miner.runner import WaitStage
from qcompute.miner.submit import SubmitStage
from qcompute.receipts import verify_receipt
from qcompute.units import ProviderKey
from tests.unit.miner.scripted import Scene, Vendor

PATIENCE = 600


@dataclass
class Priced(Vendor):
    """A scripted vendor with prices, calibration and a queue of its own."""

    per_task: float = 0.3
    extras: dict[str, Any] | None = None
    pending: int | None = None
    asked: int = 0
    list_error: Exception | None = None
    check_error: Exception | None = None
    prepare_error: Exception | None = None

    def list_devices(self) -> list[Device]:
        self.asked += 1
        if self.list_error is not None:
            raise self.list_error
        return self.devices

    def get_capability(self, device_id: str | None = None) -> Capability | None:
        del device_id
        return Capability(num_qubits=self.num_qubits, extras=self.extras)

    def get_pricing(self, device_id: str | None = None) -> dict[str, float] | None:
        del device_id
        return {"perTask": self.per_task, "perShot": 0.0}

    def get_availability(self, device_id: str | None = None) -> Any:
        told = super().get_availability(device_id)
        return None if told is None else told.model_copy(update={"pending_jobs": self.pending})

    def check(self, circuit: Any, device: Device, shots: int) -> None:
        if self.check_error is not None:
            raise self.check_error
        super().check(circuit, device, shots)

    def prepare(self, circuit: Any, device: Device, shots: int, options: Any) -> Any:
        if self.prepare_error is not None:
            raise self.prepare_error
        return super().prepare(circuit, device, shots, options)


def devices(kind: str, *names: str) -> list[Device]:
    return [Device(device_id=name, provider="scripted", device_type=kind) for name in names]


class FleetScene(Scene):
    """Three accounts: ``first`` and ``second`` have a QPU each, ``sim`` a simulator."""

    def __init__(self, **budgets: BudgetSettings) -> None:
        super().__init__()
        self.vendors = {
            "first": Priced(devices=devices("QPU", "q1")),
            "second": Priced(devices=devices("QPU", "q2")),
            "sim": Priced(devices=devices("SIMULATOR", "s")),
        }
        keys = [ProviderKey(name) for name in self.vendors]
        self.budgets = Budgets([Budget(key, budgets.get(key, BudgetSettings()), clock=self.clock) for key in keys])
        self.road = Road(self.ledger, self.signer, self.told, budgets=self.budgets, clock=self.clock)
        seconds = lambda: self.clock().timestamp()  # noqa: E731 - the clock that moves when told to
        self.accounts = {
            key: Account(key, self.vendors[key], threads=2, clock=seconds, tags={device.device_id: {f"at-{key}"}})
            for key in keys
            for device in self.vendors[key].devices
        }
        self.fleet = Fleet(self.accounts.values(), self.budgets)
        self.settings: dict[str, Any] = {"max_unavailable_seconds": PATIENCE}
        self.gone: set[str] = set()
        self._router: RouterStage | None = None

    @property
    def router(self) -> RouterStage:
        if self._router is None:
            routing = RoutingSettings.model_validate(self.settings)
            self._router = RouterStage(self.road, self.fleet, self.circuits, routing, concurrency=4)
        return self._router

    def submitter(self, name: str) -> SubmitStage:
        account = self.accounts[ProviderKey(name)]
        return SubmitStage(
            self.road,
            account,
            self.circuits,
            concurrency=4,
            held_seconds=600,
            second_look_seconds=60,
            max_unavailable_seconds=PATIENCE,
            others=self.known,
            split_from=self.settings.get("split_shots_from"),
        )

    async def known(self) -> frozenset[ProviderKey]:
        return self.fleet.names - self.gone

    async def routed(self, name: str = "job-1", **configuration: Any) -> Job:
        await self.router.handle(await self.ready(name, **configuration))
        return await self.row(name)

    async def step(self, name: str = "job-1") -> Job:
        """Let the account whose turn it is handle the row once."""
        job = await self.row(name)
        await self.submitter(job.lane).handle(job)
        return await self.row(name)

    def availability_is_old(self) -> None:
        for account in self.accounts.values():
            account._availability.clear()

    @property
    def paid(self) -> dict[str, int]:
        """Jobs that were created, by account: submits that raised created none."""
        return {name: vendor.created for name, vendor in self.vendors.items()}

    async def close(self) -> None:
        await super().close()
        await self.fleet.close(limit_seconds=1)


@pytest.fixture
async def scene() -> AsyncIterator[FleetScene]:
    scene = FleetScene()
    yield scene
    await scene.close()


def placement(job: Job) -> Placement:
    found = Placement.of(job.placement)
    assert found is not None
    return found


# ---- routing ----


async def test_the_placement_is_on_disk_before_anything_is_submitted(scene: FleetScene) -> None:
    job = await scene.routed()
    assert (job.state, job.lane, job.device_id, job.token) == (State.SUBMITTING, "first", "q1", token_of(job))
    made = placement(job)
    assert [one.name for one in made.candidates] == ["first/q1", "second/q2"]
    assert [(one.name, one.reason) for one in made.rejections] == [
        ("sim/s", "it is a SIMULATOR, and the job asks for a QPU")
    ]
    assert made.current.estimate is not None
    assert job.estimate == made.current.estimate.money
    assert scene.paid == {"first": 0, "second": 0, "sim": 0}


async def test_the_cheapest_of_all_accounts_gets_the_job_with_the_reason(scene: FleetScene) -> None:
    scene.settings["policy"] = "cheapest"
    scene.vendors["first"].per_task, scene.vendors["second"].per_task = 1.2, 0.35
    job = await scene.routed()
    assert job.lane == "second"
    assert placement(job).current.reason == "cheapest: 0.35 USD; next 1.2 USD at first/q1"


async def test_the_best_calibrated_of_all_accounts_gets_the_job(scene: FleetScene) -> None:
    scene.vendors["first"].extras = {"one_qubit_error": 0.001, "two_qubit_error": 0.1, "readout_error": 0.05}
    scene.vendors["second"].extras = {"one_qubit_error": 0.001, "two_qubit_error": 0.01, "readout_error": 0.05}
    job = await scene.routed(routing_policy="best_fidelity")
    assert job.lane == "second"
    assert "about 0.989 expected to run without an error; next about 0.899" in placement(job).current.reason


async def test_a_burst_does_not_all_go_to_the_queue_that_was_short_a_moment_ago(scene: FleetScene) -> None:
    scene.settings["policy"] = "fastest"
    scene.vendors["first"].pending, scene.vendors["second"].pending = 0, 3
    lanes = [(await scene.routed(f"job-{number}")).lane for number in range(9)]
    assert lanes == ["first"] * 3 + ["first", "second", "first", "second", "first", "second"]


async def test_many_jobs_ask_a_vendor_for_its_devices_once(scene: FleetScene) -> None:
    for number in range(20):
        await scene.routed(f"job-{number}")
    assert [vendor.asked for vendor in scene.vendors.values()] == [1, 1, 1]
    scene.clock.pass_seconds(survey.FRESH_SECONDS + 1)
    await scene.routed("later")
    assert [vendor.asked for vendor in scene.vendors.values()] == [2, 2, 2]


@pytest.mark.parametrize(
    ("configuration", "lane"),
    [
        ({"device": "q2"}, "second"),
        ({"device": "second/q2"}, "second"),
        ({"node": "second"}, "second"),
        ({"tags": ["at-second"]}, "second"),
        ({"device": "s"}, "sim"),
        ({"node": "sim"}, "sim"),
        ({"tags": "at-sim"}, "sim"),
    ],
)
async def test_a_job_gets_what_it_names(scene: FleetScene, configuration: dict[str, Any], lane: str) -> None:
    assert (await scene.routed(**configuration)).lane == lane


async def test_a_policy_nobody_knows_refuses_the_job(scene: FleetScene) -> None:
    job = await scene.routed(routing_policy="cleverest")
    assert (job.verdict, job.error_code) == (Verdict.REFUSED, "bad_option")
    assert "order, fastest, cheapest, best_fidelity, round_robin" in (job.error or "")


@pytest.mark.parametrize("error", [Unavailable("maintenance"), AuthFailed("key revoked"), ValueError("surprise")])
async def test_an_account_that_cannot_be_asked_is_left_out_with_the_reason(
    scene: FleetScene, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    await scene.routed("before")
    scene.clock.pass_seconds(survey.FRESH_SECONDS + 1)
    scene.vendors["first"].list_error = error
    job = await scene.routed()
    assert job.lane == "second"
    told = str(error) if not isinstance(error, ValueError) else "the adapter raised ValueError"
    assert ("first/q1", told) in [(one.name, one.reason) for one in placement(job).rejections]
    assert ("surprise" in caplog.text) is isinstance(error, ValueError)


async def test_with_the_first_account_unknown_no_simulator_answers(scene: FleetScene) -> None:
    """Nobody knows yet whether jobs are for a QPU: the second account's simulator must not decide it."""
    for name in ("first", "second"):
        scene.vendors[name].list_error = Unavailable("maintenance")
    job = await scene.routed()
    assert (job.state, job.error_code) == (State.READY, "unavailable")
    assert "routing.device_type" in (job.error or "")
    scene.vendors["first"].list_error = None
    await scene.router.handle(job)
    assert (await scene.row()).lane == "first"


async def test_an_account_that_hangs_holds_up_nobody(scene: FleetScene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every routed job once asked every account and waited for it."""
    monkeypatch.setattr(survey, "ASK_SECONDS", 0.2)
    stuck, vendor = threading.Event(), scene.vendors["second"]
    monkeypatch.setattr(vendor, "list_devices", lambda: stuck.wait(30) and vendor.devices)
    try:
        for number in range(4):
            job = await scene.routed(f"job-{number}", routing_policy="round_robin")
            assert job.lane == "first"
            assert "second: second has not answered for 0 s" in [
                f"{one.name}: {one.reason}" for one in placement(job).rejections
            ]
    finally:
        stuck.set()


@pytest.mark.parametrize("where", ["check_error", "prepare_error"])
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (CannotRun("too wide", reason="too_wide"), "too wide"),
        (Refused("not this one"), "not this one"),
        (Unavailable("busy"), "busy"),
        (KeyError("x"), "the adapter raised KeyError"),
    ],
)
async def test_what_one_account_cannot_run_another_gets(
    scene: FleetScene, where: str, error: Exception, told: str
) -> None:
    setattr(scene.vendors["first"], where, error)
    job = await scene.routed()
    assert job.lane == "second"
    assert ("first/q1", told) in [(one.name, one.reason) for one in placement(job).rejections]


async def test_what_no_account_can_run_is_refused_with_the_reason(scene: FleetScene) -> None:
    for vendor in scene.vendors.values():
        vendor.num_qubits = 1
    job = await scene.routed()
    assert (job.verdict, job.error_code) == (Verdict.REFUSED, "too_wide")
    assert (job.error or "").endswith("has 1; and 1 more cannot run it")


async def test_an_account_without_room_in_its_budget_is_left_out(scene: FleetScene) -> None:
    await scene.close()
    scene = FleetScene(first=BudgetSettings.model_validate({"per_day": "0.30"}))
    first = await scene.routed("job-1")
    assert first.lane == "first"
    await scene.step("job-1")
    second = await scene.routed("job-2")
    assert second.lane == "second"
    assert "budget of the day" in placement(second).rejections[0].reason
    await scene.close()


# ---- moving on ----


async def run_to_the_end(scene: FleetScene, name: str = "job-1") -> Job:
    job = await scene.row(name)
    account = scene.accounts[ProviderKey(job.lane)]
    waiting = WaitStage(scene.road, account, scene.circuits, held_seconds=600, unknown_seconds=3600)
    await waiting.handle(job)
    return await scene.row(name)


async def test_a_refused_submit_goes_to_the_next_account_and_is_paid_once(scene: FleetScene) -> None:
    scene.vendors["first"].fail_submit = [Refused("no more than 10 circuits a day")]
    await scene.routed()
    moved = await scene.step()
    assert (moved.state, moved.lane, moved.device_id) == (State.SUBMITTING, "second", "q2")
    assert (moved.submit_started_at, moved.token) == (None, token_of(moved))
    assert placement(moved).left == ("no more than 10 circuits a day",)
    sent = await scene.step()
    assert (sent.state, sent.lane) == (State.WAITING, "second")
    assert scene.paid == {"first": 0, "second": 1, "sim": 0}
    settled = await run_to_the_end(scene)
    assert settled.verdict is Verdict.SUCCEEDED
    receipt = verify_receipt(await scene.ledger.receipt(settled.execution_id) or "")
    assert receipt.executed_on is not None
    assert (receipt.executed_on.account, receipt.executed_on.device_type) == ("second", "QPU")
    assert receipt.fallback_from is None


async def test_the_last_refusal_ends_the_job_and_no_simulator_answers(scene: FleetScene) -> None:
    for name in ("first", "second"):
        scene.vendors[name].fail_submit = [Refused("not today")]
    await scene.routed()
    await scene.step()
    ended = await scene.step()
    assert (ended.state, ended.verdict, ended.error) == (State.SETTLED, Verdict.REFUSED, "not today")
    assert scene.paid == {"first": 0, "second": 0, "sim": 0}


async def test_a_declared_stand_in_answers_and_the_receipt_says_so(scene: FleetScene) -> None:
    scene.settings["fallback"] = ("sim",)
    for name in ("first", "second"):
        scene.vendors[name].fail_submit = [Refused("not today")]
    await scene.routed()
    for lane in ("second", "sim"):
        assert (await scene.step()).lane == lane
    await scene.step()
    assert scene.paid == {"first": 0, "second": 0, "sim": 1}
    settled = await run_to_the_end(scene)
    receipt = verify_receipt(await scene.ledger.receipt(settled.execution_id) or "")
    assert receipt.executed_on is not None
    assert (receipt.executed_on.device_type, receipt.fallback_from) == ("SIMULATOR", "a QPU")


@pytest.mark.parametrize("error", [SubmitUnknown("read timed out"), ValueError("surprise")])
async def test_a_submit_nobody_knows_of_never_goes_elsewhere(scene: FleetScene, error: Exception) -> None:
    scene.vendors["first"].fail_submit = [error]
    scene.vendors["first"].found = [CannotTell("no search here")]
    await scene.routed()
    assert (await scene.step()).error_code == "submit_unknown"
    held = await scene.step()
    assert (held.state, placement(held).index) == (State.HELD, 0)
    assert scene.paid["second"] == 0


@pytest.mark.parametrize("error", [AuthFailed("key revoked"), QuotaSpent("no credits")])
async def test_an_account_that_may_not_submit_is_left_at_once(scene: FleetScene, error: Exception) -> None:
    scene.vendors["first"].fail_submit = [error]
    await scene.routed()
    assert (await scene.step()).lane == "second"


@pytest.mark.parametrize("error", [AuthFailed("key revoked"), QuotaSpent("no credits"), Unavailable("busy")])
async def test_a_stand_in_is_taken_only_when_the_wait_is_over(scene: FleetScene, error: Exception) -> None:
    scene.settings["fallback"] = ("sim",)
    scene.vendors["first"].fail_submit = [error] * 20
    await scene.routed(node="first")
    assert placement(await scene.row()).is_last, "a pin is not answered by a stand-in"
    job = await scene.ready("job-2")
    scene.vendors["second"].num_qubits = 1
    await scene.router.handle(job)
    waited = 0.0
    while (job := await scene.step("job-2")).lane == "first":
        assert job.state is State.SUBMITTING
        assert waited < PATIENCE
        pause = (job.due_at - scene.clock()).total_seconds()
        scene.clock.pass_seconds(pause)
        waited += pause
    assert job.lane == "sim"
    assert PATIENCE <= waited < PATIENCE + 150
    assert scene.paid == {"first": 0, "second": 0, "sim": 0}


async def test_an_account_that_does_not_answer_is_waited_for_and_then_left(scene: FleetScene) -> None:
    scene.vendors["first"].fail_submit = [Unavailable("busy"), None]
    await scene.routed()
    assert (await scene.step()).lane == "first"
    scene.clock.pass_seconds(PATIENCE / 2)
    assert (await scene.step()).state is State.WAITING
    assert scene.paid == {"first": 1, "second": 0, "sim": 0}


async def test_a_device_that_was_switched_off_since_is_left_after_the_wait(scene: FleetScene) -> None:
    await scene.routed()
    scene.vendors["first"].offline = {"q1"}
    scene.availability_is_old()
    job = await scene.step()
    assert (job.lane, job.error_code) == ("first", "unavailable")
    assert placement(job).unavailable_since == scene.clock()
    scene.clock.pass_seconds(PATIENCE)
    assert (await scene.step()).lane == "second"
    assert scene.paid == {"first": 0, "second": 0, "sim": 0}


async def test_without_another_a_device_that_is_off_gets_the_job_into_its_queue(scene: FleetScene) -> None:
    scene.vendors["first"].offline = {"q1"}
    await scene.routed(device="q1")
    assert (await scene.step()).state is State.WAITING


async def test_what_was_reserved_at_one_account_is_free_again_when_the_job_goes_on(scene: FleetScene) -> None:
    await scene.close()
    scene = FleetScene(
        first=BudgetSettings.model_validate({"per_day": "5"}), second=BudgetSettings.model_validate({"per_day": "5"})
    )
    scene.vendors["second"].per_task = 0.7
    scene.vendors["first"].fail_submit = [Refused("no")]
    await scene.routed()
    await scene.step()
    await scene.step()
    reserved = {document["account"]: document["reserved"] for document in scene.budgets.documents()}
    assert (reserved["first"], reserved["second"]) == ("0", "0.7")
    again = Budgets([Budget(key, BudgetSettings(), clock=scene.clock) for key in scene.fleet.names])
    await again.load(scene.ledger)
    assert {one["account"]: one["reserved"] for one in again.documents()}["first"] == "0"
    await scene.close()


async def test_over_the_budget_of_one_account_the_next_one_gets_the_job(scene: FleetScene) -> None:
    await scene.close()
    scene = FleetScene(first=BudgetSettings.model_validate({"per_day": "0.50"}))
    await scene.routed("job-1")
    await scene.routed("job-2")
    assert (await scene.step("job-1")).state is State.WAITING
    assert (await scene.step("job-2")).lane == "second"
    assert (await scene.step("job-2")).state is State.WAITING
    assert scene.paid == {"first": 1, "second": 1, "sim": 0}
    await scene.close()


ANSWERS = st.sampled_from(
    [None, Refused("no"), AuthFailed("no"), QuotaSpent("no"), Unavailable("no"), SubmitUnknown("?"), CannotRun("no")]
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ANSWERS, max_size=4), st.lists(ANSWERS, max_size=4), st.booleans(), st.booleans())
async def test_whatever_the_accounts_answer_a_job_is_created_once_at_most(
    first: list[Exception | None],
    second: list[Exception | None],
    falls_back: bool,  # noqa: FBT001
    was_created: bool,  # noqa: FBT001
) -> None:
    """A submit whose answer is lost may have created a job: then it is looked for, and nobody else gets it."""
    scene = FleetScene()
    scene.settings["fallback"] = ("sim",) if falls_back else ()
    for vendor, answers in zip(scene.vendors.values(), (first, second), strict=False):
        vendor.idempotency = Idempotency.TOKEN  # type: ignore[misc]
        vendor.fail_submit = list(answers)
        vendor.lost_are_created = was_created
    job = await scene.routed()
    seen = [placement(job).index]
    for _ in range(40):
        if job.state is not State.SUBMITTING:
            break
        scene.clock.now = max(job.due_at, scene.clock.now + timedelta(seconds=61))
        if scene.clock() >= job.deadline_at:
            break
        job = await scene.step()
        seen.append(placement(job).index)
    assert sum(scene.paid.values()) <= 1
    assert seen == sorted(seen), "the index only grows"
    if job.state is State.WAITING:
        assert sum(scene.paid.values()) == 1
    if not falls_back:
        assert scene.paid["sim"] == 0
    await scene.close()


async def test_stand_ins_are_names_this_miner_has(scene: Scene) -> None:
    """A misspelt one stood in for nothing, and nobody knew before the outage it was written for."""
    desk = Account(ProviderKey("desk"), Vendor(), threads=1, tags={"aer_mps": {"quiet", "near"}})
    fleet = Fleet([desk, scene.account], Budgets([]))
    fleet.check_fallback(["desk", "scripted", "desk/aer_mps", "aer_mps", "tag:quiet", "scripted/only-its-vendor-knows"])
    for wrong in ("dsk", "tag:loud", "desk/aer_mp", "quiet", "only-its-vendor-knows", "scripted/", "/aer_mps", ""):
        with pytest.raises(ConfigError, match=r"routing\.fallback"):
            fleet.check_fallback(["desk", wrong])
    with pytest.raises(ConfigError, match="did you mean 'desk/aer_mps'"):
        fleet.check_fallback(["desk/aer_mp"])
    await desk.close(limit_seconds=1)
