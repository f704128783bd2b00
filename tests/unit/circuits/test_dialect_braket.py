"""What is written for Braket means the same to Amazon's own simulator as it does to Qiskit."""

# qiskit ships no types
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import itertools
import json
import math
import random
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from qiskit import QuantumCircuit, QuantumRegister
from qiskit.circuit import Gate, Parameter
from qiskit.circuit.library import CZGate, HGate, UnitaryGate, get_standard_gate_name_mapping
from qiskit.quantum_info import Statevector

from qcompute.circuits.dialects.braket import BRAKET_NAMES, GATES, write
from qcompute.circuits.measurement import MeasurementMap, Register
from qcompute.circuits.walk import Walk
from qcompute.errors import Bug, CannotRun
from tests.doubles.braket import worker


def map_of(circuit: QuantumCircuit) -> MeasurementMap:
    return MeasurementMap(
        registers=tuple(Register(name=register.name, size=register.size) for register in circuit.cregs),
        measured=tuple(sorted(Walk(circuit).measured.items())),
    )


def written(circuit: QuantumCircuit) -> str:
    return write(circuit, map_of(circuit))


def action(text: str) -> str:
    header = {"name": "braket.ir.openqasm.program", "version": "1"}
    return json.dumps({"braketSchemaHeader": header, "source": text, "inputs": {}})


def run(text: str, shots: int) -> dict[str, Any]:
    return worker().ask({"do": "run", "action": action(text), "shots": shots})


def amplitudes(text: str) -> Statevector:
    """Of the program without its register; Braket's qubit 0 is the most significant, Qiskit's the least."""
    gates = re.sub(r"(?m)^bit.*\n", "", text)
    values = worker().ask({"do": "state", "action": action(gates + "#pragma braket result state_vector\n")})
    return Statevector(np.array([complex(*value) for value in values])).reverse_qargs()


def gate_of(name: str, angle: Callable[[], float]) -> Any:
    """Qiskit's own gate of that name."""
    gate: Any = get_standard_gate_name_mapping()[name]
    return type(gate)(*(angle() for _ in gate.params)) if gate.params else gate


def prepared(circuit: QuantumCircuit) -> QuantumCircuit:
    """In a state without symmetry, so that swapped qubits and wrong signs show."""
    for qubit in range(circuit.num_qubits):
        circuit.ry(0.3 + 0.4 * qubit, qubit)
        circuit.rz(0.9 - 0.5 * qubit, qubit)
    return circuit


@pytest.mark.parametrize("name", sorted(GATES))
def test_each_gate_is_the_same_gate(name: str) -> None:
    gate = gate_of(name, itertools.count(0.7, 0.2).__next__)
    circuit = prepared(QuantumCircuit(3))
    circuit.append(gate, [2, 0, 1][: gate.num_qubits])
    assert amplitudes(written(circuit)).equiv(Statevector(circuit))


@pytest.mark.parametrize("seed", range(4))
def test_circuits_drawn_at_random_are_the_same_circuits(seed: int) -> None:
    draw = random.Random(seed)  # noqa: S311 - a repeatable choice, no secret
    circuit = QuantumCircuit(4)
    for name in draw.choices(sorted(GATES), k=40):
        gate = gate_of(name, lambda: draw.uniform(-9, 9))
        circuit.append(gate, draw.sample(range(4), gate.num_qubits))
    assert amplitudes(written(circuit)).equiv(Statevector(circuit))


def test_the_whole_program_is_as_braket_wants_it() -> None:
    circuit = QuantumCircuit(QuantumRegister(2, "a"), QuantumRegister(1, "q"))
    circuit.add_register(*QuantumCircuit(1, 3).cregs)
    circuit.h(0)
    circuit.barrier()
    circuit.cp(-0.5, 0, 2)
    circuit.measure(2, 0)
    circuit.measure(0, 2)
    assert written(circuit) == (
        "OPENQASM 3.0;\n"
        "qubit[3] q;\n"
        "bit[2] b;\n"
        "h q[0];\n"
        "cphaseshift(-0.5) q[0], q[2];\n"
        "b[0] = measure q[2];\n"
        "b[1] = measure q[0];\n"
    )


def test_columns_are_the_written_bits_in_ascending_order_whatever_the_order_of_statements() -> None:
    circuit = QuantumCircuit(5, 4)
    circuit.x(3)
    circuit.measure(0, 3)
    circuit.measure(3, 1)
    circuit.measure(4, 0)
    result = run(written(circuit), 5)
    assert result["measuredQubits"] == [4, 3, 0]
    assert result["measurements"] == [["0", "1", "0"]] * 5
    assert map_of(circuit).counts_from_rows(result["measurements"]) == {"0010": 5}


