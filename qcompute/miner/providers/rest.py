"""Any device behind ``POST /run-circuit``: a lab's own server, a simulator cluster, a bridge to an HPC centre.

Talks to: the endpoints the operator names, each one a device: ``POST /run-circuit`` and, where an endpoint has them,
``GET /jobs/{id}``, ``GET /jobs?token=``, ``DELETE /jobs/{id}``, ``GET /health``. Needs: no SDK. Cannot: look a lost
submit up at an endpoint that does not honour ``Idempotency-Key`` and list jobs by it (such a job is held), nor read
probabilities. Path, base URLs and bearer token are those of ``custom_rest`` in softQCOS' Provider API, which leaves the
bodies open; the fields ``qasm``, ``shots`` and ``counts`` are those of that vendor's other calls, and can be set.

An endpoint may answer at once, with the result, or with a job id to be polled. A result that came with the answer lies
in the job's handle, and so in the ledger: the endpoint need not keep it, and a restart loses nothing.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar, Final

from pydantic import BaseModel
from typing_extensions import override

from qcompute.circuits.counts import normalize_counts
from qcompute.circuits.program import CompiledCircuit, JobOptions
from qcompute.circuits.target import Dialect, Target
from qcompute.connections.findings import Finding, Subject, good
from qcompute.errors import BadReply, CannotRun, Refused, SubmitUnknown, VendorError
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
    device_findings,
)
from qcompute.units import Counts, IdempotencyToken, Money, utc_now
from qcompute.vendor.http import Timeouts, read
from qcompute.vendor.rest.api import Answer, Health, Paths, RestEndpoint
from qcompute.vendor.rest.settings import RestConfig, RestNode

_WORDS: Final = {
    **dict.fromkeys(("queued", "pending", "submitted"), ProviderStatus.QUEUED),
    **dict.fromkeys(("running", "processing", "executing"), ProviderStatus.RUNNING),
    **dict.fromkeys(
        ("completed", "complete", "done", "finished", "succeeded", "success", "ok"), ProviderStatus.COMPLETED
    ),
    **dict.fromkeys(("failed", "error"), ProviderStatus.FAILED),
    **dict.fromkeys(("cancelled", "canceled"), ProviderStatus.CANCELLED),
}
"""Status words in any case; another word is UNKNOWN."""
_HEALTH: Final = {
    **dict.fromkeys(("degraded", "warning"), "DEGRADED"),
    "maintenance": "MAINTENANCE",
    **dict.fromkeys(("offline", "down", "unhealthy", "error", "failed"), "OFFLINE"),
}
"""What a healthy-looking answer (200) may still say of itself; every other word is ONLINE."""

_DEFAULT_SHOTS: Final = 1024
_UNLIMITED: Final = 1 << 53
_BYTES_PER_COUNT: Final = 12
"""Quotes, colon, comma and number around a key of counts in JSON."""


class _Submitted(BaseModel):
    """What a handle has beside the contract's fields: times are ours, ``answer`` is a result that came at once."""

    base_url: str | None = None
    shots: int | None = None
    asked_at: str | None = None
    answered_at: str | None = None
    answer: Answer | None = None


class _Node:
    """One device: its settings, its endpoint, its health."""

    def __init__(self, device_id: str, settings: RestNode, config: RestConfig) -> None:
        self.device_id = device_id
        self.settings = settings
        self._health_seconds = config.health_seconds
        self._lock = threading.Lock()
        self._health: tuple[float, AvailabilityStatus] | None = None
        self.endpoint = RestEndpoint(
            device_id,
            settings.url,
            token=settings.token,
            paths=Paths(config.run_path, config.jobs_path, config.health_path, config.counts_field),
            timeouts=Timeouts(config.connect_seconds, config.read_seconds, config.submit_seconds),
        )

    def availability(self) -> AvailabilityStatus:
        """At most ``health_seconds`` old; the lock keeps a burst of questions from reaching the endpoint."""
        with self._lock:
            if self._health is None or time.monotonic() - self._health[0] >= self._health_seconds:
                health = self.endpoint.health()
                self._health = (time.monotonic(), _availability(health))
            return self._health[1]


