"""IBM Quantum through its REST API.

Talks to: ``quantum.cloud.ibm.com`` (or its regional host) and ``iam.cloud.ibm.com``, for one instance. Needs:
``pip install 'qcompute[ibm]'``, an API key and the instance's CRN. Cannot: know what a job costs (IBM has no price API,
the operator says it), cancel one circuit of a pack, run sessions. Checked against qiskit-ibm-runtime 0.51.

IBM's client makes the request bodies and reads the results, in a sandboxed child (`qcompute.vendor.ibm.programs`); the
daemon imports nothing of it, and HTTP is ours (`qcompute.vendor.ibm.api` says why).

IBM takes five jobs a minute, so circuits for one device travel together. A job is found again by its tag
``qc:<token>``; all our jobs carry the tag ``qcompute``, so that one request asks for all that have not ended.
"""

from __future__ import annotations

import json
import logging
import threading
import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from typing_extensions import override

from qcompute.circuits.measurement import MeasurementMap
from qcompute.circuits.program import CompiledCircuit, JobOptions
from qcompute.circuits.sandbox import SandboxLimits, SandboxPool
from qcompute.circuits.target import Target
from qcompute.connections.credentials import Secret
from qcompute.connections.findings import Finding, Grade, Subject, good, notice
from qcompute.errors import (
    AuthFailed,
    BadReply,
    CannotRun,
    QuotaSpent,
    Refused,
    SandboxUnavailable,
    SubmitUnknown,
    Unavailable,
    VendorError,
)
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
    Rate,
    Verb,
    check_width,
    device_findings,
)
from qcompute.units import IdempotencyToken, Money
from qcompute.vendor.http import Timeouts
from qcompute.vendor.ibm import api
from qcompute.vendor.ibm.backend import Calibrated
from qcompute.vendor.kept import Kept
from qcompute.vendor.prices import Prices

_log = logging.getLogger(__name__)

TAG: Final = "qcompute"
_ENVELOPE: Final = '{"ibm"'
_LIST_SECONDS: Final = 20.0
_USAGE_SECONDS: Final = 60.0
_DETAILS_SECONDS: Final = 3600.0
_FULL_SECONDS: Final = 60.0
"""When to try again after IBM said that too many jobs are waiting."""

_TOO_LONG_WORD: Final = "cancelled - ran too long"
_TOO_LONG: Final = 1305
"""IBM's word for a job that reached ``max_execution_seconds``, and its reason code where it says Cancelled instead."""
_STATUSES: Final = {
    "queued": ProviderStatus.QUEUED,
    "running": ProviderStatus.RUNNING,
    "completed": ProviderStatus.COMPLETED,
    "failed": ProviderStatus.FAILED,
    "cancelled": ProviderStatus.CANCELLED,
    _TOO_LONG_WORD: ProviderStatus.FAILED,
}
_QUOTA_CODE: Final = "4317"
_FULL_CODE: Final = "3458"
"""IBM's error codes at a submit: the account's time is used up; too many jobs are waiting."""

_AVAILABILITY: Final = {"online": "ONLINE", "offline": "OFFLINE", "paused": "MAINTENANCE", "maintenance": "MAINTENANCE"}
_OVERHEAD_SECONDS: Final = 2.0
_SHOT_SECONDS: Final = 0.00035
"""IBM's own rule of thumb for a job's time: two seconds, and 350 µs for each shot."""


