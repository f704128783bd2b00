"""IonQ's JSON gates (``ionq.circuit.v1``, gate set ``qis``), as IonQ's targets of Azure take them. Runs in the sandbox.

Qubit k of the circuit is IonQ's qubit k. Nothing is measured: the vendor reports all qubits, and the measurement map
says which of them the circuit read. Angles are radians. Names are those of azure-quantum 3.13's own translation
(``azure/quantum/qiskit/backends/_qiskit_ionq.py``), each with the one unitary Qiskit's gate has.
"""

# qiskit ships no types
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Final

from qcompute.circuits.measurement import MeasurementMap
from qcompute.errors import CannotRun

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

_PLAIN: Final = {
    "x": "x", "y": "y", "z": "z", "h": "h", "s": "s", "sdg": "si", "t": "t", "tdg": "ti", "sx": "v", "sxdg": "vi",
}  # fmt: skip
_ROTATIONS: Final = {"rx": "rx", "ry": "ry", "rz": "rz"}
_PAIRS: Final = {"swap": "swap", "rzz": "zz"}

GATES: Final = frozenset(("id", "cx", *_PLAIN, *_ROTATIONS, *_PAIRS))
"""What can be written, in Qiskit's names."""


def write(circuit: QuantumCircuit, measurement: MeasurementMap) -> str:
    """The circuit as JSON text; the same text for the same circuit.

    Identities and barriers are left out, which changes no outcome. ``measurement`` goes beside the job, not into it.

    Raises:
        CannotRun: a gate IonQ's JSON has no word for, a reset, a condition, or anything done to a qubit that was
            measured.
    """
    del measurement
    number = {bit: index for index, bit in enumerate(circuit.qubits)}
    measured: set[int] = set()
    gates: list[dict[str, Any]] = []
    for instruction in circuit.data:
        name = instruction.operation.name
        on = [number[bit] for bit in instruction.qubits]
        if name == "barrier":
            continue
        if measured.intersection(on):
            raise CannotRun(
                f"{name} on qubit {on[0]} follows a measurement, which IonQ's JSON cannot say", reason="mid_circuit"
            )
        if name == "measure":
            measured.update(on)
        elif name != "id":
            gates.append(_gate(name, on, [_angle(name, value) for value in instruction.operation.params]))
    return json.dumps({"gateset": "qis", "qubits": circuit.num_qubits, "circuit": gates}, separators=(",", ":"))


def _gate(name: str, on: list[int], angles: list[float]) -> dict[str, Any]:
    if name == "cx":
        return {"gate": "cnot", "control": on[0], "target": on[1]}
    if name in _PLAIN:
        return {"gate": _PLAIN[name], "target": on[0]}
    if name in _ROTATIONS:
        return {"gate": _ROTATIONS[name], "target": on[0], "rotation": angles[0]}
    if name in _PAIRS:
        return {"gate": _PAIRS[name], "targets": on} | ({"rotation": angles[0]} if angles else {})
    raise CannotRun(f"IonQ's JSON has no word for {name[:40]!r}", reason="unsupported")


def _angle(name: str, value: Any) -> float:  # noqa: ANN401 - a number, or qiskit's expression of one
    if name not in GATES:
        return 0.0  # refused by name a moment later
    try:
        angle = float(value)
    except (TypeError, ValueError, RuntimeError):
        angle = math.nan
    if not math.isfinite(angle):
        raise CannotRun(f"an angle of {name} is not a number", reason="free_parameter")
    return angle
