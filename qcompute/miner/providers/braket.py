"""Amazon Braket: gate-model QPUs of AQT, IonQ, IQM and Rigetti, and Amazon's simulators.

Talks to: the Braket control plane of each region (API 2019-09-01) and the S3 bucket Braket writes results to, with
boto3 alone. Needs: ``pip install 'qcompute[braket]'``, an IAM user's access key, a bucket. Cannot: analogue devices
(QuEra), pulses, verbatim boxes, reservations, measurements that are not final. The API has no price of a single task:
costs are our estimates from the price list. Checked against botocore 1.44 and amazon-braket-default-simulator 1.41;
never yet against a real account.

Idempotency: the token is Braket's ``clientToken``, and a tag. Braket ignores a second task with the same token, for how
long it does not say; so a submit without an answer is looked for by its tag first.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar, Final

from pydantic import BaseModel, ConfigDict, Field, field_validator
from typing_extensions import override

from qcompute.circuits.dialects.braket import BRAKET_NAMES
from qcompute.circuits.measurement import MeasurementMap
from qcompute.circuits.program import CompiledCircuit, JobOptions
from qcompute.circuits.target import Dialect, Target
from qcompute.connections.credentials import Secret
from qcompute.connections.findings import Finding, Subject, good, notice
from qcompute.errors import BadReply, CannotRun, QuotaSpent, Refused, SubmitUnknown
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
from qcompute.units import IdempotencyToken, utc_now
from qcompute.vendor.braket.aws import Aws, AwsKeys
from qcompute.vendor.braket.device import OPENQASM, Catalog, Described, SpendingLimit, next_open, whole_number
from qcompute.vendor.braket.task import Result, Task, counts_of_task, map_of_tag, map_to_tag, result_of
from qcompute.vendor.http import Timeouts, read
from qcompute.vendor.prices import Prices

TOKEN_TAG: Final = "qcompute-token"  # noqa: S105 - a name
MAP_TAG: Final = "qcompute-map"
"""How the result is read, so that a daemon that lost its database can read it. Braket's own result does not say."""

_TASK_ARN: Final = re.compile(r"arn:aws[a-z-]*:braket:([a-z0-9-]+):\d*:quantum-task/[A-Za-z0-9-]+")
_ARNS_PER_SEARCH: Final = 10
_DEFAULT_SHOTS: Final = 1000
_CLOCK_SKEW: Final = timedelta(minutes=10)
"""A limit that somebody set just now may begin a little after our now."""
_SIMULATOR_SECONDS: Final = 3.0
"""The least time Amazon charges for on a simulator."""

_STATUSES: Final = {
    "CREATED": ProviderStatus.QUEUED,
    "QUEUED": ProviderStatus.QUEUED,
    "RUNNING": ProviderStatus.RUNNING,
    "CANCELLING": ProviderStatus.RUNNING,
    "COMPLETED": ProviderStatus.COMPLETED,
    "FAILED": ProviderStatus.FAILED,
    "CANCELLED": ProviderStatus.CANCELLED,
}


class BraketConfig(BaseModel):
    """An AWS account, where its results go, and what it may spend."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    access_key_id: Secret
    """Name of the secret with the access key's id. The key needs the permissions on the page about Braket, no more."""
    secret_access_key: Secret
    """Name of the secret with the access key itself."""
    session_token: Secret | None = None
    """Name of the secret with a temporary key's token. When it expires, restart with new ones."""
    regions: tuple[str, ...] = Field(default=("us-east-1", "us-west-1", "us-west-2", "eu-north-1"), min_length=1)
    """AWS regions to look for devices in; every QPU belongs to one. Fewer regions are fewer requests."""
    bucket: str = Field(min_length=3, max_length=71)
    """S3 bucket Braket writes results to; ``{region}`` in it becomes the device's region. Amazon's ready-made policies
    allow only buckets whose names begin with ``amazon-braket-``."""
    key_prefix: str = Field(default="qcompute", min_length=1, max_length=900)
    """Folder of the results in the bucket. Nothing is ever deleted there: set a lifecycle rule."""
    devices: tuple[str, ...] = ()
    """ARNs of the devices to offer; empty offers all that take OpenQASM."""
    include_simulators: bool = False
    """Whether Amazon's simulators (SV1, DM1, TN1) are offered too. They cost money as well."""
    prices: dict[str, Prices] = {}
    """By device ARN, in USD, in place of what the device says of itself."""
    task_fee_usd: Decimal = Field(default=Decimal("0.30"), ge=0)
    """For each task on a QPU, beside the price of a shot, which the device says itself."""
    spending_limit_usd: Decimal | None = Field(default=None, gt=0, decimal_places=2)
    """Amazon refuses tasks of a QPU above this. It is set before the first task on a QPU that has no limit yet and
    holds until you delete it, whatever this daemon does. None sets none."""
    braket_endpoint_url: str | None = Field(default=None, pattern="^https?://")
    """Where Braket is, in place of Amazon's own address; ``{region}`` is replaced. For tests and private endpoints."""
    s3_endpoint_url: str | None = Field(default=None, pattern="^https?://")
    """The same for S3, which is then addressed by paths."""
    sts_endpoint_url: str | None = Field(default=None, pattern="^https?://")
    """The same for STS, which says whose key it is; asked by ``qcompute connections test`` alone."""
    connect_seconds: float = Field(default=10.0, gt=0)
    """For a connection to come up."""
    read_seconds: float = Field(default=30.0, gt=0)
    """For each part of the answer to a free call."""
    paid_read_seconds: float = Field(default=120.0, gt=0)
    """For the answer to a submit: giving up early makes an unknown out of an answer."""

    @field_validator("prices")
    @classmethod
    def _in_dollars(cls, prices: dict[str, Prices]) -> dict[str, Prices]:
        if any(price.currency != "USD" for price in prices.values()):
            raise ValueError("Amazon charges for Braket in USD")
        return prices


