"""The adapter contract: everything a provider's author needs to import.

An adapter is a plain synchronous class. The nine methods of the subnet's reference miner are enough, with the
reference's names, argument names and record fields, so an adapter written for it works unchanged (it need not even
inherit from `ProviderAdapter`; see `as_adapter`). The further methods have working defaults; overriding them buys
idempotent submission, batch polling, early refusals and costs.

Adapters are called from a fixed pool of threads, never from the event loop; they may block, but every network call
needs a timeout of its own. They hold no job state: what is needed later is in the handle, so a restart loses nothing.
"""

from __future__ import annotations

import inspect
import threading
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, Final

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import override

from qcompute.circuits.measurement import MeasurementMap
from qcompute.circuits.program import CompiledCircuit, JobOptions
from qcompute.circuits.target import Target
from qcompute.connections.findings import Finding, Grade, Subject, good, notice
from qcompute.errors import Bug, CannotRun, ConfigError, Refused
from qcompute.units import Counts, IdempotencyToken, Money
from qcompute.vendor.prices import estimate_from_prices

NINE_METHODS = (
    "list_devices",
    "list_capabilities",
    "get_capability",
    "submit",
    "poll",
    "cancel",
    "get_job_receipt",
    "get_availability",
    "get_pricing",
)
"""What an adapter written for the reference miner has; nothing more is asked for."""


class ProviderStatus(StrEnum):
    """A vendor job's status. UNKNOWN is not a failure: it means the word is not one we know."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    UNKNOWN = "UNKNOWN"

    @property
    def is_terminal(self) -> bool:
        """Whether the vendor will never change it again."""
        return self in (ProviderStatus.COMPLETED, ProviderStatus.FAILED, ProviderStatus.CANCELLED)

    @classmethod
    def of(cls, word: str) -> ProviderStatus:
        """The status an adapter's word stands for; a word outside the contract is UNKNOWN."""
        try:
            return cls(word)
        except ValueError:
            return cls.UNKNOWN


class Idempotency(StrEnum):
    """How a lost submit is found again."""

    TOKEN = "token"  # noqa: S105 - a word, not a secret
    """The vendor ignores a second submit that carries the same token."""
    CLIENT_ID = "client_id"
    """We choose the vendor's job id."""
    TAG = "tag"
    """The token is a tag the vendor can search by."""
    SCAN = "scan"
    """The token is in the job; the list of recent jobs is read through."""
    NONE = "none"
    """It cannot be found: a submit whose answer is lost is held for the operator."""


class Device(BaseModel):
    """One device of a provider. ``device_type`` is ``QPU`` or ``SIMULATOR``."""

    device_id: str
    provider: str
    vendor: str | None = None
    device_type: str


NOT_APPLICABLE: Final = "not_applicable"
"""In ``Capability.extras``: the question makes no sense for this device. A value that is not known is None."""


class Capability(BaseModel):
    """What a device can do. ``basis_gates`` are in the vendor's names.

    ``extras`` carries the rest, each value three-valued (the value, None for unknown, `NOT_APPLICABLE`). Names with a
    fixed meaning: ``native_gates``, ``coupling_map`` (pairs of qubits), ``t1_seconds`` and ``t2_seconds`` (by qubit),
    ``readout_error``, ``one_qubit_error``, ``two_qubit_error`` (0 to 1, median), ``one_qubit_seconds``,
    ``two_qubit_seconds`` (a gate's duration, median), ``max_shots``, ``calibrated_at`` (RFC 3339),
    ``can_measure_mid_circuit``, ``can_branch``.
    """

    num_qubits: int | None = None
    basis_gates: list[str] | None = None
    extras: dict[str, Any] | None = None


class JobHandle(BaseModel):
    """A vendor job, found again from these words alone.

    ``measurement`` is how its result is read. The daemon keeps it in its ledger and adds it to every handle, also to
    one that `ProviderAdapter.find` brought back without it. ``pack_index`` is the job's place among those that were
    submitted together.
    """

    model_config = ConfigDict(extra="allow")

    provider_job_id: str
    device_id: str
    measurement: MeasurementMap | None = None
    pack_index: int | None = None


