"""A vendor whose every answer a test decides, a job server that remembers, and a road on the in-memory ledger."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from qcompute.chain.keys import signer_from_uri
from qcompute.circuits.measurement import MeasurementMap, Register
from qcompute.circuits.program import CompiledCircuit, JobOptions, Language
from qcompute.circuits.target import Target, Translation
from qcompute.errors import CannotRun, SubmitUnknown
from qcompute.jobserver.contract import BackendReport, UploadSlot
from qcompute.ledger.contract import Ledger
from qcompute.ledger.memory import MemoryLedger
from qcompute.miner.account import Account
from qcompute.miner.budget import Budget, Budgets
from qcompute.miner.circuit_cache import CircuitCache
from qcompute.miner.fleet import Fleet
from qcompute.miner.job import Job, NewJob, Nonce, State
from qcompute.miner.limits import BudgetSettings
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
    ProviderAdapter,
)
from qcompute.miner.road import Road
from qcompute.protocol import ExecutionStatus
from qcompute.units import Counts, DeviceId, ExecutionId, Hotkey, IdempotencyToken, ProviderKey

BELL = 'OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; creg c[2]; h q[0]; cx q[0],q[1]; measure q->c;'
START = datetime(2026, 11, 21, 12, tzinfo=UTC)
VALIDATOR = Hotkey("5CDe8uJMiZUJqMMJKciGjB78oebwQKeyiLWB79Lbrx43Bjnv")


class Clock:
    """Time that moves only when told to."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def pass_seconds(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass
class Vendor(ProviderAdapter):
    """Answers what the test says; remembers every call that could cost money."""

    submits: list[str] = field(default_factory=list[str])
    tokens: list[IdempotencyToken | None] = field(default_factory=list["IdempotencyToken | None"])
    options: list[JobOptions | None] = field(default_factory=list["JobOptions | None"])
    cancelled: list[str] = field(default_factory=list[str])
    fail_cancel: list[Exception | None] = field(default_factory=list["Exception | None"])
    looks: int = 0
    fail_submit: list[Exception | None] = field(default_factory=list["Exception | None"])
    found: list[Found | Absent | CannotTell | Exception] = field(
        default_factory=list["Found | Absent | CannotTell | Exception"]
    )
    status: str = "COMPLETED"
    message: str | None = None
    is_lost: bool = False
    counts: Any = field(default_factory=lambda: {"00": 60, "11": 40})
    receipt_errors: list[Exception] = field(default_factory=list[Exception])
    devices: list[Device] = field(
        default_factory=lambda: [Device(device_id="dev", provider="scripted", device_type="QPU")]
    )
    offline: set[str] = field(default_factory=set[str])
    num_qubits: int = 5
    polls: int = 0
    on_submit: Callable[[], None] = lambda: None
    created: int = 0
    """Jobs that exist at the vendor."""
    lost_are_created: bool = False
    """A submit whose answer is lost has created its job all the same, and `find` knows."""

    idempotency = Idempotency.TAG

    def list_devices(self) -> list[Device]:
        return self.devices

    def list_capabilities(self) -> list[Capability]:
        return [Capability(num_qubits=self.num_qubits) for _ in self.devices]

    def get_capability(self, device_id: str | None = None) -> Capability | None:
        del device_id
        return Capability(num_qubits=self.num_qubits)

    def submit(
        self,
        circuit_data: str,
        device_id: str | None = None,
        shots: int | None = None,
        *,
        token: IdempotencyToken | None = None,
        options: JobOptions | None = None,
    ) -> JobHandle:
        del shots
        self.on_submit()
        self.submits.append(circuit_data)
        self.tokens.append(token)
        self.options.append(options)
        error = self.fail_submit.pop(0) if self.fail_submit else None
        if error is not None:
            self.created += isinstance(error, SubmitUnknown) and self.lost_are_created
            raise error
        self.created += 1
        return JobHandle(provider_job_id=f"vendor-{len(self.submits)}", device_id=device_id or "dev")

    def find(self, token: IdempotencyToken, since: datetime) -> Found | Absent | CannotTell:
        del token, since
        self.looks += 1
        if not self.found:
            return Found(handles=[JobHandle(provider_job_id="theirs", device_id="")]) if self.created else Absent()
        answer = self.found.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def poll(self, handle: JobHandle) -> BaseExecutionStatus:
        del handle
        self.polls += 1
        return BaseExecutionStatus(status=self.status, message=self.message, is_lost=self.is_lost)

    def cancel(self, handle: JobHandle) -> None:
        error = self.fail_cancel.pop(0) if self.fail_cancel else None
        if error is not None:
            raise error
        self.cancelled.append(handle.provider_job_id)

    def get_job_receipt(self, handle: JobHandle) -> JobReceipt:
        if self.receipt_errors:
            raise self.receipt_errors.pop(0)
        return JobReceipt(
            provider="scripted",
            provider_job_id=handle.provider_job_id,
            status=self.status,
            device_id=handle.device_id,
            results={"measurementCounts": self.counts},
        )

    def get_availability(self, device_id: str | None = None) -> AvailabilityStatus | None:
        return AvailabilityStatus(is_available=device_id not in self.offline)

    def get_pricing(self, device_id: str | None = None) -> dict[str, float] | None:
        del device_id
        return {"perTask": 0.3, "perShot": 0.01}

    def limits(self) -> Limits:
        return Limits(poll_interval_seconds=2.0)


