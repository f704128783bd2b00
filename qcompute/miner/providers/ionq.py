"""IonQ's quantum computers and simulator, over IonQ's own REST API v0.4.

Talks to: ``https://api.ionq.co/v0.4``. Needs: an API key from https://cloud.ionq.com/settings/keys; nothing installed.
Cannot: run conditions or loops (no target does), or measure on the ideal simulator, which reports probabilities: counts
are derived from them and marked ``sampled``. Sessions, and with them a limit on cost at IonQ, must be enabled for the
account. Checked against IonQ's OpenAPI description of 1 October 2026, never against a live account.

IonQ has no idempotency key and no search: the token is a job's name and in its metadata, and `find` reads the list of
recent jobs through.
"""

from __future__ import annotations

import json
import math
import re
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator
from typing_extensions import override

from qcompute.circuits.measurement import MeasurementMap
from qcompute.circuits.program import CompiledCircuit, JobOptions
from qcompute.circuits.target import Dialect, Target
from qcompute.connections.credentials import Secret
from qcompute.connections.findings import Finding, Subject, good, notice
from qcompute.errors import BadReply, CannotRun, QuotaSpent, Refused, VendorError
from qcompute.miner.providers.base import (
    NOT_APPLICABLE,
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
    Rate,
    Verb,
    check_width,
    device_findings,
)
from qcompute.units import IdempotencyToken, Money, utc_now
from qcompute.vendor.http import Timeouts
from qcompute.vendor.ionq.api import (
    CALIBRATED,
    MAX_PAGE,
    Backend,
    Backwards,
    Characterization,
    IonqClient,
    Job,
    currency_of,
    is_simulator,
    mapping,
    metadata_of,
    moment_of,
    question_of,
    wished_body,
)
from qcompute.vendor.ionq.results import counts_of_job, written_registers
from qcompute.vendor.prices import Prices

_STATUS: Final = {
    "submitted": ProviderStatus.QUEUED,
    "ready": ProviderStatus.QUEUED,
    "started": ProviderStatus.RUNNING,
    "running": ProviderStatus.RUNNING,  # of API versions before 0.4
    "completed": ProviderStatus.COMPLETED,
    "failed": ProviderStatus.FAILED,
    "canceled": ProviderStatus.CANCELLED,
}
_AVAILABILITY: Final = {"available": ("ONLINE", True), "unavailable": ("OFFLINE", False)}

_GATES: Final = (
    *("x", "y", "z", "h", "s", "sdg", "t", "tdg", "sx", "rx", "ry", "rz", "p"),
    *("cx", "cy", "cz", "ch", "cp", "crx", "cry", "crz", "swap"),
)
"""Of ``stdgates.inc``, those on at most two qubits: IonQ prices one- and two-qubit gates."""

_MAX_SHOTS: Final = 1_000_000
_MAX_PAGES: Final = 100
"""Of the list of jobs, 100 jobs each where the vendor gives as many."""
_AVAILABLE_SECONDS: Final = 5.0
_DEVICES_SECONDS: Final = 60.0
_CALIBRATION_SECONDS: Final = 3600.0
_ESTIMATE_SECONDS: Final = 60.0
_MAX_ESTIMATES: Final = 1000

_ENVELOPE: Final = '{"ionq":'
_OPENQASM_2: Final = re.compile(r"^\s*OPENQASM\s+2", re.MULTILINE)