class RestAdapter(ProviderAdapter):
    """See the module's text."""

    Config: ClassVar[type[BaseModel] | None] = RestConfig

    def __init__(self, config: RestConfig) -> None:
        self._config = config
        self.idempotency = Idempotency(config.idempotency)  # pyright: ignore[reportAttributeAccessIssue] - only the operator knows
        self._nodes = {name: _Node(name, node, config) for name, node in config.all_nodes().items()}
        self._currency = next((one.prices.currency for one in config.all_nodes().values() if one.prices), "USD")

    @override
    def list_devices(self) -> list[Device]:
        return [
            Device(device_id=name, provider="rest", device_type=node.settings.device_type or self._config.device_type)
            for name, node in self._nodes.items()
        ]

    @override
    def list_capabilities(self) -> list[Capability]:
        return [self._capability(node.settings) for node in self._nodes.values()]

    @override
    def get_capability(self, device_id: str | None = None) -> Capability | None:
        node = self._named(device_id)
        return self._capability(node.settings) if node else None

    def _capability(self, settings: RestNode) -> Capability:
        extras = {
            "native_gates": None,
            "coupling_map": settings.coupling_map,
            "max_shots": self._config.max_shots,
            "can_measure_mid_circuit": self._config.can_measure_mid_circuit,
            "can_branch": self._config.can_branch,
        }
        gates = None if settings.basis_gates is None else list(settings.basis_gates)
        return Capability(num_qubits=settings.num_qubits, basis_gates=gates, extras=extras)

    @override
    def target(self, device: Device, options: JobOptions) -> Target | None:
        settings, config = self._nodes[device.device_id].settings, self._config
        return Target(
            dialect=Dialect(config.dialect),
            num_qubits=settings.num_qubits,
            basis_gates=settings.basis_gates,
            coupling_map=settings.coupling_map,
            can_reset=config.can_reset,
            can_measure_mid_circuit=config.can_measure_mid_circuit,
            can_branch=config.can_branch,
            optimization_level=config.optimization_level,
        )

    @override
    def check(self, circuit: CompiledCircuit, device: Device, shots: int) -> None:
        check_width(circuit, device, self.get_capability(device.device_id))
        config = self._config
        if config.max_shots is not None and shots > config.max_shots:
            raise CannotRun(f"{device.device_id} takes {config.max_shots} shots at most", reason="too_many_shots")
        outcomes = min(shots, 1 << circuit.num_clbits)
        size = outcomes * (circuit.num_clbits + len(circuit.registers) + _BYTES_PER_COUNT)
        if not config.keeps_jobs and size > config.max_result_bytes:
            raise CannotRun(
                f"a result of {shots} shots of {circuit.num_clbits} bits may have {size} bytes, "
                f"{device.device_id} is allowed {config.max_result_bytes}",
                reason="too_many_shots",
            )

    @override
    def estimate(self, prepared: Prepared, device: Device, shots: int) -> Money | None:
        prices = self._nodes[device.device_id].settings.prices
        if prices is None or (prices.per_minute > 0 and not (prices.per_task or prices.per_shot)):
            return None  # nobody knows beforehand how long it will run
        return prices.estimate(shots)

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
        node = self._named(device_id)
        if node is None:
            raise Refused(f"rest has no device {str(device_id)[:64]!r}")
        config, shots = self._config, shots or _DEFAULT_SHOTS
        body: dict[str, Any] = {**config.body, config.circuit_field: circuit_data, config.shots_field: shots}
        if config.seed_field and options and options.seed is not None:
            body[config.seed_field] = options.seed
        asked_at = utc_now().isoformat()
        answer = node.endpoint.run(body, token)
        return self._handle(node, answer, token, shots=shots, asked_at=asked_at)

    def _handle(
        self, node: _Node, answer: Answer, token: str | None, *, shots: int | None, asked_at: str | None = None
    ) -> JobHandle:
        """The job's handle, with the result if it came and fits.

        Raises:
            SubmitUnknown: there is neither a result nor an id to ask for one.
        """
        kept = answer.model_dump(mode="json", exclude_none=True) if _is_all(answer) else None
        if kept is not None and size_of(answer.counts) > self._config.max_result_bytes:
            kept = None
        job_id = answer.job_id or (token if kept else None)
        if job_id is None and kept is None:
            reason = f": {answer.message}" if answer.message else ""
            raise SubmitUnknown(f"{node.device_id} answered neither a job id nor a result that can be kept{reason}")
        handle = {
            "provider_job_id": job_id or f"{node.device_id}-{asked_at}",
            "device_id": node.device_id,
            "base_url": node.settings.url,
            "shots": shots,
            "asked_at": asked_at,
            "answered_at": utc_now().isoformat() if kept and asked_at else None,
            "answer": kept,
        }
        return JobHandle.model_validate(handle)

    @override
    def check_connection(self) -> Iterator[Finding]:
        for name, node in self._nodes.items():
            yield good(Subject.REACHABLE, f"{name}: {node.endpoint.reach()}")
        yield from device_findings(self)

    @override
    def find(self, token: IdempotencyToken, since: datetime) -> Found | Absent | CannotTell:
        del since  # a token is exact
        if self._config.idempotency == "none":
            return CannotTell("the endpoints do not honour Idempotency-Key (providers.rest.idempotency)")
        found: list[tuple[str, JobHandle]] = []
        silent: str | None = None
        failure: VendorError | None = None
        for node in self._nodes.values():
            try:
                jobs = node.endpoint.jobs_of(token)
                silent = node.device_id if jobs is None else silent
                found += [(job.created_at or "", self._handle(node, job, token, shots=job.shots)) for job in jobs or ()]
            except VendorError as error:
                failure = error
        if found:
            return Found(handles=[handle for _, handle in sorted(found, key=lambda pair: pair[0])])
        if failure is not None:
            raise failure
        return CannotTell(f"{silent} does not list its jobs by token") if silent else Absent()

    @override
    def poll(self, handle: JobHandle) -> BaseExecutionStatus:
        answer = self._answer(handle, _submitted(handle))
        if answer is None:
            return BaseExecutionStatus(status=ProviderStatus.UNKNOWN, message="no endpoint knows this job")
        status, message = _status(answer), answer.message
        if status is ProviderStatus.UNKNOWN:
            message = ": ".join(text for text in (answer.word, message) if text) or None
        return BaseExecutionStatus(
            status=status, eta_seconds=answer.eta_seconds, queue_position=answer.queue_position, message=message
        )

    @override
    def cancel(self, handle: JobHandle) -> None:
        submitted = _submitted(handle)
        node = self._node_of(handle, submitted)
        if submitted.answer is None and node is not None:
            node.endpoint.cancel(handle.provider_job_id)

    @override
    def get_job_receipt(self, handle: JobHandle) -> JobReceipt:
        submitted = _submitted(handle)
        answer = self._answer(handle, submitted)
        if answer is None:
            raise BadReply(f"{handle.device_id} does not know the job any more", field="job_id")
        status, shots = _status(answer), submitted.shots or answer.shots
        cost, kind = self._cost(handle, answer, shots)
        completed = status is ProviderStatus.COMPLETED
        return JobReceipt(
            provider="rest",
            provider_job_id=handle.provider_job_id,
            status=status,
            device_id=handle.device_id,
            cost=None if cost is None else float(cost.amount),
            shots=shots,
            timestamps=_timestamps(submitted, answer),
            results={"measurementCounts": self._counts(handle, answer, shots)} if completed else None,
            metadata={
                "currency": cost.currency if cost else self._currency,
                "cost_kind": kind,
                "counts_source": "measured",
                "message": answer.message,
                "vendor_status": answer.word,
            },
        )

    def _counts(self, handle: JobHandle, answer: Answer, shots: int | None) -> Counts:
        if handle.measurement is None:
            raise BadReply("the handle does not say how its result is read", field="measurement")
        counts = normalize_counts(answer.counts, shots=shots or _UNLIMITED, num_clbits=handle.measurement.num_clbits)
        if self._config.bit_order == "little":
            return counts
        return dict(sorted((key[::-1], value) for key, value in counts.items()))

    def _cost(self, handle: JobHandle, answer: Answer, shots: int | None) -> tuple[Money | None, str | None]:
        """What the endpoint charged; else, for what it completed, what our prices make of it."""
        if answer.cost is not None:
            return Money(Decimal(str(answer.cost)), answer.currency or self._currency), "actual"
        node = self._named(handle.device_id)
        prices = node.settings.prices if node else None
        if prices is None or shots is None or _status(answer) is not ProviderStatus.COMPLETED:
            return None, None
        if prices.per_minute > 0 and answer.execution_seconds is None:
            return None, None
        return prices.estimate(shots, answer.execution_seconds or 0.0), "our_estimate"

    def _answer(self, handle: JobHandle, submitted: _Submitted) -> Answer | None:
        """What is known of the job, asked for unless it came with the submit; None where nobody knows it."""
        if submitted.answer is not None:
            return submitted.answer
        node = self._node_of(handle, submitted)
        return node.endpoint.job(handle.provider_job_id) if node else None

    def _node_of(self, handle: JobHandle, submitted: _Submitted) -> _Node | None:
        """Where the job is: by address, because numbers move when an endpoint is taken out of the settings.

        An address that is no longer in them gets neither a call nor the token.
        """
        if submitted.base_url is None:
            return self._nodes.get(handle.device_id)
        return next((node for node in self._nodes.values() if node.settings.url == submitted.base_url), None)

    def _named(self, device_id: str | None) -> _Node | None:
        return self._nodes.get(device_id or next(iter(self._nodes)))

    @override
    def get_availability(self, device_id: str | None = None) -> AvailabilityStatus | None:
        node = self._named(device_id)
        return node.availability() if node else None

    @override
    def get_pricing(self, device_id: str | None = None) -> dict[str, float] | None:
        node = self._named(device_id)
        return node.settings.prices.table() if node and node.settings.prices else None

    @override
    def price_currency(self) -> str:
        return self._currency

    @override
    def limits(self) -> Limits:
        return Limits(
            max_running_jobs=self._config.max_running_jobs, poll_interval_seconds=self._config.poll_interval_seconds
        )

    @override
    def close(self) -> None:
        for node in self._nodes.values():
            node.endpoint.close()


