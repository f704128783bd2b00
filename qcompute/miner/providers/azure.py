"""Azure Quantum: IonQ, Quantinuum, Rigetti and others behind one workspace, with azure-quantum 3.13.

Talks to: ``https://<location>.quantum.azure.com`` (API 2026-01-15-preview) and the storage account linked to the
workspace. Needs: ``pip install 'qcompute[azure]'`` and the workspace's access key, or a service principal. Cannot: say
what a job will cost, where it is in the queue, or how good a device is; Azure has no such calls. Takes OpenQASM 2
(Quantinuum H2), IonQ's JSON (IonQ) and QIR base profile (all others). Never tried against the real service.

We choose the job's id from the token: a lost submit is found with one GET, and creating twice is creating once. Only
``PUT …/jobs/{id}`` costs money; azure-core would send it again by itself, so its retries are off throughout.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, ClassVar, Final, Literal, Self, cast
from urllib.parse import parse_qs, quote, urlsplit

from pydantic import BaseModel, Field, model_validator
from typing_extensions import override

from qcompute.circuits.measurement import MeasurementMap
from qcompute.circuits.program import CompiledCircuit, JobOptions, Language
from qcompute.circuits.target import Dialect, Target
from qcompute.connections.findings import Finding, Grade, Subject, good, notice
from qcompute.errors import BadReply, CannotRun, Refused, SubmitUnknown, VendorError
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
    check_width,
    device_findings,
)
from qcompute.units import IdempotencyToken
from qcompute.vendor.azure import wire
from qcompute.vendor.azure.service import AzureAccess, AzureService
from qcompute.vendor.prices import Prices

JOB_NAMESPACE: Final = uuid.UUID("8f0e0d4c-58b1-5d0b-9c39-0f5b6f1b7a51")
"""A job's id is the token's uuid5 in here. Never change it: lost submits would not be found again."""
NAME_PREFIX: Final = "qcompute-"
"""Of the names of all our jobs; lists are asked for by it."""
DEFAULT_SHOTS: Final = 1000
ONE_BY_ONE: Final = 4
"""Up to so many jobs are polled with a GET each; more with pages of a list."""
PAGE: Final = 100
MAX_PAGES: Final = 10
KEPT_RECEIPTS: Final = 32
MAX_MAP_CHARACTERS: Final = 2000
"""A longer measurement map stays out of the job's metadata; the ledger has it anyway."""

STATUS: Final = {
    "Queued": ProviderStatus.QUEUED,
    "Waiting": ProviderStatus.QUEUED,
    "Executing": ProviderStatus.RUNNING,
    "CancellationRequested": ProviderStatus.RUNNING,
    "Cancelling": ProviderStatus.RUNNING,
    "Finishing": ProviderStatus.RUNNING,
    "Completed": ProviderStatus.COMPLETED,
    "Succeeded": ProviderStatus.COMPLETED,
    "Failed": ProviderStatus.FAILED,
    "Cancelled": ProviderStatus.CANCELLED,
}
AVAILABILITY: Final = {"Available": "ONLINE", "Degraded": "DEGRADED", "Unavailable": "OFFLINE"}


class AzureConfig(AzureAccess):
    """What is offered of the workspace, and what it costs."""

    devices: tuple[str, ...] = ()
    """Targets to offer, by name; empty offers every target of the workspace that runs circuits."""
    dialects: dict[str, Literal["openqasm2", "ionq_json", "qir"]] = Field(default={})
    """By target name: what it takes, where that is not what its name says."""
    prices: dict[str, Prices] = Field(default={})
    """By target name: what a job costs, all in one currency. Azure has no price list to ask for; a target without
    prices has no estimate, so no budget holds it back."""
    status_seconds: float = Field(default=30.0, gt=0)
    """For so long an answer about the targets is used again."""
    poll_seconds: float = Field(default=5.0, gt=0)
    """Between two questions about a young job; older jobs are asked about less often."""

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if len({price.currency for price in self.prices.values()}) > 1:
            raise ValueError("prices must all be in one currency")
        if wrong := [name for name in self.devices if name.startswith(wire.NO_CIRCUITS)]:
            raise ValueError(f"{wrong[0]} does not run circuits")
        return self


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the service last said of its targets, by name, with their provider's id, and when (`time.monotonic`)."""

    targets: Mapping[str, tuple[str, wire.TargetStatus]]
    at: float


