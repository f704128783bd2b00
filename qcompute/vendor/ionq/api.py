"""IonQ's REST API: its calls, and the records it takes and gives.

Facts are from IonQ's OpenAPI description of version 0.4 (1 October 2026, Apache-2.0). Records name only what is used,
and only as strictly: IonQ's own client broke five times on fields that came out otherwise than described.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http import HTTPStatus
from typing import Any, Final, cast
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from qcompute.circuits.measurement import MeasurementMap
from qcompute.circuits.program import JobOptions
from qcompute.circuits.target import Translation
from qcompute.connections.credentials import Secret
from qcompute.errors import BadReply, CannotRun, SubmitUnknown, Unavailable, VendorError
from qcompute.faults import first_fault
from qcompute.vendor.http import Timeouts, VendorHttp, read, usual_words

TOKEN_KEY: Final = "qcompute_token"  # noqa: S105 - a name, not a secret
SHOTS_KEY: Final = "qcompute_shots"
MEASUREMENT_KEY: Final = "qcompute_measurement"
MID_CIRCUIT_KEY: Final = "qcompute_mid_circuit"
MAX_METADATA: Final = 400
"""Characters of one metadata value. The API description has no limit; IonQ's Qiskit client once named this one."""

MAX_KEPT: Final = 4096
"""Completed jobs remembered between the poll that saw them and their receipt: a few hundred bytes each."""

MAX_PAGE: Final = 100
"""Jobs on a page, and ids in a question."""
CALIBRATED: Final = (
    *("calibrated_at", "coupling_map", "t1_seconds", "t2_seconds"),
    *("readout_error", "one_qubit_error", "two_qubit_error", "one_qubit_seconds", "two_qubit_seconds"),
)
"""What of a device's description follows from its calibration."""
MIN_DEBIASED_SHOTS: Final = 500
PROBABILITIES: Final = "probabilities"
"""What older results call a format that has a path of its own and no artifact."""

_DISORDER: Final = timedelta(seconds=5)
"""Jobs that were submitted at the same time may be listed either way round."""


class Backend(BaseModel):
    """One of ``GET /backends``; ``average_queue_time`` in milliseconds."""

    backend: str
    status: str
    qubits: int | None = None
    degraded: bool | None = None
    average_queue_time: float | None = None
    characterization_id: str | None = None
    supported_gates: list[str] | None = None
    supported_native_gates: list[str] | None = None
    supported_error_mitigations: list[str] | None = None

    @property
    def queue_seconds(self) -> float | None:
        """How long jobs have waited lately; None where IonQ does not say."""
        return None if self.average_queue_time is None else self.average_queue_time / 1000

    @property
    def queue_text(self) -> str:
        """The status in IonQ's word, and how long jobs have waited lately."""
        if self.queue_seconds is None:
            return self.status
        wait = timedelta(seconds=round(self.queue_seconds))
        return f"{self.status}, average time in the queue {wait} (h:mm:ss)"


class Backends(BaseModel):
    """The answer of ``GET /backends``, which is a bare list, put into a field."""

    backends: list[Backend]


class Characterization(BaseModel):
    """A calibration: ``fidelity`` by ``spam``, ``1q``, ``2q``; ``timing`` in seconds."""

    id: str | None = None
    date: str | None = None
    connectivity: list[tuple[int, int]] | None = None
    fidelity: dict[str, dict[str, float | None] | None] | None = None
    timing: dict[str, float | None] | None = None

    def error_rate(self, operation: str) -> float | None:
        """1 minus the median fidelity; None where it is not given."""
        median = ((self.fidelity or {}).get(operation) or {}).get("median")
        return None if median is None else round(1 - median, 9)

    def extras(self, qubits: int) -> dict[str, Any]:
        """As `Capability.extras` has them. IonQ gives one T1 and one T2 for all qubits."""
        times = self.timing or {}
        by_qubit = [None if times.get(name) is None else [times[name]] * qubits for name in ("t1", "t2")]
        pairs = None if self.connectivity is None else [list(pair) for pair in self.connectivity]
        rates = [self.error_rate(operation) for operation in ("spam", "1q", "2q")]
        durations = [times.get(operation) for operation in ("1q", "2q")]
        known = dict(zip(CALIBRATED, (self.date, pairs, *by_qubit, *rates, *durations), strict=True))
        return known | {"calibration_id": self.id, "timing_seconds": times}


class Characterizations(BaseModel):
    """A page of calibrations, newest first."""

    characterizations: list[Characterization | None] | None = None


class Key(BaseModel):
    """What a key is called, and the project its jobs are of."""

    key_name: str
    project_id: str | None = None


