"""What is written as IonQ's JSON has the gates of the circuit, and no others."""

# qiskit ships no types
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.circuit.library import UnitaryGate
from qiskit.quantum_info import Operator

from qcompute.circuits.dialects import ionq_json
from qcompute.circuits.measurement import MeasurementMap, Register
from qcompute.errors import CannotRun

NOTHING = MeasurementMap(registers=(Register(name="c", size=1),), measured=((0, 0),))
WIDTHS = {"cx": 2, "swap": 2, "rzz": 2}

ROOTS: dict[str, complex] = {"s": 1j, "si": -1j, "t": (1 + 1j) / 2**0.5, "ti": (1 - 1j) / 2**0.5}
"""The lower right element of IonQ's phase gates; v and vi are square roots of not."""


def written(circuit: QuantumCircuit) -> dict[str, Any]:
    return json.loads(ionq_json.write(circuit, NOTHING))


def understood(program: dict[str, Any]) -> QuantumCircuit:
    """A second reader of the same words, from IonQ's description of its gates."""
    circuit = QuantumCircuit(program["qubits"])
    for step in program["circuit"]:
        match step:
            case {"gate": "cnot", "control": control, "target": target}:
                circuit.cx(control, target)
            case {"gate": "swap", "targets": [first, second]}:
                circuit.swap(first, second)
            case {"gate": "zz", "targets": [first, second], "rotation": angle}:
                # exp(-i angle/2 Z Z)
                circuit.cx(first, second)
                circuit.rz(angle, second)
                circuit.cx(first, second)
            case {"gate": "rx" | "ry" | "rz" as gate, "target": target, "rotation": angle}:
                getattr(circuit, gate)(angle, target)
            case {"gate": "v" | "vi" as gate, "target": target}:
                sign = 1 if gate == "v" else -1
                half = [[(1 + sign * 1j) / 2, (1 - sign * 1j) / 2], [(1 - sign * 1j) / 2, (1 + sign * 1j) / 2]]
                circuit.append(UnitaryGate(np.array(half)), [target])
            case {"gate": "s" | "si" | "t" | "ti" as gate, "target": target}:
                circuit.append(UnitaryGate(np.array([[1, 0], [0, ROOTS[gate]]])), [target])
            case {"gate": "x" | "y" | "z" | "h" as gate, "target": target}:
                getattr(circuit, gate)(target)
            case _:
                raise AssertionError(step)
    return circuit


@pytest.mark.parametrize("name", sorted(ionq_json.GATES))
def test_every_gate_it_claims_has_the_unitary_of_qiskits(name: str) -> None:
    circuit = QuantumCircuit(3)
    angles = [0.7] if name.startswith("r") else []
    getattr(circuit, name)(*angles, *([2, 0] if WIDTHS.get(name) else [1]))
    assert Operator(understood(written(circuit))).equiv(Operator(circuit))


def test_a_circuit_is_its_gates_in_order_and_measures_nothing() -> None:
    circuit = QuantumCircuit(3, 2)
    circuit.h(0)
    circuit.barrier()
    circuit.cx(0, 2)
    circuit.id(1)
    circuit.rx(0.25, 1)
    circuit.measure(2, 0)
    circuit.measure(0, 1)
    assert written(circuit) == {
        "gateset": "qis",
        "qubits": 3,
        "circuit": [
            {"gate": "h", "target": 0},
            {"gate": "cnot", "control": 0, "target": 2},
            {"gate": "rx", "target": 1, "rotation": 0.25},
        ],
    }
    assert ionq_json.write(circuit, NOTHING) == ionq_json.write(circuit, NOTHING)


def test_a_gate_after_a_measurement_is_refused() -> None:
    circuit = QuantumCircuit(2, 1)
    circuit.measure(0, 0)
    circuit.barrier()
    circuit.x(1)
    circuit.x(0)
    with pytest.raises(CannotRun, match="x on qubit 0 follows a measurement") as refused:
        written(circuit)
    assert refused.value.reason == "mid_circuit"


def test_a_qubit_measured_twice_is_refused() -> None:
    circuit = QuantumCircuit(1, 2)
    circuit.measure(0, 0)
    circuit.measure(0, 1)
    with pytest.raises(CannotRun, match="measure on qubit 0 follows"):
        written(circuit)


def test_what_it_has_no_word_for_is_refused_by_name() -> None:
    circuit = QuantumCircuit(2, 1)
    circuit.cz(0, 1)
    with pytest.raises(CannotRun, match="no word for 'cz'"):
        written(circuit)
    circuit = QuantumCircuit(1, 1)
    circuit.reset(0)
    with pytest.raises(CannotRun, match="no word for 'reset'"):
        written(circuit)
    circuit = QuantumCircuit(1, 1)
    circuit.u(0.1, 0.2, Parameter("theta"), 0)
    with pytest.raises(CannotRun, match="no word for 'u'"):
        written(circuit)


@pytest.mark.parametrize("angle", [Parameter("theta"), float("nan"), float("inf")])
def test_an_angle_that_is_no_number_is_refused(angle: Any) -> None:
    circuit = QuantumCircuit(1)
    circuit.rx(angle, 0)
    with pytest.raises(CannotRun, match="an angle of rx is not a number"):
        written(circuit)
