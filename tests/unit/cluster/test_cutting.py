"""Circuit cutting gives the exact value within its stated error, at its stated price, or says why not."""

# qiskit ships no types
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from random import Random
from typing import Final

import pytest
from qiskit import QuantumCircuit, qasm2
from qiskit.quantum_info import SparsePauliOp, Statevector

from qcompute.circuits.sandbox import SandboxLimits, SandboxPool
from qcompute.circuits.settings import CircuitSettings
from qcompute.cluster.cutting import (
    LEAST_SHOTS,
    CircuitCutter,
    CutKind,
    CuttingPlan,
    CuttingRequest,
    Observable,
    PartResult,
    RunCircuit,
    allocate_shots,
    run,
)
from qcompute.console.expectation import planned
from qcompute.errors import BadReply, Bug, CannotRun, Unavailable
from qcompute.units import Counts, Shots

SIGMAS: Final = 4.0
"""Seeded, so it passes always or never; one honest seed in 16,000 would be further off."""


@pytest.fixture(scope="module")
def cutter() -> Iterator[CircuitCutter]:
    cutter = CircuitCutter(CircuitSettings())
    yield cutter
    cutter.close()


@pytest.fixture(scope="module")
def simulate() -> Iterator[RunCircuit]:
    """A node: Aer in a child, its seed taken from the circuit, so that a part gives the same wherever it runs."""
    pool = SandboxPool("qcompute.vendor.aer.child:work", limits=SandboxLimits(memory_bytes=4 << 30), size=1)

    def run_circuit(node: str, text: str, shots: Shots) -> tuple[Counts, str]:
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])
        job = {"task": "simulate", "max_memory_mb": 1000, "method": "automatic", "noise_backend": None}
        answer = pool.call(job | {"source": text, "seed": seed, "optimization_level": None, "shots": shots})
        return answer["counts"], f"{node}/{seed}"

    yield run_circuit
    pool.close()


def chain(width: int = 4) -> QuantumCircuit:
    """Neighbours entangled, nothing symmetric: a mistake in the order of qubits shows."""
    circuit = QuantumCircuit(width)
    for qubit in range(width):
        circuit.ry(0.4 + 0.3 * qubit, qubit)
    for left, right in itertools.pairwise(range(width)):
        circuit.cx(left, right)
        circuit.rz(0.2 + 0.1 * left, right)
        circuit.rx(0.5, right)
    return circuit


def exact(circuit: QuantumCircuit, observable: Observable) -> float:
    operator = SparsePauliOp.from_list(list(observable.items()))
    return float(Statevector(circuit).expectation_value(operator).real)


def check(cutter: CircuitCutter, simulate: RunCircuit, plan: CuttingPlan, want: float, shots: int = 60_000) -> None:
    answer = cutter.reconstruct(plan, run(plan, shots, simulate))
    assert abs(answer.value - want) <= SIGMAS * answer.standard_error
    assert 0 < answer.standard_error < 0.1
    assert shots - len(plan.subexperiments) <= answer.shots <= shots


def test_a_gate_cut_gives_the_exact_value_within_its_error(cutter: CircuitCutter, simulate: RunCircuit) -> None:
    circuit, observable = chain(), {"ZZII": 0.5, "IZZX": 1.5, "YZXZ": -1.0, "IIII": 0.25}
    plan = cutter.plan(qasm2.dumps(circuit), observable, 2, 10)
    assert [(cut.kind, cut.gate, cut.qubits, cut.overhead) for cut in plan.cuts] == [(CutKind.GATE, "cx", (1, 2), 9.0)]
    assert (plan.sampling_overhead, plan.is_minimal, plan.widths) == (pytest.approx(9.0), True, (2, 2))
    assert "cx on 1-2 (9x)" in plan.describe()
    check(cutter, simulate, plan, exact(circuit, observable))