@dataclass
class Server:
    """A job server in memory: hears what the outbox says, fails when told to."""

    errors: list[Exception | None] = field(default_factory=list["Exception | None"])
    slots: int = 0
    puts: list[tuple[str, Counts]] = field(default_factory=list[tuple[str, Counts]])
    failed: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    reports: list[BackendReport] = field(default_factory=list[BackendReport])

    def _maybe_fail(self) -> None:
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error

    async def upload_slot(self) -> UploadSlot:
        self.slots += 1
        return UploadSlot(f"up-{self.slots}", f"https://store.test/{self.slots}?sig=secret")

    async def put_counts(self, slot: UploadSlot, counts: Counts) -> None:
        self._maybe_fail()
        self.puts.append((slot.upload_id, counts))

    async def report_failed(self, execution_id: ExecutionId, message: str) -> None:
        self._maybe_fail()
        self.failed.append((execution_id, message))

    async def report_backend(self, report: BackendReport) -> None:
        self._maybe_fail()
        self.reports.append(report)

    async def close(self) -> None:
        return


class Parser:
    """Takes every text for a two-qubit Bell circuit."""

    def compile_many(self, sources: Sequence[str]) -> list[CompiledCircuit | CannotRun]:
        return [
            CompiledCircuit(
                source=source,
                language=Language.OPENQASM_2,
                sha256="ab" * 32,
                num_qubits=2,
                num_clbits=2,
                registers=(Register(name="c", size=2),),
                measured=((0, 0), (1, 1)),
                gate_counts={"h": 1, "cx": 1},
                depth=3,
                num_ops=4,
            )
            for source in sources
        ]

    def translate(self, circuit: CompiledCircuit, target: Target, level: int | None) -> CompiledCircuit:
        """As if every circuit were the same in every language."""
        level = target.optimization_level if level is None else level
        translation = Translation(
            text=f"// {target.dialect} {level}\n{circuit.source}",
            dialect=target.dialect,
            sha256="cd" * 32,
            measurement=MeasurementMap(registers=(Register(name="c0", size=2),), measured=circuit.measured),
            num_qubits=2,
            gate_counts=circuit.gate_counts,
            one_qubit_gates=1,
            two_qubit_gates=1,
            depth=3,
            optimization_level=level,
        )
        return circuit.model_copy(update={"translation": translation})

    def close(self) -> None:
        return


@dataclass
class Told:
    """Remembers what telemetry would be told."""

    changes: list[tuple[str, ExecutionStatus, ExecutionStatus]] = field(
        default_factory=list[tuple[str, ExecutionStatus, ExecutionStatus]]
    )
    requests: list[str] = field(default_factory=list[str])

    def status_changed(self, job: Job, old: ExecutionStatus, new: ExecutionStatus) -> None:
        self.changes.append((job.execution_id, old, new))

    def received(self, execution_id: str) -> None:
        self.requests.append(execution_id)


class Scene:
    """A road with one scripted account, and jobs put where a test wants them."""

    def __init__(
        self, budget: BudgetSettings | None = None, *, ledger: Callable[[Clock], Ledger] = MemoryLedger
    ) -> None:
        self.clock = Clock()
        self.ledger = ledger(self.clock)
        self.told = Told()
        self.signer = signer_from_uri("//scripted-miner")
        self.budget = Budget(ProviderKey("scripted"), budget or BudgetSettings(), clock=self.clock)
        self.road = Road(self.ledger, self.signer, self.told, budgets=Budgets([self.budget]), clock=self.clock)
        self.vendor = Vendor()
        self.account = Account(ProviderKey("scripted"), self.vendor, threads=2, clock=lambda: self.clock().timestamp())
        self.fleet = Fleet([self.account], self.road.budgets)
        self.circuits = CircuitCache(self.ledger, Parser(), processes=1)
        self._nonce = 0

    async def job(self, name: str = "job-1", **configuration: Any) -> Job:
        """A freshly accepted job."""
        self._nonce += 1
        new = NewJob(
            execution_id=ExecutionId(name),
            validator_hotkey=VALIDATOR,
            input_data_url="https://circuits.test/bell.qasm?sig=secret",
            shots=100,
            configuration_data=configuration,
            received_at=self.clock(),
            deadline_at=self.clock() + timedelta(hours=2),
        )
        await self.ledger.accept(new, Nonce(VALIDATOR, "scene", self._nonce))
        return await self.row(name)

    async def ready(self, name: str = "job-1", **configuration: Any) -> Job:
        """A job whose circuit is stored."""
        job = await self.job(name, **configuration)
        after = replace(job, state=State.READY, circuit_sha256="ab" * 32, due_at=self.clock())
        return await self.road.save(job, after, circuit=BELL)

    async def submitting(self, name: str = "job-1", **changes: Any) -> Job:
        """A routed job."""
        job = await self.ready(name)
        after = replace(
            job,
            state=State.SUBMITTING,
            provider=ProviderKey("scripted"),
            device_id=DeviceId("dev"),
            token=IdempotencyToken("token-of-" + name),
            due_at=self.clock(),
        )
        return await self.road.save(job, replace(after, **changes))

    async def waiting(self, name: str = "job-1", **changes: Any) -> Job:
        """A job the vendor has."""
        job = await self.submitting(name, submit_started_at=self.clock(), submit_attempts=1)
        handle = JobHandle(provider_job_id="vendor-1", device_id="dev").model_dump()
        after = replace(job, state=State.WAITING, handle=handle, submitted_at=self.clock(), due_at=self.clock())
        return await self.road.save(job, replace(after, **changes))

    async def row(self, name: str = "job-1") -> Job:
        job = await self.ledger.get(ExecutionId(name))
        assert job is not None
        return job

    async def close(self) -> None:
        await self.circuits.close()
        await self.account.close(limit_seconds=1)
        await self.ledger.close()