class BaseExecutionStatus(BaseModel):
    """``status`` is a word of `ProviderStatus`; ``message`` the vendor's own text, kept at first sight.

    ``is_lost`` beside UNKNOWN: the job is not there and never will be, and running it again costs nothing, so it is
    submitted again. Only for simulators and the like: another machine's process may have had it on its own disk.
    """

    status: str
    eta_seconds: int | None = None
    queue_position: int | None = None
    message: str | None = None
    is_lost: bool = False


class JobReceipt(BaseModel):
    """A vendor job's outcome.

    ``results["measurementCounts"]`` is a `qcompute.units.Counts` in Qiskit's bit order. ``cost`` is in
    ``metadata["currency"]`` (ISO 4217, USD when absent) and is what the vendor charged unless
    ``metadata["cost_kind"]`` says otherwise. ``metadata["counts_source"]`` is ``measured`` unless the counts were
    derived from probabilities. ``metadata["message"]`` is the vendor's failure text.
    """

    provider: str
    provider_job_id: str
    status: str
    device_id: str
    cost: float | None = None
    shots: int | None = None
    timestamps: dict[str, Any] | None = None
    results: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None


class MinerIdentity(BaseModel):
    """The device this miner speaks for."""

    device_id: str | None = None
    provider: str | None = None
    vendor: str | None = None
    device_type: str | None = None


class AvailabilityStatus(BaseModel):
    """Live availability. ``availability`` is ONLINE, OFFLINE, DEGRADED or MAINTENANCE; ``next_available`` RFC 3339.

    ``queue_seconds`` is how long the vendor says a job waits there now, as it says it.
    """

    availability: str | None = None
    pending_jobs: int | None = None
    queue_seconds: float | None = None
    is_available: bool | None = None
    next_available: str | None = None
    status_msg: str | None = None


class Found(BaseModel):
    """`find`'s answer: the vendor has these jobs for the token, oldest first; the first is kept."""

    handles: list[JobHandle] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Absent:
    """`find`'s answer: the vendor provably has no job for the token, so it may be submitted."""


