"""The jobs of an expectation value, at a real socket behind which a test plays the stages."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from typing_extensions import override

from qcompute.circuits.settings import CircuitSettings
from qcompute.cluster.cutting import CircuitCutter, CuttingPlan, Expectation, PartResult, Recipe, Subexperiment
from qcompute.console.__main__ import main
from qcompute.console.arguments import Invocation, settings_from
from qcompute.console.exit_codes import ExitCode, NoDaemon
from qcompute.console.expectation import RequestRun
from qcompute.console.expecting import PartStopped, Request, RequestJobs, observable_text, parse_observable
from qcompute.console.output import Output
from qcompute.console.prices import Sum
from qcompute.errors import ConfigError
from qcompute.miner.commands import CommandRefused, CommandSocket, socket_file
from qcompute.miner.job import CostKind, CountsSource, Job, Outcome, State, Verdict
from qcompute.miner.own_requests import PartOf, new_request_id
from qcompute.miner.settings import Settings
from qcompute.units import ExecutionId, Shots, utc_now
from tests.scene import until
from tests.terminal import Terminal
from tests.unit.miner.scripted import BELL, Scene
from tests.unit.miner.test_commands import operator
from tests.unit.miner.test_own_jobs import own_jobs


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("1.0*ZZZZ + 0.5*XIIX", {"ZZZZ": 1.0, "XIIX": 0.5}),
        ("ZZ", {"ZZ": 1.0}),
        (" -ZZ-2XX ", {"ZZ": -1.0, "XX": -2.0}),
        ("1e-3*ZZ + .5 * XX - 2.*YY", {"ZZ": 0.001, "XX": 0.5, "YY": -2.0}),
        ("ZZ + XX + 0.5*ZZ", {"ZZ": 1.5, "XX": 1.0}),
    ],
)
def test_an_observable_is_a_sum_of_pauli_strings(text: str, terms: dict[str, float]) -> None:
    assert parse_observable(text) == terms
    assert parse_observable(observable_text(terms.items())) == terms


@pytest.mark.parametrize(
    ("text", "place"),
    [("", "''"), ("ZZ XX", "'XX'"), ("ZZ + 2*AB", "'\\+ 2\\*AB'"), ("ZZ +", "'\\+'"), ("0.5", "'0.5'")],
)
def test_what_is_no_observable_is_refused_with_the_place(text: str, place: str) -> None:
    with pytest.raises(ConfigError, match=f"--observable is not understood from {place}"):
        parse_observable(text)


def test_a_sum_of_prices_says_what_is_not_known() -> None:
    price = {"amount": "0.10", "currency": "USD"}
    assert Sum.of([price, price]).expected() == "0.20 USD expected"
    assert Sum.of([price, None, {"amount": "2", "currency": "EUR"}]).paid() == (
        "at least 2 EUR + 0.10 USD (1 of 3 not known)"
    )
    assert (Sum.of([None]).expected(), Sum.of([]).expected()) == ("not known", "nothing")
    assert Sum.of([price, None]).document() == {"amounts": {"USD": "0.10"}, "unknown": 1}


class Stages:
    """A daemon's socket and ledger; its stages are the test: ``fates`` by the number of a part, else it succeeds."""

    def __init__(self, scene: Scene, settings: Settings, parts: int, **limits: Any) -> None:
        self.scene = scene
        self.fates: dict[int, Verdict | State] = {}
        self.taken: list[int] = []
        pieces = [part(number) for number in range(parts)]
        self.request = Request(new_request_id(), plan_of(pieces), tuple(Shots(20 + n) for n in range(parts)), None)
        self.settings = settings
        self._socket = CommandSocket(socket_file(settings.ledger.file), operator(scene), own=own_jobs(scene, **limits))

    @contextlib.asynccontextmanager
    async def at_work(self) -> AsyncGenerator[None]:
        await self._socket.start()
        working = asyncio.create_task(self._work())
        try:
            yield
        finally:
            working.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await working
            await self._socket.stop()

    async def rows(self) -> int:
        return sum((await self.scene.ledger.count_by_state()).values())

    async def job_of(self, number: int, attempt: int = 0) -> Job | None:
        place = PartOf(request=self.request.request_id, number=number, attempt=attempt)
        return await self.scene.ledger.get(place.execution_id)

    async def is_there(self) -> bool:
        return await self.job_of(0) is not None

    async def facts(self) -> str:
        return f"{await self.rows()} rows"

    async def _work(self) -> None:
        while True:
            for number in range(len(self.request.shots)):
                for attempt in (0, 1):
                    job = await self.job_of(number, attempt)
                    if job is not None and job.state is State.ACCEPTED:
                        await self._end(job, number)
            await asyncio.sleep(0.02)

    async def _end(self, job: Job, number: int) -> None:
        fate = self.fates.get(number, Verdict.SUCCEEDED)
        if fate is State.ACCEPTED:
            return
        self.taken.append(number)
        if fate is Verdict.SUCCEEDED:
            settled = await self.scene.road.settle(job, Verdict.SUCCEEDED, outcome_of(job))
            await self.scene.road.save(settled, settled.but(state=State.CLOSED))
        elif isinstance(fate, Verdict):
            await self.scene.road.end_without_result(job, fate, code="x", message="the device broke")
        else:
            raise AssertionError(fate)