def test_a_wire_is_cut_where_that_is_cheaper(cutter: CircuitCutter, simulate: RunCircuit) -> None:
    """Two gates with either neighbour would cost 81; the middle wire costs 16."""
    circuit = QuantumCircuit(3)
    for left, right in ((0, 1), (0, 1), (1, 2), (1, 2)):
        circuit.ry(0.7 + left, left)
        circuit.rx(0.3 + right, right)
        circuit.cx(left, right)
    observable = {"ZZI": 1.0, "XIZ": 0.5}
    plan = cutter.plan(qasm2.dumps(circuit), observable, 2, 16)
    assert [(cut.kind, cut.gate, cut.qubits, cut.overhead) for cut in plan.cuts] == [(CutKind.WIRE, None, (1,), 16.0)]
    assert plan.widths == (2, 2)
    check(cutter, simulate, plan, exact(circuit, observable))


def test_a_part_without_a_cut_of_its_own_runs_once_for_all(cutter: CircuitCutter, simulate: RunCircuit) -> None:
    """The library lists the ends of a chain cut twice 36 times over; each has 5 different circuits."""
    circuit, observable = chain(6), {"ZZZZZZ": 1.0}
    plan = cutter.plan(qasm2.dumps(circuit), observable, 2, 81)
    assert (len(plan.cuts), plan.sampling_overhead, plan.widths) == (2, pytest.approx(81.0), (2, 2, 2))
    assert len(plan.recipe.coefficients) == 36
    assert [sum(1 for one in plan.subexperiments if one.subcircuit == piece) for piece in range(3)] == [5, 25, 5]
    check(cutter, simulate, plan, exact(circuit, observable), shots=100_000)


def test_the_stated_error_is_the_real_one(cutter: CircuitCutter, simulate: RunCircuit) -> None:
    """Fifty runs drawn from one set of distributions: their spread is what each of them says of itself."""
    plan = cutter.plan(qasm2.dumps(chain(3)), {"ZZI": 1.0, "IZX": 0.5, "XXX": 0.5, "ZIZ": -1.0}, 2, 10)
    truth = run(plan, 60_000, simulate)
    by_text = {one.text: part.counts for one, part in zip(plan.subexperiments, truth, strict=True)}
    random = Random(11)  # noqa: S311 - statistics

    def draw(_node: str, text: str, shots: Shots) -> tuple[Counts, str]:
        counts = by_text[text]
        return dict(Counter(random.choices(list(counts), list(counts.values()), k=shots))), "drawn"

    want = cutter.reconstruct(plan, truth).value
    answers = [cutter.reconstruct(plan, run(plan, 2000, draw)) for _ in range(50)]
    pulls = [(answer.value - want) / answer.standard_error for answer in answers]
    spread = (sum(pull * pull for pull in pulls) / len(pulls)) ** 0.5
    assert 0.75 < spread < 1.3, pulls


def test_a_circuit_that_fits_needs_no_cut(cutter: CircuitCutter, simulate: RunCircuit) -> None:
    circuit, observable = chain(3), {"ZXZ": 1.0}
    plan = cutter.plan(qasm2.dumps(circuit), observable, 3, 1)
    assert (plan.cuts, plan.sampling_overhead, len(plan.subexperiments)) == ((), 1.0, 1)
    check(cutter, simulate, plan, exact(circuit, observable))


def test_idle_qubits_and_measurements_at_the_end_need_no_run(cutter: CircuitCutter, simulate: RunCircuit) -> None:
    """The library has no answer for a qubit without gates: it fails with a KeyError."""
    circuit = QuantumCircuit(5, 5)
    circuit.compose(chain(3), [0, 2, 4], inplace=True)
    observable = {"ZZZZZ": 1.0, "ZXZIZ": 9.0, "IZIII": 0.5}
    want = exact(circuit.remove_final_measurements(inplace=False) or circuit, observable)
    circuit.measure(range(5), range(5))
    plan = cutter.plan(qasm2.dumps(circuit), observable, 2, 10)
    assert plan.recipe.constant == 0.5
    assert plan.measurements_left_out == 5
    assert {qubit for cut in plan.cuts for qubit in cut.qubits} <= {0, 2, 4}
    check(cutter, simulate, plan, want)