@dataclass(frozen=True, slots=True)
class CannotTell:
    """`find`'s answer: it cannot be known; the job is held and never submitted again."""

    reason: str = "this provider cannot look a job up by its token"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A circuit made ready for one device: exactly what `submit` is given, and what is needed to read the result.

    ``payload`` is the vendor's text; ``options`` are the honoured and the passed-on keys of ``configuration_data``.
    """

    payload: str
    compiled: CompiledCircuit
    options: JobOptions

    @property
    def measurement(self) -> MeasurementMap:
        """How the result is read: as translated, else as written."""
        if self.compiled.translation is not None:
            return self.compiled.translation.measurement
        return MeasurementMap(registers=self.compiled.registers, measured=self.compiled.measured)


class Verb(StrEnum):
    """The kinds of call to a vendor."""

    SUBMIT = "submit"
    FIND = "find"
    POLL = "poll"
    RECEIPT = "receipt"
    CANCEL = "cancel"
    DESCRIBE = "describe"


@dataclass(frozen=True, slots=True)
class Rate:
    """So many calls per second on average, and so many at once after a rest."""

    per_second: float
    burst: int = 1


@dataclass(frozen=True, slots=True)
class Limits:
    """What a provider account bears.

    ``rates`` bounds the calls of an account by verb; a verb that is not in it is not bounded. ``max_running_jobs`` is
    how many jobs one device runs at once, where that is known: a job whose shots are split gets so many parts there.
    ``max_pack`` is how many circuits for one device fit into one vendor job; above 1 the adapter overrides
    `ProviderAdapter.submit_many`.
    """

    rates: Mapping[Verb, Rate] = field(default_factory=dict[Verb, Rate])
    max_poll_batch: int = 100
    max_running_jobs: int | None = None
    max_pack: int = 1
    poll_interval_seconds: float = 2.0


class ProviderAdapter(ABC):
    """One vendor. Subclass it in ``qcompute/miner/providers/<key>.py`` (the file name is the key), or register it.

    Class attributes
        ``requires``: modules that must be importable, checked without importing them; ``extra``: what to install for
        them; ``idempotency``: how a lost submit is found; ``Config``: a pydantic model built from the
        ``[providers.<key>]`` table and ``QCOMPUTE_PROVIDERS__<KEY>__…``, passed as the constructor's only argument
        when the constructor takes one.
    """

    requires: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str | None] = None
    idempotency: ClassVar[Idempotency] = Idempotency.NONE
    has_ended_at_submit: ClassVar[bool] = False
    """Whether every job has ended when `submit` returns: it is asked for at once, and again only if that fails."""
    Config: ClassVar[type[BaseModel] | None] = None

    @abstractmethod
    def list_devices(self) -> list[Device]:
        """All devices of the account; the same ids at every call."""

    @abstractmethod
    def list_capabilities(self) -> list[Capability]:
        """One entry per device, in the order of `list_devices`."""

    @abstractmethod
    def get_capability(self, device_id: str | None = None) -> Capability | None:
        """Capability of one device, of the first when None; None when there is no such device."""

    @abstractmethod
    def submit(self, circuit_data: str, device_id: str | None = None, shots: int | None = None) -> JobHandle:
        """Create one vendor job; at most one request that costs money, never retried.

        An override may take ``*, token: IdempotencyToken, options: JobOptions`` as well; they are passed when the
        signature has them. Raises `Unavailable` or `Refused` only when provably nothing was created, else
        `SubmitUnknown`.
        """

    @abstractmethod
    def poll(self, handle: JobHandle) -> BaseExecutionStatus:
        """The job's status now; a word outside the contract is reported as UNKNOWN, never as FAILED."""

    @abstractmethod
    def cancel(self, handle: JobHandle) -> None:
        """Ask the vendor to stop; a no-op on a job that has ended. The job may still complete."""

    @abstractmethod
    def get_job_receipt(self, handle: JobHandle) -> JobReceipt:
        """The outcome of a job that has ended; the same answer at every call."""

    @abstractmethod
    def get_availability(self, device_id: str | None = None) -> AvailabilityStatus | None:
        """Availability of one device, of the first when None; None when not known."""

    @abstractmethod
    def get_pricing(self, device_id: str | None = None) -> dict[str, float] | None:
        """``perTask``, ``perShot``, ``perMinute`` in `price_currency`; None when not known."""

    def price_currency(self) -> str:
        """ISO 4217 code of `get_pricing`."""
        return "USD"

    def find(self, token: IdempotencyToken, since: datetime) -> Found | Absent | CannotTell:
        """Look for jobs created with ``token`` at or after ``since`` (aware UTC). Free of charge."""
        del token, since
        return CannotTell()

    def target(self, device: Device, options: JobOptions) -> Target | None:
        """What circuits for ``device`` are compiled to, in the sandbox; None: the device takes the text as it is.

        Asked once for each job and again before it is submitted; the same answer while the device is the same.
        """
        del device, options

    def prepare(self, circuit: CompiledCircuit, device: Device, shots: int, options: JobOptions) -> Prepared:
        """Turn a circuit into what `submit` takes; by default its text.

        ``circuit.translation`` is the circuit compiled for `target`, when that is given. No network call.
        """
        del device, shots
        return Prepared(payload=circuit.text, compiled=circuit, options=options)

    def submit_many(
        self, prepared: Sequence[Prepared], device_id: str, shots: int, *, token: IdempotencyToken
    ) -> list[JobHandle]:
        """Create one vendor job out of several circuits of one validator; a handle for each, in order.

        Called only when ``limits().max_pack`` is above 1, and then also for one. Everything said of `submit` holds.
        """
        del prepared, device_id, shots, token
        raise Bug(f"{type(self).__name__} has a max_pack but no submit_many")

    def check(self, circuit: CompiledCircuit, device: Device, shots: int) -> None:
        """Raise `CannotRun`, naming the limit, when this device can never run the circuit."""
        capability = self.get_capability(device.device_id)
        check_width(circuit, device, capability)
        del shots

    def estimate(self, prepared: Prepared, device: Device, shots: int) -> Money | None:
        """What the job is expected to cost, from the price list; None when there is none."""
        del prepared
        return estimate_from_prices(self.get_pricing(device.device_id), shots, self.price_currency())

    def poll_many(self, handles: Sequence[JobHandle]) -> list[BaseExecutionStatus]:
        """Status of each handle, in order; by default one `poll` each. The handles may be without `measurement`."""
        return [self.poll(handle) for handle in handles]

    def on_end(self, tell: Callable[[str], None]) -> None:  # noqa: B027 - telling nothing is a right answer too
        """Offer to tell of each job that ends, instead of letting the daemon find out by its next poll.

        An adapter that overrides it calls ``tell`` with the ``provider_job_id``, from any of its threads, for each job
        that ends after this call, however it ended, once `poll` would say so; ``tell`` neither blocks nor raises. It
        may tell of a job twice, of one that it was not asked for, and before `submit` has returned. A later call puts
        another ``tell`` in the place of this one. Whatever is not told is found by polling, which then may be slower.
        """

    def begin(self) -> None:  # noqa: B027 - most keep no jobs
        """Take up the jobs this adapter keeps itself; a second call does nothing.

        The daemon says so; commands that only look never do, so jobs are neither touched nor run before.

        Raises:
            ConfigError: another process has them; the setting to change is named.
        """

    def renewed_by(self, fresh: ProviderAdapter) -> ProviderAdapter:
        """The adapter to go on with when ``fresh`` was opened with new credentials; the other one is then closed.

        Raises:
            ConfigError: a restart alone can take them up; both are as they were.
        """
        return fresh

    def check_connection(self) -> Iterable[Finding]:
        """Look at the account without spending: whether it is reached, who we are there, what may be used and spent.

        An override adds what the vendor can say to what this says of its devices. What a call of it raises is a finding
        too, so a generator keeps those before it.
        """
        return device_findings(self)

    @classmethod
    def check_settings(cls, config: BaseModel) -> None:
        """Whether valid settings can work together; opens nothing and asks nobody.

        Raises:
            ConfigError: they cannot; the setting to change is named.
        """
        del config  # of most adapters they can

    def limits(self) -> Limits:
        """What this account bears."""
        return Limits()

    def close(self) -> None:  # noqa: B027 - doing nothing is the right default
        """Release what the adapter holds; called once, no call follows."""


