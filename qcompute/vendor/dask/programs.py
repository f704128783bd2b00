"""The programs `dask` sends to its workers: which methods there are, how wide, how much memory one takes."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any, Final, assert_never

from qcompute.circuits.program import CompiledCircuit, JobOptions


class Method(StrEnum):
    """Aer's ways of simulating, by the device that stands for each."""

    AUTOMATIC = "automatic"
    STATEVECTOR = "statevector"
    MPS = "matrix_product_state"
    STABILIZER = "stabilizer"


DEVICES: Final = {
    "dask_automatic": Method.AUTOMATIC,
    "dask_statevector": Method.STATEVECTOR,
    "dask_mps": Method.MPS,
    "dask_stabilizer": Method.STABILIZER,
}
CLIFFORD: Final = frozenset(
    {"h", "s", "sdg", "x", "y", "z", "cx", "cy", "cz", "swap", "id", "sx", "sxdg", "ecr", "iswap", "dcx"}
    | {"measure", "reset", "barrier", "if_else", "delay"}
)
BASIS: Final = ["cx", "cz", "h", "id", "rx", "ry", "rz", "s", "sdg", "swap", "sx", "t", "tdg", "u", "x", "y", "z"]

OVERHEAD_BYTES: Final = 700 << 20
"""Address space of Python, qiskit and Aer before the first amplitude."""
_BYTES_PER_AMPLITUDE: Final = 16
_KIND: Final = "dask"


def payload(circuit: CompiledCircuit, device_id: str, options: JobOptions) -> str:
    """What `submit` is given: the circuit's text and the options, as JSON."""
    job = _job(circuit.source, device_id) | {
        "num_qubits": circuit.num_qubits,
        "seed": options.seed,
        "optimization_level": options.optimization_level,
    }
    return json.dumps({_KIND: job})


def job_of(circuit_data: str, device_id: str) -> dict[str, Any]:
    """Our own payload read again, or plain OpenQASM as an adapter of the reference is given it."""
    if circuit_data.startswith(f'{{"{_KIND}"'):
        return json.loads(circuit_data)[_KIND]
    return _job(circuit_data, device_id)


def max_qubits(method: Method, memory_bytes: int) -> int:
    """The widest circuit that so much memory can hold by this method."""
    match method:
        case Method.AUTOMATIC | Method.STATEVECTOR:
            return max(((memory_bytes - OVERHEAD_BYTES) // _BYTES_PER_AMPLITUDE).bit_length() - 1, 1)
        case Method.MPS:
            return 256
        case Method.STABILIZER:
            return 4096
        case _:
            assert_never(method)


def needed_bytes(job: dict[str, Any], memory_bytes: int) -> int:
    """Memory to keep free for a job on its worker: that of its state, or all it may take when its width does not say.

    ``memory_bytes`` is the limit of one simulation.
    """
    width = job["num_qubits"]
    if Method(job["method"]) not in (Method.AUTOMATIC, Method.STATEVECTOR) or width is None:
        return memory_bytes
    return min(OVERHEAD_BYTES + (_BYTES_PER_AMPLITUDE << width), memory_bytes)


def _job(source: str, device_id: str) -> dict[str, Any]:
    return {
        "source": source,
        "method": DEVICES.get(device_id, Method.AUTOMATIC),
        "noise_backend": None,
        "num_qubits": None,
        "seed": None,
        "optimization_level": None,
    }