def part(number: int) -> Subexperiment:
    text = f"{BELL}// {number}"
    return Subexperiment(subcircuit=0, text=text, num_qubits=2, num_clbits=2, observable_bits=2, weight=1.0)


def plan_of(parts: list[Subexperiment], **changed: Any) -> CuttingPlan:
    recipe = Recipe(constant=0.0, coefficients=(), terms=(), paulis=(), order=())
    facts: dict[str, Any] = {
        "circuit_sha256": "ab" * 32,
        "observable": (("ZZ", 1.0),),
        "measurements_left_out": 0,
        "max_subcircuit_qubits": 2,
        "cuts": (),
        "sampling_overhead": 1.0,
        "is_minimal": True,
        "widths": (2,),
        "subexperiments": tuple(parts),
        "recipe": recipe,
    }
    return CuttingPlan(**(facts | changed))


def outcome_of(job: Job) -> Outcome:
    return Outcome(
        counts={"00": job.shots},
        counts_source=CountsSource.MEASURED,
        shots_returned=job.shots,
        cost=None,
        cost_kind=CostKind.UNKNOWN,
        message=None,
        timestamps={},
        metadata={},
    )


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    yield scene
    await scene.close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_from(["--ledger.path", str(tmp_path / "ledger.sqlite3"), "--provider", "mock"], {}, tmp_path)


def run_all(stages: Stages, request: Request | None = None, *, retry: bool = False) -> RequestJobs:
    """As the command does it, in a thread of its own."""
    jobs = RequestJobs(stages.settings, request or stages.request)
    numbers = range(len(stages.request.shots))
    here = jobs.known(numbers)
    missing = {number: 0 for number in numbers if number not in here}
    if retry:
        missing |= {one.number: one.attempt + 1 for one in here.values() if one.is_lost}
    jobs.run(here, missing, lambda _: None)
    return jobs


async def test_every_part_is_run_once_and_its_counts_and_receipt_are_given(scene: Scene, settings: Settings) -> None:
    stages = Stages(scene, settings, 4)
    async with stages.at_work():
        for _ in range(2):  # the second time all are there
            jobs = await asyncio.to_thread(run_all, stages)
            results = jobs.results()
            assert [one.counts for one in results] == [{"00": 20 + number} for number in range(4)]
            rows = [await stages.job_of(number) for number in range(4)]
            assert [one.receipt_id for one in results] == [job and job.execution_id for job in rows]
        assert sorted(stages.taken) == [0, 1, 2, 3]
        assert await stages.rows() == 4


async def test_a_full_daemon_is_given_the_next_when_one_has_ended(scene: Scene, settings: Settings) -> None:
    """It counts its jobs once a second: for a moment it is full of ours that have ended, and once that was the end."""
    stages = Stages(scene, settings, 4, max_inflight=2, queue_slack=0, validator_share=1.0)
    async with stages.at_work():
        jobs = await asyncio.to_thread(run_all, stages)
        assert (len(jobs.ended), await stages.rows()) == (4, 4)


async def test_a_daemon_that_takes_none_is_no_reason_to_wait(scene: Scene, settings: Settings) -> None:
    stages = Stages(scene, settings, 2, max_inflight=1, queue_slack=0)
    await scene.job("a-validator-s")
    async with stages.at_work():
        with pytest.raises(CommandRefused, match="full"):
            await asyncio.to_thread(run_all, stages)


