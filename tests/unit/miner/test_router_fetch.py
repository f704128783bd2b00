"""From a URL to a chosen device: what cannot run ends before anything is paid, in words the user understands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from qcompute.circuits.program import CompiledCircuit, Language
from qcompute.errors import CannotRun, FetchFailed, FetchRefused
from qcompute.miner.circuit_cache import CircuitCache
from qcompute.miner.fetch import FetchStage
from qcompute.miner.job import State, Verdict
from qcompute.miner.providers.base import Device
from qcompute.miner.router import RouterStage, token_of
from qcompute.miner.routing import RoutingSettings
from qcompute.units import Money
from tests.unit.miner.scripted import BELL, Parser, Scene


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    yield scene
    await scene.close()


class Host:
    """A circuit host that answers from a list."""

    def __init__(self, *answers: str | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def fetch(self, url: str) -> str:
        self.asked.append(url)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def screen(source: str) -> Language:
    if "defcal" in source:
        raise CannotRun("line 3: defcal is not allowed", reason="not_allowed", line=3)
    return Language.OPENQASM_2


def fetching(scene: Scene, host: Host) -> FetchStage:
    return FetchStage(scene.road, host, screen, concurrency=4, deadline_seconds=600)


async def test_a_fetched_circuit_is_stored_and_its_url_forgotten(scene: Scene) -> None:
    host = Host(BELL)
    await fetching(scene, host).handle(await scene.job())
    row = await scene.row()
    assert row.state is State.READY
    assert row.input_data_url is None
    assert await scene.ledger.circuit(row.execution_id) == BELL
    assert host.asked == ["https://circuits.test/bell.qasm?sig=secret"]


async def test_a_large_circuit_is_screened_too(scene: Scene) -> None:
    await fetching(scene, Host(BELL + " " * 20_000 + "defcal")).handle(await scene.job())
    assert (await scene.row()).verdict is Verdict.REFUSED


async def test_a_host_that_fails_is_asked_again_until_the_deadline(scene: Scene) -> None:
    stage = fetching(scene, Host(FetchFailed("circuits.test answered 503"), BELL))
    await stage.handle(await scene.job())
    row = await scene.row()
    assert (row.state, row.error_code) == (State.ACCEPTED, "fetch_failed")
    assert row.due_at > scene.clock()
    await stage.handle(row)
    row = await scene.row()
    assert (row.state, row.error_code, row.error) == (State.READY, None, None)


async def test_a_host_that_never_answers_fails_the_job_after_the_deadline(scene: Scene) -> None:
    job = await scene.job()
    scene.clock.pass_seconds(601)
    await fetching(scene, Host(FetchFailed("circuits.test did not answer"))).handle(job)
    row = await scene.row()
    assert (row.state, row.verdict, row.error_code) == (State.SETTLED, Verdict.FAILED, "fetch_failed")
    assert "circuits.test did not answer" in (row.error or "")


@pytest.mark.parametrize(
    ("answer", "code"),
    [(FetchRefused("private address", reason="private_address"), "private_address"), ("defcal", "not_allowed")],
)
async def test_a_definite_no_refuses_the_job(scene: Scene, answer: str | Exception, code: str) -> None:
    await fetching(scene, Host(answer)).handle(await scene.job())
    row = await scene.row()
    assert (row.state, row.verdict, row.error_code) == (State.SETTLED, Verdict.REFUSED, code)


def routing(scene: Scene) -> RouterStage:
    return RouterStage(scene.road, scene.fleet, scene.circuits, RoutingSettings(), concurrency=4)


async def test_routing_chooses_a_device_a_token_and_an_estimate(scene: Scene) -> None:
    job = await scene.ready()
    await routing(scene).handle(job)
    row = await scene.row()
    assert (row.state, row.provider, row.device_id) == (State.SUBMITTING, "scripted", "dev")
    assert row.token == token_of(job)
    assert row.estimate == Money(Decimal("1.30"), "USD")
    assert row.submit_started_at is None


async def test_the_token_depends_on_the_execution_id_alone(scene: Scene) -> None:
    one, other = await scene.job("job-1"), await scene.job("job-2")
    assert token_of(one) == token_of(replace(one, shots=7, attempts=3))
    assert token_of(one) != token_of(other)


async def test_the_wished_device_is_taken(scene: Scene) -> None:
    scene.vendor.devices = devices("QPU", "a", "b", "c")
    await routing(scene).handle(await scene.ready(device="b"))
    assert (await scene.row()).device_id == "b"


async def test_a_wish_for_a_device_that_is_not_there_names_those_that_are(scene: Scene) -> None:
    scene.vendor.devices = devices("QPU", "a", "b")
    await routing(scene).handle(await scene.ready(device="z"))
    row = await scene.row()
    assert (row.verdict, row.error_code) == (Verdict.REFUSED, "no_device")
    assert "a, b" in (row.error or "")


async def test_an_available_device_goes_before_one_that_is_not(scene: Scene) -> None:
    scene.vendor.devices = devices("QPU", "a", "b")
    scene.vendor.offline = {"a"}
    await routing(scene).handle(await scene.ready())
    assert (await scene.row()).device_id == "b"


async def test_a_job_never_falls_back_from_a_quantum_computer_to_a_simulator(scene: Scene) -> None:
    scene.vendor.devices = [*devices("QPU", "qpu"), *devices("SIMULATOR", "sim")]
    scene.vendor.offline = {"qpu"}
    await routing(scene).handle(await scene.ready())
    assert (await scene.row()).device_id == "qpu"


async def test_a_circuit_too_wide_for_every_device_is_refused_with_the_limit(scene: Scene) -> None:
    scene.vendor.num_qubits = 1
    await routing(scene).handle(await scene.ready())
    row = await scene.row()
    assert (row.verdict, row.error_code) == (Verdict.REFUSED, "too_wide")
    assert "2 qubits" in (row.error or "")
    assert "has 1" in (row.error or "")
    assert scene.vendor.submits == []


async def test_a_circuit_that_does_not_parse_is_refused_with_its_line(scene: Scene) -> None:
    class Strict(Parser):
        def compile_many(self, sources: Sequence[str]) -> list[CompiledCircuit | CannotRun]:
            return [CannotRun("line 7: undefined gate", reason="parse_error", line=7) for _ in sources]

    strict = CircuitCache(scene.ledger, Strict(), processes=1)
    await RouterStage(scene.road, scene.fleet, strict, RoutingSettings(), concurrency=1).handle(await scene.ready())
    row = await scene.row()
    assert (row.verdict, row.error_code, row.error) == (Verdict.REFUSED, "parse_error", "line 7: undefined gate")
    await strict.close()


async def test_a_job_past_its_deadline_is_not_routed(scene: Scene) -> None:
    job = await scene.ready()
    scene.clock.now += timedelta(hours=3)
    await routing(scene).handle(job)
    assert (await scene.row()).error_code == "deadline"


def devices(kind: str, *names: str) -> list[Device]:
    return [Device(device_id=name, provider="scripted", device_type=kind) for name in names]
