"""Qiskit Aer on a Dask cluster: processes of this machine, hosts reached by ssh, a SLURM cluster, a running scheduler.

Talks to: the scheduler and its workers, through one driver process. Needs: ``pip install 'qcompute[dask]'``, also where
the workers run. Cannot: be a quantum computer; its devices call themselves SIMULATOR. Checked against distributed
2026.8, dask-jobqueue 0.9 and SLURM 22.05; `distributed.SSHCluster` is not used.

Jobs are files in a spool folder, as in the adapter ``aer``: a job's id is its token, and what was not finished when the
daemon, the driver or a worker died runs again, which costs nothing. The daemon imports neither Dask nor numpy
(docs/adr/0015-dask-behind-a-driver-process.md).
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Final

from pydantic import BaseModel
from typing_extensions import override

from qcompute.circuits.program import CompiledCircuit, JobOptions
from qcompute.connections.findings import Finding, Subject, notice
from qcompute.errors import Refused, Unavailable
from qcompute.miner.providers.base import (
    AvailabilityStatus,
    BaseExecutionStatus,
    Capability,
    Device,
    JobHandle,
    JobReceipt,
    KeepingAdapter,
    Limits,
    Prepared,
    ProviderStatus,
    check_width,
)
from qcompute.units import IdempotencyToken
from qcompute.vendor.aer.methods import OVERHEAD_BYTES, basis_gates_of, check_gates, max_qubits
from qcompute.vendor.dask.link import ClusterReport, DriverLink, Message
from qcompute.vendor.dask.programs import DEVICES, job_of, needed_bytes, payload
from qcompute.vendor.dask.settings import ClusterMode, DaskConfig, settled
from qcompute.vendor.dask.spool import Spool
from qcompute.vendor.spooled import job_id_of, timestamps

_FIRST: Final = next(iter(DEVICES))
_START_SECONDS: Final = 20.0
"""Beside ``connect_seconds``: the driver's own start."""
_OF_A_REPLY: Final = ("counts", "method", "seed", "simulation_seconds", "versions")
"""What is taken of a worker's answer; how it ended is not the worker's to say."""