class KeepingAdapter(ProviderAdapter):
    """An adapter that keeps its jobs itself, each named by its token, and tells when one has ended.

    Write `status_of` and `device_of`, and call `tell_end` with a job's id once its end can be seen. Jobs are taken up
    in `take_jobs`, not in ``__init__``. Call `begin` first in `submit`, `cancel` and `get_job_receipt`.
    """

    idempotency: ClassVar[Idempotency] = Idempotency.CLIENT_ID

    def __init__(self) -> None:
        self._tell: Callable[[str], None] | None = None
        self._taking = threading.Lock()
        self.has_jobs = False  # taken up

    def take_jobs(self) -> None:
        """Take up the jobs that are kept, so that no other process can, and start what runs them. Called once.

        Raises:
            ConfigError: another process has them; nothing was started.
        """

    @override
    def begin(self) -> None:
        if not self.has_jobs:
            with self._taking:
                if not self.has_jobs:
                    self.take_jobs()
                    self.has_jobs = True

    @override
    def renewed_by(self, fresh: ProviderAdapter) -> ProviderAdapter:
        raise ConfigError("its jobs would end with this adapter: stop the miner, change the credential, and start it")

    @abstractmethod
    def status_of(self, job_id: str) -> BaseExecutionStatus:
        """The status of a job now; UNKNOWN of one that is not kept."""

    @abstractmethod
    def device_of(self, job_id: str) -> str | None:
        """Where a job was submitted to; None of one that is not kept."""

    def tell_end(self, job_id: str) -> None:
        """A job has ended. From any thread, and with no lock held that `poll` takes."""
        if (tell := self._tell) is not None:
            tell(job_id)

    @override
    def on_end(self, tell: Callable[[str], None]) -> None:
        self._tell = tell

    @override
    def find(self, token: IdempotencyToken, since: datetime) -> Found | Absent | CannotTell:
        del since  # a name is exact
        self.begin()
        device = self.device_of(token)
        if device is None:
            return Absent()
        return Found(handles=[JobHandle(provider_job_id=token, device_id=device)])

    @override
    def poll(self, handle: JobHandle) -> BaseExecutionStatus:
        self.begin()
        return self.status_of(handle.provider_job_id)

    @override
    def poll_many(self, handles: Sequence[JobHandle]) -> list[BaseExecutionStatus]:
        self.begin()
        return [self.status_of(handle.provider_job_id) for handle in handles]


