"""Runs jobs with a `NodeProvider`'s own ``execute``, in child processes, so that the daemon imports none of it.

Jobs are files in the account's spool: a job's id is its token, so submitting twice is submitting once. That a circuit
is about to run is on disk before ``execute`` is called. When the child or the daemon dies after that, nobody knows
whether it ran: the job is then unknown and so held for the operator, and it never runs again by itself, unless its
provider says that it is repeatable.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from typing_extensions import override

from qcompute.circuits.program import CompiledCircuit, JobOptions
from qcompute.circuits.sandbox import SandboxCancelled, SandboxLimits, SandboxPool
from qcompute.cluster.account_setup import AccountSetup
from qcompute.cluster.spec import QPUNodeSpec, no_switch
from qcompute.cluster.spool import Spool
from qcompute.connections.credentials import Secret, named, variable_of
from qcompute.errors import CannotRun, ConfigError, Refused, SandboxUnavailable, Unavailable
from qcompute.faults import first_fault, meant
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
    ProviderAdapter,
    ProviderStatus,
)
from qcompute.units import IdempotencyToken
from qcompute.vendor.prices import Prices
from qcompute.vendor.spooled import job_id_of, timestamps

_log = logging.getLogger(__name__)

_UNLIMITED_BYTES: Final = 1 << 50
_OPEN_FILES: Final = 1024
_MAX_REPLY_BYTES: Final = 64 << 20
_CLOSE_SECONDS: Final = 5.0
"""For a run to end whose process was ended."""
_MAY_HAVE_RUN: Final = "it may have run; look at the machine, then fail or release the job"


class NodeSettings(BaseModel):
    """How a provider's ``execute`` is called: the table ``settings`` of its account."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    wall_seconds: float = Field(default=3600.0, gt=0)
    """The longest one circuit may take; then its process is ended."""
    cpu_seconds: float = Field(default=1800.0, gt=0, le=1800.0)
    """CPU time of one circuit in its process; waiting for a machine takes none."""
    memory_bytes: int | None = Field(default=None, ge=1 << 30)
    """Address space of one process. No limit when not set: libraries for GPUs reserve far more than they use."""
    idle_seconds: float = Field(default=120.0, gt=0)
    """A process without work ends after this."""
    keep_days: float = Field(default=3.0, gt=0)
    """Days a result is kept after it was fetched, for looking at it by hand; one that was not is kept for 90."""
    prices: Prices | None = None
    """What a job costs. Unknown when not set."""
    spool: Path | None = None
    """Where jobs and results lie; by default in the account's own folder, which no other miner may use."""

    _numbers = field_validator("*", mode="before")(no_switch)


@dataclass(frozen=True, slots=True)
class NodeProgram:
    """A provider's class as a child finds it again: ``path`` is ``module:qualified name``."""

    path: str
    display_name: str
    arguments: dict[str, Any]
    repeatable: bool

    @classmethod
    def of(cls, provider: type, display_name: str, arguments: Mapping[str, Any], *, repeatable: bool) -> Self:
        """The program of ``provider``'s nodes that were built with ``arguments``.

        Raises:
            ConfigError: a child could not import the class, or be given the arguments.
        """
        module, name = provider.__module__, provider.__qualname__
        found: object = None if module == "__main__" else importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part, None)
        if found is not provider:
            raise ConfigError(f"{name} must be at the top of a module that can be imported, to run in child processes")
        try:
            plain = json.loads(json.dumps(dict(arguments)))
        except (TypeError, ValueError):
            raise ConfigError(f"{display_name}: arguments of nodes must be texts, numbers, lists and tables") from None
        return cls(f"{module}:{name}", display_name, plain, repeatable)


def open_node_adapter(program: NodeProgram, nodes: Sequence[QPUNodeSpec], setup: AccountSetup) -> ProviderAdapter:
    """The adapter that runs ``program`` on ``nodes``, each a device, one circuit at a time on each.

    Raises:
        ConfigError: a wrong setting, or a secret that is not set.
    """
    settings, secrets = check_node_account(nodes, setup)
    return NodeAdapter(program, nodes, settings, settings.spool or setup.directory / "nodes", secrets)