class Named(BaseModel):
    """Whatever was created."""

    id: str = Field(min_length=1)


class Session(BaseModel):
    """One session."""

    active: bool


class Job(BaseModel):
    """One job, of ``GET /jobs/{id}`` and of lists, which hold jobs of other programs too."""

    id: str
    status: str
    backend: str | None = None
    name: str | None = None
    metadata: Any = None
    submitted_at: Any = None
    started_at: Any = None
    completed_at: Any = None
    predicted_wait_time_ms: float | None = None
    execution_duration_ms: float | None = None
    shots: int | None = None
    session_id: str | None = None
    failure: Any = None
    stats: Any = None
    results: Any = None

    def noted(self, key: str) -> str | None:
        """What was noted in the job's metadata when it was submitted."""
        return _text(mapping(self.metadata).get(key))

    @property
    def asked_shots(self) -> int | None:
        """What was asked for; the ideal simulator forgets it, or says its own default."""
        noted = self.noted(SHOTS_KEY) or ""
        return int(noted) if noted.isascii() and noted.isdigit() else self.shots

    @property
    def measurement(self) -> MeasurementMap | None:
        """How the result is read, where it was noted."""
        try:
            registers, measured = json.loads(self.noted(MEASUREMENT_KEY) or "null")
            return MeasurementMap.model_validate(
                {"registers": [{"name": name, "size": size} for name, size in registers], "measured": measured}
            )
        except (ValueError, TypeError):
            return None

    @property
    def is_mid_circuit(self) -> bool:
        """Whether its circuit goes on after measurements."""
        return self.noted(MID_CIRCUIT_KEY) is not None

    @property
    def failure_text(self) -> str | None:
        """``code: message``; None when the job has not failed."""
        failure = mapping(self.failure)
        parts = [_text(failure.get(key)) for key in ("code", "message", "error")]
        return ": ".join(part for part in parts if part) or None

    @property
    def quantum_seconds(self) -> float | None:
        """What is billed, where it is billed by time."""
        microseconds = mapping(self.stats).get("billed_quantum_compute_time_us")
        return microseconds / 1e6 if isinstance(microseconds, int | float) else None

    @property
    def timestamps(self) -> dict[str, Any]:
        """RFC 3339, as far as they are known, and ``executionDuration`` in seconds."""
        words = {"createdAt": self.submitted_at, "startedAt": self.started_at, "endedAt": self.completed_at}
        times: dict[str, Any] = {name: word for name, word in words.items() if moment_of(word) is not None}
        if self.execution_duration_ms is not None:
            times["executionDuration"] = self.execution_duration_ms / 1000
        return times

    def is_of(self, token: str) -> bool:
        """Whether it was submitted with ``token``."""
        return token in (self.name, self.noted(TOKEN_KEY))


class Jobs(BaseModel):
    """A page of jobs; ``next`` is the next page's cursor."""

    jobs: list[Job]
    next: str | None = None


class Amount(BaseModel):
    """``unit`` is a currency's code in small letters, or ``credit``."""

    value: Decimal = Field(allow_inf_nan=False)
    unit: str

    @property
    def currency(self) -> str | None:
        """ISO 4217; None for credits."""
        return currency_of(self.unit)


class Cost(BaseModel):
    """What a job cost, and was expected to; both are left out for what has no price."""

    cost: Amount | None = None
    estimated_cost: Amount | None = None

    @property
    def best(self) -> tuple[Amount | None, str]:
        """What is known, and what it is worth: ``actual`` or ``vendor_estimate``."""
        return (self.cost, "actual") if self.cost is not None else (self.estimated_cost, "vendor_estimate")


class Estimate(BaseModel):
    """What a job is expected to cost."""

    estimated_total_cost: Decimal = Field(ge=0, allow_inf_nan=False)
    estimated_unit: str