class IbmConfig(BaseModel):
    """One instance of one IBM Quantum account."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    token: Secret
    """Name of the secret that holds the API key."""
    instance: str = Field(pattern=r"^crn:v1:[^:\s]+:[^:\s]+:[^:\s]+:[a-z0-9-]+:[^\s]+$")
    """The instance's CRN: who pays. Needed, because without it IBM may choose another instance of the account."""
    devices: tuple[str, ...] = ()
    """Devices that are offered, by name; none named: all of the instance."""
    prices: Prices | None = None
    """What the account's plan costs, in ``per_minute`` of quantum time. Without it no cost is known, and no budget can
    hold jobs back."""
    max_execution_seconds: int = Field(default=300, ge=1, le=10800)
    """Quantum time after which IBM ends a job, however many circuits are in it. It is the most one job can cost; a job
    that reaches it has failed and is charged."""
    use_fractional_gates: bool = False
    """Compile to ``rx`` and ``rzz`` where the device has them."""
    include_internal: bool = False
    """Treat a device that says ``internal`` as available. It takes jobs and runs only IBM's own."""
    max_pack: int = Field(default=20, ge=1, le=100)
    """Circuits in one job. They are run, cancelled and cut short together."""
    max_running_jobs: int | None = Field(default=None, ge=1)
    """Jobs that run here at once, where you know it: a job whose shots are split gets at most so many parts. It keeps
    nothing back: a vendor that has enough says so, and jobs wait."""
    timeout_seconds: float = Field(default=30.0, gt=0)
    """How long IBM may be silent while it answers a free request."""
    submit_timeout_seconds: float = Field(default=120.0, gt=0)
    """The same for a submit. Too short makes jobs that are searched for instead of answers."""
    url: str | None = None
    """Base URL of the API; by default the one of the instance's region."""
    iam_url: str = api.IAM_URL
    """Where the API key is exchanged for an access token."""

    @field_validator("url", "iam_url")
    @classmethod
    def _is_safe(cls, url: str | None) -> str | None:
        parts = urlsplit(url or api.IAM_URL)
        if parts.scheme != "https" and parts.hostname != "127.0.0.1":
            raise ValueError("it must begin with https://: the API key is sent there")
        return url


