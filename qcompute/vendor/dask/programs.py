"""The programs `dask` sends to its workers: which methods there are, and how much memory one takes."""

from __future__ import annotations

import json
from typing import Any, Final

from qcompute.circuits.program import CompiledCircuit, JobOptions
from qcompute.vendor.aer.methods import Method, statevector_bytes

DEVICES: Final = {
    "dask_automatic": Method.AUTOMATIC,
    "dask_statevector": Method.STATEVECTOR,
    "dask_mps": Method.MATRIX_PRODUCT_STATE,
    "dask_stabilizer": Method.STABILIZER,
}
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


def needed_bytes(job: dict[str, Any], memory_bytes: int) -> int:
    """Memory to keep free for a job on its worker: that of its state, or all it may take when its width does not say.

    ``memory_bytes`` is the limit of one simulation.
    """
    width = job["num_qubits"]
    if Method(job["method"]) not in (Method.AUTOMATIC, Method.STATEVECTOR) or width is None:
        return memory_bytes
    return min(statevector_bytes(width), memory_bytes)


def _job(source: str, device_id: str) -> dict[str, Any]:
    return {
        "source": source,
        "method": DEVICES.get(device_id, Method.AUTOMATIC),
        "noise_backend": None,
        "num_qubits": None,
        "seed": None,
        "optimization_level": None,
    }