class BraketAdapter(ProviderAdapter):
    """See the module's text."""

    requires: ClassVar[tuple[str, ...]] = ("boto3",)
    extra: ClassVar[str | None] = "braket"
    idempotency: ClassVar[Idempotency] = Idempotency.TOKEN
    Config: ClassVar[type[BaseModel] | None] = BraketConfig

    def __init__(self, config: BraketConfig) -> None:
        self._config = config
        endpoints = {
            "braket": config.braket_endpoint_url,
            "s3": config.s3_endpoint_url,
            "sts": config.sts_endpoint_url,
        }
        self._keys = AwsKeys(config.access_key_id, config.secret_access_key, config.session_token)
        self._aws = Aws(
            self._keys,
            {service: url for service, url in endpoints.items() if url},
            Timeouts(config.connect_seconds, config.read_seconds, config.paid_read_seconds),
        )
        self._catalog = Catalog(self._aws, config.regions, only=config.devices, simulators=config.include_simulators)
        self._lock = threading.Lock()
        self._limited: set[str] = set()

    @override
    def list_devices(self) -> list[Device]:
        return [_device(known) for known in self._catalog.devices().values()]

    @override
    def list_capabilities(self) -> list[Capability]:
        return [_capability(known) for known in self._catalog.devices().values()]

    @override
    def get_capability(self, device_id: str | None = None) -> Capability | None:
        known = self._find_device(device_id)
        return None if known is None else _capability(known)

    @override
    def get_availability(self, device_id: str | None = None) -> AvailabilityStatus | None:
        known = self._find_device(device_id)
        if known is None:
            return None
        live, opens = self._catalog.live(known), next_open(known.can.service.execution_windows, utc_now())
        is_open = opens is None or opens <= utc_now()
        online = live.device_status == "ONLINE" and is_open
        return AvailabilityStatus(
            availability="ONLINE" if online else "OFFLINE",
            pending_jobs=live.waiting,
            is_available=online,
            next_available=opens.isoformat() if opens and not is_open else None,
            status_msg=live.device_status if is_open else f"{live.device_status}, outside its execution windows",
        )

    @override
    def get_pricing(self, device_id: str | None = None) -> dict[str, float] | None:
        known = self._find_device(device_id)
        found = self._prices(known) if known else None
        return None if found is None else found.table()

    @override
    def target(self, device: Device, options: JobOptions) -> Target | None:
        known = self._device(device.device_id)
        theirs = set(known.can.action.openqasm.supported_operations)
        return Target(
            dialect=Dialect.BRAKET,
            num_qubits=known.can.paradigm.qubit_count,
            basis_gates=tuple(sorted(ours for ours, name in BRAKET_NAMES.items() if name in theirs)),
        )

    @override
    def check(self, circuit: CompiledCircuit, device: Device, shots: int) -> None:
        known = self._device(device.device_id)
        check_width(circuit, device, _capability(known))
        low, high = known.can.service.shots_range
        if not low <= shots <= high:
            name = known.arn
            raise CannotRun(f"{shots} shots were asked for and {name} runs {low} to {high}", reason="shots")
        idle = circuit.num_qubits - len({qubit for _, qubit in circuit.measured})
        if idle and known.can.action.openqasm.requires_all_qubits_measurement:
            raise CannotRun(f"{known.arn} runs only circuits that measure all qubits", reason="measured")

    @override
    def prepare(self, circuit: CompiledCircuit, device: Device, shots: int, options: JobOptions) -> Prepared:
        plain = Prepared(payload=circuit.text, compiled=circuit, options=options)
        job = {"source": circuit.text, "measurement": plain.measurement.model_dump(mode="json")}
        return Prepared(payload=json.dumps({"braket": job}), compiled=circuit, options=options)

    @override
    def submit(
        self,
        circuit_data: str,
        device_id: str | None = None,
        shots: int | None = None,
        *,
        token: IdempotencyToken | None = None,
    ) -> JobHandle:
        known = self._device(device_id)
        source, measurement = _job_of(circuit_data)
        if known.is_qpu and self._config.spending_limit_usd is not None:
            self._ensure_limit(known, self._config.spending_limit_usd)
        token = token or IdempotencyToken(str(uuid.uuid4()))
        tags = {TOKEN_TAG: token} | ({MAP_TAG: tag} if measurement and (tag := map_to_tag(measurement)) else {})
        header = {"name": OPENQASM, "version": "1"}
        answer = self._aws.call(
            "braket",
            known.region,
            "create_quantum_task",
            paid=True,
            clientToken=token,
            deviceArn=known.arn,
            action=json.dumps({"braketSchemaHeader": header, "source": source, "inputs": {}}),
            shots=shots or _DEFAULT_SHOTS,
            outputS3Bucket=self._config.bucket.replace("{region}", known.region),
            outputS3KeyPrefix=self._config.key_prefix,
            tags=tags,
        )
        arn = answer.get("quantumTaskArn")
        if not isinstance(arn, str) or _region(arn) is None:
            raise SubmitUnknown("Braket answered a submit without the task's name")
        return JobHandle(provider_job_id=arn, device_id=known.arn, measurement=measurement)

    @override
    def check_connection(self) -> Iterator[Finding]:
        who = self._aws.call("sts", self._config.regions[0], "get_caller_identity")
        yield good(Subject.IDENTITY, f"AWS account {who.get('Account')}, {who.get('Arn')}")
        for region in self._config.regions:
            yield self._limits_in(region)
        yield from device_findings(self)

    def _limits_in(self, region: str) -> Finding:
        try:
            found = self._aws.pages("braket", region, "search_spending_limits", "spendingLimits")
            limits = [read(SpendingLimit, item, what="a spending limit") for item in found]
        except (BadReply, Refused) as error:
            return notice(Subject.COST_LIMIT, f"{region}: not known: {error.message}")
        held = [limit.text for limit in limits if limit.holds(utc_now())]
        if not held:
            return notice(Subject.COST_LIMIT, f"{region}: Amazon keeps to no limit", "set spending_limit_usd")
        return good(Subject.COST_LIMIT, f"{region}: {'; '.join(held)}")

    @override
    def find(self, token: IdempotencyToken, since: datetime) -> Found | Absent | CannotTell:
        created = {"name": "createdAt", "operator": "GTE", "values": [since.astimezone(UTC).isoformat()]}
        tasks = [
            task
            for region in self._config.regions
            for task in self._search(region, created)
            if task.tags.get(TOKEN_TAG) == token
        ]
        tasks.sort(key=lambda task: (task.created_at, task.quantum_task_arn))
        return Found(handles=[_handle(task) for task in tasks]) if tasks else Absent()

    @override
    def poll(self, handle: JobHandle) -> BaseExecutionStatus:
        task = self._task(handle)
        if isinstance(task, str):
            return BaseExecutionStatus(status=ProviderStatus.UNKNOWN, message=task)
        return self._status(task)

    @override
    def poll_many(self, handles: Sequence[JobHandle]) -> list[BaseExecutionStatus]:
        by_region: dict[str, list[str]] = {}
        for arn in dict.fromkeys(handle.provider_job_id for handle in handles):
            if (region := _region(arn)) in self._config.regions:
                by_region.setdefault(region, []).append(arn)
        seen = {
            task.quantum_task_arn: task
            for region, arns in by_region.items()
            for start in range(0, len(arns), _ARNS_PER_SEARCH)
            for task in self._search(
                region,
                {"name": "quantumTaskArn", "operator": "EQUAL", "values": arns[start : start + _ARNS_PER_SEARCH]},
            )
        }
        return [self._polled(handle, seen.get(handle.provider_job_id)) for handle in handles]

    @override
    def cancel(self, handle: JobHandle) -> None:
        region = _region(handle.provider_job_id)
        if region is None:
            return
        try:
            self._aws.call("braket", region, "cancel_quantum_task", quantumTaskArn=handle.provider_job_id)
        except Refused as refusal:
            # It has ended, or was never there.
            if refusal.vendor_code not in ("ConflictException", "ResourceNotFoundException"):
                raise

    @override
    def get_job_receipt(self, handle: JobHandle) -> JobReceipt:
        task = self._task(handle)
        if isinstance(task, str):
            raise BadReply(task, field="quantumTaskArn")
        status = self._status(task)
        metadata: dict[str, Any] = {"currency": "USD", "message": status.message, "vendor_status": task.status}
        results, cost = None, None
        if status.status == ProviderStatus.COMPLETED:
            results, cost = self._outcome(handle, task, metadata)
        elif ProviderStatus(status.status).is_terminal:
            cost, metadata["cost_kind"] = 0.0, "our_estimate"
        return JobReceipt(
            provider="braket",
            provider_job_id=handle.provider_job_id,
            status=status.status,
            device_id=handle.device_id,
            cost=cost,
            shots=task.shots,
            timestamps={
                name: moment.isoformat()
                for name, moment in (("createdAt", task.created_at), ("endedAt", task.ended_at))
                if moment
            },
            results=results,
            metadata=metadata,
        )

    @override
    def limits(self) -> Limits:
        # Quotas of an account and region; poll and find share the 5 searches a second.
        rates = {
            Verb.SUBMIT: Rate(20, 40),
            Verb.POLL: Rate(4, 40),
            Verb.FIND: Rate(1 / len(self._config.regions), 2),
            Verb.RECEIPT: Rate(50, 250),
            Verb.CANCEL: Rate(2, 20),
            Verb.DESCRIBE: Rate(5, 50),
        }
        return Limits(rates=rates, max_poll_batch=_ARNS_PER_SEARCH, poll_interval_seconds=3.0)

    @override
    def close(self) -> None:
        self._aws.close()

    def _find_device(self, device_id: str | None) -> Described | None:
        known = self._catalog.devices()
        return next(iter(known.values()), None) if device_id is None else known.get(device_id)

    def _device(self, device_id: str | None) -> Described:
        known = self._find_device(device_id)
        if known is None:
            raise Refused(f"Braket offers no device {(device_id or '')[:100]!r} in {', '.join(self._config.regions)}")
        return known

    def _prices(self, known: Described) -> Prices | None:
        return self._config.prices.get(known.arn) or known.prices(self._config.task_fee_usd)

    def _ensure_limit(self, known: Described, amount: Decimal) -> None:
        """A spending limit of the device, once; nothing is paid without it.

        The token lets two daemons that start at once set one; the day in it lets a limit that was deleted be set anew.
        """
        arn = known.arn
        with self._lock:
            if arn in self._limited:
                return
            mine = [{"name": "deviceArn", "operator": "EQUAL", "values": [arn]}]
            found = self._aws.pages("braket", known.region, "search_spending_limits", "spendingLimits", filters=mine)
            limits = [read(SpendingLimit, item, what="a spending limit") for item in found]
            if not any(limit.holds(utc_now() + _CLOCK_SKEW) for limit in limits):
                token = hashlib.sha256(f"{arn} {amount} {utc_now():%Y-%m-%d}".encode()).hexdigest()
                try:
                    self._aws.call(
                        "braket",
                        known.region,
                        "create_spending_limit",
                        clientToken=token,
                        deviceArn=arn,
                        spendingLimit=f"{amount:.2f}",
                    )
                except Refused as refusal:
                    raise QuotaSpent(
                        f"no spending limit for {arn}: {refusal}", vendor_code=refusal.vendor_code
                    ) from None
            self._limited.add(arn)

    def _search(self, region: str, wanted: dict[str, Any]) -> Iterator[Task]:
        pages = self._aws.pages(
            "braket", region, "search_quantum_tasks", "quantumTasks", filters=[wanted], maxResults=100
        )
        return (read(Task, item, what="a list of tasks") for item in pages)

    def _task(self, handle: JobHandle) -> Task | str:
        """The task, or why it is not known."""
        region, arn = _region(handle.provider_job_id), handle.provider_job_id
        if region is None:
            return "this is no name of a Braket task"
        more = ["QueueInfo"]
        try:
            answer = self._aws.call(
                "braket", region, "get_quantum_task", quantumTaskArn=arn, additionalAttributeNames=more
            )
        except Refused as refusal:
            if refusal.vendor_code != "ResourceNotFoundException":
                raise
            return "Braket has no such task"
        return read(Task, answer, what="a task")

    def _polled(self, handle: JobHandle, task: Task | None) -> BaseExecutionStatus:
        """Lists lag and do not say why a task failed, so those two are asked for one by one."""
        return self.poll(handle) if task is None or task.status == "FAILED" else self._status(task)

    def _status(self, task: Task) -> BaseExecutionStatus:
        status = _STATUSES.get(task.status, ProviderStatus.UNKNOWN)
        reason = task.failure_reason or (task.status if status is ProviderStatus.UNKNOWN else None)
        return BaseExecutionStatus(
            status=status,
            queue_position=whole_number(task.queue_info.position),
            message=self._keys.scrubbed(reason) if reason else None,
        )

    def _outcome(self, handle: JobHandle, task: Task, metadata: dict[str, Any]) -> tuple[dict[str, Any], float | None]:
        """Counts and cost of a completed task; adds to ``metadata`` what is said of them."""
        measurement = handle.measurement or map_of_tag(task.tags.get(MAP_TAG, ""))
        if measurement is None:
            raise BadReply("it is not known what the task measured", field="measurement")
        region, key = _region(task.quantum_task_arn) or "", f"{task.output_s3_directory}/results.json"
        try:
            result = result_of(self._aws.read_object(region, task.output_s3_bucket, key))
        except Refused as refusal:
            raise BadReply(f"the result is not in S3: {refusal}", field="results.json") from None
        good = task.shots if task.num_successful_shots is None else task.num_successful_shots
        if good < task.shots:
            metadata |= {"partial": True, "successful_shots": good}
        counts, metadata["counts_source"] = counts_of_task(result, measurement, good)
        cost = self._cost(task, result)
        metadata["cost_kind"] = "unknown" if cost is None else "our_estimate"
        return {"measurementCounts": counts}, cost

    def _cost(self, task: Task, result: Result) -> float | None:
        known = self._catalog.devices().get(task.device_arn)
        found = self._prices(known) if known else self._config.prices.get(task.device_arn)
        seconds = max(result.simulator_seconds, _SIMULATOR_SECONDS)
        return None if found is None else float(found.estimate(task.shots, seconds).amount)


