"""What is written as QIR is a base-profile module that says the circuit, in the order the map reads it.

The text as a whole was checked once, by hand, with pyqir 0.12 (LLVM's verifier) and qdk 1.33 (Microsoft's simulator):
150 random circuits, each within sampling noise of Qiskit's statevector. Here it is held to what was checked then.
"""

# qiskit ships no types
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import re
from typing import Any

import pytest
from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister
from qiskit.circuit import Parameter

from qcompute.circuits.dialects import qir
from qcompute.circuits.measurement import MeasurementMap, Register
from qcompute.errors import CannotRun

WIDTHS = {"cx": 2, "cy": 2, "cz": 2, "swap": 2, "rxx": 2, "ryy": 2, "rzz": 2, "ccx": 3}

SMALL = """\
%Result = type opaque
%Qubit = type opaque

@0 = internal constant [4 x i8] c"0_a\\00"
@1 = internal constant [6 x i8] c"1_a0r\\00"
@2 = internal constant [6 x i8] c"2_a1r\\00"

define i64 @ENTRYPOINT__main() #0 {
block_0:
  call void @__quantum__rt__initialize(i8* null)
  call void @__quantum__qis__h__body(%Qubit* inttoptr (i64 0 to %Qubit*))
  call void @__quantum__qis__rz__body(double 2.5000000000000000e-01, %Qubit* inttoptr (i64 1 to %Qubit*))
  call void @__quantum__qis__cx__body(%Qubit* inttoptr (i64 0 to %Qubit*), %Qubit* inttoptr (i64 1 to %Qubit*))
  call void @__quantum__qis__m__body(%Qubit* inttoptr (i64 1 to %Qubit*), %Result* inttoptr (i64 0 to %Result*))
  call void @__quantum__qis__m__body(%Qubit* inttoptr (i64 0 to %Qubit*), %Result* inttoptr (i64 1 to %Result*))
  call void @__quantum__rt__array_record_output(i64 2, i8* getelementptr inbounds (\
"""


def described(circuit: QuantumCircuit, *measured: tuple[int, int]) -> MeasurementMap:
    registers = tuple(Register(name=register.name, size=register.size) for register in circuit.cregs)
    return MeasurementMap(registers=registers, measured=measured)


def calls(text: str) -> list[str]:
    return re.findall(r"call void @__quantum__(?:qis|rt)__(\w+)\(", text)


def test_the_module_is_what_was_checked_with_llvm_and_microsofts_simulator() -> None:
    circuit = QuantumCircuit(QuantumRegister(2, "q"), ClassicalRegister(3, "c"))
    circuit.h(0)
    circuit.rz(0.25, 1)
    circuit.id(0)
    circuit.barrier()
    circuit.cx(0, 1)
    circuit.measure(1, 0)
    circuit.measure(0, 2)
    text = qir.write(circuit, described(circuit, (0, 1), (2, 0)))
    assert text.startswith(SMALL)
    assert "declare void @__quantum__qis__m__body(%Qubit*, %Result*) #1\n" in text
    assert '"qir_profiles"="base_profile" "required_num_qubits"="2" "required_num_results"="2" }' in text
    assert text == qir.write(circuit, described(circuit, (0, 1), (2, 0)))


@pytest.mark.parametrize("name", sorted(qir.GATES - {"id"}))
def test_every_gate_it_claims_is_called_with_its_operands_in_order(name: str) -> None:
    width = WIDTHS.get(name, 1)
    circuit = QuantumCircuit(4, 1)
    angles = [-1e-05] if name.startswith("r") else []
    getattr(circuit, name)(*angles, *range(3, 3 - width, -1))
    (line,) = [line for line in qir.write(circuit, described(circuit, (0, 0))).splitlines() if "qis__" in line][:1]
    assert re.findall(r"i64 (\d+) to %Qubit", line) == [str(qubit) for qubit in range(3, 3 - width, -1)]
    assert ("double -1.0000000000000001e-05" in line) == bool(angles)


def test_an_angle_comes_back_as_the_very_same_number() -> None:
    circuit = QuantumCircuit(1, 1)
    for angle in (0.1, 3e20, -0.0, 1 / 3):
        circuit.rx(angle, 0)
    text = qir.write(circuit, described(circuit, (0, 0)))
    assert [float(word) for word in re.findall(r"double (-?\d\.\d+e[-+]\d+),", text)] == [0.1, 3e20, -0.0, 1 / 3]


def test_a_qubit_read_into_two_bits_is_measured_once_and_recorded_twice() -> None:
    circuit = QuantumCircuit(2, 3)
    circuit.measure(1, 0)
    circuit.measure(1, 2)
    text = qir.write(circuit, described(circuit, (0, 1), (2, 1)))
    assert calls(text).count("m__body") == 1
    assert re.findall(r"result_record_output\(%Result\* inttoptr \(i64 (\d+)", text) == ["0", "0"]
    assert "array_record_output(i64 2" in text


def test_a_bit_that_is_overwritten_is_read_from_the_last_qubit() -> None:
    circuit = QuantumCircuit(2, 1)
    circuit.measure(0, 0)
    circuit.measure(1, 0)
    text = qir.write(circuit, described(circuit, (0, 1)))
    assert re.findall(r"m__body\(%Qubit\* inttoptr \(i64 (\d+)", text) == ["1"]


def test_a_gate_after_a_measurement_is_refused() -> None:
    circuit = QuantumCircuit(2, 1)
    circuit.measure(0, 0)
    circuit.barrier()
    circuit.x(1)
    circuit.cx(1, 0)
    with pytest.raises(CannotRun, match="cx on qubit 1 follows a measurement") as refused:
        qir.write(circuit, described(circuit, (0, 0)))
    assert refused.value.reason == "mid_circuit"


def test_what_it_has_no_word_for_is_refused_by_name() -> None:
    circuit = QuantumCircuit(2, 1)
    circuit.iswap(0, 1)
    with pytest.raises(CannotRun, match="no 'iswap'"):
        qir.write(circuit, described(circuit, (0, 0)))
    circuit = QuantumCircuit(1, 1)
    circuit.reset(0)
    with pytest.raises(CannotRun, match="no 'reset'"):
        qir.write(circuit, described(circuit, (0, 0)))


@pytest.mark.parametrize("angle", [Parameter("theta"), float("nan"), float("inf")])
def test_an_angle_that_is_no_number_is_refused(angle: Any) -> None:
    circuit = QuantumCircuit(1, 1)
    circuit.rx(angle, 0)
    with pytest.raises(CannotRun, match="an angle of rx is not a number"):
        qir.write(circuit, described(circuit, (0, 0)))
