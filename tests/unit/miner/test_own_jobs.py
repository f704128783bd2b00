"""Jobs of the operator's own: through the socket onto the road, to nobody but their operator."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from qcompute.axon.contract import Caller, Scheme, VerifiedRequest
from qcompute.errors import CannotRun, FetchRefused
from qcompute.jobserver.settings import JobServerSettings
from qcompute.miner.commands import CommandRefused, Estimate, Look, Run
from qcompute.miner.fetch import FetchStage, own_circuit, own_url
from qcompute.miner.intake import JobIntake
from qcompute.miner.job import Nonce, State, Verdict
from qcompute.miner.limits import MinerSettings
from qcompute.miner.outbox import OutboxStage
from qcompute.miner.own_jobs import OwnJobs
from qcompute.miner.settings import Settings
from qcompute.miner.survey import Survey
from qcompute.protocol import COLLECT_ONLY, OWN_PREFIX, CircuitSynapse
from qcompute.units import ExecutionId, Hotkey
from tests.unit.miner.scripted import BELL, VALIDATOR, Scene, Server

HOTKEY = Hotkey("5FHneW46xGXgs5mUiveU4sbTyGBzmstUspZC92UhjJM694ty")


class Silent:
    def received(self, execution_id: str) -> None:
        """Tell nobody."""


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    yield scene
    await scene.close()


def own_jobs(scene: Scene, **limits: Any) -> OwnJobs:
    servers = JobServerSettings(url="https://jobs.example", tensorauth_url="https://auth.example")
    settings = Settings(jobserver=servers, miner=MinerSettings(**limits))
    intake = JobIntake(scene.ledger, Silent(), settings.miner, budgets=scene.road.budgets, clock=scene.clock)
    return OwnJobs(settings, HOTKEY, intake, scene.ledger, Survey(scene.fleet, scene.circuits), scene.circuits)


async def test_a_circuit_comes_back_as_it_was_given_and_only_from_its_own_url() -> None:
    assert own_circuit(own_url("OPENQASM 2.0; // grün\n")) == "OPENQASM 2.0; // grün\n"
    with pytest.raises(FetchRefused):
        own_circuit("https://elsewhere.example/a.qasm")


async def test_it_is_a_job_of_the_miner_s_own_hotkey_with_its_circuit_in_the_row(scene: Scene) -> None:
    own = own_jobs(scene)
    told = await own(Run(circuit=BELL, shots=10))
    job = await scene.ledger.get(ExecutionId(told["execution_id"]))
    assert job is not None
    assert job.execution_id.startswith(OWN_PREFIX)
    assert (job.state, job.validator_hotkey, own_circuit(job.input_data_url or "")) == (State.ACCEPTED, HOTKEY, BELL)
    shown = await own(Look(execution_id=job.execution_id))
    assert (shown["job"]["state"], shown["counts"]) == ("accepted", None)
    with pytest.raises(CommandRefused, match="there is no job x"):
        await own(Look(execution_id="x"))


async def test_it_is_refused_with_the_words_of_the_screen_and_of_the_limits(scene: Scene) -> None:
    own = own_jobs(scene, max_shots=100, max_inflight=1, queue_slack=0)
    with pytest.raises(CannotRun, match="line 1"):
        await own(Run(circuit='OPENQASM 2.0; include "/etc/passwd";', shots=10))
    with pytest.raises(CannotRun, match="between 1 and 100"):
        await own(Run(circuit=BELL, shots=101))
    await own(Run(circuit=BELL, shots=1))
    with pytest.raises(CommandRefused, match="full"):
        await own(Run(circuit=BELL, shots=1))


async def test_an_estimate_names_the_device_and_stores_nothing(scene: Scene) -> None:
    told = await own_jobs(scene)(Estimate(circuit=BELL, shots=10))
    assert (told["account"], told["device_id"], told["shots"], told["num_qubits"]) == ("scripted", "dev", 10, 2)
    assert sum((await scene.ledger.count_by_state()).values()) == 0
    with pytest.raises(CommandRefused, match="elsewhere"):
        await own_jobs(scene)(Estimate(circuit=BELL, shots=10, options={"device": "elsewhere"}))


class NoDownloads:
    async def fetch(self, url: str) -> str:
        raise FetchRefused(f"asked for {url}")


async def test_only_an_operator_s_row_brings_its_circuit_along(scene: Scene) -> None:
    """A validator's URL of the same kind goes to the guard of downloads, which refuses it."""
    stage = FetchStage(scene.road, NoDownloads(), lambda _: None, concurrency=1, deadline_seconds=1)  # pyright: ignore[reportArgumentType] - the language is not looked at
    told = await own_jobs(scene)(Run(circuit=BELL, shots=10))
    job = await scene.ledger.get(ExecutionId(told["execution_id"]))
    assert job is not None
    await stage.handle(job)
    ready = await scene.ledger.get(job.execution_id)
    assert ready is not None
    assert (ready.state, ready.input_data_url, await scene.ledger.circuit(job.execution_id)) == (
        State.READY,
        None,
        BELL,
    )


async def test_its_result_stays_here(scene: Scene) -> None:
    told = await own_jobs(scene)(Run(circuit=BELL, shots=10))
    job = await scene.ledger.get(ExecutionId(told["execution_id"]))
    assert job is not None
    heard = len(scene.told.changes)
    settled = await scene.road.end_without_result(job, Verdict.FAILED, code="x", message="y")
    outbox = OutboxStage(scene.road, Server(), concurrency=1, longest_pause_seconds=1)
    await outbox.handle(replace(settled))
    closed = await scene.ledger.get(job.execution_id)
    assert closed is not None
    assert (closed.state, closed.upload_id) == (State.CLOSED, None)
    assert len(scene.told.changes) == heard
    page = await scene.ledger.finished_after("", 10)
    assert [one.execution_id for one in page.jobs] == [job.execution_id]
    reply = await own_intake(scene)(collecting())
    assert (reply.success, reply.finished) == (True, [])
    assert reply.last_circuit == page.cursor


async def test_no_validator_can_make_one(scene: Scene) -> None:
    request = collecting(f"{OWN_PREFIX}1")
    reply = await own_intake(scene)(request)
    assert (reply.success, reply.error_message) == (False, f"execution_id may not begin with {OWN_PREFIX}")


def own_intake(scene: Scene) -> JobIntake:
    return JobIntake(scene.ledger, Silent(), MinerSettings(), budgets=scene.road.budgets, clock=scene.clock)


def collecting(execution_id: str = COLLECT_ONLY) -> VerifiedRequest:
    fields: dict[str, Any] = {
        "execution_id": execution_id,
        "shots": 1,
        "configuration_data": {},
        "input_data_url": own_url(BELL),
    }
    synapse = CircuitSynapse.model_validate({**fields, "last_circuit": "0000-00-00 00:00:00"})
    return VerifiedRequest(Caller(VALIDATOR, 1, Scheme.DENDRITE), Nonce(VALIDATOR, "uuid", 1), synapse)