class IbmAdapter(ProviderAdapter):
    """See the module's text."""

    requires: ClassVar[tuple[str, ...]] = ("qiskit_ibm_runtime",)
    extra: ClassVar[str | None] = "ibm"
    idempotency: ClassVar[Idempotency] = Idempotency.TAG
    Config: ClassVar[type[BaseModel] | None] = IbmConfig

    def __init__(self, config: IbmConfig) -> None:
        self._config = config
        self._http = api.IbmHttp(
            config.url or api.api_url(config.instance),
            config.iam_url,
            api_key=config.token,
            instance=config.instance,
            timeouts=Timeouts(read_seconds=config.timeout_seconds, paid_read_seconds=config.submit_timeout_seconds),
        )
        self._pool = SandboxPool(
            "qcompute.vendor.ibm.programs:work",
            limits=SandboxLimits(memory_bytes=4 << 30, cpu_seconds=120.0, wall_seconds=120.0, max_reply_bytes=64 << 20),
            size=1,
            idle_seconds=600.0,
            name="encode for IBM",
        )
        self._backends = Kept(self._fetch_backends, _LIST_SECONDS)
        self._usage = Kept(self._fetch_usage, _USAGE_SECONDS)
        self._details: dict[str, Kept[Calibrated]] = {}
        self._details_lock = threading.Lock()

    @override
    def list_devices(self) -> list[Device]:
        return [
            Device(
                device_id=backend.name,
                provider="ibm",
                vendor="IBM",
                device_type="SIMULATOR" if backend.is_simulator else "QPU",
            )
            for backend in self._backends.get(or_old=True).values()
        ]

    @override
    def list_capabilities(self) -> list[Capability]:
        return [self._capability(name) for name in self._backends.get(or_old=True)]

    @override
    def get_capability(self, device_id: str | None = None) -> Capability | None:
        name = self._named(device_id)
        return None if name is None else self._capability(name)

    @override
    def get_availability(self, device_id: str | None = None) -> AvailabilityStatus | None:
        backend = self._backends.get().get(self._named(device_id) or "")
        if backend is None:
            return None
        word, reason = backend.status.name, backend.status.reason
        internal = "internal" in (word, reason) and not self._config.include_internal
        known = "MAINTENANCE" if internal else _AVAILABILITY.get("online" if word == "internal" else word)
        message = self._http.scrubbed(f"{word}: {reason}" if reason else word)
        if known == "ONLINE" and self._usage.get():
            known, message = "OFFLINE", "the instance has met its usage limit: jobs would wait until it has time again"
        return AvailabilityStatus(
            availability=known,
            pending_jobs=backend.queue_length,
            is_available=known == "ONLINE",
            status_msg=message,
        )

    @override
    def get_pricing(self, device_id: str | None = None) -> dict[str, float] | None:
        return None if self._config.prices is None else self._config.prices.table()

    @override
    def price_currency(self) -> str:
        return "USD" if self._config.prices is None else self._config.prices.currency

    @override
    def estimate(self, prepared: Prepared, device: Device, shots: int) -> Money | None:
        if self._config.prices is None:
            return None
        seconds = min(_OVERHEAD_SECONDS + _SHOT_SECONDS * shots, float(self._config.max_execution_seconds))
        return self._config.prices.estimate(shots, seconds)

    @override
    def target(self, device: Device, options: JobOptions) -> Target | None:
        return self._details_of(device.device_id).target(fractional=self._config.use_fractional_gates)

    @override
    def check(self, circuit: CompiledCircuit, device: Device, shots: int) -> None:
        capability = self._capability(device.device_id)
        check_width(circuit, device, capability)
        if not circuit.measured:
            raise CannotRun("the circuit measures nothing", reason="no_measurement")
        most = (capability.extras or {}).get("max_shots")
        if most is not None and shots > most:
            raise CannotRun(f"{device.device_id} takes at most {most} shots, not {shots}", reason="too_many_shots")

    @override
    def prepare(self, circuit: CompiledCircuit, device: Device, shots: int, options: JobOptions) -> Prepared:
        if circuit.translation is None:
            return Prepared(payload=circuit.text, compiled=circuit, options=options)
        measurement = circuit.translation.measurement.model_dump(mode="json")
        payload = json.dumps({"ibm": {"qpy": circuit.text, "measurement": measurement}})
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
        return self._create([circuit_data], device_id, shots or 1024, token or str(uuid.uuid4()))[0]

    @override
    def submit_many(
        self, prepared: Sequence[Prepared], device_id: str, shots: int, *, token: IdempotencyToken
    ) -> list[JobHandle]:
        return self._create([one.payload for one in prepared], device_id, shots, token)

    @override
    def check_connection(self) -> Iterator[Finding]:
        self._backends.get(or_old=False)
        yield good(Subject.IDENTITY, f"the instance {self._config.instance} lets us in")
        try:
            usage = self._http.get("/instances/usage").read(api.InstanceUsage, what="IBM's usage")
        except VendorError as error:  # an API key may be without the right to ask
            yield notice(Subject.QUOTA, f"not known: {error.message}")
        else:
            if usage.usage_limit_reached:
                yield Finding(Subject.QUOTA, Grade.FAILED, usage.text, "raise the instance's limit, or wait")
            else:
                yield good(Subject.QUOTA, usage.text)
        most = f"a job ends after {self._config.max_execution_seconds} s of quantum time (max_execution_seconds)"
        yield good(Subject.COST_LIMIT, most)
        yield from device_findings(self)

    @override
    def find(self, token: IdempotencyToken, since: datetime) -> Found | Absent | CannotTell:
        del since  # a tag is exact
        tag = _tag(token)
        # A server that did not know the filter would give us other people's jobs.
        found = [job for job in self._http.all_jobs(tags=tag, sort="ASC") if tag in (job.tags or ())]
        if not found:
            return Absent()
        found.sort(key=lambda job: job.created or "")
        return Found(handles=[JobHandle(provider_job_id=job.id, device_id=job.backend or "") for job in found])

    @override
    def poll(self, handle: JobHandle) -> BaseExecutionStatus:
        return self.poll_many([handle])[0]

    @override
    def poll_many(self, handles: Sequence[JobHandle]) -> list[BaseExecutionStatus]:
        wanted = dict.fromkeys(handle.provider_job_id for handle in handles)
        known: dict[str, BaseExecutionStatus] = {}
        if len(wanted) > 1:
            page = self._http.jobs(tags=TAG, pending="true")
            known = {job.id: self._status(job) for job in page.jobs if job.id in wanted}
        for job_id in wanted.keys() - known.keys():
            job = self._http.job(job_id)
            known[job_id] = self._status(job) if job else _status_of_nobody()
        return [known[handle.provider_job_id] for handle in handles]

    @override
    def cancel(self, handle: JobHandle) -> None:
        """Of a pack, the whole pack: IBM knows no part of a job."""
        ended_or_unknown = (HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND)
        self._http.call("POST", f"{api.job_path(handle.provider_job_id)}/cancel", accept=ended_or_unknown)

    @override
    def get_job_receipt(self, handle: JobHandle) -> JobReceipt:
        job = self._http.job(handle.provider_job_id)
        if job is None:
            raise BadReply("IBM does not know this job any more", field="id")
        status = self._status(job)
        metrics = self._http.metrics(handle.provider_job_id)
        decoded = self._decoded(handle) if status.status == ProviderStatus.COMPLETED else None
        pack = max((_pack_size(tag) for tag in job.tags or ()), default=1)
        seconds = metrics.usage.charged_seconds
        return JobReceipt(
            provider="ibm",
            provider_job_id=handle.provider_job_id,
            status=status.status,
            device_id=handle.device_id,
            cost=self._cost(seconds, pack, decoded["shots"] if decoded else 0),
            shots=decoded["shots"] if decoded else None,
            timestamps=_timestamps(job, metrics.timestamps),
            results={"measurementCounts": decoded["counts"]} if decoded else None,
            metadata={
                "currency": self.price_currency(),
                "cost_kind": "our_estimate",
                "counts_source": "measured",
                "message": status.message,
                "vendor_status": job.word,
                "quantum_seconds": seconds,
                "usage_status": metrics.usage.status,
                "circuits_in_job": pack,
            },
        )

    @override
    def limits(self) -> Limits:
        return Limits(
            rates={Verb.SUBMIT: Rate(5 / 60, burst=5)},
            max_poll_batch=api.PAGE,
            max_running_jobs=self._config.max_running_jobs,
            max_pack=self._config.max_pack,
            poll_interval_seconds=5.0,
        )

    @override
    def close(self) -> None:
        self._pool.close()
        self._http.close()

    def _fetch_backends(self) -> dict[str, api.Backend]:
        listed = self._http.get("/backends").read(api.Backends, what="IBM's list of backends").devices
        wanted = self._config.devices
        real = {one.name: one for one in listed if one.kind != "mock" and (not wanted or one.name in wanted)}
        if missing := sorted(set(wanted) - real.keys()):
            _log.warning("this IBM instance has no device %s", ", ".join(missing), extra={"action": "ibm_devices"})
        return dict(sorted(real.items()))

    def _fetch_usage(self) -> bool:
        """Whether the instance's time is used up; False when it does not say."""
        try:
            reply = self._http.get("/instances/usage")
            return reply.read(api.InstanceUsage, what="IBM's usage").usage_limit_reached
        except VendorError:  # an API key may be without the right to ask
            return False

    def _named(self, device_id: str | None) -> str | None:
        names = self._backends.get(or_old=True)
        name = next(iter(names), None) if device_id is None else device_id
        return name if name in names else None

    def _details_of(self, name: str) -> Calibrated:
        with self._details_lock:
            kept = self._details.setdefault(name, Kept(lambda: Calibrated.fetch(self._http, name), _DETAILS_SECONDS))
        return kept.get(or_old=True)

    def _capability(self, name: str) -> Capability:
        details = self._details_of(name)
        return Capability(
            num_qubits=details.configuration.n_qubits,
            basis_gates=details.gates(fractional=self._config.use_fractional_gates),
            extras=details.extras(),
        )

    def _create(self, payloads: Sequence[str], device_id: str | None, shots: int, token: str) -> list[JobHandle]:
        name = self._named(device_id)
        if name is None:
            raise Refused(f"this IBM instance has no device {(device_id or '')[:64]!r}", vendor_code="no_device")
        circuits = [_Envelope.of(payload) for payload in payloads]
        tags = [_tag(token), TAG, _pack_tag(len(circuits))]
        body = {
            "program_id": "executor",
            "backend": name,
            "params": self._encoded([circuit.qpy for circuit in circuits], shots, tags),
            "tags": tags,
            "cost": self._config.max_execution_seconds,
        }
        job_id = self._post(body)
        return [
            JobHandle(provider_job_id=job_id, device_id=name, measurement=circuit.measurement, pack_index=index)
            for index, circuit in enumerate(circuits)
        ]

    def _post(self, body: dict[str, Any]) -> str:
        """The one request that costs money; the new job's id."""
        try:
            reply = self._http.call("POST", "/jobs", paid=True, body=body, accept=(HTTPStatus.CONFLICT,))
        except (Refused, AuthFailed) as refusal:
            if refusal.vendor_code == _QUOTA_CODE:
                raise QuotaSpent(refusal.message, vendor_code=_QUOTA_CODE) from None
            if refusal.vendor_code == _FULL_CODE:
                raise Unavailable(refusal.message, vendor_code=_FULL_CODE, retry_after_seconds=_FULL_SECONDS) from None
            raise
        if reply.status == HTTPStatus.CONFLICT:
            raise QuotaSpent("IBM answered 409: the job would exceed the instance's usage limit")
        try:
            return reply.read(api.Created, what="IBM's answer to a submit").id
        except BadReply as error:
            raise SubmitUnknown(error.message) from None

    def _encoded(self, circuits: list[str], shots: int, tags: list[str]) -> dict[str, Any]:
        request = {"task": "encode", "circuits": circuits, "shots": shots, "tags": tags}
        request["max_execution_seconds"] = self._config.max_execution_seconds
        return self._in_child(request)["params"]

    def _decoded(self, handle: JobHandle) -> dict[str, Any]:
        if handle.measurement is None:
            raise BadReply("the job's measurement map is missing", field="measurement")
        result = self._http.get(f"{api.job_path(handle.provider_job_id)}/results").json
        request: dict[str, Any] = {"task": "decode", "result": result, "index": handle.pack_index or 0}
        request["measurement"] = handle.measurement.model_dump(mode="json")
        try:
            return self._in_child(request)
        except CannotRun as refusal:
            raise BadReply(f"IBM's result cannot be read: {refusal.message}", field="results") from None

    def _in_child(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            return self._pool.call(request)
        except SandboxUnavailable as error:
            raise Unavailable(error.message) from None

    def _status(self, job: api.Job) -> BaseExecutionStatus:
        word, state = job.word, job.state
        status = _STATUSES.get(word.casefold(), ProviderStatus.UNKNOWN)
        message = state.reason if state else None
        stopped = status.is_terminal and state is not None and state.reason_code == _TOO_LONG
        if stopped or word.casefold() == _TOO_LONG_WORD:
            status, message = ProviderStatus.FAILED, f"max_execution_time: {message or word}"
        elif status is ProviderStatus.UNKNOWN:
            message = f"IBM says {word!r}"
        return BaseExecutionStatus(status=status, message=self._http.scrubbed(message) if message else None)

    def _cost(self, seconds: float | None, pack: int, shots: int) -> float | None:
        """This circuit's part: the time is split evenly, as all circuits of a pack have the same shots."""
        if self._config.prices is None or seconds is None:
            return None
        return float(round(self._config.prices.estimate(shots, seconds / pack).amount, 9))


class _Envelope(BaseModel):
    """What `IbmAdapter.prepare` makes, for `IbmAdapter.submit`."""

    qpy: str
    measurement: MeasurementMap

    @classmethod
    def of(cls, payload: str) -> _Envelope:
        """Raises `CannotRun` for anything else, and for a circuit without measurement."""
        if not payload.startswith(_ENVELOPE):
            raise CannotRun("IBM takes circuits compiled for one device: prepare this one first", reason="unprepared")
        try:
            made = cls.model_validate(json.loads(payload)["ibm"])
        except (ValueError, ValidationError):
            raise CannotRun("this is not what the ibm provider prepares", reason="unprepared") from None
        if not made.measurement.measured:
            raise CannotRun("the circuit measures nothing", reason="no_measurement")
        return made


def _tag(token: str) -> str:
    return f"qc:{token}"


def _pack_tag(circuits: int) -> str:
    return f"{TAG}-pack-{circuits}"


def _pack_size(tag: str) -> int:
    """How many circuits the job has, if this tag says so; else 1."""
    number = tag.removeprefix(f"{TAG}-pack-")
    return int(number) if number != tag and number.isdecimal() and number != "0" else 1


def _status_of_nobody() -> BaseExecutionStatus:
    return BaseExecutionStatus(status=ProviderStatus.UNKNOWN, message="IBM does not know this job")


def _timestamps(job: api.Job, moments: api.Moments) -> dict[str, Any]:
    times = {
        "createdAt": moments.created or job.created,
        "startedAt": moments.running,
        "endedAt": moments.finished or job.ended,
    }
    return {name: moment for name, moment in times.items() if moment}
