"""Qiskit Aer on this machine: exact and noisy simulation in sandboxed child processes.

Talks to: nothing outside this machine. Needs: ``pip install 'qcompute[aer]'``. Cannot: be a quantum computer; its
devices call themselves SIMULATOR. Methods: statevector, matrix product state, stabilizer, automatic choice, and noise
models of IBM's fake backends by name. Checked against qiskit-aer 0.18 and qiskit-ibm-runtime 0.51.

Jobs are files in a spool folder: a job's id is its token, so submitting twice is submitting once, and what was not
finished when the daemon died runs again when it is back. The daemon itself imports nothing of qiskit.
"""

# qiskit ships no types
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import json
import logging
import os
import queue
import re
import threading
import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Final

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import override

from qcompute.circuits.program import CompiledCircuit, JobOptions
from qcompute.circuits.sandbox import SandboxCancelled, SandboxLimits, SandboxPool
from qcompute.errors import CannotRun, Refused, SandboxUnavailable, Unavailable
from qcompute.miner.providers.base import (
    Absent,
    AvailabilityStatus,
    BaseExecutionStatus,
    CannotTell,
    Capability,
    Device,
    Found,
    Idempotency,
    JobHandle,
    JobReceipt,
    Limits,
    Prepared,
    ProviderAdapter,
    ProviderStatus,
    check_width,
)
from qcompute.units import IdempotencyToken

_log = logging.getLogger(__name__)

_METHODS: Final = {
    "aer_automatic": "automatic",
    "aer_statevector": "statevector",
    "aer_mps": "matrix_product_state",
    "aer_stabilizer": "stabilizer",
}
_CLIFFORD: Final = frozenset(
    {"h", "s", "sdg", "x", "y", "z", "cx", "cy", "cz", "swap", "id", "sx", "sxdg", "ecr", "iswap", "dcx"}
    | {"measure", "reset", "barrier", "if_else", "delay"}
)
_BASIS: Final = ["cx", "cz", "h", "id", "rx", "ry", "rz", "s", "sdg", "swap", "sx", "t", "tdg", "u", "x", "y", "z"]
_JOB_ID: Final = re.compile(r"[A-Za-z0-9-]{1,64}")
_BYTES_PER_AMPLITUDE: Final = 16
_OVERHEAD_BYTES: Final = 700 << 20
"""Address space of python, qiskit and Aer before the first amplitude."""
_WIDE_METHOD_QUBITS: Final = {"matrix_product_state": 256, "stabilizer": 4096}