def _submitted(handle: JobHandle) -> _Submitted:
    return read(_Submitted, handle.model_extra or {}, what="the handle")


def _status(answer: Answer) -> ProviderStatus:
    """By the word; counts without a word are a job that has completed."""
    if answer.word is None:
        return ProviderStatus.UNKNOWN if answer.counts is None else ProviderStatus.COMPLETED
    return _WORDS.get(answer.word.lower(), ProviderStatus.UNKNOWN)


def _is_all(answer: Answer) -> bool:
    """Whether nothing is left to ask for."""
    status = _status(answer)
    return status.is_terminal and (status is not ProviderStatus.COMPLETED or answer.counts is not None)


def size_of(counts: object) -> int:
    """Bytes of counts in the ledger."""
    return len(json.dumps(counts, separators=(",", ":")))


def _timestamps(submitted: _Submitted, answer: Answer) -> dict[str, Any]:
    """The endpoint's own times; our clock's where it says none."""
    times: dict[str, Any] = {
        "createdAt": answer.created_at or submitted.asked_at,
        "startedAt": answer.started_at,
        "endedAt": answer.ended_at or submitted.answered_at,
        "executionDuration": answer.execution_seconds,
    }
    return {name: value for name, value in times.items() if value is not None}


def _availability(health: Health) -> AvailabilityStatus:
    state = _HEALTH.get(health.word.lower(), "ONLINE") if health.reached else "OFFLINE"
    return AvailabilityStatus(
        availability=state,
        is_available=state in ("ONLINE", "DEGRADED"),
        pending_jobs=health.pending_jobs,
        status_msg=health.message,
    )
