"""An adapter as one writes it for the subnet's reference miner: nine methods, plain records, all in memory."""

from __future__ import annotations

import itertools
import time
from types import SimpleNamespace as Record
from typing import Any


class MyQpuAdapter:
    """Its factory takes no argument, it knows no token, and it inherits from nothing."""

    def __init__(self) -> None:
        self._jobs: dict[str, dict[str, Any]] = {}
        self._numbers = itertools.count(1)

    def list_devices(self) -> list[Any]:
        return [Record(device_id="my_qpu", provider="my_qpu", vendor="me", device_type="QPU")]

    def list_capabilities(self) -> list[Any]:
        return [self.get_capability()]

    def get_capability(self, device_id: str | None = None) -> Any:
        del device_id
        return Record(num_qubits=8, basis_gates=["x", "cx"], extras=None)

    def submit(self, circuit_data: str, device_id: str | None = None, shots: int | None = None) -> Any:
        number = f"job_{next(self._numbers)}"
        self._jobs[number] = {"qasm": circuit_data, "shots": shots or 1000, "at": time.monotonic(), "cancelled": False}
        return Record(provider_job_id=number, device_id=device_id or "my_qpu")

    def poll(self, handle: Any) -> Any:
        job = self._jobs.get(handle.provider_job_id)
        if job is None:
            return Record(status="UNKNOWN", eta_seconds=None)
        if job["cancelled"]:
            return Record(status="CANCELLED", eta_seconds=None)
        return Record(status="COMPLETED" if time.monotonic() - job["at"] > 0.1 else "RUNNING", eta_seconds=0)

    def cancel(self, handle: Any) -> None:
        if self.poll(handle).status == "RUNNING":
            self._jobs[handle.provider_job_id]["cancelled"] = True

    def get_job_receipt(self, handle: Any) -> Any:
        job = self._jobs[handle.provider_job_id]
        status = self.poll(handle).status
        return Record(
            provider="my_qpu",
            provider_job_id=handle.provider_job_id,
            status=status,
            device_id=handle.device_id,
            cost=0.01,
            shots=job["shots"],
            timestamps=None,
            results={"measurementCounts": {"010": job["shots"]}} if status == "COMPLETED" else None,
            metadata=None,
        )

    def get_availability(self, device_id: str | None = None) -> Any:
        del device_id
        return Record(availability="ONLINE", pending_jobs=0, is_available=True)

    def get_pricing(self, device_id: str | None = None) -> dict[str, float] | None:
        del device_id
        return {"perTask": 0.01}
