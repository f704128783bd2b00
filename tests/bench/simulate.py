"""The Aer adapter beside ``AerSimulator`` called directly, on the same OpenQASM texts.

Direct means what somebody who writes it himself could have at best: warm processes of one thread each, the simulator
made once, ``qasm2.loads``, ``run``, ``get_counts``, no ``transpile`` (it takes 0.1 s), nothing kept on disk. Every
text is another one (a comment with a number), so that nothing kept from an earlier job helps. Our jobs are waited for
as the daemon waits for them: the adapter tells when one has ended. Looking every half millisecond instead took a tenth
of a core from the simulations.
"""

# qiskit ships no types
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import itertools
import json
import os
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

from qcompute.circuits.compiler import CircuitCompiler
from qcompute.circuits.program import CompiledCircuit, JobOptions
from qcompute.circuits.settings import CircuitSettings
from qcompute.miner.providers.base import JobHandle, ProviderAdapter, ProviderStatus
from qcompute.miner.providers.registry import open_adapter
from qcompute.units import IdempotencyToken
from tests.bench.report import Figure

SHOTS: Final = 1000
_PATIENCE_SECONDS: Final = 300
DIRECT: Final = "AerSimulator direct, this run"


@dataclass(frozen=True, slots=True)
class Case:
    """One circuit; ``each`` is how often it runs alone, ``together`` how many at once."""

    name: str
    source: str
    device: str
    method: str
    each: int
    together: int


def _head(qubits: int) -> str:
    return f'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[{qubits}];\ncreg c[{qubits}];\n'


def ghz(qubits: int) -> str:
    """A chain of CNOTs behind one Hadamard gate."""
    chain = "".join(f"cx q[{n}],q[{n + 1}];\n" for n in range(qubits - 1))
    return f"{_head(qubits)}h q[0];\n{chain}measure q -> c;\n"


def layered(qubits: int, depth: int, single: Callable[[random.Random], str]) -> str:
    """``depth`` layers of one gate on every qubit and CNOTs on every other pair; the same text at every call."""
    chance, lines = random.Random(20), [_head(qubits)]  # noqa: S311 - a circuit, not a secret
    for layer in range(depth):
        lines += [f"{single(chance)} q[{n}];\n" for n in range(qubits)]
        lines += [f"cx q[{n}],q[{n + 1}];\n" for n in range(layer % 2, qubits - 1, 2)]
    return "".join([*lines, "measure q -> c;\n"])


def _any_gate(chance: random.Random) -> str:
    return f"u3({chance.uniform(0, 3):.6f},{chance.uniform(0, 3):.6f},{chance.uniform(0, 3):.6f})"


def _clifford(chance: random.Random) -> str:
    return chance.choice(["h", "s", "x", "sdg"])


def cases() -> list[Case]:
    """The six circuits of the requirement."""
    return [
        Case("5-qubit GHZ", ghz(5), "aer_automatic", "automatic", 60, 300),
        Case("20-qubit GHZ", ghz(20), "aer_automatic", "automatic", 40, 120),
        Case("18 qubits, depth 20", layered(18, 20, _any_gate), "aer_statevector", "statevector", 12, 8),
        Case("28-qubit GHZ, MPS", ghz(28), "aer_mps", "matrix_product_state", 10, 16),
        Case("100-qubit Clifford", layered(100, 10, _clifford), "aer_stabilizer", "stabilizer", 12, 16),
        Case("200-qubit shallow, MPS", layered(200, 2, _any_gate), "aer_mps", "matrix_product_state", 8, 12),
    ]


def numbered(source: str, number: int) -> str:
    """The same circuit in a text that was not seen before."""
    return source.replace("include", f"// {number}\ninclude", 1)


@cache
def _simulator(method: str) -> Any:
    from qiskit_aer import AerSimulator  # noqa: PLC0415 - not in the benchmark's own process

    return AerSimulator(method=method, max_parallel_threads=1)


def directly(job: tuple[str, str, int]) -> tuple[float, float]:
    """Seconds of one job in the process that ran it, and how many of them Aer says it simulated."""
    from qiskit import qasm2  # noqa: PLC0415

    source, method, shots = job
    began = time.perf_counter()
    circuit = qasm2.loads(source, custom_instructions=qasm2.LEGACY_CUSTOM_INSTRUCTIONS, include_path=())
    result = _simulator(method).run(circuit, shots=shots).result()
    result.get_counts()
    return time.perf_counter() - began, result.results[0].time_taken