class AzureAdapter(ProviderAdapter):
    """See the module's text."""

    requires: ClassVar[tuple[str, ...]] = ("azure.quantum",)
    extra: ClassVar[str | None] = "azure"
    idempotency: ClassVar[Idempotency] = Idempotency.CLIENT_ID
    Config: ClassVar[type[BaseModel] | None] = AzureConfig

    def __init__(self, config: AzureConfig) -> None:
        self._config = config
        self._service = AzureService(config)
        self._lock = threading.Lock()
        self._seen: _Seen | None = None
        self._names: tuple[str, ...] = config.devices
        self._receipts: OrderedDict[str, JobReceipt] = OrderedDict()

    @override
    def list_devices(self) -> list[Device]:
        names = self._names or self._offered()
        return [
            Device(device_id=name, provider="azure", vendor=_vendor(name), device_type=_kind(name)) for name in names
        ]

    @override
    def list_capabilities(self) -> list[Capability]:
        return [self._capability(device.device_id) for device in self.list_devices()]

    @override
    def get_capability(self, device_id: str | None = None) -> Capability | None:
        name = self._device(device_id)
        return None if name is None else self._capability(name)

    @override
    def get_availability(self, device_id: str | None = None) -> AvailabilityStatus | None:
        name = self._device(device_id)
        if name is None:
            return None
        _, status = self._targets(at_most=self._config.status_seconds).get(name, ("", None))
        if status is None:
            return AvailabilityStatus(availability="OFFLINE", is_available=False, status_msg="not in this workspace")
        word = AVAILABILITY.get(status.current_availability)
        text, wait = status.current_availability, status.average_queue_time
        text = text if wait is None else f"{text}, about {wait:.0f} s in the queue"
        text, up = self._service.printable(text), word in ("ONLINE", "DEGRADED")
        return AvailabilityStatus(availability=word, is_available=up, queue_seconds=wait, status_msg=text)

    @override
    def get_pricing(self, device_id: str | None = None) -> dict[str, float] | None:
        prices = self._config.prices.get(self._device(device_id) or "")
        return None if prices is None else prices.table()

    @override
    def price_currency(self) -> str:
        return next((prices.currency for prices in self._config.prices.values()), "USD")

    @override
    def target(self, device: Device, options: JobOptions) -> Target | None:
        dialect = self._dialect(device.device_id)
        takes_all = dialect is Dialect.OPENQASM_2
        return Target(
            dialect=dialect,
            num_qubits=self._num_qubits(device.device_id),
            basis_gates=wire.FORMS[dialect].basis,
            can_reset=takes_all,
            can_measure_mid_circuit=takes_all,
            can_branch=takes_all,
        )

    @override
    def check(self, circuit: CompiledCircuit, device: Device, shots: int) -> None:
        check_width(circuit, device, self.get_capability(device.device_id))
        _, most = wire.KNOWN.get(device.device_id, (None, None))
        if most is not None and shots > most:
            raise CannotRun(f"{device.device_id} runs at most {most} shots", reason="too_many_shots")

    @override
    def prepare(self, circuit: CompiledCircuit, device: Device, shots: int, options: JobOptions) -> Prepared:
        dialect = self._dialect(device.device_id)
        as_it_is = Dialect.OPENQASM_2 if circuit.language is Language.OPENQASM_2 else None
        if (circuit.translation.dialect if circuit.translation else as_it_is) is not dialect:
            raise CannotRun(
                f"{device.device_id} takes {dialect}; the circuit was not translated", reason="untranslated"
            )
        bare = Prepared(payload=circuit.text, compiled=circuit, options=options)
        envelope = {"dialect": dialect, "text": circuit.text, "measurement": bare.measurement.model_dump(mode="json")}
        return Prepared(payload=json.dumps({"azure": envelope}), compiled=circuit, options=options)

    @override
    def submit(
        self,
        circuit_data: str,
        device_id: str | None = None,
        shots: int | None = None,
        *,
        token: IdempotencyToken | None = None,
    ) -> JobHandle:
        name = self._device(device_id)
        if name is None:
            raise Refused(f"azure has no target {str(device_id)[:64]!r} here", vendor_code="unknown_target")
        token = token or IdempotencyToken(str(uuid.uuid4()))
        job_id = _job_id(token)
        text, dialect, measurement = self._opened(circuit_data, name)
        form = wire.FORMS[dialect]
        container = self._service.permitted(f"job-{job_id}")
        uploaded = self._service.upload(container, "inputData", text.encode(), form.content_type)
        parameters: dict[str, Any] = {"shots": shots or DEFAULT_SHOTS}
        if dialect is Dialect.QIR:
            parameters |= {"entryPoint": "ENTRYPOINT__main", "arguments": [], "target_profile": "Base"}
        body = {
            "itemType": "Job",
            "name": NAME_PREFIX + token,
            "providerId": self._provider_id(name),
            "target": name,
            "containerUri": container,
            "inputDataUri": uploaded,
            "inputDataFormat": form.input_format,
            "outputDataFormat": form.output_format,
            "inputParams": parameters,
            "metadata": _metadata(token, measurement),
            "tags": ["qcompute", f"qcompute:{token}"],
        }
        self._create(job_id, body)
        return self._handle(job_id, name, measurement, datetime.now(UTC))

    @override
    def check_connection(self) -> Iterator[Finding]:
        self._targets(at_most=0.0)
        yield good(Subject.IDENTITY, f"the workspace {self._config.workspace} in {self._config.location} lets us in")
        try:
            quotas = self._service.call("GET", "/quotas").read(wire.Quotas, what="the quotas").value
        except VendorError as error:
            yield notice(Subject.QUOTA, f"not known: {error.message}")
            quotas = []
        for quota in quotas:
            if quota.is_used_up:
                yield Finding(Subject.QUOTA, Grade.FAILED, quota.text, "ask Azure for more, or wait")
            else:
                yield good(Subject.QUOTA, quota.text)
        yield from device_findings(self)

    @override
    def find(self, token: IdempotencyToken, since: datetime) -> Found | Absent | CannotTell:
        del since  # the id is exact
        job = self._job(_job_id(token))
        if job is None:
            return Absent()
        return Found(handles=[self._handle(job.id, job.target, job.measurement, job.creation_time)])

    @override
    def poll(self, handle: JobHandle) -> BaseExecutionStatus:
        return self._status(self._job(handle.provider_job_id), handle)

    @override
    def poll_many(self, handles: Sequence[JobHandle]) -> list[BaseExecutionStatus]:
        listed = self._listed(handles) if len(handles) > ONE_BY_ONE else {}
        return [
            self._status(listed[handle.provider_job_id], handle)
            if handle.provider_job_id in listed
            else self.poll(handle)
            for handle in handles
        ]

    @override
    def cancel(self, handle: JobHandle) -> None:
        # 409: it has ended.
        self._service.call("POST", f"{_path(handle.provider_job_id)}:cancel", accept=(HTTPStatus.CONFLICT,))

    @override
    def get_job_receipt(self, handle: JobHandle) -> JobReceipt:
        with self._lock:
            kept = self._receipts.get(handle.provider_job_id)
        if kept is not None:
            return kept
        job = self._job(handle.provider_job_id)
        if job is None:
            raise Refused("azure has no such job", vendor_code="http_404")
        receipt = self._receipt(job, handle)
        if ProviderStatus(receipt.status).is_terminal:
            with self._lock:
                self._receipts[handle.provider_job_id] = receipt
                if len(self._receipts) > KEPT_RECEIPTS:
                    self._receipts.popitem(last=False)
        return receipt

    @override
    def limits(self) -> Limits:
        return Limits(max_poll_batch=PAGE, poll_interval_seconds=self._config.poll_seconds)

    @override
    def close(self) -> None:
        self._service.close()

    # Targets

    def _targets(self, *, at_most: float | None = None) -> Mapping[str, tuple[str, wire.TargetStatus]]:
        """What the service says of its targets, asked for again once it is ``at_most`` seconds old."""
        with self._lock:
            seen = self._seen
            if seen is None or (at_most is not None and time.monotonic() - seen.at > at_most):
                answer = self._service.call("GET", "/providerStatus").read(wire.Providers, what="providerStatus")
                targets = {target.id: (provider.id, target) for provider in answer.value for target in provider.targets}
                seen = self._seen = _Seen(targets, time.monotonic())
        return seen.targets

    def _offered(self) -> tuple[str, ...]:
        """The workspace's targets that run circuits, as first seen: devices do not come and go under a daemon."""
        names = [name for name in self._targets() if not name.startswith(wire.NO_CIRCUITS)]
        self._names = tuple(name for name in names if not name.endswith(wire.NO_RESULTS))
        return self._names

    def _device(self, device_id: str | None) -> str | None:
        names = self._names or self._offered()
        if device_id is None:
            return names[0] if names else None
        return device_id if device_id in names else None

    def _provider_id(self, name: str) -> str:
        provider_id, _ = self._targets().get(name, (name.partition(".")[0], None))
        return provider_id

    def _dialect(self, name: str) -> Dialect:
        word = self._config.dialects.get(name)
        return wire.dialect_of(name) if word is None else Dialect(word)

    def _num_qubits(self, name: str) -> int | None:
        _, status = self._targets().get(name, ("", None))
        known, _ = wire.KNOWN.get(name, (None, None))
        return status.num_qubits if status is not None and status.num_qubits is not None else known

    def _capability(self, name: str) -> Capability:
        _, status = self._targets().get(name, ("", None))
        dialect = self._dialect(name)
        _, most = wire.KNOWN.get(name, (None, None))
        all_to_all = name.startswith(("ionq.", "quantinuum."))
        extras: dict[str, Any] = {
            "coupling_map": NOT_APPLICABLE if all_to_all else None,
            "max_shots": most,
            "can_measure_mid_circuit": dialect is Dialect.OPENQASM_2,
            "can_branch": dialect is Dialect.OPENQASM_2,
            "target_profile": None if status is None else status.target_profile,
            "input_format": wire.FORMS[dialect].input_format,
        }
        extras |= dict.fromkeys(
            ("native_gates", "t1_seconds", "t2_seconds", "readout_error", "one_qubit_error", "two_qubit_error")
        )
        extras["calibrated_at"] = None
        return Capability(num_qubits=self._num_qubits(name), basis_gates=list(wire.FORMS[dialect].gates), extras=extras)

    # Jobs

    def _opened(self, circuit_data: str, name: str) -> tuple[str, Dialect, MeasurementMap | None]:
        """`prepare`'s payload, or a plain text in the target's own language as an adapter of the reference is given."""
        if not circuit_data.startswith('{"azure"'):
            return circuit_data, self._dialect(name), None
        envelope = json.loads(circuit_data)["azure"]
        measurement = MeasurementMap.model_validate(envelope["measurement"])
        return envelope["text"], Dialect(envelope["dialect"]), measurement

    def _create(self, job_id: str, body: dict[str, Any]) -> None:
        """The one call that costs money.

        409 says that the id exists. Only we make ids from our tokens, so it is ours; one look makes sure that it was
        the id that was in conflict.
        """
        reply = self._service.call("PUT", _path(job_id), body=body, paid=True, accept=(HTTPStatus.CONFLICT,))
        if reply.status == HTTPStatus.CONFLICT:
            try:
                job = self._job(job_id)
            except VendorError as error:
                raise SubmitUnknown(f"azure has a job of this id, it says, but: {error.message}") from None
            if job is None:
                raise Refused("azure answered 409 to a new job", vendor_code="http_409")
        elif not isinstance(reply.json, dict) or cast("dict[str, Any]", reply.json).get("id") != job_id:
            raise SubmitUnknown("azure's answer to a submit is not about that job")

    def _job(self, job_id: str) -> wire.JobDetails | None:
        """The job; None when the service has none of this id."""
        reply = self._service.call("GET", _path(job_id), accept=(HTTPStatus.NOT_FOUND,))
        return None if reply.status == HTTPStatus.NOT_FOUND else reply.read(wire.JobDetails, what="job")

    def _listed(self, handles: Sequence[JobHandle]) -> dict[str, wire.JobDetails]:
        """Those of these jobs that the first pages of a list show, newest first."""
        wanted = {handle.provider_job_id for handle in handles}
        condition = f"startswith(Name, '{NAME_PREFIX}')"
        created = [str((handle.model_extra or {}).get("created_at") or "") for handle in handles]
        if all(created):
            # Azure understands dates only; a day more covers clocks that differ.
            oldest = datetime.fromisoformat(min(created)) - timedelta(days=1)
            condition += f" and CreationTime ge {oldest.astimezone(UTC).date().isoformat()}"
        query = {"filter": condition, "orderby": "CreationTime desc", "top": str(PAGE)}
        found: dict[str, wire.JobDetails] = {}
        for _ in range(MAX_PAGES):
            page = self._service.call("GET", "/jobs", query=query).read(wire.Jobs, what="jobs")
            found |= {job.id: job for job in page.value if job.id in wanted}
            if page.next_link is None or found.keys() == wanted:
                break
            # Only the link's query is followed: the key goes to no host but the operator's.
            query = {key: values[-1] for key, values in parse_qs(urlsplit(page.next_link).query).items()}
        return found

    def _status(self, job: wire.JobDetails | None, handle: JobHandle) -> BaseExecutionStatus:
        if job is None:
            return BaseExecutionStatus(status=ProviderStatus.UNKNOWN, message="azure has no such job")
        status = STATUS.get(job.status, ProviderStatus.UNKNOWN)
        message = self._failure(job)
        if status is ProviderStatus.UNKNOWN:
            message = self._service.printable(f"azure says {job.status!r}")
        return BaseExecutionStatus(
            status=status,
            eta_seconds=self._queue_seconds(handle.device_id) if status is ProviderStatus.QUEUED else None,
            message=message,
        )

    def _queue_seconds(self, name: str) -> int | None:
        """The average time in the target's queue, as last seen; no call is made for it."""
        _, status = self._seen.targets.get(name, ("", None)) if self._seen else ("", None)
        seconds = None if status is None else status.average_queue_time
        return None if seconds is None else round(seconds)

    def _failure(self, job: wire.JobDetails) -> str | None:
        error = job.error_data
        if error is None or not (error.code or error.message):
            return None
        return self._service.printable(": ".join(text for text in (error.code, error.message) if text))

    def _receipt(self, job: wire.JobDetails, handle: JobHandle) -> JobReceipt:
        status = STATUS.get(job.status, ProviderStatus.UNKNOWN)
        metadata: dict[str, Any] = {
            "message": self._failure(job),
            "azure_status": self._service.printable(job.status),
            "output_format": job.output_data_format,
        }
        results: dict[str, Any] | None = None
        if status is ProviderStatus.COMPLETED:
            measurement = handle.measurement or job.measurement
            if measurement is None:
                raise BadReply("nothing says which qubits this job measured", field="measurement")
            if not job.output_data_uri:
                raise BadReply("azure names no result of a job that completed", field="outputDataUri")
            content = self._service.download(job.output_data_uri)
            result = wire.outcome(content, job.output_data_format, measurement, job.shots)
            results = {"measurementCounts": result.counts}
            metadata["counts_source"] = "sampled" if result.sampled else "measured"
            metadata["shots_discarded"] = result.discarded
        if job.cost_estimate is not None:
            metadata |= _cost_facts(job.cost_estimate)
        return JobReceipt(
            provider="azure",
            provider_job_id=job.id,
            status=status,
            device_id=handle.device_id,
            cost=None if job.cost_estimate is None else job.cost_estimate.estimated_total,
            shots=job.shots,
            timestamps=_timestamps(job),
            results=results,
            metadata=metadata,
        )

    def _handle(
        self, job_id: str, name: str, measurement: MeasurementMap | None, created: datetime | None
    ) -> JobHandle:
        created_at = None if created is None else created.astimezone(UTC).isoformat(timespec="seconds")
        words = {"provider_job_id": job_id, "device_id": name, "measurement": measurement, "created_at": created_at}
        return JobHandle.model_validate(words)