def test_a_value_that_needs_no_run_is_exact(cutter: CircuitCutter) -> None:
    plan = cutter.plan(qasm2.dumps(chain(2)), {"II": 0.75}, 1, 1)
    assert plan.subexperiments == ()
    answer = cutter.reconstruct(plan, run(plan, 1, lambda _node, _text, _shots: ({}, "never asked")))
    assert (answer.value, answer.standard_error, answer.receipts) == (0.75, 0.0, ())


def test_the_same_circuit_is_cut_the_same_way_also_by_another_child(cutter: CircuitCutter) -> None:
    """A plan outlives the child that made it, and its counts are read by the order of its groups."""
    text, observable = qasm2.dumps(chain(5)), {"ZZZZZ": 1.0, "XXIII": 1.0, "IIIZY": 1.0, "YIZIX": 1.0}
    plan = cutter.plan(text, observable, 3, 100)
    other = CircuitCutter(CircuitSettings())
    try:
        assert plan == cutter.plan(text, observable, 3, 100) == other.plan(text, observable, 3, 100)
    finally:
        other.close()


def test_more_than_the_cap_is_refused_with_the_price(cutter: CircuitCutter) -> None:
    with pytest.raises(CannotRun, match=r"2 cuts and 81 times the shots; max_overhead allows 80 times") as refused:
        cutter.plan(qasm2.dumps(chain(6)), {"ZZZZZZ": 1.0}, 2, 80)
    assert refused.value.reason == "cutting_overhead"


def test_the_command_names_the_cap_that_would_do(cutter: CircuitCutter) -> None:
    """`qcompute expect`: the number it names is enough, and what is told is how to say it."""
    text, observable = qasm2.dumps(chain(6)), {"ZZZZZZ": 1.0}
    with pytest.raises(CannotRun, match=r"allows 80 times, 81 would do \(--max-overhead; or a larger --max-qubits\)"):
        planned(cutter, text, observable, 2, 80)
    assert planned(cutter, text, observable, 2, 81).sampling_overhead == pytest.approx(81.0)
    with pytest.raises(CannotRun, match="the observable has 5 letters and the circuit 6 qubits"):
        planned(cutter, text, {"ZZZZZ": 1.0}, 2, 81)


def test_weak_gates_cost_few_shots_and_too_many_circuits(cutter: CircuitCutter) -> None:
    circuit = QuantumCircuit(12)
    circuit.h(range(12))
    for left, right in itertools.pairwise(range(12)):
        circuit.rzz(0.01, left, right)
    with pytest.raises(CannotRun) as refused:
        cutter.plan(qasm2.dumps(circuit), {"Z" * 12: 1.0}, 1, 1000)
    assert refused.value.reason == "cutting_experiments"


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("creg c[1]; measure q[0] -> c[0]; h q[0];", "cutting_mid_circuit"),
        ("reset q[0]; h q[0];", "cutting_mid_circuit"),
        ("creg c[1]; measure q[0] -> c[0]; if (c == 1) x q[1];", "cutting_mid_circuit"),
        ("h q[0", "parse_error"),
        ('include "/etc/passwd";', "include"),
    ],
)
def test_what_cannot_be_cut_is_refused_with_the_reason(cutter: CircuitCutter, lines: str, reason: str) -> None:
    with pytest.raises(CannotRun) as refused:
        cutter.plan(f'OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; {lines}', {"ZZ": 1.0}, 1, 100)
    assert refused.value.reason == reason


@pytest.mark.parametrize(
    "observable", [{}, {"Z": 1.0}, {"AB": 1.0}, {"ZZ": 1.0, "Z": 1.0}, {"ZZ": float("nan")}, {"": 1.0}]
)
def test_a_wrong_observable_is_refused(cutter: CircuitCutter, observable: Observable) -> None:
    with pytest.raises(CannotRun) as refused:
        cutter.plan(qasm2.dumps(chain(2)), observable, 1, 100)
    assert refused.value.reason == "bad_observable"


