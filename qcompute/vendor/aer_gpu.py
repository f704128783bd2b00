"""Whether Aer really runs on this machine's GPU: two qubits are simulated there, in a child, and the reply is checked.

No list of devices or libraries is believed: a build of Aer for GPUs starts without a driver, and a driver without Aer's
build is of no use.
"""

from __future__ import annotations

import importlib.util
import threading
import time
from typing import Final

from qcompute.circuits.sandbox import SandboxLimits, SandboxPool
from qcompute.errors import CannotRun, SandboxUnavailable
from qcompute.vendor.aer.methods import Method
from qcompute.vendor.aer.settings import AerConfig, Processor

CUSTATEVEC: Final = "custatevec"
"""The method ``statevector``, by cuQuantum's cuStateVec."""

REFUSAL_SECONDS: Final = 300.0
"""So long a refusal stands before the GPU is asked again: a driver may have come back. Success stands for ever."""

CUDA_ENVIRONMENT: Final = {"CUDA_CACHE_DISABLE": "1"}
"""Of a child that uses a GPU: the cache would be a file, and a sandbox writes none."""

_WALL_SECONDS: Final = 120.0
_MEMORY_BYTES: Final = 4 << 30

_lock: Final = threading.Lock()
_known: Final[dict[str, tuple[str | None, float]]] = {}


def probe_gpu(method: str) -> str | None:
    """None when a circuit of two qubits ran on the GPU by ``method``, else the reason in words.

    ``method`` is a word of `Method`, or `CUSTATEVEC`. Blocks for seconds the first time; the answer is kept.
    """
    if method != CUSTATEVEC and method not in list(Method):
        return f"Aer has no method {method[:64]!r}"
    with _lock:
        known = _known.get(method)
        if known is None or (known[0] is not None and time.monotonic() > known[1]):
            known = _asked(method), time.monotonic() + REFUSAL_SECONDS
            _known[method] = known
        return known[0]


def probed(config: AerConfig, method: Method) -> str:
    """What `probe_gpu` is asked for a method of these settings."""
    return CUSTATEVEC if config.custatevec and method is Method.STATEVECTOR else str(method)


def why_no_gpu(config: AerConfig) -> str | None:
    """Why no method of these settings runs on the GPU, by the first of them; None when one does, or none is to.

    Blocks as `probe_gpu` does.
    """
    if config.device is Processor.CPU:
        return None
    reasons = [probe_gpu(probed(config, method)) for method in config.methods_offered]
    return None if None in reasons else reasons[0]


def _asked(method: str) -> str | None:
    if importlib.util.find_spec("qiskit_aer") is None:
        return "qiskit-aer is not installed: pip install qiskit-aer-gpu"
    custatevec = method == CUSTATEVEC
    request = {
        "task": "probe",
        "method": str(Method.STATEVECTOR if custatevec else method),
        "custatevec": custatevec,
    }
    limits = SandboxLimits(
        memory_bytes=_MEMORY_BYTES,
        cpu_seconds=_WALL_SECONDS,
        wall_seconds=_WALL_SECONDS,
        open_files=256,
        counts_address_space=False,
    )
    pool = SandboxPool(
        "qcompute.vendor.aer.child:work", limits=limits, size=1, name="probe the GPU", environment=CUDA_ENVIRONMENT
    )
    try:
        return pool.call(request)["reason"]
    except (CannotRun, SandboxUnavailable) as error:
        return error.message
    finally:
        pool.close()