class AerConfig(BaseModel):
    """How much of this machine simulations may use."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    processes: int = Field(default=1, ge=1)
    """Simulations at once; each is a process."""
    memory_bytes: int = Field(default=4 << 30, ge=1 << 30)
    """Address space of one simulation: 4 GiB hold a statevector of 27 qubits."""
    wall_seconds: float = Field(default=600.0, gt=0)
    """The longest one simulation may take; longer ones fail and say so."""
    cpu_seconds: float = Field(default=600.0, gt=0)
    """CPU time of one simulation."""
    idle_seconds: float = Field(default=120.0, gt=0)
    """A simulation process without work ends after this."""
    spool: Path = Path("~/.qcompute/aer")
    """Where jobs and results lie until they are ``keep_days`` old. The daemon sets it to ``aer`` in the miner's own
    folder unless told otherwise; two miners must not share one."""
    keep_days: float = Field(default=3.0, gt=0)
    """Results are fetched and stored at once; this is for looking at them by hand."""
    noise_backends: tuple[str, ...] = ()
    """IBM fake backends offered as noisy devices, by name: ``fake_manila``, ``fake_torino`` …"""
    price_per_task: float = Field(default=0.0, ge=0)
    """USD charged per job."""
    price_per_shot: float = Field(default=0.0, ge=0)
    """USD charged per shot."""


class AerAdapter(ProviderAdapter):
    """See the module's text."""

    requires: ClassVar[tuple[str, ...]] = ("qiskit_aer",)
    extra: ClassVar[str | None] = "aer"
    idempotency: ClassVar[Idempotency] = Idempotency.CLIENT_ID
    Config: ClassVar[type[BaseModel] | None] = AerConfig

    def __init__(self, config: BaseModel | None = None) -> None:
        self._config = config if isinstance(config, AerConfig) else AerConfig()
        self._spool = self._config.spool.expanduser()
        self._spool.mkdir(parents=True, exist_ok=True)
        limits = SandboxLimits(
            memory_bytes=self._config.memory_bytes,
            cpu_seconds=self._config.cpu_seconds,
            wall_seconds=self._config.wall_seconds,
            max_reply_bytes=64 << 20,
        )
        self._pool = SandboxPool(
            "qcompute.miner.providers.aer:work",
            limits=limits,
            size=self._config.processes,
            idle_seconds=self._config.idle_seconds,
            name="simulate",
        )
        self._lock = threading.Lock()
        self._cancels: dict[str, threading.Event] = {}
        self._running: set[str] = set()
        self._waiting: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._unsaved: dict[str, dict[str, Any]] = {}
        self._described: dict[str, dict[str, Any]] = {}
        self._closed = False
        self._recover()
        self._workers = [
            threading.Thread(target=self._work, name=f"aer-{number}", daemon=True)
            for number in range(self._config.processes)
        ]
        for worker in self._workers:
            worker.start()

    @override
    def list_devices(self) -> list[Device]:
        names = [*_METHODS, *(f"aer_{name}" for name in self._config.noise_backends)]
        return [Device(device_id=name, provider="aer", vendor="qiskit-aer", device_type="SIMULATOR") for name in names]

    @override
    def list_capabilities(self) -> list[Capability]:
        return [capability for device in self.list_devices() if (capability := self.get_capability(device.device_id))]

    @override
    def get_capability(self, device_id: str | None = None) -> Capability | None:
        name = device_id or next(iter(_METHODS))
        if (method := _METHODS.get(name)) is not None:
            extras = {"method": method, "memory_bytes": self._config.memory_bytes, "coupling_map": "all to all"}
            return Capability(num_qubits=self._max_qubits(method), basis_gates=_BASIS, extras=extras)
        if name.removeprefix("aer_") in self._config.noise_backends:
            facts = self._describe(name.removeprefix("aer_"))
            return Capability(num_qubits=facts["num_qubits"], basis_gates=facts["basis_gates"], extras=facts["extras"])
        return None

    @override
    def check(self, circuit: CompiledCircuit, device: Device, shots: int) -> None:
        check_width(circuit, device, self.get_capability(device.device_id))
        if _METHODS.get(device.device_id) == "stabilizer" and (
            foreign := sorted(circuit.gate_counts.keys() - _CLIFFORD)
        ):
            raise CannotRun(
                f"{device.device_id} runs Clifford gates only, the circuit has {', '.join(foreign[:5])}",
                reason="gate_set",
            )

    @override
    def prepare(self, circuit: CompiledCircuit, device: Device, shots: int, options: JobOptions) -> Prepared:
        method = _METHODS.get(device.device_id)
        job = {
            "source": circuit.source,
            "method": method or "automatic",
            "noise_backend": None if method else device.device_id.removeprefix("aer_"),
            "seed": options.seed,
            "optimization_level": options.optimization_level,
        }
        return Prepared(payload=json.dumps({"aer": job}), compiled=circuit, options=options)

    @override
    def submit(
        self,
        circuit_data: str,
        device_id: str | None = None,
        shots: int | None = None,
        *,
        token: IdempotencyToken | None = None,
    ) -> JobHandle:
        device = device_id or next(iter(_METHODS))
        if device not in [known.device_id for known in self.list_devices()]:
            raise Refused(f"aer has no device {device[:64]!r}")
        job_id = token or str(uuid.uuid4())
        if not _JOB_ID.fullmatch(job_id):
            raise Refused("a token must be 1 to 64 characters of A-Z a-z 0-9 -")
        job = _job_of(circuit_data, device)
        file = self._spool / f"{job_id}.job.json"
        with self._lock:
            if not file.exists():
                document = job | {"device_id": device, "shots": shots or 1024, "created": time.time()}
                try:
                    _write_atomically(file, document)
                except OSError as error:
                    raise Unavailable(f"aer's spool cannot be written: {error.strerror}") from None
                self._enqueue(job_id)
        return JobHandle(provider_job_id=job_id, device_id=device)

    @override
    def find(self, token: IdempotencyToken, since: datetime) -> Found | Absent | CannotTell:
        del since  # a file name is exact
        job = _read(self._spool / f"{token}.job.json") if _JOB_ID.fullmatch(token) else None
        if job is None:
            return Absent()
        return Found(handles=[JobHandle(provider_job_id=token, device_id=job["device_id"])])

    @override
    def poll(self, handle: JobHandle) -> BaseExecutionStatus:
        return self.poll_many([handle])[0]

    @override
    def poll_many(self, handles: Sequence[JobHandle]) -> list[BaseExecutionStatus]:
        return [self._status(handle.provider_job_id) for handle in handles]

    @override
    def cancel(self, handle: JobHandle) -> None:
        job_id = handle.provider_job_id
        with self._lock:
            event = self._cancels.get(job_id)
            if event is not None:
                event.set()
            if event is None or job_id in self._running:
                return  # it has ended, or its worker will write how it ended
        self._end(job_id, {"status": ProviderStatus.CANCELLED, "message": "cancelled before it started"})

    @override
    def get_job_receipt(self, handle: JobHandle) -> JobReceipt:
        job = self._job(handle.provider_job_id) or {}
        result = self._result(handle.provider_job_id)
        status = ProviderStatus(self._status(handle.provider_job_id).status)
        counts = result.get("counts") if result else None
        return JobReceipt(
            provider="aer",
            provider_job_id=handle.provider_job_id,
            status=status,
            device_id=handle.device_id,
            cost=self._cost(job) if status is ProviderStatus.COMPLETED else 0.0,
            shots=job.get("shots"),
            timestamps=_timestamps(job, result or {}),
            results={"measurementCounts": counts} if counts is not None else None,
            metadata={
                "currency": "USD",
                "counts_source": "measured",
                "message": (result or {}).get("message"),
                "method": (result or {}).get("method"),
                "seed": (result or {}).get("seed"),
                "noise_backend": job.get("noise_backend"),
                "versions": (result or {}).get("versions"),
            },
        )

    @override
    def get_availability(self, device_id: str | None = None) -> AvailabilityStatus | None:
        name = device_id or next(iter(_METHODS))
        if name not in [device.device_id for device in self.list_devices()]:
            return None
        with self._lock:
            pending = len(self._cancels)
        return AvailabilityStatus(
            availability="ONLINE", pending_jobs=pending, is_available=True, status_msg="simulator on this machine"
        )

    @override
    def get_pricing(self, device_id: str | None = None) -> dict[str, float] | None:
        return {"perTask": self._config.price_per_task, "perShot": self._config.price_per_shot, "perMinute": 0.0}

    @override
    def limits(self) -> Limits:
        return Limits(max_poll_batch=1000, max_running_jobs=self._config.processes, poll_interval_seconds=0.2)

    @override
    def close(self) -> None:
        self._closed = True
        for _ in self._workers:
            self._waiting.put(None)
        self._pool.close()

    def _work(self) -> None:
        while (job_id := self._waiting.get()) is not None:
            event = self._cancels.get(job_id)
            job = self._job(job_id)
            if event is None or job is None or self._result(job_id) is not None:
                continue
            with self._lock:
                self._running.add(job_id)
            try:
                result = self._simulate(job, event)
            except SandboxUnavailable:
                if self._closed:
                    return  # the job file stays: the next start runs it
                result = {"status": ProviderStatus.FAILED, "message": "no process could be started to simulate it"}
            self._end(job_id, result)

    def _simulate(self, job: dict[str, Any], cancel: threading.Event) -> dict[str, Any]:
        began = time.time()
        request = {"task": "simulate", "max_memory_mb": (self._config.memory_bytes - _OVERHEAD_BYTES) >> 20} | job
        try:
            answer = self._pool.call(request, cancel=cancel)
        except SandboxCancelled:
            answer = {"status": ProviderStatus.CANCELLED, "message": "cancelled while it ran"}
        except CannotRun as refusal:
            answer = {"status": ProviderStatus.FAILED, "message": refusal.message}
        return {"status": ProviderStatus.COMPLETED, "started": began, "ended": time.time()} | answer

    def _end(self, job_id: str, result: dict[str, Any]) -> None:
        result = {"ended": time.time()} | result
        try:
            _write_atomically(self._spool / f"{job_id}.result.json", result)
        except OSError as error:
            # Answered from memory while this process lives; the next one simulates again.
            _log.error("a result cannot be written: %s", error.strerror, extra={"action": "aer_result"})
            self._unsaved[job_id] = result
        with self._lock:
            self._running.discard(job_id)
            self._cancels.pop(job_id, None)

    def _enqueue(self, job_id: str) -> None:
        self._cancels[job_id] = threading.Event()
        self._waiting.put(job_id)

    def _recover(self) -> None:
        """Run what a dead daemon left unfinished, in its order, and remove what is old."""
        too_old = time.time() - self._config.keep_days * 86400
        unfinished: list[tuple[float, str]] = []
        for file in self._spool.glob("*.job.json"):
            job_id = file.name.removesuffix(".job.json")
            job, done = self._job(job_id), (self._spool / f"{job_id}.result.json").exists()
            if job is None or (done and job["created"] < too_old):
                file.unlink(missing_ok=True)
                (self._spool / f"{job_id}.result.json").unlink(missing_ok=True)
            elif not done:
                unfinished.append((job["created"], job_id))
        for _, job_id in sorted(unfinished):
            self._enqueue(job_id)

    def _status(self, job_id: str) -> BaseExecutionStatus:
        result = self._result(job_id)
        if result is not None:
            return BaseExecutionStatus(status=result["status"], message=result.get("message"))
        with self._lock:
            if job_id in self._running:
                return BaseExecutionStatus(status=ProviderStatus.RUNNING)
            if job_id in self._cancels:
                return BaseExecutionStatus(status=ProviderStatus.QUEUED)
        # It may have ended between the two looks.
        result = self._result(job_id)
        if result is not None:
            return BaseExecutionStatus(status=result["status"], message=result.get("message"))
        return BaseExecutionStatus(status=ProviderStatus.UNKNOWN, message="aer's spool has no such job")

    def _job(self, job_id: str) -> dict[str, Any] | None:
        return _read(self._spool / f"{job_id}.job.json") if _JOB_ID.fullmatch(job_id) else None

    def _result(self, job_id: str) -> dict[str, Any] | None:
        if (unsaved := self._unsaved.get(job_id)) is not None:
            return unsaved
        return _read(self._spool / f"{job_id}.result.json") if _JOB_ID.fullmatch(job_id) else None

    def _cost(self, job: dict[str, Any]) -> float:
        return self._config.price_per_task + self._config.price_per_shot * int(job.get("shots", 0))

    def _max_qubits(self, method: str) -> int:
        if method in _WIDE_METHOD_QUBITS:
            return _WIDE_METHOD_QUBITS[method]
        amplitudes = (self._config.memory_bytes - _OVERHEAD_BYTES) // _BYTES_PER_AMPLITUDE
        return amplitudes.bit_length() - 1

    def _describe(self, backend: str) -> dict[str, Any]:
        if backend not in self._described:
            self._described[backend] = self._pool.call({"task": "describe", "noise_backend": backend})
        return self._described[backend]