@pytest.mark.parametrize("cutting", [{}, True, {"max_subcircuit_qubits": 5}])
def test_a_job_that_asks_for_counts_is_refused(cutting: object) -> None:
    with pytest.raises(CannotRun, match="expectation values, never counts") as refused:
        CuttingRequest.of({"cutting": cutting})
    assert refused.value.reason == "cutting_counts"


def test_cutting_is_done_on_request_alone() -> None:
    assert CuttingRequest.of({"seed": 3}) is None
    asked = CuttingRequest.of({"cutting": {"observable": {"ZZ": 1}, "max_subcircuit_qubits": 1, "max_overhead": 9}})
    assert asked == CuttingRequest(observable={"ZZ": 1.0}, max_subcircuit_qubits=1, max_overhead=9)
    with pytest.raises(CannotRun, match=r"configuration_data\.cutting\.max_subcircuit_qubits"):
        CuttingRequest.of({"cutting": {"observable": {"ZZ": 1}}})


@pytest.fixture(scope="module")
def plan(cutter: CircuitCutter) -> CuttingPlan:
    return cutter.plan(qasm2.dumps(chain()), {"ZZZZ": 1.0}, 2, 10)


def always_zero(plan: CuttingPlan) -> Callable[[str, str, Shots], tuple[Counts, str]]:
    widths = {one.text: one.num_clbits for one in plan.subexperiments}
    return lambda node, text, shots: ({"0" * widths[text]: shots}, f"receipt of {node}")


def test_parts_are_spread_over_the_nodes_and_every_receipt_is_kept(cutter: CircuitCutter, plan: CuttingPlan) -> None:
    parts = run(plan, 5000, always_zero(plan), nodes=["a", "b", "c"])
    assert [part.subexperiment for part in parts] == list(range(len(plan.subexperiments)))
    shares = [sum(part.node == node for part in parts) for node in "abc"]
    assert max(shares) - min(shares) <= 1
    assert cutter.reconstruct(plan, parts).receipts == tuple(f"receipt of {part.node}" for part in parts)


def test_a_failed_part_does_not_cost_those_already_paid(plan: CuttingPlan) -> None:
    ran: list[str] = []
    broken = plan.subexperiments[3].text

    def flaky(node: str, text: str, shots: Shots) -> tuple[Counts, str]:
        ran.append(text)
        if text == broken and ran.count(text) == 1:
            raise Unavailable
        return always_zero(plan)(node, text, shots)

    finished: dict[int, PartResult] = {}
    with pytest.raises(Unavailable):
        run(plan, 5000, flaky, finished=finished)
    assert sorted(finished) == [0, 1, 2]
    assert len(run(plan, 5000, flaky, finished=finished)) == len(plan.subexperiments)
    assert len(ran) == len(plan.subexperiments) + 1


def test_counts_of_another_circuit_are_not_taken(plan: CuttingPlan) -> None:
    with pytest.raises(BadReply):
        run(plan, 5000, lambda _node, _text, shots: ({"0": shots}, "r"))


def test_a_value_is_not_made_of_some_of_the_parts(cutter: CircuitCutter, plan: CuttingPlan) -> None:
    parts = run(plan, 5000, always_zero(plan))
    for wrong in (parts[1:], [*parts, parts[0]]):
        with pytest.raises(Bug):
            cutter.reconstruct(plan, wrong)


def test_shots_go_where_the_weight_is(plan: CuttingPlan) -> None:
    sizes = allocate_shots(plan, 10_000)
    assert 10_000 - len(sizes) <= sum(sizes) <= 10_000
    assert sorted(sizes) == [
        size for _, size in sorted(zip([one.weight for one in plan.subexperiments], sizes, strict=True))
    ]
    least = LEAST_SHOTS * len(sizes)
    assert set(allocate_shots(plan, least)) == {LEAST_SHOTS}
    with pytest.raises(CannotRun, match=f"at least {least} shots") as refused:
        allocate_shots(plan, least - 1)
    assert refused.value.reason == "too_few_shots"