class Ours:
    """The adapter, and what the daemon gives it: circuits compiled once, a token for each job."""

    def __init__(self, adapter: ProviderAdapter, compiler: CircuitCompiler) -> None:
        self._adapter = adapter
        self._compiler = compiler
        self._numbers = itertools.count()
        self._ends: dict[str, threading.Event] = {}
        adapter.on_end(lambda job_id: self._end_of(job_id).set())

    def prepared(self, case: Case, count: int) -> list[tuple[str, IdempotencyToken]]:
        """Payloads of so many jobs, as the router would have made them before."""
        compiled = self._compiler.compile(case.source)
        device = next(d for d in self._adapter.list_devices() if d.device_id == case.device)
        self._adapter.check(compiled, device, SHOTS)
        out: list[tuple[str, IdempotencyToken]] = []
        for number in itertools.islice(self._numbers, count):
            circuit: CompiledCircuit = compiled.model_copy(update={"source": numbered(case.source, number)})
            payload = self._adapter.prepare(circuit, device, SHOTS, JobOptions()).payload
            out.append((payload, IdempotencyToken(f"job-{number}")))
        return out

    def submit(self, case: Case, job: tuple[str, IdempotencyToken]) -> JobHandle:
        """One job handed over."""
        submit: Any = self._adapter.submit
        return submit(job[0], case.device, SHOTS, token=job[1])

    def wait(self, handle: JobHandle) -> None:
        """Until the adapter tells that it ended; raises unless it completed."""
        if not self._end_of(handle.provider_job_id).wait(_PATIENCE_SECONDS):
            raise TimeoutError(handle.provider_job_id)
        del self._ends[handle.provider_job_id]
        status = self._adapter.poll(handle)
        if status.status != ProviderStatus.COMPLETED:
            raise RuntimeError(f"{handle.provider_job_id}: {status.message}")

    def _end_of(self, job_id: str) -> threading.Event:
        return self._ends.setdefault(job_id, threading.Event())  # whoever comes first, the end or who waits for it

    def result_of(self, handle: JobHandle) -> tuple[float, int]:
        """How long Aer says it simulated, in seconds; and the size in bytes of what is kept and delivered."""
        receipt = self._adapter.get_job_receipt(handle)
        return (receipt.metadata or {})["simulation_seconds"], len(json.dumps(receipt.results))


@contextmanager
def ours(processes: int) -> Generator[Ours]:
    """An adapter with a spool of its own."""
    with tempfile.TemporaryDirectory() as folder:
        adapter = open_adapter("aer", {"spool": Path(folder), "processes": processes})
        compiler = CircuitCompiler(CircuitSettings())
        try:
            yield Ours(adapter, compiler)
        finally:
            compiler.close()
            adapter.close()


async def simulate() -> list[Figure]:
    """Local simulation beside AerSimulator called directly: time of one job, and jobs a second on all cores."""
    cores = len(os.sched_getaffinity(0))
    figures: list[Figure] = []
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    os.environ.update(environment)
    with ours(cores) as adapter, ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as direct:
        for case in cases():
            figures += _latency(case, adapter, direct)
            figures += _throughput(case, adapter, direct, cores)
    return figures


def _latency(case: Case, adapter: Ours, direct: ProcessPoolExecutor) -> list[Figure]:
    """Turn by turn, so that a machine that is slow for a moment is slow for both.

    What the adapter adds is told without the simulation itself, by Aer's own clock: where that takes half a second and
    others use the machine, two of them differ by far more than what is to be seen.
    """
    warm = 6
    theirs: list[tuple[float, float]] = []
    mine: list[tuple[float, float]] = []
    size = 0
    for number, job in enumerate(adapter.prepared(case, case.each + warm)):
        direct_times = direct.submit(directly, (numbered(case.source, number), case.method, SHOTS)).result()
        began = time.perf_counter()
        handle = adapter.submit(case, job)
        adapter.wait(handle)
        took = time.perf_counter() - began
        simulated, result_bytes = adapter.result_of(handle)
        size = max(size, result_bytes)
        if number >= warm:
            theirs.append(direct_times)
            mine.append((took, simulated))
    alone, inside = (statistics.median(all_of for all_of, _ in runs) * 1e3 for runs in (mine, theirs))
    around, around_theirs = (statistics.median(all_of - of_aer for all_of, of_aer in runs) for runs in (mine, theirs))
    # Less than nothing, where Qiskit's own way of counting takes longer than all we add, has no ratio to a limit.
    overhead = max((around - around_theirs) * 1e3, 0.01)
    figures = [Figure(f"{case.name}: one job", alone, "ms", DIRECT, inside, higher_is_better=False)]
    figures.append(Figure(f"{case.name}: overhead", overhead, "ms", "the limit", 3.0, higher_is_better=False))
    if case.name == "20-qubit GHZ":
        figures.append(Figure(f"{case.name}: result", size, "bytes", "the limit", 1000, higher_is_better=False))
    return figures


def _throughput(case: Case, adapter: Ours, direct: ProcessPoolExecutor, cores: int) -> list[Figure]:
    """In turns too, the best of three of each; and the CPU time, which tells the same where others use the machine."""
    mine: list[tuple[float, float]] = []
    theirs: list[tuple[float, float]] = []
    for handle in [adapter.submit(case, job) for job in adapter.prepared(case, 2 * cores)]:
        adapter.wait(handle)  # every process is up
    for _ in range(3):
        texts = [(numbered(case.source, number), case.method, SHOTS) for number in range(case.together)]
        with _measured(theirs):
            list(direct.map(directly, texts))
        jobs = adapter.prepared(case, case.together)
        with _measured(mine):
            for handle in [adapter.submit(case, job) for job in jobs]:
                adapter.wait(handle)
    (fast, cpu), (their_fast, their_cpu) = (
        (case.together / min(wall for wall, _ in runs), min(cpu for _, cpu in runs) / case.together * 1e3)
        for runs in (mine, theirs)
    )
    return [
        Figure(f"{case.name}: on {cores} cores", fast, "jobs/s", DIRECT, their_fast),
        Figure(f"{case.name}: CPU", cpu, "ms a job", DIRECT, their_cpu, higher_is_better=False),
    ]


@contextmanager
def _measured(into: list[tuple[float, float]]) -> Generator[None]:
    """Adds wall and CPU seconds of what is done within, children's included."""
    began, used = time.perf_counter(), _cpu_seconds()
    yield
    into.append((time.perf_counter() - began, _cpu_seconds() - used))


def _cpu_seconds() -> float:
    tick = os.sysconf("SC_CLK_TCK")
    children = [pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]
    fields = [Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split() for pid in children]
    return time.process_time() + sum(int(field[11]) + int(field[12]) for field in fields) / tick