class DaskAdapter(KeepingAdapter):
    """See the module's text."""

    requires: ClassVar[tuple[str, ...]] = ("distributed", "dask_jobqueue", "qiskit_aer")
    extra: ClassVar[str | None] = "dask"
    Config: ClassVar[type[BaseModel] | None] = DaskConfig

    def __init__(self, config: BaseModel | None = None) -> None:
        super().__init__()
        self._config = settled(config if isinstance(config, DaskConfig) else DaskConfig())
        self._spool = Spool(self._config.spool, self._config.keep_days)
        self._lock = threading.Lock()
        self._open: dict[str, ProviderStatus] = {}
        self._link = DriverLink(self._config, self._spool.folder, self._orders, self._hear)

    @override
    def take_jobs(self) -> None:
        self._spool.take()
        unfinished = [job_id for job_id, _ in self._spool.unfinished()]
        with self._lock:
            self._open = dict.fromkeys(unfinished, ProviderStatus.QUEUED)
        if unfinished:
            self._link.start()
        for order in list(self._orders()):  # for a driver that only looked so far; another is told at its start
            self._link.send(order)

    @classmethod
    @override
    def check_settings(cls, config: BaseModel) -> None:
        if isinstance(config, DaskConfig):
            settled(config)

    @override
    def list_devices(self) -> list[Device]:
        return [
            Device(device_id=name, provider="dask", vendor="qiskit-aer", device_type="SIMULATOR") for name in DEVICES
        ]

    @override
    def list_capabilities(self) -> list[Capability]:
        return [capability for name in DEVICES if (capability := self.get_capability(name))]

    @override
    def get_capability(self, device_id: str | None = None) -> Capability | None:
        method = DEVICES.get(device_id or _FIRST)
        if method is None:
            return None
        report = self._report()
        memory = self._largest_simulation(report)
        workers = report.workers if report is not None else ()
        extras = {
            "method": method,
            "memory_bytes": memory,
            "coupling_map": "all to all",
            "cluster": self._config.mode,
            "workers": len(workers),
            "circuits_at_once": sum(worker.cores for worker in workers),
        }
        width = max_qubits(method, memory - OVERHEAD_BYTES) if memory is not None else None
        return Capability(num_qubits=width, basis_gates=basis_gates_of(method), extras=extras)

    @override
    def check(self, circuit: CompiledCircuit, device: Device, shots: int) -> None:
        check_width(circuit, device, self.get_capability(device.device_id))
        check_gates(circuit, DEVICES.get(device.device_id), device.device_id)

    @override
    def prepare(self, circuit: CompiledCircuit, device: Device, shots: int, options: JobOptions) -> Prepared:
        return Prepared(payload=payload(circuit, device.device_id, options), compiled=circuit, options=options)

    @override
    def submit(
        self,
        circuit_data: str,
        device_id: str | None = None,
        shots: int | None = None,
        *,
        token: IdempotencyToken | None = None,
    ) -> JobHandle:
        device = device_id or _FIRST
        if device not in DEVICES:
            raise Refused(f"dask has no device {device[:64]!r}")
        self.begin()
        job_id = job_id_of(token)
        job = job_of(circuit_data, device) | {"device_id": device, "shots": shots or 1024}
        if self._spool.job(job_id) is None:
            self._need_cluster()
            if self._spool.add(job_id, job):
                with self._lock:
                    self._open[job_id] = ProviderStatus.QUEUED
                self._link.send(self._order(job_id, job))
        return JobHandle(provider_job_id=job_id, device_id=device)

    @override
    def cancel(self, handle: JobHandle) -> None:
        self.begin()
        job_id = handle.provider_job_id
        with self._lock:
            word = self._open.get(job_id)
        if word is None:
            return
        self._link.send({"do": "cancel", "job_id": job_id})
        self._end(job_id, {"status": ProviderStatus.CANCELLED, "message": f"cancelled while it was {word.lower()}"})

    @override
    def get_job_receipt(self, handle: JobHandle) -> JobReceipt:
        self.begin()
        job = self._spool.job(handle.provider_job_id) or {}
        result = self._spool.result(handle.provider_job_id) or {}
        if result:
            self._spool.mark_fetched(handle.provider_job_id)
        status = ProviderStatus(self.status_of(handle.provider_job_id).status)
        counts = result.get("counts")
        metadata = {name: result.get(name) for name in ("message", *_OF_A_REPLY[1:])}
        return JobReceipt(
            provider="dask",
            provider_job_id=handle.provider_job_id,
            status=status,
            device_id=handle.device_id,
            cost=self._cost(job) if status is ProviderStatus.COMPLETED else 0.0,
            shots=job.get("shots"),
            timestamps=timestamps(job, result),
            results={"measurementCounts": counts} if counts is not None else None,
            metadata={"currency": "USD", "counts_source": "measured"} | metadata,
        )

    @override
    def get_availability(self, device_id: str | None = None) -> AvailabilityStatus | None:
        if (device_id or _FIRST) not in DEVICES:
            return None
        if self._is_anothers():
            return AvailabilityStatus(status_msg="another process has its spool and its cluster: ask that miner")
        report = self._asked()
        up = report is not None and report.up
        with self._lock:
            pending = len(self._open)
        return AvailabilityStatus(
            availability="ONLINE" if up else "OFFLINE",
            pending_jobs=pending,
            is_available=up,
            status_msg=report.note if report is not None else "the cluster has not answered yet",
        )

    @override
    def check_connection(self) -> Iterable[Finding]:
        yield from super().check_connection()
        if self._is_anothers():
            fix = "ask that miner: qcompute devices"
            yield notice(Subject.REACHABLE, "a running miner has this cluster, so it was not asked here", fix)

    @override
    def get_pricing(self, device_id: str | None = None) -> dict[str, float] | None:
        return {"perTask": self._config.price_per_task, "perShot": self._config.price_per_shot, "perMinute": 0.0}

    @override
    def limits(self) -> Limits:
        return Limits(max_poll_batch=1000, max_running_jobs=self._config.capacity, poll_interval_seconds=0.2)

    @override
    def close(self) -> None:
        self._link.close()
        self._spool.release()

    def _is_anothers(self) -> bool:
        """Whether a driver of ours would be a second one beside another process's, with workers of its own."""
        return not self.has_jobs and self._spool.is_elsewhere()

    def _asked(self) -> ClusterReport | None:
        """What the cluster says; waits for its first word. None when it says none in time."""
        self._spool.folder.mkdir(parents=True, exist_ok=True)  # the driver's log is there
        self._link.start()
        return self._link.report(self._config.connect_seconds + _START_SECONDS)

    def _need_cluster(self) -> None:
        """Raise `Unavailable` when no worker can be had; waits for the first word of the cluster."""
        report = self._asked()
        if report is None:
            raise Unavailable("the cluster has not answered yet (providers.dask.connect_seconds)")
        if not report.up:
            raise Unavailable(f"the cluster is not available: {report.note}")

    def _orders(self) -> Iterator[Message]:
        """All that a new driver must be told: every unfinished job."""
        with self._lock:
            unfinished = list(self._open)
        for job_id in unfinished:
            if (job := self._spool.job(job_id)) is not None:
                yield self._order(job_id, job)

    def _order(self, job_id: str, job: dict[str, Any]) -> Message:
        memory = self._config.memory_bytes
        names = ("source", "method", "noise_backend", "seed", "optimization_level", "shots")
        request = {"task": "simulate", "max_memory_mb": (memory - OVERHEAD_BYTES) >> 20}
        return {
            "do": "run",
            "job_id": job_id,
            "request": request | {name: job[name] for name in names},
            "limits": {
                "memory_bytes": memory,
                "cpu_seconds": self._config.cpu_seconds,
                "wall_seconds": self._config.wall_seconds,
            },
            "memory_bytes": needed_bytes(job, memory),
        }

    def _hear(self, message: Message) -> None:
        """What the driver says of a job, on the link's thread."""
        job_id = message["job_id"]
        if message["is"] == "started":
            with self._lock:
                if job_id in self._open:
                    self._open[job_id] = ProviderStatus.RUNNING
            return
        answer = message["answer"]
        times = {name: float(answer[name]) for name in ("started", "ended") if name in answer}
        if "reply" in answer:
            result = {"status": ProviderStatus.COMPLETED} | {name: answer["reply"].get(name) for name in _OF_A_REPLY}
        elif "refusal" in answer:
            result = {"status": ProviderStatus.FAILED, "message": str(answer["refusal"])}
        else:
            result = {"status": ProviderStatus.CANCELLED, "message": "cancelled"}
        self._end(job_id, result | times)

    def _end(self, job_id: str, result: dict[str, Any]) -> None:
        self._spool.end(job_id, result)
        with self._lock:
            self._open.pop(job_id, None)
        self.tell_end(job_id)
        self._spool.remove_old()

    @override
    def device_of(self, job_id: str) -> str | None:
        job = self._spool.job(job_id)
        return None if job is None else job["device_id"]

    @override
    def status_of(self, job_id: str) -> BaseExecutionStatus:
        # Before the files: a job that ends between the two looks is then seen as ended.
        with self._lock:
            word = self._open.get(job_id)
        result = self._spool.result(job_id)
        if result is not None:
            return BaseExecutionStatus(status=result["status"], message=result.get("message"))
        if word is None:
            text = "the spool of dask has no such job"
            return BaseExecutionStatus(status=ProviderStatus.UNKNOWN, message=text, is_lost=True)
        report = self._link.report()
        if report is not None and not report.up:
            return BaseExecutionStatus(status=ProviderStatus.QUEUED, message=f"waits for the cluster: {report.note}")
        return BaseExecutionStatus(status=word)

    def _report(self) -> ClusterReport | None:
        """What is known of the cluster; of a running scheduler nothing is before it was asked."""
        if self._config.mode is ClusterMode.SCHEDULER and not self._is_anothers():
            return self._asked()
        return self._link.report()

    def _largest_simulation(self, report: ClusterReport | None) -> int | None:
        """Memory that one simulation may take on the best worker; None when no worker is known."""
        if report is not None and report.workers:
            return min(self._config.memory_bytes, max(worker.memory_bytes for worker in report.workers))
        if self._config.mode is ClusterMode.SCHEDULER:
            return None
        return min(self._config.memory_bytes, self._config.worker_memory_bytes)

    def _cost(self, job: dict[str, Any]) -> float:
        return self._config.price_per_task + self._config.price_per_shot * int(job.get("shots", 0))
