"""One circuit on one device of an adapter, the way the daemon does it: compiled, checked, submitted, polled, fetched.

For programs that use a cluster as a library. There is no ledger here: a program that ends while it waits loses the
result, and what it cost.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from functools import cache
from typing import Any, Final

from qcompute.circuits.compiler import CircuitCompiler
from qcompute.circuits.counts import normalize_counts
from qcompute.circuits.program import JobOptions
from qcompute.circuits.settings import CircuitSettings
from qcompute.errors import BadReply, Refused, VendorError
from qcompute.miner.providers.base import (
    BaseExecutionStatus,
    Capability,
    JobHandle,
    Prepared,
    ProviderAdapter,
    ProviderStatus,
    check_width,
    submit_takes,
)
from qcompute.units import Counts, IdempotencyToken

UNKNOWN_SECONDS: Final = 60.0
"""So long a status nobody understands is put up with."""


def run_circuit(
    adapter: ProviderAdapter, device_id: str, circuit: object, shots: int, *, max_qubits: int | None = None
) -> Counts:
    """Counts of ``shots`` runs of ``circuit``, a Qiskit ``QuantumCircuit`` or an OpenQASM text. Blocks until it ends.

    ``max_qubits`` is the operator's own limit, beside that of the device.

    Raises:
        CannotRun: the device cannot run it; the message names the limit.
        VendorError: the vendor refused, failed or cannot be reached, or the job did not complete; nothing else ever
            runs in its place.
    """
    device = next((one for one in adapter.list_devices() if one.device_id == device_id), None)
    if device is None:
        raise Refused(f"this account has no device {device_id!r}")
    options = JobOptions()
    compiled = _compiler().compile(circuit if isinstance(circuit, str) else _text_of(circuit))
    if max_qubits is not None:
        check_width(compiled, device, Capability(num_qubits=max_qubits))
    adapter.check(compiled, device, shots)
    target = adapter.target(device, options)
    if target is not None:
        compiled = _compiler().translate(compiled, target, None)
    prepared = adapter.prepare(compiled, device, shots, options)
    handle = _submitted(adapter, prepared, device_id, shots)
    handle = handle.model_copy(update={"measurement": prepared.measurement})
    status = _ended(adapter, handle)
    receipt = adapter.get_job_receipt(handle)
    if ProviderStatus.of(status.status) is not ProviderStatus.COMPLETED:
        told = status.message or (receipt.metadata or {}).get("message") or "no reason was given"
        raise VendorError(f"{device_id} says {status.status} of job {handle.provider_job_id}: {told}")
    counts = (receipt.results or {}).get("measurementCounts")
    return normalize_counts(counts, shots=shots, num_clbits=compiled.num_clbits)


def _submitted(adapter: ProviderAdapter, prepared: Prepared, device_id: str, shots: int) -> JobHandle:
    token = IdempotencyToken(str(uuid.uuid4()))
    if adapter.limits().max_pack > 1:
        return adapter.submit_many([prepared], device_id, shots, token=token)[0]
    offered: dict[str, Any] = {"token": token, "options": prepared.options}
    submit: Callable[..., JobHandle] = adapter.submit
    return submit(prepared.payload, device_id, shots, **{name: offered[name] for name in submit_takes(adapter)})


def _ended(adapter: ProviderAdapter, handle: JobHandle) -> BaseExecutionStatus:
    pause = adapter.limits().poll_interval_seconds
    unknown_since: float | None = None
    while True:
        status = adapter.poll(handle)
        word = ProviderStatus.of(status.status)
        if word.is_terminal:
            return status
        if word is not ProviderStatus.UNKNOWN:
            unknown_since = None
        elif time.monotonic() - (unknown_since := unknown_since or time.monotonic()) > UNKNOWN_SECONDS:
            raise BadReply(
                f"job {handle.provider_job_id} is unknown: {status.message or status.status}", field="status"
            )
        time.sleep(pause)


def _text_of(circuit: object) -> str:
    from qiskit import qasm3  # noqa: PLC0415 - only in the process of whoever made the circuit with it

    return qasm3.dumps(circuit)  # pyright: ignore[reportUnknownMemberType]


@cache
def _compiler() -> CircuitCompiler:
    return CircuitCompiler(CircuitSettings())
