"""What Aer's child does, asked in this process; and what the adapter says when there is no child to be had."""

# qiskit ships no types
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qcompute.circuits.parse import describe
from qcompute.circuits.settings import CircuitSettings
from qcompute.errors import CannotRun, SandboxUnavailable
from qcompute.local.demo_jobs import ASYMMETRIC, BELL, GHZ
from qcompute.miner.providers import aer
from qcompute.miner.providers.base import JobHandle, ProviderStatus
from qcompute.units import IdempotencyToken
from qcompute.vendor.aer import child
from qcompute.vendor.aer.settings import AerConfig
from tests.providers.test_aer import T_GATE, directly

pytestmark = pytest.mark.filterwarnings("ignore:Properties of fake_nighthawk:UserWarning")
"""Qiskit's list of fake machines makes them all."""


def simulated(source: str, **changes: Any) -> dict[str, Any]:
    request = {
        "task": "simulate",
        "source": source,
        "method": "automatic",
        "noise_backend": None,
        "optimization_level": None,
        "seed": 7,
        "shots": 1000,
        "max_memory_mb": 1024,
    }
    return child.work(request | changes)


@pytest.mark.parametrize("method", ["automatic", "statevector", "matrix_product_state"])
@pytest.mark.parametrize("source", [ASYMMETRIC, BELL, T_GATE], ids=["asymmetric", "bell", "t gate"])
def test_counts_are_those_of_aer_used_directly(source: str, method: str) -> None:
    answer = simulated(source, method=method)
    assert answer["counts"] == directly(source, method, 7)
    assert answer["seed"] == 7
    assert set(answer["versions"]) == {"qiskit", "qiskit-aer"}
    assert 0 < answer["simulation_seconds"] < 60


@pytest.mark.parametrize(
    ("limits", "added"),
    [
        ({"max_source_bytes": 5 << 20}, "// " + "long " * 870_000),
        ({"max_nesting": 100}, f"x q[0]; rz({'(' * 60}1{')' * 60}) q[0]; x q[0];"),
    ],
    ids=["long", "deep"],
)
def test_what_the_operator_lets_pass_is_simulated(limits: dict[str, int], added: str) -> None:
    """Aer's child read the text with the default limits: what larger ones let pass was refused when run."""
    source = BELL.replace("h q[0];", f"h q[0]; {added}\n")
    settings = CircuitSettings(**limits)
    with pytest.raises(CannotRun):
        describe(source, CircuitSettings())
    assert describe(source, settings).num_qubits == 2
    assert set(simulated(source)["counts"]) == {"00", "11"}


LOOSE = """OPENQASM 3.0;
include "stdgates.inc";
bit a;
bit[2] b;
bit[1] c;
qubit[4] q;
x q[0];
x q[3];
a = measure q[0];
b[0] = measure q[1];
b[1] = measure q[2];
c[0] = measure q[3];
"""


def test_a_bit_outside_all_registers_has_its_place_in_the_key() -> None:
    """Qiskit's `get_counts` leaves it out where there are registers too: keys were too short, and the job failed."""
    assert simulated(LOOSE)["counts"] == {"1001": 1000}
    assert describe(LOOSE, CircuitSettings()).num_clbits == 4


@pytest.mark.parametrize("clbits", ["", "creg c[2];\n"], ids=["no bits", "bits"])
def test_what_measures_nothing_is_refused(clbits: str) -> None:
    with pytest.raises(CannotRun, match="nothing is measured") as caught:
        simulated(f'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[2];\n{clbits}x q[0];\n')
    assert caught.value.reason == "no_measurement"


def test_the_stabilizer_method_says_so() -> None:
    assert simulated(GHZ, method="stabilizer")["method"] == "stabilizer"


def _clifford(qubits: int, *, on_the_way: str = "") -> str:
    chain = "".join(f"cx q[{number}],q[{number + 1}];\n" for number in range(qubits - 1))
    head = f'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[{qubits}];\ncreg c[{qubits}];\n'
    return f"{head}x q[0];\n{on_the_way}{chain}measure q -> c;\n"


@pytest.mark.parametrize(
    ("source", "changes", "method"),
    [
        (_clifford(8), {}, "statevector"),
        (_clifford(9), {}, "stabilizer"),
        (_clifford(8), {"seed": 7}, "stabilizer"),
        (_clifford(8), {"method": "stabilizer"}, "stabilizer"),
        (_clifford(8, on_the_way="reset q[1];\n"), {}, "stabilizer"),
        (_clifford(8, on_the_way="measure q[0] -> c[0];\n"), {}, "stabilizer"),
        (_clifford(8, on_the_way="measure q[0] -> c[0];\nif (c == 0) x q[0];\n"), {}, "stabilizer"),
    ],
    ids=["narrow", "wide", "with a seed", "as told", "reset", "measured", "branches"],
)
def test_a_narrow_clifford_circuit_is_sampled_from_its_amplitudes(
    source: str, changes: dict[str, Any], method: str
) -> None:
    answer = simulated(source, **({"seed": None} | changes))
    assert answer["method"] == method
    width = 9 if "q[9]" in source else 8
    assert answer["counts"] == {"1" * width: 1000}


