"""OpenQASM 3 as Amazon Braket takes it: its own gate names, no include, one classical register.

Facts: checked against amazon-braket-default-simulator 1.41. A second bit register is refused there (``Measurement
results can only be reported for a single classical register``), an include is looked up as a file, and bits that are
never written are left out of the result; so the one register ``b`` has exactly the bits that are written. Runs in the
sandbox; importing it needs no qiskit.
"""

# qiskit ships no types
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import math
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from qcompute.errors import Bug, CannotRun

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

    from qcompute.circuits.measurement import MeasurementMap

BRAKET_NAMES: Final = {
    "ccx": "ccnot",
    "cp": "cphaseshift",
    "cswap": "cswap",
    "csx": "cv",
    "cx": "cnot",
    "cy": "cy",
    "cz": "cz",
    "ecr": "ecr",
    "h": "h",
    "id": "i",
    "iswap": "iswap",
    "p": "phaseshift",
    "r": "prx",
    "rx": "rx",
    "rxx": "xx",
    "ry": "ry",
    "ryy": "yy",
    "rz": "rz",
    "rzz": "zz",
    "s": "s",
    "sdg": "si",
    "swap": "swap",
    "sx": "v",
    "sxdg": "vi",
    "t": "t",
    "tdg": "ti",
    "x": "x",
    "y": "y",
    "z": "z",
}
"""Qiskit's name to Braket's; both mean the same matrix, with angles and qubits in the same order."""

GATES: Final = frozenset(BRAKET_NAMES)
"""Qiskit's names of the gates that can be written."""

_NOTHING: Final = frozenset({"barrier"})
"""Says something to a transpiler only, and not every device accepts it."""


def write(circuit: QuantumCircuit, measurement: MeasurementMap) -> str:
    """The program; bit k of ``b`` is classical bit ``measurement.written[k]``. All measurements come last.

    Raises:
        CannotRun: it has something that is not a gate of `GATES` or a final measurement; the message names it.
        Bug: ``measurement`` is not of this circuit.
    """
    body, measured = _body(circuit)
    if tuple(sorted(measured.items())) != measurement.measured:
        raise Bug("a measurement map is not of the circuit it came with")
    lines = ["OPENQASM 3.0;", f"qubit[{circuit.num_qubits}] q;", f"bit[{len(measured)}] b;", *body]
    lines += [f"b[{bit}] = measure q[{qubit}];" for bit, qubit in enumerate(measurement.qubits)]
    return "\n".join(lines) + "\n"


def _body(circuit: QuantumCircuit) -> tuple[list[str], dict[int, int]]:
    """The gates' lines, and the qubit behind each classical bit."""
    qubit_of = {qubit: index for index, qubit in enumerate(circuit.qubits)}
    clbit_of = {clbit: index for index, clbit in enumerate(circuit.clbits)}
    body: list[str] = []
    measured: dict[int, int] = {}
    for instruction in circuit.data:
        name = str(instruction.operation.name)
        qubits = [qubit_of[qubit] for qubit in instruction.qubits]
        if name in _NOTHING:
            continue
        if not set(measured.values()).isdisjoint(qubits):
            raise CannotRun(f"Braket measures at the end only; here {name} follows a measurement", reason="mid_circuit")
        if name == "measure":
            measured[clbit_of[instruction.clbits[0]]] = qubits[0]
        else:
            body.append(_line(instruction.operation, name, qubits))
    return body, measured


def _line(operation: Any, name: str, qubits: list[int]) -> str:  # noqa: ANN401 - qiskit ships no types
    if name not in GATES:
        raise CannotRun(f"Braket has no {name[:40]}", reason="unsupported")
    if operation.base_class is not _standard_classes()[name]:
        # Written by its name it would silently become the gate everybody else calls so.
        raise CannotRun(f"the circuit has a gate {name} of its own, and Braket means another one", reason="unsupported")
    angles = ", ".join(_angle(float(parameter)) for parameter in operation.params)
    return f"{BRAKET_NAMES[name]}{f'({angles})' if angles else ''} {', '.join(f'q[{qubit}]' for qubit in qubits)};"


@cache
def _standard_classes() -> dict[str, type]:
    from qiskit.circuit.library import get_standard_gate_name_mapping  # noqa: PLC0415 - only in the sandbox

    standard = get_standard_gate_name_mapping()
    return {name: standard[name].base_class for name in GATES}


def _angle(radians: float) -> str:
    """The shortest text that is read back as the same number, without an exponent: not every parser knows those."""
    if not math.isfinite(radians):
        raise CannotRun("an angle is not a finite number", reason="bad_angle")
    return format(Decimal(repr(radians)), "f")
