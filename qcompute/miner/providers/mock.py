"""A vendor that exists only here, for trials and tests: slow, failing or forgetful when told to.

Talks to: nothing. Needs: nothing. Cannot: compute. Counts are drawn at random, seeded by circuit and shots, over the
circuit's classical bits; they add up to the shots and are the same at every fetch, and mean nothing.

With ``state_path`` the mock's cloud is a SQLite file of its own, outside the daemon's ledger: it outlives the daemon,
and every submit that reaches it is a row, wanted or not. That is what crash tests count.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Final

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import override

from qcompute.circuits.program import CompiledCircuit, JobOptions
from qcompute.errors import SubmitUnknown
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
)
from qcompute.units import Counts, IdempotencyToken

_MAX_OUTCOMES: Final = 8
"""Different results a mock job has at most; a real device has more, and nobody would look at them."""

_DEVICES: Final = (("mock_qpu_1", "QPU", 16), ("mock_sim_1", "SIMULATOR", 32))
_REGISTER: Final = re.compile(r"\bcreg\s+\w+\s*\[\s*(\d+)\s*\]|\bbit\s*(?:\[\s*(\d+)\s*\])?\s*\w+\s*[;=]")

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS jobs (
  number INTEGER PRIMARY KEY AUTOINCREMENT, job_id TEXT UNIQUE NOT NULL, token TEXT, device_id TEXT NOT NULL,
  shots INTEGER NOT NULL, num_clbits INTEGER NOT NULL, sha TEXT NOT NULL, created REAL NOT NULL, cancelled REAL);
CREATE TABLE IF NOT EXISTS submits (
  number INTEGER PRIMARY KEY AUTOINCREMENT, token TEXT, job_id TEXT, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS packed (
  job_id TEXT NOT NULL, pack_index INTEGER NOT NULL, num_clbits INTEGER NOT NULL, sha TEXT NOT NULL,
  PRIMARY KEY (job_id, pack_index));
"""


class MockConfig(BaseModel):
    """What the mock does; the defaults are a quick and reliable vendor."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = 0
    """Changes all counts."""
    latency_seconds: float = Field(default=0.0, ge=0)
    """Every call takes this long."""
    queue_seconds: float = Field(default=0.0, ge=0)
    """Jobs are QUEUED for so long."""
    run_seconds: float = Field(default=0.2, ge=0)
    """And then RUNNING for so long."""
    lag_seconds: float = Field(default=0.0, ge=0)
    """`find` does not see a job before it is so old."""
    fail_rate: float = Field(default=0.0, ge=0, le=1)
    """The part of all jobs that fails, chosen by circuit and seed."""
    lose_submit_answers: int = Field(default=0, ge=0)
    """So many submits create a job and then lose the answer."""
    foretell: bool = True
    """Polls carry the seconds left, which makes the daemon ask again only near the end."""
    unknown_status: bool = False
    """Every job's status is a word outside the contract."""
    idempotency: Idempotency = Idempotency.TOKEN
    """How a lost submit can be found; ``none`` makes `find` say that it cannot tell."""
    offline: bool = False
    """Both devices are down for maintenance."""
    max_pack: int = Field(default=1, ge=1)
    """So many circuits of one validator go into one job."""
    poll_interval_seconds: float = Field(default=0.2, gt=0)
    """How often a young job is polled."""
    price_per_task: float = Field(default=0.03, ge=0)
    """USD."""
    price_per_shot: float = Field(default=0.001, ge=0)
    """USD."""
    state_path: Path | None = None
    """The mock's cloud as a SQLite file; in memory when not set."""