def _job_id(token: str) -> str:
    return str(uuid.uuid5(JOB_NAMESPACE, token))


def _path(job_id: str) -> str:
    return f"/jobs/{quote(job_id, safe='')}"


def _vendor(name: str) -> str:
    return name.partition(".")[0]


def _kind(name: str) -> str:
    return "SIMULATOR" if ".sim" in name else "QPU"


def _metadata(token: str, measurement: MeasurementMap | None) -> dict[str, str]:
    text = "" if measurement is None else measurement.model_dump_json()
    return {"qcompute_token": token} | ({"measurement": text} if 0 < len(text) <= MAX_MAP_CHARACTERS else {})


def _cost_facts(cost: wire.CostEstimate) -> dict[str, Any]:
    events = [event.model_dump(exclude_none=True) for event in cost.events or []]
    return {"currency": cost.currency_code, "cost_kind": "vendor_estimate", "cost_events": events}


def _timestamps(job: wire.JobDetails) -> dict[str, Any]:
    ended = job.end_execution_time or job.cancellation_time
    moments = {"createdAt": job.creation_time, "startedAt": job.begin_execution_time, "endedAt": ended}
    times: dict[str, Any] = {name: moment.isoformat() for name, moment in moments.items() if moment is not None}
    if job.begin_execution_time is not None and job.end_execution_time is not None:
        times["executionDuration"] = (job.end_execution_time - job.begin_execution_time).total_seconds()
    return times