class _Mitigation(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    debiasing: bool | None = None
    symmetry_verification: bool | None = None


class _Noise(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    model: str = Field(pattern=r"^[a-z0-9.-]{1,64}$")
    seed: int | None = Field(default=None, ge=0, lt=2**31)


class _Wishes(BaseModel):
    """The keys of ``configuration_data`` that are IonQ's own; all others are not looked at."""

    error_mitigation: _Mitigation | None = None
    noise: _Noise | None = None


def wished_body(options: JobOptions, backend: str, shots: int | None) -> dict[str, Any]:
    """What goes into a job's body for IonQ's own options: ``error_mitigation``, and ``noise`` for the simulator.

    A ``seed`` is the noise's where that has none of its own; without noise nothing is drawn at IonQ. None for ``shots``
    leaves them unchecked.

    Raises:
        CannotRun: an option has a value IonQ has no use for.
    """
    try:
        wishes = _Wishes.model_validate(options.passed_on)
    except ValidationError as error:
        raise CannotRun(first_fault(error, "configuration_data"), reason="bad_option") from None
    body: dict[str, Any] = {}
    if wishes.error_mitigation is not None and (settings := wishes.error_mitigation.model_dump(exclude_none=True)):
        if wishes.error_mitigation.debiasing and shots is not None and shots < MIN_DEBIASED_SHOTS:
            raise CannotRun(f"IonQ debiases from {MIN_DEBIASED_SHOTS} shots on", reason="bad_option")
        body["settings"] = {"error_mitigation": settings}
    if wishes.noise is not None and is_simulator(backend):
        seeded = wishes.noise
        if seeded.seed is None and options.seed is not None:
            seeded = seeded.model_copy(update={"seed": options.seed % 2**31})
        body["noise"] = seeded.model_dump(exclude_none=True)
    return body


def question_of(translation: Translation, backend: str, shots: int, *, mitigated: bool) -> dict[str, str]:
    """What the estimate of a job's cost is asked with."""
    question = {
        "backend": backend,
        "qubits": str(max(translation.num_qubits, 1)),
        "shots": str(shots),
        "1q_gates": str(translation.one_qubit_gates),
        "2q_gates": str(translation.two_qubit_gates),
    }
    return question | ({"error_mitigation": "true"} if mitigated else {})


def is_simulator(backend: str) -> bool:
    """Whether it costs nothing."""
    return backend.split(".", maxsplit=1)[0] == "simulator"


class Backwards:
    """Says when a list, read page by page, has gone past a moment: only one that is newest first can."""

    def __init__(self, since: datetime) -> None:
        self._since = since
        self._earliest: datetime | None = None
        self._ordered = True

    def has_passed(self, jobs: list[Job]) -> bool:
        """Whether all jobs after these, the next of the list, were submitted before the moment."""
        for job in jobs:
            moment = moment_of(job.submitted_at)
            if moment is None or (self._earliest is not None and moment > self._earliest + _DISORDER):
                self._ordered = False
                break
            self._earliest = moment if self._earliest is None else min(moment, self._earliest)
        return self._ordered and self._earliest is not None and self._earliest < self._since - _DISORDER


def metadata_of(
    token: str | None, shots: int, measurement: MeasurementMap | None, *, mid_circuit: bool
) -> dict[str, str]:
    """What is noted in a job: its token, its shots, and how it is read where that is short enough."""
    noted = {SHOTS_KEY: str(shots)}
    if mid_circuit:
        noted[MID_CIRCUIT_KEY] = "1"
    if token is not None:
        noted[TOKEN_KEY] = token
    if measurement is not None:
        registers = [[register.name, register.size] for register in measurement.registers]
        text = json.dumps([registers, measurement.measured], separators=(",", ":"))
        if len(text) <= MAX_METADATA:
            noted[MEASUREMENT_KEY] = text
    return noted


def moment_of(value: object) -> datetime | None:
    """IonQ's ISO timestamps, aware; None for anything else."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


def currency_of(unit: str) -> str | None:
    """ISO 4217 of a unit of cost; None when it is no currency (IonQ's credits)."""
    return unit.upper() if len(unit) == len("usd") and unit.isascii() and unit.isalpha() else None


def mapping(value: object) -> Mapping[str, Any]:
    """``value`` where it is an object, else an empty one."""
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


class IonqClient:
    """The calls. What they raise is said in `VendorHttp.call`. Thread-safe."""

    def __init__(self, url: str, key: Secret, timeouts: Timeouts) -> None:
        self._http = VendorHttp(
            "IonQ",
            url,
            headers={"Authorization": f"apiKey {key.reveal()}"},
            secrets=(key,),
            timeouts=timeouts,
            words=_words,
        )
        self._completed: OrderedDict[str, Job] = OrderedDict()

    def backends(self) -> list[Backend]:
        """All there are, retired ones too."""
        return read(Backends, {"backends": self._http.get("/backends").json}, what="IonQ's backends").backends

    def whoami(self) -> Key:
        """Whose key this is."""
        return self._http.get("/whoami").read(Key, what="IonQ's whoami")

    def characterization(self, backend: str) -> Characterization | None:
        """The newest of a backend; None when there is none."""
        reply = self._http.get(f"/backends/{_quoted(backend)}/characterizations", params={"limit": "1"})
        page = reply.read(Characterizations, what="IonQ's characterization")
        return next((one for one in page.characterizations or () if one is not None), None)

    def create_job(self, body: Mapping[str, Any]) -> str:
        """The job's id. The one call that costs money: sent once."""
        reply = self._http.call("POST", "/jobs", paid=True, body=body)
        try:
            return reply.read(Named, what="IonQ's answer to a submit").id
        except BadReply as error:
            raise SubmitUnknown(error.message) from None

    def create_session(self, backend: str, cost_limit_usd: Decimal) -> str:
        """The id of a session whose jobs may cost so much together. Free: one that was lost stays unused."""
        settings = {"cost_limit": {"value": float(cost_limit_usd), "unit": "usd"}}
        reply = self._http.call("POST", "/sessions", body={"backend": backend, "settings": settings})
        try:
            return reply.read(Named, what="IonQ's session").id
        except BadReply as error:  # no job was sent yet
            raise Unavailable(error.message) from None

    def session_has_ended(self, session: str) -> bool:
        """Whether it provably takes no more jobs."""
        try:
            return not self._http.get(f"/sessions/{_quoted(session)}").read(Session, what="IonQ's session").active
        except VendorError:
            return False

    def job(self, job_id: str) -> Job:
        """One job; one that was seen completed, with its results, is not asked for again."""
        seen = self._completed.get(job_id)
        return seen or self._seen(self._http.get(_job(job_id)).read(Job, what="IonQ's job"))

    def job_if_known(self, job_id: str) -> Job | None:
        """One job; None when IonQ does not know it, or sees at once that the id is none of its own."""
        not_known = (HTTPStatus.NOT_FOUND, HTTPStatus.BAD_REQUEST)
        reply = self._http.get(_job(job_id), accept=not_known)
        return None if reply.status in not_known else self._seen(reply.read(Job, what="IonQ's job"))

    def jobs(self, cursor: str | None, ids: frozenset[str] = frozenset()) -> Jobs:
        """A page of jobs, newest first; only those of ``ids`` where there are any."""
        query = [("ids", job_id) for job_id in sorted(ids)] + [("limit", str(MAX_PAGE))]
        query += [] if cursor is None else [("next", cursor)]
        return self._http.get("/jobs", params=query).read(Jobs, what="IonQ's list of jobs")

    def jobs_by_id(self, ids: frozenset[str]) -> dict[str, Job]:
        """Those of at most `MAX_PAGE` jobs that IonQ knows."""
        found: dict[str, Job] = {}
        cursor: str | None = None
        for _ in ids:  # a page has at least one
            page = self.jobs(cursor, ids)
            found |= {job.id: self._seen(job) for job in page.jobs}
            cursor = page.next
            if cursor is None or ids <= found.keys():
                break
        return found

    def _seen(self, job: Job) -> Job:
        """``job``, kept for its receipt when it will not change any more."""
        if job.status == "completed" and job.results:
            self._completed[job.id] = job
            while len(self._completed) > MAX_KEPT:
                with suppress(KeyError):  # another thread may have been here first
                    self._completed.popitem(last=False)
        return job

    def cancel(self, job_id: str) -> None:
        """Ask for it; refused for a job that has ended."""
        self._http.call("PUT", _job(job_id, "/status/cancel"))

    def result(self, job_id: str, form: str, descriptor: object) -> object:
        """A result in the format ``form``; ``descriptor`` is what the job says about it."""
        if form == PROBABILITIES:
            return self._http.get(_job(job_id, "/results/probabilities")).json
        artifact = read(Named, descriptor, what="IonQ's result").id
        return self._http.get(_job(job_id, f"/artifacts/{_quoted(artifact)}")).json

    def cost(self, job_id: str) -> Cost:
        """What it cost."""
        return self._http.get(_job(job_id, "/cost")).read(Cost, what="IonQ's cost")

    def estimate(self, question: Mapping[str, str]) -> Estimate:
        """What a job with so many gates is expected to cost."""
        return self._http.get("/jobs/estimate", params=dict(question)).read(Estimate, what="IonQ's estimate")

    def scrubbed(self, text: str) -> str:
        """See `VendorHttp.scrubbed`."""
        return self._http.scrubbed(text)

    def close(self) -> None:
        """Close all connections."""
        self._http.close()


def _quoted(part: str) -> str:
    return quote(part, safe="")


def _job(job_id: str, below: str = "") -> str:
    return f"/jobs/{_quoted(job_id)}{below}"


def _words(body: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """``{"error": "Bad Request", "message": …, "validation": {"keys": […]}}``: the keys are what it did not like."""
    code, text = usual_words(body)
    keys = mapping(body.get("validation")).get("keys")
    if isinstance(keys, list) and keys:
        text = f"{text} ({', '.join(str(key) for key in cast('list[object]', keys))})"
    return code or _text(body.get("error")), text