def _job_of(circuit_data: str, device: str) -> dict[str, Any]:
    """Our own payload, or plain OpenQASM as an adapter of the reference is given it."""
    if circuit_data.startswith('{"aer"'):
        return json.loads(circuit_data)["aer"]
    method = _METHODS.get(device)
    noise = None if method else device.removeprefix("aer_")
    return {
        "source": circuit_data,
        "method": method or "automatic",
        "noise_backend": noise,
        "seed": None,
        "optimization_level": None,
    }


def _timestamps(job: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    moments = {"createdAt": job.get("created"), "startedAt": result.get("started"), "endedAt": result.get("ended")}
    times: dict[str, Any] = {
        name: datetime.fromtimestamp(moment, UTC).isoformat() for name, moment in moments.items() if moment
    }
    if result.get("started") and result.get("ended"):
        times["executionDuration"] = round(result["ended"] - result["started"], 6)
    return times


def _write_atomically(file: Path, document: dict[str, Any]) -> None:
    partial = file.with_suffix(".partial")
    with partial.open("w", encoding="utf-8") as stream:
        json.dump(document, stream)
        stream.flush()
        os.fsync(stream.fileno())  # a job we acknowledged must outlive a power cut too
    partial.replace(file)


def _read(file: Path) -> dict[str, Any] | None:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


# ---- the child's side: from here on qiskit may be imported ----


def work(request: dict[str, Any]) -> dict[str, Any]:
    """Sandbox entry: ``task`` is ``simulate`` or ``describe``."""
    return _describe_backend(request["noise_backend"]) if request["task"] == "describe" else _simulate(request)


def _simulate(request: dict[str, Any]) -> dict[str, Any]:
    import qiskit  # noqa: PLC0415 - only in the sandbox
    import qiskit_aer  # noqa: PLC0415

    from qcompute.circuits.parse import load_program  # noqa: PLC0415

    circuit = load_program(request["source"])
    simulator = _simulator(request)
    level = request["optimization_level"]
    compiled = qiskit.transpile(
        circuit, simulator, optimization_level=0 if level is None else level, seed_transpiler=request["seed"]
    )
    result = simulator.run(compiled, shots=request["shots"], seed_simulator=request["seed"]).result()
    if not result.success:
        raise CannotRun(f"Aer: {str(result.status)[:200]}", reason="aer")
    counts = {key.replace(" ", ""): int(value) for key, value in result.get_counts().items()}
    experiment = result.results[0]
    return {
        "counts": counts,
        "method": str(experiment.metadata.get("method")),
        "seed": int(experiment.seed_simulator),
        "versions": {"qiskit": qiskit.__version__, "qiskit-aer": qiskit_aer.__version__},
    }


def _simulator(request: dict[str, Any]) -> Any:  # noqa: ANN401 - qiskit ships no types
    from qiskit_aer import AerSimulator  # noqa: PLC0415

    limits = {"max_memory_mb": request["max_memory_mb"], "max_parallel_threads": 1}
    if request["noise_backend"] is None:
        return AerSimulator(method=request["method"], **limits)
    return AerSimulator.from_backend(_fake_backend(request["noise_backend"]), **limits)


def _fake_backend(name: str) -> Any:  # noqa: ANN401 - qiskit ships no types
    from qiskit_ibm_runtime.fake_provider import FakeProviderForBackendV2  # noqa: PLC0415

    known = {backend.name: backend for backend in FakeProviderForBackendV2().backends()}
    if name not in known:
        raise CannotRun(
            f"there is no fake backend {name!r}; known are {', '.join(sorted(filter(None, known))[:8])} …",
            reason="backend",
        )
    return known[name]


def _describe_backend(name: str) -> dict[str, Any]:
    backend = _fake_backend(name)
    qubits = [backend.qubit_properties(index) for index in range(backend.num_qubits)]
    coupling = [list(pair) for pair in backend.coupling_map.get_edges()]
    return {
        "num_qubits": backend.num_qubits,
        "basis_gates": list(backend.operation_names),
        "extras": {
            "method": "automatic, with noise",
            "noise_backend": name,
            "coupling_map": coupling,
            "t1_seconds": [getattr(qubit, "t1", None) for qubit in qubits],
            "t2_seconds": [getattr(qubit, "t2", None) for qubit in qubits],
        },
    }
