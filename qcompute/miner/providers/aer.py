"""Qiskit Aer on this machine: exact and noisy simulation in sandboxed child processes.

Talks to: nothing outside this machine. Needs: ``pip install 'qcompute[aer]'``. Cannot: be a quantum computer; its
devices call themselves SIMULATOR. Methods: statevector, matrix product state, stabilizer, density matrix, automatic
choice, on a GPU also tensor network, and noise models of IBM's fake backends by name. Checked against qiskit-aer 0.18
and qiskit-ibm-runtime 0.51; on a GPU only what `qcompute.vendor.aer_gpu` sees run at the start is offered.

Jobs lie in a spool folder's journal: a job's id is its token, so submitting twice is submitting once, and what was not
finished when the daemon died runs again when it is back. As many run at once as there are processes, and as memory
holds: the next one waits until it fits. The daemon itself imports nothing of qiskit.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from contextlib import ExitStack
from typing import Any, ClassVar, Final

from pydantic import BaseModel
from typing_extensions import override

from qcompute.circuits.program import CompiledCircuit, JobOptions
from qcompute.circuits.sandbox import SandboxCancelled, SandboxLimits, SandboxPool
from qcompute.errors import Bug, CannotRun, ConfigError, Refused, SandboxUnavailable, SubmitUnknown, Unavailable
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
from qcompute.vendor.aer.memory import BASE_BYTES, MACHINE, gib, safe_bytes, simulation_bytes
from qcompute.vendor.aer.methods import OVERHEAD_BYTES, Method, basis_gates_of, check_gates, max_qubits
from qcompute.vendor.aer.settings import AerConfig, Processor
from qcompute.vendor.aer.spool import Spool
from qcompute.vendor.aer.waiting import Due, WaitingLine, is_short
from qcompute.vendor.aer_gpu import CUDA_ENVIRONMENT, probe_gpu, probed
from qcompute.vendor.spooled import job_id_of, timestamps, unusable

_log = logging.getLogger(__name__)

_SHORT: Final = {Method.MATRIX_PRODUCT_STATE: "mps"}
_NOT_STARTED: Final = {"status": ProviderStatus.CANCELLED, "message": "cancelled before it started"}


class AerAdapter(KeepingAdapter):
    """See the module's text."""

    requires: ClassVar[tuple[str, ...]] = ("qiskit_aer",)
    extra: ClassVar[str | None] = "aer"
    Config: ClassVar[type[BaseModel] | None] = AerConfig

    def __init__(self, config: BaseModel | None = None) -> None:
        super().__init__()
        self._config = config if isinstance(config, AerConfig) else AerConfig()
        self._refused: dict[str, str] = {}
        self._methods = self._usable_methods()
        self._device_ids = [*self._methods, *(f"aer_{name}" for name in self._config.noise_backends)]
        self._total_bytes = self._config.memory_total_bytes or safe_bytes()
        self._state_bytes, self._limiting_setting = self._bytes_for_one()
        self._kept: Spool | None = None
        self._pool = self._new_pool()
        self._lock = threading.Lock()
        self._cancels: dict[str, threading.Event] = {}
        self._running: set[str] = set()
        self._short_of: dict[str, int] = {}
        self._waiting = WaitingLine(self._config.simulations_at_once)
        self._described: dict[str, dict[str, Any]] = {}
        self._closed = False
        self._workers: list[threading.Thread] = []
        self._describe_all()

    @override
    def take_jobs(self) -> None:
        folder = self._config.spool.expanduser()
        try:
            self._kept = Spool(folder, keep_days=self._config.keep_days)
        except OSError as error:
            raise unusable(folder, error) from None
        for job_id in self._kept.unfinished():
            self._enqueue(job_id, is_short=False)
        self._workers = [
            threading.Thread(target=self._work, name=f"aer-{number}", daemon=True)
            for number in range(self._config.simulations_at_once)
        ]
        for worker in self._workers:
            worker.start()

    @override
    def list_devices(self) -> list[Device]:
        return [
            Device(device_id=name, provider="aer", vendor="qiskit-aer", device_type="SIMULATOR")
            for name in self._device_ids
        ]

    @override
    def list_capabilities(self) -> list[Capability]:
        return [capability for device in self.list_devices() if (capability := self.get_capability(device.device_id))]

    @override
    def get_capability(self, device_id: str | None = None) -> Capability | None:
        name = device_id or next(iter(self._methods))
        if (method := self._methods.get(name)) is not None:
            extras = {"method": str(method), "memory_bytes": self._config.memory_bytes, "coupling_map": "all to all"}
            if self._config.device is Processor.GPU:
                extras |= {"device": str(Processor.GPU), "custatevec": self._config.custatevec}
            width = max_qubits(method, self._state_bytes)
            return Capability(num_qubits=width, basis_gates=basis_gates_of(method), extras=extras)
        if name.removeprefix("aer_") in self._config.noise_backends:
            facts = self._describe(name.removeprefix("aer_"))
            return Capability(num_qubits=facts["num_qubits"], basis_gates=facts["basis_gates"], extras=facts["extras"])
        return None

    @override
    def check(self, circuit: CompiledCircuit, device: Device, shots: int) -> None:
        try:
            check_width(circuit, device, self.get_capability(device.device_id))
        except CannotRun as refusal:
            if self._methods.get(device.device_id) not in (Method.STATEVECTOR, Method.AUTOMATIC, Method.DENSITY_MATRIX):
                raise
            has = f"in {gib(self._state_bytes)} of memory ({self._limiting_setting})"
            raise CannotRun(f"{refusal.message} {has}", reason=refusal.reason) from None
        check_gates(circuit, self._methods.get(device.device_id), device.device_id)
        self._check_memory(circuit, device.device_id, shots)

    @override
    def prepare(self, circuit: CompiledCircuit, device: Device, shots: int, options: JobOptions) -> Prepared:
        job = self._job_for(device.device_id, circuit.source) | {
            "language": circuit.language,
            "memory_bytes": self._needed_bytes(circuit, device.device_id, shots),
            "seed": options.seed,
            "optimization_level": options.optimization_level,
            "is_short": self._is_short(circuit, device.device_id, shots),
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
        device = device_id or next(iter(self._methods))
        if device not in self._device_ids:
            why = f": {self._refused[device]}" if device in self._refused else ""
            raise Refused(f"aer has no device {device[:64]!r}{why}")
        self.begin()
        job_id = job_id_of(token)
        # Our own payload, or plain OpenQASM as an adapter of the reference is given it.
        ours = circuit_data.startswith('{"aer"')
        job = json.loads(circuit_data)["aer"] if ours else self._job_for(device, circuit_data)
        with self._lock:
            if not self._spool.has(job_id):
                document = job | {"device_id": device, "shots": shots or 1024, "created": time.time()}
                try:
                    self._spool.add(job_id, document)
                except OSError as error:
                    raise Unavailable(f"aer's spool cannot be written: {error.strerror}") from None
                self._enqueue(job_id, is_short=job.get("is_short", False))
        try:
            self._spool.sync()  # while it is simulated: nobody is told of the job or its result before
        except OSError as error:
            raise SubmitUnknown(f"aer's spool may not have been written: {error.strerror}") from None
        return JobHandle(provider_job_id=job_id, device_id=device)

    @override
    def cancel(self, handle: JobHandle) -> None:
        self.begin()
        job_id = handle.provider_job_id
        with self._lock:
            event = self._cancels.get(job_id)
            if event is not None:
                event.set()
            if event is None or job_id in self._running:
                return  # it has ended, or its worker will write how it ended
        MACHINE.look_again()
        self._end(job_id, _NOT_STARTED)

    @override
    def get_job_receipt(self, handle: JobHandle) -> JobReceipt:
        self.begin()
        job = self._spool.job(handle.provider_job_id) or {}
        result = self._spool.result(handle.provider_job_id)
        status = ProviderStatus(self.status_of(handle.provider_job_id).status)
        counts = result.get("counts") if result else None
        return JobReceipt(
            provider="aer",
            provider_job_id=handle.provider_job_id,
            status=status,
            device_id=handle.device_id,
            cost=self._cost(job) if status is ProviderStatus.COMPLETED else 0.0,
            shots=job.get("shots"),
            timestamps=timestamps(job, result or {}),
            results={"measurementCounts": counts} if counts is not None else None,
            metadata={
                "currency": "USD",
                "counts_source": "measured",
                "message": (result or {}).get("message"),
                "method": (result or {}).get("method"),
                "device": (result or {}).get("device"),
                "seed": (result or {}).get("seed"),
                "simulation_seconds": (result or {}).get("simulation_seconds"),
                "noise_backend": job.get("noise_backend"),
                "versions": (result or {}).get("versions"),
            },
        )

    @override
    def get_availability(self, device_id: str | None = None) -> AvailabilityStatus | None:
        name = device_id or next(iter(self._methods))
        if name not in self._device_ids:
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
        at_once = self._config.simulations_at_once
        return Limits(max_poll_batch=1000, max_running_jobs=at_once, poll_interval_seconds=0.2)

    @override
    def close(self) -> None:
        self._closed = True
        MACHINE.look_again()
        self._waiting.close()
        self._pool.close()
        if self._kept is not None:
            self._kept.close()

    @property
    def _spool(self) -> Spool:
        if self._kept is None:
            raise Bug("a job was asked for before the spool was taken")
        return self._kept

    def _usable_methods(self) -> dict[str, Method]:
        """Devices by id, without those that the GPU turned out not to run."""
        config = self._config
        if config.device is Processor.CPU:
            return {f"aer_{_SHORT.get(method, method)}": method for method in config.methods_offered}
        usable: dict[str, Method] = {}
        for method in config.methods_offered:
            what = probed(config, method)
            name = f"aer_gpu_{_SHORT.get(method, what)}"
            if (reason := probe_gpu(what)) is None:
                usable[name] = method
            else:
                _log.warning("%s is not offered: %s", name, reason, extra={"action": "aer_gpu"})
                self._refused[name] = reason
        if not usable:
            raise ConfigError(f"providers.aer.device = GPU: {next(iter(self._refused.values()))}")
        return usable

    def _bytes_for_one(self) -> tuple[int, str]:
        """What one simulation has for its state and its shots, and the setting that says so."""
        on_gpu = self._config.device is Processor.GPU
        one = self._config.amplitude_bytes, f"providers.aer.{'gpu_memory_bytes' if on_gpu else 'memory_bytes'}"
        machine = self._total_bytes - BASE_BYTES, "providers.aer.memory_total_bytes"
        return one if on_gpu else min(one, machine)

    def _new_pool(self) -> SandboxPool:
        limits = SandboxLimits(
            # Not more than it can be let in with, whatever an estimate said.
            memory_bytes=min(self._config.memory_bytes, self._total_bytes - BASE_BYTES + OVERHEAD_BYTES),
            cpu_seconds=self._config.cpu_seconds,
            wall_seconds=self._config.wall_seconds,
            max_reply_bytes=64 << 20,
            counts_address_space=self._config.device is Processor.CPU,
        )
        return SandboxPool(
            "qcompute.vendor.aer.child:work",
            limits=limits,
            size=self._config.simulations_at_once,
            idle_seconds=self._config.idle_seconds,
            name="simulate",
            environment=CUDA_ENVIRONMENT if self._config.device is Processor.GPU else {},
        )

    def _describe_all(self) -> None:
        """Ask for every fake backend once, so that a wrong name is told to the operator and not to a validator."""
        for backend in self._config.noise_backends:
            try:
                self._describe(backend)
            except CannotRun as refusal:
                self._pool.close()
                raise ConfigError(f"providers.aer.noise_backends: {refusal.message}") from None
            except SandboxUnavailable as error:
                _log.warning("%s is described later: %s", backend, error.message, extra={"action": "aer_describe"})

    def _simulation_bytes(self, circuit: CompiledCircuit, device_id: str, shots: int) -> int:
        method = self._methods.get(device_id)
        return simulation_bytes(
            circuit,
            method or Method.AUTOMATIC,
            shots,
            noisy=method is None,
            at_most=self._state_bytes,
        )

    def _needed_bytes(self, circuit: CompiledCircuit, device_id: str, shots: int) -> int:
        """Memory of this machine that the simulation is let in with; on a GPU the amplitudes lie elsewhere."""
        if self._config.device is Processor.GPU:
            return self._config.memory_bytes
        return BASE_BYTES + min(self._simulation_bytes(circuit, device_id, shots), self._state_bytes)

    def _is_short(self, circuit: CompiledCircuit, device_id: str, shots: int) -> bool:
        return self._config.device is Processor.CPU and is_short(circuit, self._methods.get(device_id), shots)

    def _check_memory(self, circuit: CompiledCircuit, device_id: str, shots: int) -> None:
        """Raises `CannotRun` for what can never fit."""
        needed = self._simulation_bytes(circuit, device_id, shots)
        if needed > self._state_bytes:
            raise CannotRun(
                f"{circuit.num_qubits} qubits and {shots} shots need {gib(needed)} of memory on {device_id}, which has"
                f" {gib(self._state_bytes)} ({self._limiting_setting})",
                reason="memory",
            )

    def _job_for(self, device_id: str, source: str) -> dict[str, Any]:
        method = self._methods.get(device_id)
        return {
            "source": source,
            "method": str(method or Method.AUTOMATIC),
            "noise_backend": None if method else device_id.removeprefix("aer_"),
            "device": str(self._config.device),
            "custatevec": self._config.custatevec and method is Method.STATEVECTOR,
            "seed": None,
            "optimization_level": None,
        }

    def _work(self) -> None:
        """Simulate one job after the other, short ones several in one exchange with their process.

        What is to be kept of one is written while the next is simulated: processes that wait for the disk in between
        have a fifth less throughput with short jobs. ``ends`` holds what is not written yet, and writes it when closed.
        """
        with ExitStack() as ends:
            while job_ids := self._next(ends):
                jobs = [one for job_id in job_ids if (one := self._due(job_id)) is not None]
                if len(jobs) > 1:
                    self._run_together(jobs, ends)
                elif jobs:
                    self._run_alone(jobs[0], ends)

    def _next(self, ends: ExitStack) -> list[str]:
        if not (job_ids := self._waiting.take(waits=False)):
            ends.close()
            job_ids = self._waiting.take(waits=True)
        return job_ids

    def _due(self, job_id: str) -> Due | None:
        event, job = self._cancels.get(job_id), self._spool.job(job_id)
        if event is None or job is None or self._spool.result(job_id) is not None:
            return None
        # How much a plain text needs was not estimated: as much as it can get.
        needed = min(job.get("memory_bytes") or self._config.memory_bytes, self._total_bytes)
        return Due(job_id, job | {"task": "simulate", "max_memory_mb": self._state_bytes >> 20}, event, needed)

    def _run_together(self, jobs: list[Due], ends: ExitStack) -> None:
        needed = max(one.needed for one in jobs)
        if not (self._pool.has_idle and MACHINE.enter_at_once(needed, self._total_bytes)):
            self._waiting.put_back([one.job_id for one in jobs])  # what has to wait waits alone
            return
        began, answers = time.time(), list[dict[str, Any] | CannotRun]()
        begun = [one for one in jobs if self._begin(one)]
        try:
            answer = self._pool.begin_many([one.request for one in begun])
            ends.close()
            answers = answer()
        except SandboxUnavailable:
            pass  # alone each is told, or stays where the adapter is closing
        finally:
            MACHINE.leave(needed)
        self._not_run(begun[len(answers) :], ends)
        for one, reply in reversed(list(zip(begun, answers, strict=False))):  # what comes last is written first
            ends.callback(self._end, one.job_id, _result(reply, began))

    def _not_run(self, jobs: list[Due], ends: ExitStack) -> None:
        """Back into the line with them, but for those that were cancelled while it was to be this worker's."""
        with self._lock:
            self._running.difference_update(one.job_id for one in jobs)
            cancelled = [one.job_id for one in jobs if one.cancel.is_set()]
        for job_id in cancelled:
            ends.callback(self._end, job_id, _NOT_STARTED)
        self._waiting.put_back([one.job_id for one in jobs if one.job_id not in cancelled])

    def _run_alone(self, one: Due, ends: ExitStack) -> None:
        if not self._let_in(one, ends):
            return
        try:
            if self._begin(one) and (result := self._simulated(one, ends)) is not None:
                ends.callback(self._end, one.job_id, result)
        finally:
            MACHINE.leave(one.needed)

    def _let_in(self, one: Due, ends: ExitStack) -> bool:
        if MACHINE.enter_at_once(one.needed, self._total_bytes):
            return True
        ends.close()
        self._short_of[one.job_id] = one.needed
        try:
            return MACHINE.enter(one.needed, self._total_bytes, lambda: self._closed or one.cancel.is_set())
        finally:
            del self._short_of[one.job_id]

    def _begin(self, one: Due) -> bool:
        with self._lock:
            if one.cancel.is_set():
                return False  # whoever cancelled it has written how it ended
            self._running.add(one.job_id)
        return True

    def _simulated(self, one: Due, ends: ExitStack) -> dict[str, Any] | None:
        """How it ended; None where the adapter is closing, and the next start runs it."""
        if not self._pool.has_idle:
            ends.close()
        began = time.time()
        try:
            answer = self._pool.begin(one.request, cancel=one.cancel)
            ends.close()
            return _result(answer(), began)
        except SandboxCancelled:
            text = "cancelled while it ran"
            return {"status": ProviderStatus.CANCELLED, "message": text, "started": began, "ended": time.time()}
        except CannotRun as refusal:
            return _result(refusal, began)
        except SandboxUnavailable:
            text = "no process could be started to simulate it"
            return None if self._closed else {"status": ProviderStatus.FAILED, "message": text, "ended": time.time()}

    def _end(self, job_id: str, result: dict[str, Any]) -> None:
        self._spool.end(job_id, {"ended": time.time()} | result)
        with self._lock:
            self._running.discard(job_id)
            self._cancels.pop(job_id, None)
        self.tell_end(job_id)

    def _enqueue(self, job_id: str, *, is_short: bool) -> None:
        self._cancels[job_id] = threading.Event()
        self._waiting.add(job_id, is_short=is_short)

    @override
    def device_of(self, job_id: str) -> str | None:
        job = self._spool.job(job_id)
        return None if job is None else job["device_id"]

    @override
    def status_of(self, job_id: str) -> BaseExecutionStatus:
        with self._lock:
            if job_id in self._running:
                return BaseExecutionStatus(status=ProviderStatus.RUNNING)
            if job_id in self._cancels:
                short_of = self._short_of.get(job_id)
                message = None if short_of is None else f"waits for {gib(short_of)} of memory"
                return BaseExecutionStatus(status=ProviderStatus.QUEUED, message=message)
        # A result is kept before its job leaves both.
        result = self._spool.result(job_id)
        if result is not None:
            return BaseExecutionStatus(status=result["status"], message=result.get("message"))
        text = "aer's spool has no such job"
        return BaseExecutionStatus(status=ProviderStatus.UNKNOWN, message=text, is_lost=True)

    def _cost(self, job: dict[str, Any]) -> float:
        return self._config.price_per_task + self._config.price_per_shot * int(job.get("shots", 0))

    def _describe(self, backend: str) -> dict[str, Any]:
        if backend not in self._described:
            self._described[backend] = self._pool.call({"task": "describe", "noise_backend": backend})
        return self._described[backend]


def _result(answer: dict[str, Any] | CannotRun, began: float) -> dict[str, Any]:
    """What is kept of a simulation; ``began`` where its process does not say when."""
    result: dict[str, Any] = {"status": ProviderStatus.COMPLETED, "started": began, "ended": time.time()}
    if not isinstance(answer, CannotRun):
        return result | answer
    hint = " (providers.aer.memory_bytes)" if answer.reason == "sandbox_memory" else ""
    return result | {"status": ProviderStatus.FAILED, "message": f"{answer.message}{hint}"}