class IonqConfig(BaseModel):
    """An IonQ account and what it may be used for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    api_key: Secret = Field(default="ionq", validate_default=True)
    """Name of the secret that holds the API key: ``ionq`` is the variable QCOMPUTE_SECRET_IONQ."""
    url: str = "https://api.ionq.co/v0.4"
    """Base of the API, with its version. The key is sent there: only https, or a loopback address for tests."""
    backends: tuple[str, ...] = ()
    """Which backends are offered, by IonQ's names (``qpu.forte-1``, ``simulator``), the preferred one first. Empty
    offers all that are not retired, quantum computers first: a job that names no device then costs money."""
    mid_circuit_backends: tuple[str, ...] = ()
    """Backends known to measure and reset within a circuit. Circuits that do so are refused on all others, before
    anything is paid."""
    session_cost_limit_usd: Decimal | None = Field(default=None, gt=0)
    """USD that all jobs of one quantum computer may cost together, kept by IonQ itself: such jobs run in a session with
    this limit, a new one at each start of the daemon. The account must have sessions. None: no limit at IonQ."""
    prices: Prices = Prices()
    """What is told as the price, and expected as cost when IonQ's own estimate cannot be had. All zero: not known."""
    poll_seconds: float = Field(default=5.0, gt=0)
    """How often a young job is asked for; one request serves 100 jobs. IonQ's rate limits are not published."""
    max_running_jobs: int | None = Field(default=None, ge=1)
    """Jobs that run here at once, where you know it: a job whose shots are split gets at most so many parts. It keeps
    nothing back: a vendor that has enough says so, and jobs wait."""
    timeout_seconds: float = Field(default=30.0, gt=0)
    """How long an answer may take to come."""
    submit_timeout_seconds: float = Field(default=120.0, gt=0)
    """The same for the one call that is paid. Shorter makes more submits whose outcome must be looked up."""

    @field_validator("url")
    @classmethod
    def _is_safe(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme != "https" and (parts.scheme, parts.hostname) not in (("http", "127.0.0.1"), ("http", "::1")):
            raise ValueError("the API key is sent over https only")
        return url


class IonqAdapter(ProviderAdapter):
    """See the module's text. Thread-safe."""

    idempotency: ClassVar[Idempotency] = Idempotency.SCAN
    Config: ClassVar[type[BaseModel] | None] = IonqConfig

    def __init__(self, config: BaseModel | None = None) -> None:
        self._config = config if isinstance(config, IonqConfig) else IonqConfig()
        timeouts = Timeouts(
            read_seconds=self._config.timeout_seconds, paid_read_seconds=self._config.submit_timeout_seconds
        )
        self._client = IonqClient(self._config.url, self._config.api_key, timeouts)
        self._lock = threading.Lock()
        self._sessions_lock = threading.Lock()
        self._seen: tuple[float, list[Backend]] | None = None
        self._calibrations: dict[str, tuple[float, Characterization | None]] = {}
        self._estimates: dict[str, tuple[float, Money | None]] = {}
        self._sessions: dict[str, str] = {}

    @override
    def list_devices(self) -> list[Device]:
        return [
            Device(
                device_id=one.backend,
                provider="ionq",
                vendor="IonQ",
                device_type="SIMULATOR" if is_simulator(one.backend) else "QPU",
            )
            for one in self._backends(_DEVICES_SECONDS)
        ]

    @override
    def list_capabilities(self) -> list[Capability]:
        return [self._capability(one) for one in self._backends(_DEVICES_SECONDS)]

    @override
    def get_capability(self, device_id: str | None = None) -> Capability | None:
        backend = self._backend(device_id, _DEVICES_SECONDS)
        return None if backend is None else self._capability(backend)

    @override
    def get_availability(self, device_id: str | None = None) -> AvailabilityStatus | None:
        backend = self._backend(device_id, _AVAILABLE_SECONDS)
        if backend is None:
            return None
        word, is_available = _AVAILABILITY.get(backend.status, (None, None))
        if backend.degraded and is_available:
            word = "DEGRADED"
        text = self._client.scrubbed(backend.queue_text)
        wait = backend.queue_seconds
        return AvailabilityStatus(availability=word, is_available=is_available, queue_seconds=wait, status_msg=text)

    @override
    def get_pricing(self, device_id: str | None = None) -> dict[str, float] | None:
        if device_id is not None and is_simulator(device_id):
            return {"perTask": 0.0, "perShot": 0.0, "perMinute": 0.0}
        table = self._config.prices.table()
        return table if any(table.values()) else None

    @override
    def price_currency(self) -> str:
        return self._config.prices.currency

    @override
    def check(self, circuit: CompiledCircuit, device: Device, shots: int) -> None:
        check_width(circuit, device, Capability(num_qubits=self._qubits(device.device_id)))
        if shots > _MAX_SHOTS:
            raise CannotRun(f"{device.device_id} takes at most {_MAX_SHOTS} shots", reason="too_many_shots")

    @override
    def target(self, device: Device, options: JobOptions) -> Target | None:
        del options
        mid_circuit = device.device_id in self._config.mid_circuit_backends
        return Target(
            dialect=Dialect.OPENQASM_3,
            num_qubits=self._qubits(device.device_id),
            basis_gates=_GATES,
            can_reset=mid_circuit,
            can_measure_mid_circuit=mid_circuit,
        )

    @override
    def prepare(self, circuit: CompiledCircuit, device: Device, shots: int, options: JobOptions) -> Prepared:
        prepared = Prepared(payload="", compiled=circuit, options=options)
        body = wished_body(options, device.device_id, shots)
        if "settings" in body and len(written_registers(prepared.measurement)) > 1:
            # Mitigated results may be distributions by register and no shots: what belongs together is lost.
            raise CannotRun("error mitigation needs all bits measured into one register", reason="bad_option")
        content = {
            "program": circuit.text,
            "measurement": prepared.measurement.model_dump(mode="json"),
            "mid_circuit": circuit.has_mid_circuit_measurement,
            "body": body,
        }
        payload = _ENVELOPE + json.dumps(content, separators=(",", ":")) + "}"
        return Prepared(payload=payload, compiled=circuit, options=options)

    @override
    def submit(
        self,
        circuit_data: str,
        device_id: str | None = None,
        shots: int | None = None,
        *,
        token: IdempotencyToken | None = None,
        options: JobOptions | None = None,
    ) -> JobHandle:
        device = device_id or next((one.device_id for one in self.list_devices()), None)
        if device is None:
            raise Refused("IonQ offers no backend")
        asked = shots or 1024
        order = _opened(circuit_data, device, asked, options or JobOptions())
        if _OPENQASM_2.search(order["program"]):
            raise Refused("IonQ takes OpenQASM 3")
        measurement = None if order["measurement"] is None else MeasurementMap.model_validate(order["measurement"])
        body: dict[str, Any] = order["body"] | {
            "type": "ionq.qasm3.v1",
            "backend": device,
            "shots": asked,
            "input": {"data": order["program"]},
            "metadata": metadata_of(token, asked, measurement, mid_circuit=order["mid_circuit"]),
        }
        if token is not None:
            body["name"] = token
        session = self._session(device)
        if session is not None:
            body["session_id"] = session
        try:
            job_id = self._client.create_job(body)
        except Refused as refusal:
            if session is not None and self._client.session_has_ended(session):
                raise QuotaSpent(f"the session of {device} has ended, at its limit or otherwise: {refusal}") from None
            raise
        return JobHandle(provider_job_id=job_id, device_id=device, measurement=measurement)

    @override
    def check_connection(self) -> Iterator[Finding]:
        key = self._client.whoami()
        name, limit = self._client.scrubbed(key.key_name), self._config.session_cost_limit_usd
        yield good(Subject.IDENTITY, f"the key {name!r} of project {self._client.scrubbed(key.project_id or 'none')}")
        if limit is None:
            fix = "set session_cost_limit_usd, or a limit of the project at IonQ, which the key cannot read"
            yield notice(Subject.COST_LIMIT, "no limit of ours at IonQ", fix)
        else:
            yield good(Subject.COST_LIMIT, f"jobs of a quantum computer run in a session of at most {limit} USD")
        yield from device_findings(self)

    @override
    def find(self, token: IdempotencyToken, since: datetime) -> Found | Absent | CannotTell:
        backwards = Backwards(since)
        found: list[Job] = []
        cursor: str | None = None
        for _ in range(_MAX_PAGES):
            page = self._client.jobs(cursor)
            found += [job for job in page.jobs if job.is_of(token)]
            if page.next is None or backwards.has_passed(page.jobs):
                return _answer(found)
            cursor = page.next
        if found:
            return _answer(found)
        return CannotTell(f"{_MAX_PAGES} pages of IonQ's list of jobs do not reach back to {since:%Y-%m-%d %H:%M}")

    @override
    def poll(self, handle: JobHandle) -> BaseExecutionStatus:
        return self._status(self._client.job_if_known(handle.provider_job_id))

    @override
    def poll_many(self, handles: Sequence[JobHandle]) -> list[BaseExecutionStatus]:
        if len(handles) == 1:
            return [self.poll(handles[0])]
        jobs: dict[str, Job] = {}
        for start in range(0, len(handles), MAX_PAGE):
            ids = frozenset(handle.provider_job_id for handle in handles[start : start + MAX_PAGE])
            try:
                jobs |= self._client.jobs_by_id(ids)
            except Refused:  # one id it does not like must not hide the others
                return [self.poll(handle) for handle in handles]
        return [self._status(jobs.get(handle.provider_job_id)) for handle in handles]

    @override
    def cancel(self, handle: JobHandle) -> None:
        try:
            self._client.cancel(handle.provider_job_id)
        except Refused:
            status = ProviderStatus(self.poll(handle).status)
            if status in (ProviderStatus.QUEUED, ProviderStatus.RUNNING):
                raise

    @override
    def get_job_receipt(self, handle: JobHandle) -> JobReceipt:
        job = self._client.job(handle.provider_job_id)
        status = _STATUS.get(job.status, ProviderStatus.UNKNOWN)
        metadata = self._facts(job)
        results: dict[str, Any] | None = None
        if status is ProviderStatus.COMPLETED:
            counts, form, source = counts_of_job(job, handle.measurement or job.measurement, self._client.result)
            results = {"measurementCounts": counts}
            metadata |= {"counts_format": form, "counts_source": source}
        cost, worth = self._cost(handle)
        return JobReceipt(
            provider="ionq",
            provider_job_id=handle.provider_job_id,
            status=status,
            device_id=handle.device_id,
            cost=cost,
            shots=job.asked_shots,
            timestamps=job.timestamps,
            results=results,
            metadata=metadata | worth,
        )

    @override
    def estimate(self, prepared: Prepared, device: Device, shots: int) -> Money | None:
        if is_simulator(device.device_id):
            return Money(Decimal(0), "USD")
        translation = prepared.compiled.translation
        answer: Money | None = None
        if translation is not None:
            mitigated = "settings" in wished_body(prepared.options, device.device_id, None)
            answer = self._asked_estimate(question_of(translation, device.device_id, shots, mitigated=mitigated))
        if answer is None and self.get_pricing(device.device_id) is not None:
            return self._config.prices.estimate(shots)
        return answer

    @override
    def limits(self) -> Limits:
        return Limits(
            # IonQ publishes no limits. These are polite; a 429 stops the verb for the whole account.
            rates={Verb.SUBMIT: Rate(10, 20), Verb.FIND: Rate(1, 5), Verb.POLL: Rate(10, 20), Verb.CANCEL: Rate(5, 10)},
            max_poll_batch=MAX_PAGE,
            max_running_jobs=self._config.max_running_jobs,
            poll_interval_seconds=self._config.poll_seconds,
        )

    @override
    def close(self) -> None:
        self._client.close()

    def _backends(self, max_age_seconds: float) -> list[Backend]:
        """All that are offered, in their order; asked for anew when the last answer is older than this."""
        with self._lock:
            if self._seen is None or time.monotonic() - self._seen[0] > max_age_seconds:
                self._seen = (time.monotonic(), self._client.backends())
            seen = [one for one in self._seen[1] if one.status != "retired"]
        wanted = self._config.backends
        if wanted:
            return sorted((one for one in seen if one.backend in wanted), key=lambda one: wanted.index(one.backend))
        return sorted(seen, key=lambda one: (is_simulator(one.backend), one.backend))

    def _backend(self, device_id: str | None, max_age_seconds: float) -> Backend | None:
        seen = self._backends(max_age_seconds)
        return next((one for one in seen if device_id in (None, one.backend)), None)

    def _qubits(self, device_id: str) -> int | None:
        backend = self._backend(device_id, _DEVICES_SECONDS)
        return None if backend is None else backend.qubits or None

    def _capability(self, backend: Backend) -> Capability:
        simulator = is_simulator(backend.backend)
        extras: dict[str, Any] = {
            "native_gates": NOT_APPLICABLE if simulator else backend.supported_native_gates,
            "error_mitigations": backend.supported_error_mitigations,
            "max_shots": _MAX_SHOTS,
            "can_measure_mid_circuit": backend.backend in self._config.mid_circuit_backends or None,
            "can_branch": False,
        }
        newest = None if simulator else self._characterization(backend.backend)
        extras |= dict.fromkeys(CALIBRATED, NOT_APPLICABLE if simulator else None)
        extras |= {} if newest is None else newest.extras(backend.qubits or 0)
        return Capability(num_qubits=backend.qubits or None, basis_gates=backend.supported_gates, extras=extras)

    def _characterization(self, backend: str) -> Characterization | None:
        """The newest one; None when there is none or it cannot be had now, which is forgotten sooner."""
        known = self._calibrations.get(backend)
        if known is not None and time.monotonic() < known[0]:
            return known[1]
        keep_seconds, newest = _CALIBRATION_SECONDS, None
        try:
            newest = self._client.characterization(backend)
        except VendorError:  # a device is described without it rather than not at all
            keep_seconds = _DEVICES_SECONDS
        self._calibrations[backend] = (time.monotonic() + keep_seconds, newest)
        return newest

    def _session(self, backend: str) -> str | None:
        """The session whose cost limit jobs of ``backend`` share. One whose creation got no answer stays unused."""
        limit = self._config.session_cost_limit_usd
        if limit is None or is_simulator(backend):
            return None
        with self._sessions_lock:
            if backend not in self._sessions:
                self._sessions[backend] = self._client.create_session(backend, limit)
            return self._sessions[backend]

    def _status(self, job: Job | None) -> BaseExecutionStatus:
        if job is None:
            return BaseExecutionStatus(status=ProviderStatus.UNKNOWN, message="IonQ does not know this job")
        status = _STATUS.get(job.status, ProviderStatus.UNKNOWN)
        wait_ms = job.predicted_wait_time_ms if status is ProviderStatus.QUEUED else None
        text = job.failure_text
        if status is ProviderStatus.UNKNOWN:
            text = f"IonQ says {job.status!r}"
        return BaseExecutionStatus(
            status=status,
            eta_seconds=None if wait_ms is None else math.ceil(wait_ms / 1000),
            message=None if text is None else self._client.scrubbed(text),
        )

    def _facts(self, job: Job) -> dict[str, Any]:
        return {
            "vendor_status": self._client.scrubbed(job.status),
            "message": self._status(job).message,
            "session_id": job.session_id,
            "gate_counts": mapping(job.stats).get("gate_counts"),
            "quantum_seconds": job.quantum_seconds,
        }

    def _cost(self, handle: JobHandle) -> tuple[float | None, dict[str, Any]]:
        """What IonQ charged, in a currency; credits are worth what a contract says and go to the facts alone."""
        try:
            amount, kind = self._client.cost(handle.provider_job_id).best
        except (Refused, BadReply):
            amount, kind = None, ""
        if amount is None:
            # IonQ has no cost for "free targets such as simulators".
            return (0.0, {"cost_kind": "actual", "currency": "USD"}) if is_simulator(handle.device_id) else (None, {})
        if amount.currency is None:
            return None, {"vendor_cost": str(amount.value), "vendor_cost_unit": self._client.scrubbed(amount.unit)}
        return float(amount.value), {"cost_kind": kind, "currency": amount.currency}

    def _asked_estimate(self, question: dict[str, str]) -> Money | None:
        key = json.dumps(question)
        known = self._estimates.get(key)
        if known is not None and time.monotonic() < known[0]:
            return known[1]
        try:
            answer = self._client.estimate(question)
        except VendorError:
            return None
        currency = currency_of(answer.estimated_unit)
        money = None if currency is None else Money(answer.estimated_total_cost, currency)
        if len(self._estimates) >= _MAX_ESTIMATES:
            self._estimates.clear()
        self._estimates[key] = (time.monotonic() + _ESTIMATE_SECONDS, money)
        return money


def _answer(found: list[Job]) -> Found | Absent:
    if not found:
        return Absent()
    oldest_first = sorted(found, key=lambda job: (moment_of(job.submitted_at) or utc_now(), job.id))
    return Found(
        handles=[
            JobHandle(provider_job_id=job.id, device_id=job.backend or "", measurement=job.measurement)
            for job in oldest_first
        ]
    )


def _opened(circuit_data: str, device_id: str, shots: int, options: JobOptions) -> dict[str, Any]:
    """What `prepare` put together, of our own payload or of plain OpenQASM 3."""
    if circuit_data.startswith(_ENVELOPE):
        return json.loads(circuit_data)["ionq"]
    body = wished_body(options, device_id, shots)
    return {"program": circuit_data, "measurement": None, "mid_circuit": False, "body": body}
