"""Aer's ways of simulating: how wide a circuit each takes, in how much memory, of which gates. Imports no qiskit."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from qcompute.circuits.program import CompiledCircuit
from qcompute.errors import CannotRun

OVERHEAD_BYTES: Final = 700 << 20
"""Address space of python, qiskit and Aer before the first amplitude."""

BYTES_PER_AMPLITUDE: Final = 16

LEAST_BYTES: Final = 2 << 30
"""Address space that a simulation is given in any case."""


class Method(StrEnum):
    """Aer's simulation methods, in Aer's words."""

    AUTOMATIC = "automatic"
    STATEVECTOR = "statevector"
    MATRIX_PRODUCT_STATE = "matrix_product_state"
    STABILIZER = "stabilizer"
    DENSITY_MATRIX = "density_matrix"
    TENSOR_NETWORK = "tensor_network"


_WIDE_METHOD_QUBITS: Final = {
    Method.MATRIX_PRODUCT_STATE: 256,
    Method.STABILIZER: 4096,
    Method.TENSOR_NETWORK: 256,
}
"""Qubits of the methods whose memory does not double with each."""

CLIFFORD: Final = frozenset(
    {"h", "s", "sdg", "x", "y", "z", "cx", "cy", "cz", "swap", "id", "sx", "sxdg", "ecr", "iswap", "dcx"}
    | {"measure", "reset", "barrier", "if_else", "delay"}
)
BASIS: Final = ["cx", "cz", "h", "id", "rx", "ry", "rz", "s", "sdg", "swap", "sx", "t", "tdg", "u", "x", "y", "z"]


def basis_gates_of(method: Method) -> list[str]:
    """The gates of its devices, as they are advertised; on the way there Qiskit makes more of them."""
    return [gate for gate in BASIS if method is not Method.STABILIZER or gate in CLIFFORD]


def max_qubits(method: Method, amplitude_bytes: int) -> int:
    """The widest circuit that so much memory can hold by this method; 1 where it holds none."""
    if method in _WIDE_METHOD_QUBITS:
        return _WIDE_METHOD_QUBITS[method]
    qubits = max(amplitude_bytes // BYTES_PER_AMPLITUDE, 2).bit_length() - 1
    return max(qubits // 2, 1) if method is Method.DENSITY_MATRIX else qubits


def statevector_bytes(qubits: int) -> int:
    """Address space of a process that holds a state vector."""
    return OVERHEAD_BYTES + (BYTES_PER_AMPLITUDE << qubits)


def check_gates(circuit: CompiledCircuit, method: Method | None, device_id: str) -> None:
    """Raise `CannotRun` for gates that the method of a device does not know."""
    foreign = sorted(circuit.gate_counts.keys() - CLIFFORD) if method is Method.STABILIZER else []
    if foreign:
        text = f"{device_id} runs Clifford gates only, the circuit has {', '.join(foreign[:5])}"
        raise CannotRun(text, reason="gate_set")
