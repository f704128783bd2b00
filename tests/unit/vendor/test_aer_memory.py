"""What a simulation is let in with, what the machine has, and who waits for whom."""

# qiskit ships no types
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from qiskit import QuantumCircuit

from qcompute.circuits.parse import describe
from qcompute.circuits.program import CompiledCircuit
from qcompute.circuits.settings import CircuitSettings
from qcompute.circuits.walk import Walk
from qcompute.vendor.aer import memory
from qcompute.vendor.aer.memory import Admission, simulation_bytes
from qcompute.vendor.aer.methods import Method

GIB = 1 << 30


def chain(qubits: int, layers: int = 1, gate: str = "cx") -> CompiledCircuit:
    """``layers`` times a gate on each pair of neighbours, behind a T gate so that it is not Clifford."""
    body = "".join(f"{gate} q[{n}],q[{n + 1}];\n" for n in range(qubits - 1)) * layers
    text = (
        f'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[{qubits}];\ncreg c[{qubits}];\nt q[0];\n{body}measure q -> c;\n'
    )
    return describe(text, CircuitSettings())


def needed(circuit: CompiledCircuit, method: Method, shots: int = 1, *, noisy: bool = False) -> int:
    return simulation_bytes(circuit, method, shots, noisy=noisy, at_most=3 * GIB)


def test_a_state_doubles_with_each_qubit_and_a_tableau_does_not() -> None:
    assert needed(chain(20), Method.STATEVECTOR) // (16 << 20) == 1
    assert needed(chain(26), Method.AUTOMATIC) // (16 << 26) == 1
    assert needed(chain(13), Method.DENSITY_MATRIX) // (16 << 26) == 1
    assert needed(chain(400), Method.STABILIZER) < 1 << 20
    clifford = chain(400).model_copy(update={"gate_counts": {"h": 1, "cx": 399, "measure": 400}})
    assert needed(clifford, Method.AUTOMATIC) < 1 << 20


def test_noise_makes_a_density_matrix_only_where_aer_chooses_one() -> None:
    """For more shots than amplitudes, and where it fits."""
    few, many = (needed(chain(10), Method.AUTOMATIC, shots, noisy=True) for shots in (100, 2000))
    assert few < 1 << 17
    assert many >= 16 << 20
    assert needed(chain(15), Method.AUTOMATIC, 100_000, noisy=True) < GIB


def test_a_chain_is_as_large_as_the_gates_across_a_cut_can_make_it() -> None:
    """By its width alone, a GHZ state of 28 qubits, of bond 2, would be refused for its 2 ** 14."""
    assert needed(chain(28), Method.MATRIX_PRODUCT_STATE) < 1 << 20
    assert needed(chain(200, layers=2), Method.MATRIX_PRODUCT_STATE) < 1 << 22
    deep = chain(28, layers=20)
    assert deep.busiest_cut == 20
    assert needed(deep, Method.MATRIX_PRODUCT_STATE) >= 3 * GIB
    assert chain(6, gate="swap").busiest_cut == 2


def test_a_loop_makes_the_bond_unknown_and_the_whole_limit_is_needed() -> None:
    """Those whose length is known are unrolled when they are parsed."""
    circuit = QuantumCircuit(28, 28)
    with circuit.for_loop(range(3)):
        circuit.cx(0, 27)
    assert Walk(circuit).busiest_cut is None
    unknown = chain(28).model_copy(update={"busiest_cut": None})
    assert needed(unknown, Method.MATRIX_PRODUCT_STATE) >= 3 * GIB


def test_a_far_gate_crosses_every_cut_between() -> None:
    circuit = describe(
        'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[9];\ncreg c[9];\n'
        "cx q[0],q[8];\ncx q[7],q[8];\nccx q[6],q[7],q[8];\nmeasure q -> c;\n",
        CircuitSettings(),
    )
    assert circuit.busiest_cut == 4


def test_shots_cost_memory_too() -> None:
    small, large = (needed(chain(100), Method.MATRIX_PRODUCT_STATE, shots) for shots in (1, 1_000_000))
    assert large - small > 800_000_000


@pytest.mark.parametrize(
    ("line", "file"),
    [("0::/a/b", "a/memory.max"), ("4:memory:/a/b", "memory/a/memory.limit_in_bytes")],
    ids=["v2", "v1"],
)
def test_a_control_groups_limit_counts_also_that_of_one_above(tmp_path: Path, line: str, file: str) -> None:
    group = tmp_path / "cgroup"
    group.write_text(f"9:name=systemd:/\n{line}\n")
    limit = tmp_path / "sys" / file
    (limit.parent / "b").mkdir(parents=True)
    limit.write_text("5368709120\n")
    (limit.parent / "b" / limit.name).write_text("max\n")
    found = [memory._number(each) for each in memory._group_limits(group, tmp_path / "sys")]
    assert [value for value in found if value is not None] == [5 * GIB]


def test_simulations_get_a_part_of_what_there_is() -> None:
    assert 0 < memory.safe_bytes() < memory.machine_bytes()
    assert (memory.available_bytes() or 0) > 0


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


class Waiting:
    """A thread that asks to be let in."""

    def __init__(self, door: Admission, size: int) -> None:
        self.entered: bool | None = None
        self.gives_up = threading.Event()
        before = len(door._turns)
        self._thread = threading.Thread(target=self._ask, args=(door, size))
        self._thread.start()
        eventually(lambda: len(door._turns) > before or self.entered is not None)

    def _ask(self, door: Admission, size: int) -> None:
        self.entered = door.enter(size, 10, self.gives_up.is_set)

    def ended(self) -> bool | None:
        self._thread.join(10)
        return self.entered


def test_who_does_not_fit_waits_and_holds_up_who_came_later() -> None:
    """A large job would wait for ever if every small one behind it went first."""
    door = Admission(available=lambda: None)
    assert door.enter(6, 10, lambda: False)
    large, small = Waiting(door, 8), Waiting(door, 1)
    assert (large.entered, small.entered, door.used) == (None, None, 6)
    door.leave(6)
    assert (large.ended(), small.ended(), door.used) == (True, True, 9)


def test_who_gives_up_lets_the_next_one_pass() -> None:
    door = Admission(available=lambda: None)
    assert door.enter(6, 10, lambda: False)
    large, small = Waiting(door, 8), Waiting(door, 1)
    large.gives_up.set()
    door.look_again()
    assert (large.ended(), small.ended(), door.used) == (False, True, 7)


def test_memory_that_another_program_uses_is_waited_for() -> None:
    free = [3]
    door = Admission(available=lambda: free[0])
    waiting = Waiting(door, 4)
    assert waiting.entered is None
    free[0] = 4
    door.look_again()
    assert waiting.ended() is True