class ImmediateAdapter(ProviderAdapter):
    """A machine that answers at once: set ``device_id`` and ``num_qubits``, and write `run`.

    The result travels in the handle, which the daemon stores, so nothing is lost at a restart. A `run` that raises may
    have run all the same: its job is held for the operator.
    """

    has_ended_at_submit: ClassVar[bool] = True
    device_id: ClassVar[str]
    num_qubits: ClassVar[int | None] = None
    device_type: ClassVar[str] = "SIMULATOR"

    @abstractmethod
    def run(self, circuit_data: str, shots: int) -> Counts:
        """Counts of so many shots of an OpenQASM program."""

    @override
    def list_devices(self) -> list[Device]:
        return [Device(device_id=self.device_id, provider=type(self).__name__, device_type=self.device_type)]

    @override
    def list_capabilities(self) -> list[Capability]:
        return [Capability(num_qubits=self.num_qubits)]

    @override
    def get_capability(self, device_id: str | None = None) -> Capability | None:
        return self.list_capabilities()[0] if device_id in (None, self.device_id) else None

    @override
    def submit(self, circuit_data: str, device_id: str | None = None, shots: int | None = None) -> JobHandle:
        if device_id not in (None, self.device_id):
            raise Refused(f"there is one device here, {self.device_id}")
        counts = self.run(circuit_data, shots or 1000)
        facts = {"provider_job_id": str(uuid.uuid4()), "device_id": self.device_id, "counts": counts, "shots": shots}
        return JobHandle.model_validate(facts)

    @override
    def poll(self, handle: JobHandle) -> BaseExecutionStatus:
        known = self._counts(handle) is not None
        return BaseExecutionStatus(status=ProviderStatus.COMPLETED if known else ProviderStatus.UNKNOWN)

    @override
    def cancel(self, handle: JobHandle) -> None:
        del handle  # it ended before it had a handle

    @override
    def get_job_receipt(self, handle: JobHandle) -> JobReceipt:
        counts = self._counts(handle)
        return JobReceipt(
            provider=type(self).__name__,
            provider_job_id=handle.provider_job_id,
            status=ProviderStatus.UNKNOWN if counts is None else ProviderStatus.COMPLETED,
            device_id=handle.device_id,
            shots=(handle.model_extra or {}).get("shots"),
            results=None if counts is None else {"measurementCounts": counts},
        )

    @override
    def get_availability(self, device_id: str | None = None) -> AvailabilityStatus | None:
        known = device_id in (None, self.device_id)
        return AvailabilityStatus(availability="ONLINE", is_available=True) if known else None

    @override
    def get_pricing(self, device_id: str | None = None) -> dict[str, float] | None:
        del device_id

    @staticmethod
    def _counts(handle: JobHandle) -> Counts | None:
        return (handle.model_extra or {}).get("counts")


def device_findings(adapter: ProviderAdapter) -> list[Finding]:
    """What `list_devices` and `get_availability` say: that the service answers, and which devices can be used now."""
    devices = adapter.list_devices()
    if not devices:
        none = "there is no device this account could use"
        fix = "check the list of devices in the settings, and what the account has been given"
        return [Finding(Subject.DEVICES, Grade.FAILED, none, fix)]
    away: list[str] = []
    for device in devices:
        said = adapter.get_availability(device.device_id)
        if said is not None and said.is_available is False:
            away.append(f"{device.device_id} ({said.status_msg or said.availability or 'not available'})")
    names = ", ".join(device.device_id for device in devices)
    findings = [good(Subject.DEVICES, f"{len(devices)}: {names}")]
    if away:
        findings.append(notice(Subject.DEVICES, f"not available now: {', '.join(away)}", "wait, or use another"))
    return findings


def check_width(circuit: CompiledCircuit, device: Device, capability: Capability | None) -> None:
    """Raise `CannotRun` when the circuit has more qubits than the device."""
    width = capability.num_qubits if capability else None
    if width is not None and circuit.num_qubits > width:
        raise CannotRun(
            f"the circuit has {circuit.num_qubits} qubits and {device.device_id} has {width}", reason="too_wide"
        )


def tells_ends(adapter: ProviderAdapter) -> bool:
    """Whether this adapter offers `ProviderAdapter.on_end`."""
    return type(adapter).on_end is not ProviderAdapter.on_end


def submit_takes(adapter: ProviderAdapter) -> frozenset[str]:
    """The optional keyword arguments (``token``, ``options``) this adapter's `submit` has in its signature."""
    parameters = inspect.signature(adapter.submit).parameters
    return frozenset({"token", "options"} & parameters.keys())