def test_a_bit_that_is_written_again_has_its_last_value() -> None:
    circuit = QuantumCircuit(2, 1)
    circuit.x(1)
    circuit.measure(0, 0)
    circuit.measure(1, 0)
    text = written(circuit)
    assert text.count("measure") == 1
    assert run(text, 3)["measurements"] == [["1"]] * 3


@pytest.mark.parametrize("angle", [0.0, math.pi, -1e-07, 1e-300, 5e-324, 1e22, 123456789.123456789, -0.1])
def test_angles_have_no_exponent_and_lose_no_bit(angle: float) -> None:
    circuit = QuantumCircuit(1)
    circuit.rz(angle, 0)
    found = re.search(r"rz\((-?[0-9.]+)\) ", written(circuit))
    assert found is not None
    assert float(found.group(1)) == angle


def test_an_angle_bound_to_a_parameter_is_its_value() -> None:
    theta = Parameter("theta")
    circuit = QuantumCircuit(1)
    circuit.rx(2 * theta, 0)
    assert "rx(0.5) q[0];" in written(circuit.assign_parameters({theta: 0.25}))


@pytest.mark.parametrize("angle", [math.nan, math.inf])
def test_an_angle_that_is_no_number_is_refused(angle: float) -> None:
    circuit = QuantumCircuit(1)
    circuit.rz(angle, 0)
    with pytest.raises(CannotRun, match="finite"):
        written(circuit)


def reset(circuit: QuantumCircuit) -> None:
    circuit.reset(0)


def branch(circuit: QuantumCircuit) -> None:
    with circuit.if_test((circuit.clbits[1], 1)):
        circuit.x(0)


def delay(circuit: QuantumCircuit) -> None:
    circuit.delay(100, 0)


def unitary(circuit: QuantumCircuit) -> None:
    circuit.append(UnitaryGate(np.eye(2)), [0])


def many_controls(circuit: QuantumCircuit) -> None:
    circuit.append(HGate().control(2, annotated=False), [0, 1, 2])


def universal(circuit: QuantumCircuit) -> None:
    circuit.u(1, 2, 3, 0)


@pytest.mark.parametrize(
    ("add", "name"),
    [
        (reset, "reset"),
        (branch, "if_else"),
        (delay, "delay"),
        (unitary, "unitary"),
        (many_controls, "cch"),
        (universal, "u"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_braket_has_no_word_for_is_refused_by_name(add: Any, name: str) -> None:
    circuit = QuantumCircuit(3, 3)
    add(circuit)
    circuit.measure(2, 2)
    with pytest.raises(CannotRun, match=f"Braket has no {name}$"):
        written(circuit)


def test_a_gate_that_is_controlled_by_zero_is_another_gate() -> None:
    """Qiskit calls it cz_o0; were it ever called cz, it must not become one."""
    circuit = QuantumCircuit(2)
    circuit.append(CZGate(ctrl_state=0), [0, 1])
    with pytest.raises(CannotRun, match="Braket has no cz"):
        written(circuit)


def test_a_gate_of_ones_own_is_not_taken_for_another() -> None:
    """OpenQASM lets anybody define a gate ``h``; written by its name, Braket would run the Hadamard gate."""
    own = Gate("h", 1, [])
    own.definition = QuantumCircuit(1)
    circuit = QuantumCircuit(1)
    circuit.append(own, [0])
    with pytest.raises(CannotRun, match="a gate h of its own"):
        written(circuit)


def test_measurements_are_final() -> None:
    """A gate, or another measurement, of a qubit that was measured."""
    gate = QuantumCircuit(1, 1)
    gate.measure(0, 0)
    gate.x(0)
    twice = QuantumCircuit(1, 2)
    twice.measure(0, 0)
    twice.measure(0, 1)
    for circuit, name in ((gate, "x"), (twice, "measure")):
        with pytest.raises(CannotRun, match=f"{name} follows a measurement"):
            written(circuit)


def test_a_map_of_another_circuit_is_a_bug() -> None:
    circuit = QuantumCircuit(2, 2)
    circuit.measure([0, 1], [0, 1])
    with pytest.raises(Bug):
        write(circuit, MeasurementMap(registers=(Register(name="c", size=2),), measured=((0, 0),)))


def test_all_its_names_are_words_of_the_simulator() -> None:
    """Braket's devices name what they take in the same words."""
    assert len(set(BRAKET_NAMES.values())) == len(BRAKET_NAMES)
    for name in BRAKET_NAMES.values():
        assert re.fullmatch("[a-z]+", name)


def test_it_is_imported_without_qiskit() -> None:
    code = "import sys, qcompute.circuits.dialects.braket; print('qiskit' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603 - our own words
    assert done.stdout.strip() == "False"