def _region(arn: str) -> str | None:
    """Of a task; None when this is no task's ARN."""
    found = _TASK_ARN.fullmatch(arn)
    return found.group(1) if found else None


def _job_of(circuit_data: str) -> tuple[str, MeasurementMap | None]:
    """Our own payload, or plain OpenQASM 3 in Braket's words as an adapter of the reference is given it."""
    if not circuit_data.startswith('{"braket"'):
        return circuit_data, None
    job = json.loads(circuit_data)["braket"]
    return job["source"], MeasurementMap.model_validate(job["measurement"])


def _handle(task: Task) -> JobHandle:
    return JobHandle(
        provider_job_id=task.quantum_task_arn,
        device_id=task.device_arn,
        measurement=map_of_tag(task.tags.get(MAP_TAG, "")),
    )


def _device(known: Described) -> Device:
    return Device(device_id=known.arn, provider="braket", vendor=known.vendor, device_type=known.kind)


def _capability(known: Described) -> Capability:
    can = known.can
    low, high = can.service.shots_range
    coupling = can.paradigm.connectivity.pairs() if can.paradigm.connectivity else None
    updated = can.service.updated_at
    extras: dict[str, Any] = {
        "native_gates": can.paradigm.native_gate_set if known.is_qpu else NOT_APPLICABLE,
        "coupling_map": NOT_APPLICABLE if coupling is None else coupling,
        "min_shots": low,
        "max_shots": high,
        "calibrated_at": (updated if updated.tzinfo else updated.replace(tzinfo=UTC)).isoformat() if updated else None,
        "can_measure_mid_circuit": False,
        "can_branch": False,
    }
    calibration = can.calibration()
    extras |= calibration if known.is_qpu else dict.fromkeys(calibration, NOT_APPLICABLE)
    return Capability(
        num_qubits=can.paradigm.qubit_count, basis_gates=list(can.action.openqasm.supported_operations), extras=extras
    )