def test_noise_is_that_of_the_machine_named() -> None:
    answer = simulated(BELL, noise_backend="fake_manila", optimization_level=1)
    assert answer["counts"] == directly(BELL, None, 7, level=1)
    assert set(answer["counts"]) > {"00", "11"}


def test_a_machine_is_described_as_qiskit_does() -> None:
    from qiskit_ibm_runtime.fake_provider import FakeManilaV2  # noqa: PLC0415 - the adapter must not import it here

    facts = child.work({"task": "describe", "noise_backend": "fake_manila"})
    manila: Any = FakeManilaV2()
    assert facts["num_qubits"] == manila.num_qubits == 5
    assert facts["basis_gates"] == list(manila.operation_names)
    assert facts["extras"]["t1_seconds"] == [manila.qubit_properties(index).t1 for index in range(5)]
    assert [0, 1] in facts["extras"]["coupling_map"]


def test_a_machine_that_does_not_exist_is_answered_with_some_that_do() -> None:
    with pytest.raises(CannotRun, match=r"no fake backend 'fake_moon'; known are fake_") as caught:
        simulated(BELL, noise_backend="fake_moon")
    assert caught.value.reason == "backend"


def test_what_aer_cannot_do_is_refused_in_its_own_words() -> None:
    """The stabilizer method knows no T gate."""
    with pytest.raises(CannotRun, match="Aer") as caught:
        simulated(T_GATE, method="stabilizer")
    assert caught.value.reason == "aer"


@pytest.fixture
def adapter(tmp_path: Path) -> Iterator[aer.AerAdapter]:
    made = aer.AerAdapter(AerConfig(spool=tmp_path))
    yield made
    made.close()


def submitted(adapter: aer.AerAdapter) -> JobHandle:
    return adapter.submit(BELL, "aer_statevector", 100, token=IdempotencyToken("one"))


def ended(adapter: aer.AerAdapter, handle: JobHandle) -> str | None:
    deadline = time.monotonic() + 30
    while not ProviderStatus.of((status := adapter.poll(handle)).status).is_terminal:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert status.status == ProviderStatus.FAILED
    return status.message


def test_a_job_no_process_can_be_started_for_fails_and_says_so(
    adapter: aer.AerAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: Any, **_options: Any) -> dict[str, Any]:
        raise SandboxUnavailable

    monkeypatch.setattr(adapter._pool, "begin", fail)
    assert ended(adapter, submitted(adapter)) == "no process could be started to simulate it"


def test_the_next_one_is_simulated_while_the_end_of_the_last_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process waited for the disk after each job: short simulations had four fifths of Aer's own throughput."""
    adapter = aer.AerAdapter(AerConfig(spool=tmp_path, processes=1))
    adapter.begin()
    begin, end, both_there = adapter._pool.begin, adapter._spool.end, threading.Event()
    seen: list[str] = []

    def watched_begin(request: dict[str, Any], *, cancel: threading.Event) -> Callable[[], dict[str, Any]]:
        answer = begin(request, cancel=cancel)
        both_there.wait(30)
        seen.append("begin")
        return answer

    def watched_end(job_id: str, result: dict[str, Any]) -> None:
        end(job_id, result)
        seen.append(f"end of {job_id}")

    monkeypatch.setattr(adapter._pool, "begin", watched_begin)
    monkeypatch.setattr(adapter._spool, "end", watched_end)
    ends = threading.Barrier(2)

    def told(_: str) -> None:
        ends.wait(30)

    adapter.on_end(told)
    handles = [adapter.submit(BELL, "aer_statevector", 100, token=IdempotencyToken(name)) for name in ("a", "b")]
    both_there.set()
    for _ in handles:
        ends.wait(30)
    first, second = (handle.provider_job_id for handle in handles)
    assert seen == ["begin", "begin", f"end of {first}", f"end of {second}"]
    adapter.close()


def test_an_end_does_not_wait_for_the_start_of_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that broke its process is told of before another is started for the next one, which takes a second."""
    adapter = aer.AerAdapter(AerConfig(spool=tmp_path, processes=1))
    begin, wanted, told = adapter._pool.begin, threading.Event(), threading.Event()

    def broken(request: dict[str, Any], *, cancel: threading.Event) -> Callable[[], dict[str, Any]]:
        wanted.wait(30)
        if request["shots"] == 1:
            raise CannotRun("made the process that had to simulate it crash", reason="sandbox_crash")
        assert told.wait(30), "the first one's end waited"
        return begin(request, cancel=cancel)

    monkeypatch.setattr(adapter._pool, "begin", broken)
    adapter.on_end(lambda _: told.set())
    bad, good = (adapter.submit(BELL, "aer_statevector", shots, token=IdempotencyToken(f"{shots}")) for shots in (1, 2))
    wanted.set()
    deadline = time.monotonic() + 60
    while adapter.poll(good).status != ProviderStatus.COMPLETED:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert adapter.poll(bad).status == ProviderStatus.FAILED
    adapter.close()


def test_a_device_it_does_not_have_is_not_described(adapter: aer.AerAdapter) -> None:
    assert adapter.get_capability("aer_moon") is None
    assert adapter.get_availability("aer_moon") is None
    assert adapter.get_capability() == adapter.get_capability("aer_automatic")