async def test_a_failed_part_is_told_the_others_are_called_off_and_only_what_is_lost_runs_again(
    scene: Scene, settings: Settings
) -> None:
    stages = Stages(scene, settings, 4)
    stages.fates = {1: State.ACCEPTED, 2: Verdict.FAILED, 3: State.ACCEPTED}
    async with stages.at_work():
        jobs = RequestJobs(settings, stages.request)
        with pytest.raises(PartStopped) as stopped:
            await asyncio.to_thread(jobs.run, {}, dict.fromkeys(range(4), 0), lambda _: None)
        assert (stopped.value.number, stopped.value.words, stopped.value.is_held) == (2, "the device broke", False)
        assert await asyncio.to_thread(jobs.cancel_open, "part 2 broke") == ([1, 3], [])
        cancelled = await stages.job_of(3)
        assert cancelled is not None
        assert (cancelled.verdict, cancelled.error) == (Verdict.CANCELLED, "part 2 broke")
        here = await asyncio.to_thread(jobs.known, range(4))
        lost = [one for one in here.values() if one.is_lost]
        assert [one.number for one in lost] == [1, 2, 3]
        # Not one of those that were called off because of it.
        assert (await asyncio.to_thread(jobs.first_stopped, lost)).number == 2

        stages.fates = {}
        again = await asyncio.to_thread(run_all, stages, retry=True)
        assert len(again.results()) == 4
        assert sorted(stages.taken) == [0, 1, 2, 2, 3]
        assert await stages.rows() == 7


async def test_a_held_part_is_the_operator_s_and_the_others_go_on(scene: Scene, settings: Settings) -> None:
    stages = Stages(scene, settings, 2)
    stages.fates = {0: State.ACCEPTED}
    async with stages.at_work():
        jobs = RequestJobs(settings, stages.request)
        following = asyncio.create_task(asyncio.to_thread(jobs.run, {}, {0: 0, 1: 0}, lambda _: None))
        await until(stages.is_there, seconds=30, what="part 0", facts=stages.facts)
        job = await stages.job_of(0)
        assert job is not None
        ready = await scene.road.save(job, job.but(state=State.READY, circuit_sha256="ab" * 32), circuit=BELL)
        sent = await scene.road.save(ready, ready.but(state=State.SUBMITTING, submit_started_at=utc_now()))
        await scene.road.save(sent, sent.but(state=State.HELD, error_code="submit_unknown", error="nobody knows"))
        with pytest.raises(PartStopped) as stopped:
            await following
        assert (stopped.value.number, stopped.value.words, stopped.value.is_held) == (0, "nobody knows", True)
        assert jobs.open[0] == ExecutionId(stopped.value.job["execution_id"])


async def test_another_plan_under_the_same_id_is_refused_before_anything_is_submitted(
    scene: Scene, settings: Settings
) -> None:
    """Its first circuits may be the same, and the others not: the plan's digest is in every part's options."""
    stages = Stages(scene, settings, 2)
    other = Request(
        stages.request.request_id,
        plan_of([part(0), part(7)]),
        stages.request.shots,
        None,
    )
    async with stages.at_work():
        first = stages.request.part(0, 0)
        await own_jobs(scene)(first)
        with pytest.raises(CommandRefused, match="another circuit"):
            await asyncio.to_thread(RequestJobs(settings, other).run, {}, {0: 0, 1: 0}, lambda _: None)
        assert await stages.rows() == 1


class HalfCutter(CircuitCutter):
    """Finds every value to be a half."""

    @override
    def reconstruct(self, plan: CuttingPlan, parts: Sequence[PartResult]) -> Expectation:
        shots, receipts = sum(one.shots for one in parts), tuple(one.receipt_id for one in parts)
        facts: dict[str, Any] = {"cuts": plan.cuts, "sampling_overhead": plan.sampling_overhead}
        return Expectation(value=0.5, standard_error=0.1, shots=shots, receipts=receipts, **facts)


def done(stages: Stages, *, as_json: bool, **said: bool) -> ExitCode:
    """What the command does once the circuit is planned; no child is started."""
    cutter = HalfCutter(CircuitSettings())
    flags = ["--ledger.path", str(stages.settings.ledger.file), "--provider", "mock"]
    here = Invocation(flags, {}, stages.settings.ledger.file.parent)
    run = RequestRun(here, stages.request, cutter, Output(as_json=as_json))
    try:
        return run.done(**({"yes": True, "estimate": False, "retry_failed": False} | said))
    finally:
        cutter.close()