class MockAdapter(ProviderAdapter):
    """See the module's text."""

    Config: ClassVar[type[BaseModel] | None] = MockConfig

    def __init__(self, config: BaseModel | None = None) -> None:
        self._config = config if isinstance(config, MockConfig) else MockConfig()
        self.idempotency = self._config.idempotency  # pyright: ignore[reportAttributeAccessIssue] - the mock's is a setting
        self._answers_to_lose = self._config.lose_submit_answers
        self._lock = threading.Lock()
        self._cloud = sqlite3.connect(
            self._config.state_path or ":memory:", isolation_level=None, check_same_thread=False, timeout=30
        )
        self._cloud.execute("PRAGMA journal_mode=WAL")
        self._cloud.executescript(_SCHEMA)

    @override
    def list_devices(self) -> list[Device]:
        return [
            Device(device_id=name, provider="mock", vendor="mockvendor", device_type=kind) for name, kind, _ in _DEVICES
        ]

    @override
    def list_capabilities(self) -> list[Capability]:
        return [_capability(qubits) for _, _, qubits in _DEVICES]

    @override
    def get_capability(self, device_id: str | None = None) -> Capability | None:
        wanted = device_id or _DEVICES[0][0]
        return next((_capability(qubits) for name, _, qubits in _DEVICES if name == wanted), None)

    @override
    def prepare(self, circuit: CompiledCircuit, device: Device, shots: int, options: JobOptions) -> Prepared:
        payload = json.dumps({"mock": {"num_clbits": circuit.num_clbits, "sha": circuit.sha256, "seed": options.seed}})
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
        return self._submitted([circuit_data], device_id, shots or 1000, token)[0]

    @override
    def submit_many(
        self, prepared: Sequence[Prepared], device_id: str, shots: int, *, token: IdempotencyToken
    ) -> list[JobHandle]:
        return self._submitted([one.payload for one in prepared], device_id, shots, token)

    @override
    def find(self, token: IdempotencyToken, since: datetime) -> Found | Absent | CannotTell:
        self._dawdle()
        if self._config.idempotency is Idempotency.NONE:
            return CannotTell("the mock is set to have no way to look a job up")
        newest = time.time() - self._config.lag_seconds
        rows = self._rows(
            "SELECT job_id, device_id FROM jobs WHERE token = ? AND created BETWEEN ? AND ? ORDER BY number",
            (token, since.timestamp(), newest),
        )
        handles = [JobHandle(provider_job_id=job_id, device_id=device) for job_id, device in rows]
        return Found(handles=handles) if handles else Absent()

    @override
    def poll(self, handle: JobHandle) -> BaseExecutionStatus:
        return self.poll_many([handle])[0]

    @override
    def poll_many(self, handles: Sequence[JobHandle]) -> list[BaseExecutionStatus]:
        self._dawdle()
        marks = ",".join("?" * len(handles))
        rows = self._rows(
            f"SELECT job_id, created, cancelled, sha FROM jobs WHERE job_id IN ({marks})",  # noqa: S608 - marks are ours
            tuple(handle.provider_job_id for handle in handles),
        )
        known = {row[0]: self._status(*row[1:]) for row in rows}
        return [known.get(handle.provider_job_id, _UNKNOWN_JOB) for handle in handles]

    @override
    def cancel(self, handle: JobHandle) -> None:
        self._dawdle()
        if ProviderStatus.of(self.poll(handle).status).is_terminal:
            return
        self._rows("UPDATE jobs SET cancelled = ? WHERE job_id = ?", (time.time(), handle.provider_job_id))

    @override
    def get_job_receipt(self, handle: JobHandle) -> JobReceipt:
        self._dawdle()
        rows = self._rows(
            "SELECT created, cancelled, jobs.sha, shots, coalesce(packed.num_clbits, jobs.num_clbits),"
            " coalesce(packed.sha, jobs.sha) FROM jobs LEFT JOIN packed"
            " ON packed.job_id = jobs.job_id AND packed.pack_index = ? WHERE jobs.job_id = ?",
            (handle.pack_index, handle.provider_job_id),
        )
        if not rows:
            return _receipt(handle, ProviderStatus.UNKNOWN, None, {})
        created, cancelled, sha, shots, num_clbits, circuit_sha = rows[0]
        status = ProviderStatus.of(self._status(created, cancelled, sha).status)
        ended = created + self._config.queue_seconds + self._config.run_seconds
        times = {"createdAt": _iso(created), "endedAt": _iso(cancelled or ended)}
        if status is not ProviderStatus.COMPLETED:
            return _receipt(handle, status, shots, times, message=_failure(status))
        receipt = _receipt(handle, status, shots, times)
        cost = round(self._config.price_per_task + self._config.price_per_shot * shots, 6)
        counts = self._counts(circuit_sha, shots, num_clbits)
        return receipt.model_copy(update={"cost": cost, "results": {"measurementCounts": counts}})

    @override
    def get_availability(self, device_id: str | None = None) -> AvailabilityStatus | None:
        self._dawdle()
        name = device_id or _DEVICES[0][0]
        if name not in [device for device, _, _ in _DEVICES]:
            return None
        finished = time.time() - self._config.queue_seconds - self._config.run_seconds
        rows = self._rows(
            "SELECT count(*) FROM jobs WHERE device_id = ? AND cancelled IS NULL AND created > ?", (name, finished)
        )
        up = not self._config.offline
        return AvailabilityStatus(
            availability="ONLINE" if up else "MAINTENANCE",
            pending_jobs=rows[0][0],
            is_available=up,
            status_msg="mock: random counts, for trials only",
        )

    @override
    def get_pricing(self, device_id: str | None = None) -> dict[str, float] | None:
        return {"perTask": self._config.price_per_task, "perShot": self._config.price_per_shot, "perMinute": 0.0}

    @override
    def limits(self) -> Limits:
        return Limits(
            poll_interval_seconds=self._config.poll_interval_seconds,
            max_poll_batch=500,
            max_pack=self._config.max_pack,
        )

    @override
    def close(self) -> None:
        with self._lock:
            self._cloud.close()

    def _submitted(
        self, payloads: Sequence[str], device_id: str | None, shots: int, token: str | None
    ) -> list[JobHandle]:
        self._dawdle()
        circuits = [_facts(payload) for payload in payloads]
        device = device_id or _DEVICES[0][0]
        with self._lock:
            job_id = self._create(token, device, shots, circuits)
            lost, self._answers_to_lose = self._answers_to_lose > 0, max(self._answers_to_lose - 1, 0)
        if lost:
            raise SubmitUnknown("the mock lost the answer to a submit")
        places = [None] if len(circuits) == 1 else range(len(circuits))
        return [JobHandle(provider_job_id=job_id, device_id=device, pack_index=place) for place in places]

    def _create(self, token: str | None, device: str, shots: int, circuits: Sequence[tuple[int, str]]) -> str:
        """One transaction, so that whoever dies in the middle leaves a job and its submit, or neither."""
        self._cloud.execute("BEGIN IMMEDIATE")
        job_id = self._inserted(token, device, shots, circuits)
        self._cloud.execute("COMMIT")
        return job_id

    def _inserted(self, token: str | None, device: str, shots: int, circuits: Sequence[tuple[int, str]]) -> str:
        now = time.time()
        known = None
        if token is not None and self._config.idempotency in (Idempotency.TOKEN, Idempotency.CLIENT_ID):
            known = self._cloud.execute("SELECT job_id FROM jobs WHERE token = ?", (token,)).fetchone()
        if known is None:
            number = self._cloud.execute("SELECT coalesce(max(number), 0) + 1 FROM jobs").fetchone()[0]
            known = (f"mock-{number:06d}",)
            num_clbits, sha = circuits[0]
            if len(circuits) > 1:
                sha = hashlib.sha256("/".join(one for _, one in circuits).encode()).hexdigest()
                members = [(known[0], place, *circuit) for place, circuit in enumerate(circuits)]
                self._cloud.executemany("INSERT INTO packed VALUES (?,?,?,?)", members)
            self._cloud.execute(
                "INSERT INTO jobs (job_id, token, device_id, shots, num_clbits, sha, created) VALUES (?,?,?,?,?,?,?)",
                (known[0], token, device, shots, num_clbits, sha, now),
            )
        self._cloud.execute("INSERT INTO submits (token, job_id, at) VALUES (?, ?, ?)", (token, known[0], now))
        return str(known[0])

    def _rows(self, statement: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._cloud.execute(statement, values).fetchall()

    def _status(self, created: float, cancelled: float | None, sha: str) -> BaseExecutionStatus:
        age = time.time() - created
        left = self._config.queue_seconds + self._config.run_seconds - age
        eta = int(left) if self._config.foretell else None
        if self._config.unknown_status:
            return BaseExecutionStatus(status="EVAPORATED")
        if cancelled is not None:
            return BaseExecutionStatus(status=ProviderStatus.CANCELLED)
        if age < self._config.queue_seconds:
            return BaseExecutionStatus(status=ProviderStatus.QUEUED, eta_seconds=eta)
        if left > 0:
            return BaseExecutionStatus(status=ProviderStatus.RUNNING, eta_seconds=eta)
        if self._random(sha, "fails").random() < self._config.fail_rate:
            return BaseExecutionStatus(status=ProviderStatus.FAILED, message=_failure(ProviderStatus.FAILED))
        return BaseExecutionStatus(status=ProviderStatus.COMPLETED)

    def _counts(self, sha: str, shots: int, num_clbits: int) -> Counts:
        draw = self._random(sha, str(shots))
        keys = sorted({format(draw.getrandbits(num_clbits), f"0{num_clbits}b") for _ in range(_MAX_OUTCOMES)})
        return dict(sorted(Counter(draw.choices(keys, k=shots)).items()))

    def _random(self, *words: str) -> random.Random:
        digest = hashlib.sha256("/".join((str(self._config.seed), *words)).encode()).digest()
        return random.Random(digest)  # noqa: S311 - repeatable on purpose

    def _dawdle(self) -> None:
        if self._config.latency_seconds:
            time.sleep(self._config.latency_seconds)


_UNKNOWN_JOB: Final = BaseExecutionStatus(status=ProviderStatus.UNKNOWN, message="the mock has no such job")


def _capability(qubits: int) -> Capability:
    return Capability(num_qubits=qubits, basis_gates=["cx", "rz", "sx", "x"], extras={"simulates_nothing": True})


def _failure(status: ProviderStatus) -> str | None:
    return "the mock was told to fail this job" if status is ProviderStatus.FAILED else None


def _receipt(
    handle: JobHandle,
    status: ProviderStatus,
    shots: int | None,
    timestamps: dict[str, Any],
    message: str | None = None,
) -> JobReceipt:
    return JobReceipt(
        provider="mock",
        provider_job_id=handle.provider_job_id,
        status=status,
        device_id=handle.device_id,
        shots=shots,
        timestamps=timestamps,
        metadata={"mock": True, "currency": "USD", "counts_source": "sampled", "message": message},
    )


def _facts(circuit_data: str) -> tuple[int, str]:
    """Number of classical bits and a hash: from our own payload, else from a glance at OpenQASM text."""
    if circuit_data.startswith('{"mock"'):
        facts = json.loads(circuit_data)["mock"]
        return facts["num_clbits"], f"{facts['sha']}/{facts['seed']}"
    sizes = [int(match.group(1) or match.group(2) or 1) for match in _REGISTER.finditer(circuit_data)]
    return max(sum(sizes), 1), hashlib.sha256(circuit_data.encode()).hexdigest()


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat()
