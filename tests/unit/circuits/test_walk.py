"""The walk tells what Qiskit tells, in one go through the circuit."""

# qiskit ships no types
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister
from qiskit.circuit import Clbit

from qcompute.circuits.parse import describe
from qcompute.circuits.settings import CircuitSettings
from qcompute.circuits.walk import Walk
from qcompute.errors import CannotRun
from tests.unit.circuits.programs import THREE, TWO


@st.composite
def circuits(draw: st.DrawFn) -> QuantumCircuit:
    """Gates, barriers, measurements, resets and now and then a branch or a loop, on four qubits."""
    circuit = QuantumCircuit(QuantumRegister(4), ClassicalRegister(2), [Clbit()])
    for _ in range(draw(st.integers(0, 20))):
        one, two, three, _ = draw(st.permutations(range(4)))
        match draw(st.integers(0, 12)):
            case 0 | 1 | 2:
                circuit.h(one)
            case 3 | 4 | 5:
                circuit.cx(one, two)
            case 6:
                circuit.ccx(one, two, three)
            case 7:
                circuit.barrier(one, two)
            case 8 | 9:
                circuit.measure(one, draw(st.integers(0, 2)))
            case 10:
                circuit.reset(one)
            case 11:
                with circuit.if_test((circuit.clbits[0], 1)):
                    circuit.x(one)
            case _:
                with circuit.for_loop(range(2)):
                    circuit.x(one)
    return circuit


@given(circuits())
def test_the_depth_is_that_of_qiskit(circuit: QuantumCircuit) -> None:
    assert Walk(circuit).depth == circuit.depth()


def test_nothing_is_deep_in_a_circuit_without_instructions() -> None:
    assert Walk(QuantumCircuit()).depth == Walk(QuantumCircuit(2, 2)).depth == 0


def test_a_measurement_in_a_branch_alone_is_one() -> None:
    source = f"{THREE}qubit[2] q;\nbit[2] c;\nif (c[0] == false) {{ c[1] = measure q[1]; }}\n"
    assert describe(source, CircuitSettings()).measured == ((1, 1),)


@pytest.mark.parametrize(
    "source",
    [
        TWO + "qreg q[1];\ncreg c[1];\nrz(1e308*10) q[0];\nmeasure q -> c;\n",
        TWO + "qreg q[1];\ncreg c[1];\nif(c==1) rz(1e308*10) q[0];\nmeasure q -> c;\n",
    ],
    ids=["plain", "in a branch"],
)
def test_an_infinite_angle_is_seen_wherever_it_is(source: str) -> None:
    with pytest.raises(CannotRun) as caught:
        describe(source, CircuitSettings())
    assert caught.value.reason == "not_finite"