async def test_a_failed_part_is_said_with_its_words_and_what_to_do(
    scene: Scene, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    stages = Stages(scene, settings, 3)
    stages.fates = {0: State.ACCEPTED, 1: Verdict.FAILED, 2: State.ACCEPTED}
    request = str(stages.request.request_id)
    async with stages.at_work():
        assert await asyncio.to_thread(done, stages, as_json=True) is ExitCode.FAILED
        told = capsys.readouterr()
        document = json.loads(told.out)
        assert f"request {request}" in told.err
        assert (document["request"], document["error"]["part"], document["cancelled"]) == (request, 1, [0, 2])
        assert "failed: the device broke" in document["error"]["message"]
        assert document["not_cancelled"] == []

        # The same words again tell the same and submit nothing.
        assert await asyncio.to_thread(done, stages, as_json=False) is ExitCode.FAILED
        said = capsys.readouterr().out
        assert "part 1 (operator." in said
        assert "failed: the device broke" in said
        assert f"--resume {request} --retry-failed" in said
        assert await stages.rows() == 3


async def test_the_plan_and_its_cost_are_shown_and_nothing_is_submitted_unasked(
    scene: Scene, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    stages = Stages(scene, settings, 2)
    async with stages.at_work():
        assert await asyncio.to_thread(done, stages, as_json=False, estimate=True) is ExitCode.DONE
        said = " ".join(capsys.readouterr().out.split())
        assert "observable 1*ZZ cuts none: it fits as it is overhead 1 times the shots" in said
        assert "circuits 2 of at most 2 qubits shots 41 in all cost 1.01 USD expected" in said
        assert "0 2 2 20 to 21 scripted/dev (QPU) 1.01 USD expected" in said
        assert await asyncio.to_thread(done, stages, as_json=True, estimate=True) is ExitCode.DONE
        document = json.loads(capsys.readouterr().out)
        assert [part["expected"]["device_id"] for part in document["parts"]] == ["dev", "dev"]
        assert document["estimate"] == {"amounts": {"USD": "1.01"}, "unknown": 0}
        with pytest.raises(ConfigError, match="say --yes"):
            await asyncio.to_thread(done, stages, as_json=True, yes=False)
        assert await stages.rows() == 0


async def test_a_value_comes_with_what_it_was_expected_to_cost_and_did(
    scene: Scene, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """All parts were estimated before they were run, and with --json that was thrown away."""
    stages = Stages(scene, settings, 2)
    async with stages.at_work():
        assert await asyncio.to_thread(done, stages, as_json=True) is ExitCode.DONE
        first = json.loads(capsys.readouterr().out)
        assert (first["value"], first["estimate"]) == (0.5, {"amounts": {"USD": "1.01"}, "unknown": 0})
        assert first["cost"] == {"amounts": {}, "unknown": 2}
        assert [part["expected"]["device_id"] for part in first["parts"]] == ["dev", "dev"]
        # Said again nothing is run, so nothing is expected to be paid.
        assert await asyncio.to_thread(done, stages, as_json=True) is ExitCode.DONE
        again = json.loads(capsys.readouterr().out)
        assert (again["value"], again["estimate"]) == (0.5, {"amounts": {}, "unknown": 0})
        assert not any("expected" in part for part in again["parts"])


async def test_a_daemon_that_goes_away_is_no_end(
    scene: Scene, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    stages = Stages(scene, settings, 1)
    stages.fates = {0: State.ACCEPTED}
    async with stages.at_work():
        running = asyncio.create_task(asyncio.to_thread(done, stages, as_json=True))
        await until(stages.is_there, seconds=30, what="part 0", facts=stages.facts)
    with pytest.raises((NoDaemon, ConfigError)):
        await running
    assert f"the same words with --resume {stages.request.request_id}" in capsys.readouterr().err.splitlines()[-1]


@pytest.fixture
def bell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command for a circuit, where no daemon runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "bell.qasm").write_text(BELL)
    return ["expect", "bell.qasm", "--max-qubits", "1", "--observable"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["ZZ +"], ExitCode.USAGE, "--observable is not understood"),
        (["ZZ", "--retry-failed"], ExitCode.USAGE, "--retry-failed needs --resume ID"),
        (["ZZ", "--resume", "no-uuid"], ExitCode.USAGE, "a valid UUID"),
        (["ZZ"], ExitCode.NO_DAEMON, "no daemon answers"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_planned(
    bell: list[str], words: list[str], code: ExitCode, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*bell, *words]) == code
    assert said in capsys.readouterr().err


def test_without_the_library_its_install_is_named(
    bell: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "qiskit_addon_cutting", None)
    assert main([*bell, "ZZ"]) == ExitCode.USAGE
    assert "pip install 'qcompute[cutting]'" in capsys.readouterr().err


BAR: Final = """
import sys
from qcompute.console.output import Output
from qcompute.console.progress import progress

with progress(Output(as_json="json" in sys.argv), "parts", 3, is_counted="counted" in sys.argv) as show:
    show(1)
    show(2, "nearly")
"""


@pytest.mark.parametrize(
    ("words", "shown"), [(["counted"], r"nearly ━+.* 2/3 0:00:0"), ([], r"nearly ━+[^/]* 0:00:0"), (["json"], r"^$")]
)
def test_how_far_it_has_come_is_drawn_in_one_way_by_all_who_wait(words: list[str], shown: str) -> None:
    """`run` and `expect` each drew a bar of their own."""
    with Terminal("-c", BAR, *words, environ={}) as terminal:
        assert terminal.ends() == 0, terminal.screen
    assert re.search(shown, terminal.screen), terminal.screen