def check_node_account(nodes: Sequence[QPUNodeSpec], setup: AccountSetup) -> tuple[NodeSettings, list[Secret]]:
    """Its settings, and the secrets its nodes name; opens nothing.

    Raises:
        ConfigError: a wrong setting, or a secret that is not set.
    """
    try:
        settings = NodeSettings.model_validate(dict(setup.settings))
    except ValidationError as error:
        fault = first_fault(error, "settings") + meant(error, NodeSettings.model_fields)
        raise ConfigError(f"cluster account {setup.name!r}: {fault}") from None
    names = sorted({str(name) for node in nodes for name in node.credentials.values()})
    return settings, [named(name) for name in names]


class NodeAdapter(KeepingAdapter):
    """See the module's text."""

    def __init__(
        self,
        program: NodeProgram,
        nodes: Sequence[QPUNodeSpec],
        settings: NodeSettings,
        spool: Path,
        secrets: Sequence[Secret],
    ) -> None:
        super().__init__()
        self._program = program
        self._settings = settings
        self._nodes = {str(node.device_id): node for node in nodes}
        self._spool = Spool(spool, settings.keep_days)
        self.secrets = secrets
        """Those of the processes to come."""
        self._pool = self._new_pool()
        self._old_pools: list[SandboxPool] = []
        self._path = [str(Path(entry).resolve()) for entry in sys.path]
        self._lock = threading.Lock()
        self._cancels: dict[str, threading.Event] = {}
        self._running: set[str] = set()
        self._closed = False
        self._queues: dict[str, queue.SimpleQueue[str | None]] = {name: queue.SimpleQueue() for name in self._nodes}
        self._workers: list[threading.Thread] = []

    @override
    def take_jobs(self) -> None:
        self._spool.take()
        self._recover()
        self._workers = [
            threading.Thread(target=self._work, args=(waiting,), name=f"node-{name}", daemon=True)
            for name, waiting in self._queues.items()
        ]
        for worker in self._workers:
            worker.start()

    @override
    def renewed_by(self, fresh: ProviderAdapter) -> ProviderAdapter:
        """This one: what runs goes on in the process that has the old secrets, and what comes next has the new ones."""
        if not isinstance(fresh, NodeAdapter):
            return super().renewed_by(fresh)
        self.secrets = fresh.secrets
        with self._lock:
            self._old_pools.append(self._pool)  # its idle processes end by themselves
            self._pool = self._new_pool()
        return self

    @override
    def list_devices(self) -> list[Device]:
        return [
            Device(device_id=name, provider=self._program.display_name, vendor=None, device_type=node.device_type)
            for name, node in self._nodes.items()
        ]

    @override
    def list_capabilities(self) -> list[Capability]:
        return [_capability(node) for node in self._nodes.values()]

    @override
    def get_capability(self, device_id: str | None = None) -> Capability | None:
        node = self._node(device_id)
        return None if node is None else _capability(node)

    @override
    def prepare(self, circuit: CompiledCircuit, device: Device, shots: int, options: JobOptions) -> Prepared:
        payload = json.dumps({"node": {"source": circuit.source}})
        return Prepared(payload=payload, compiled=circuit, options=options)

    @override
    def submit(
        self,
        circuit_data: str,
        device_id: str | None = None,
        shots: int | None = None,
        *,
        token: IdempotencyToken | None = None,
    ) -> JobHandle:
        node = self._node(device_id)
        if node is None:
            raise Refused(f"{self._program.display_name} has no node {str(device_id)[:64]!r}")
        self.begin()
        job_id = job_id_of(token)
        mine = circuit_data.startswith('{"node"')
        source = json.loads(circuit_data)["node"]["source"] if mine else circuit_data
        where = str(node.device_id)
        job = {"source": source, "shots": shots or 1000, "node": where, "created": time.time()}
        with self._lock:
            if self._spool.job(job_id) is None:
                try:
                    self._spool.put_job(job_id, job)
                except OSError as error:
                    raise Unavailable(f"the nodes' spool cannot be written: {error.strerror}") from None
                self._enqueue(job_id, where)
        return JobHandle(provider_job_id=job_id, device_id=where)

    @override
    def cancel(self, handle: JobHandle) -> None:
        self.begin()
        job_id = handle.provider_job_id
        with self._lock:
            if job_id in self._running:
                self._cancels[job_id].set()
            waiting = job_id not in self._running and self._cancels.pop(job_id, None) is not None
        if waiting:  # its worker finds nothing of it any more
            self._end(job_id, {"status": ProviderStatus.CANCELLED, "message": "cancelled before it started"})

    @override
    def get_job_receipt(self, handle: JobHandle) -> JobReceipt:
        self.begin()
        job, result = self._spool.job(handle.provider_job_id), self._spool.result(handle.provider_job_id) or {}
        if result:
            self._spool.mark_fetched(handle.provider_job_id)
        status = ProviderStatus(self.status_of(handle.provider_job_id).status)
        counts, shots = result.get("counts"), job["shots"] if job else None
        prices = self._settings.prices
        cost = prices.estimate(shots, result.get("seconds", 0.0)) if prices and counts is not None and shots else None
        return JobReceipt(
            provider=self._program.display_name,
            provider_job_id=handle.provider_job_id,
            status=status,
            device_id=handle.device_id,
            cost=None if cost is None else float(cost.amount),
            shots=shots,
            timestamps=timestamps(job or {}, result),
            results=None if counts is None else {"measurementCounts": counts},
            metadata={
                "counts_source": "measured",
                "message": result.get("message"),
                "currency": self.price_currency(),
                "cost_kind": "our_estimate",
            },
        )

    @override
    def get_availability(self, device_id: str | None = None) -> AvailabilityStatus | None:
        node = self._node(device_id)
        if node is None:
            return None
        waiting = self._queues[str(node.device_id)].qsize()
        word = "ONLINE" if node.online else "OFFLINE"
        return AvailabilityStatus(
            availability=word, pending_jobs=waiting, is_available=node.online, status_msg=node.offline_reason
        )

    @override
    def get_pricing(self, device_id: str | None = None) -> dict[str, float] | None:
        del device_id
        return None if self._settings.prices is None else self._settings.prices.table()

    @override
    def price_currency(self) -> str:
        return "USD" if self._settings.prices is None else self._settings.prices.currency

    @override
    def limits(self) -> Limits:
        return Limits(max_poll_batch=1000, max_running_jobs=1, poll_interval_seconds=0.5)

    @override
    def close(self) -> None:
        with self._lock:
            self._closed = True
            pools = [*self._old_pools, self._pool]
        for waiting in self._queues.values():
            waiting.put(None)
        for pool in pools:
            pool.close()
        for worker in self._workers:
            worker.join(_CLOSE_SECONDS)
        if not any(worker.is_alive() for worker in self._workers):  # else it may still write: nobody else gets it
            self._spool.release()

    def _new_pool(self) -> SandboxPool:
        settings = self._settings
        return SandboxPool(
            "qcompute.cluster.node_child:work",
            limits=SandboxLimits(
                memory_bytes=settings.memory_bytes or _UNLIMITED_BYTES,
                cpu_seconds=settings.cpu_seconds,
                wall_seconds=settings.wall_seconds,
                max_reply_bytes=_MAX_REPLY_BYTES,
                open_files=_OPEN_FILES,
                trusted=True,
            ),
            size=len(self._nodes),
            idle_seconds=settings.idle_seconds,
            name="execute",
            environment={"PATH": os.defpath} | {variable_of(one.name): one.reveal() for one in self.secrets},
        )

    def _node(self, device_id: str | None) -> QPUNodeSpec | None:
        return self._nodes.get(device_id) if device_id else next(iter(self._nodes.values()))

    def _work(self, waiting: queue.SimpleQueue[str | None]) -> None:
        while (job_id := waiting.get()) is not None:
            job = self._spool.job(job_id)
            with self._lock:
                if self._closed:
                    return  # before it is marked as one that may have run
                event = self._cancels.get(job_id)
                if event is None or job is None:
                    continue
                self._running.add(job_id)
            result = self._ran(job_id, job, event)
            if result is None:
                return  # closed: the next start decides by what is in the spool
            self._end(job_id, result)

    def _end(self, job_id: str, result: dict[str, Any]) -> None:
        self._spool.put_result(job_id, {"ended": time.time()} | result)
        with self._lock:
            self._running.discard(job_id)
            self._cancels.pop(job_id, None)
        self.tell_end(job_id)
        self._spool.remove_old()

    def _ran(self, job_id: str, job: dict[str, Any], cancel: threading.Event) -> dict[str, Any] | None:
        """What is written down of the run; None when this process is closing and the run ended with it."""
        try:
            self._spool.mark_started(job_id)
        except OSError as error:
            return {"status": ProviderStatus.FAILED, "message": f"the spool cannot be written: {error.strerror}"}
        began = time.time()
        try:
            answer = self._pool.call(self._request(job), cancel=cancel)
        except SandboxCancelled:
            answer = {"status": ProviderStatus.CANCELLED, "message": "cancelled while it ran"}
        except SandboxUnavailable:
            if self._closed:
                return None
            answer = {"status": ProviderStatus.FAILED, "message": "no process could be started to execute it"}
        except CannotRun as refusal:
            answer = self._interrupted(f"{self._program.display_name}: {refusal.message}")
        return {"started": began, "status": ProviderStatus.COMPLETED, "seconds": time.time() - began} | answer

    def _request(self, job: dict[str, Any]) -> dict[str, Any]:
        node = asdict(self._nodes[job["node"]]) if job["node"] in self._nodes else None
        program = {"provider": self._program.path, "arguments": self._program.arguments, "path": self._path}
        return program | {"node": node, "source": job["source"], "shots": job["shots"]}

    def _interrupted(self, message: str) -> dict[str, Any]:
        """The process was ended, or died, while ``execute`` ran."""
        if self._program.repeatable:
            return {"status": ProviderStatus.FAILED, "message": message}
        _log.error("%s, and %s", message, _MAY_HAVE_RUN, extra={"action": "node_unknown"})
        return {"status": ProviderStatus.UNKNOWN, "message": f"{message}, and {_MAY_HAVE_RUN}"}

    def _enqueue(self, job_id: str, node: str) -> None:
        self._cancels[job_id] = threading.Event()
        self._queues[node].put(job_id)

    def _recover(self) -> None:
        """Run what was not started yet; of what was, say that nobody knows."""
        for job_id, job in self._spool.unfinished():
            if job["node"] not in self._nodes:
                message = f"there is no node {job['node']!r} any more"
                status = ProviderStatus.UNKNOWN if self._spool.is_started(job_id) else ProviderStatus.FAILED
                self._end(job_id, {"status": status, "message": message})
            elif self._spool.is_started(job_id) and not self._program.repeatable:
                self._end(job_id, self._interrupted(f"{self._program.display_name}: the miner stopped while it ran"))
            else:
                self._enqueue(job_id, job["node"])

    @override
    def device_of(self, job_id: str) -> str | None:
        job = self._spool.job(job_id)
        return None if job is None else job["node"]

    @override
    def status_of(self, job_id: str) -> BaseExecutionStatus:
        # Its files are looked at last: what is in memory is removed after they are written.
        with self._lock:
            running, known = job_id in self._running, job_id in self._cancels
        result = self._spool.result(job_id)
        if result is not None:
            return BaseExecutionStatus(status=result["status"], message=result.get("message"))
        if running or known:
            return BaseExecutionStatus(status=ProviderStatus.RUNNING if running else ProviderStatus.QUEUED)
        return BaseExecutionStatus(
            status=ProviderStatus.UNKNOWN, message="the spool has no such job", is_lost=self._program.repeatable
        )


def _capability(node: QPUNodeSpec) -> Capability:
    gates = node.metadata.get("basis_gates")
    return Capability(
        num_qubits=node.max_qubits or None,
        basis_gates=list(gates) if gates else None,
        extras={"tags": list(node.tags), "node_type": node.node_type.value},
    )
