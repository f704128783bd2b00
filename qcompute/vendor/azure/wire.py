"""What Azure Quantum says: its records, its words, its results by format. No SDK, no network.

Sources: azure-quantum 3.13 (``_client/models``, ``target``, ``job/job.py``, ``qiskit/job.py``), API 2026-01-15-preview.
Fields that are not read here are ignored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, cast

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    PositiveInt,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic.alias_generators import to_camel

from qcompute.circuits.measurement import MeasurementMap, shots_of_probabilities
from qcompute.circuits.target import Dialect
from qcompute.errors import BadReply
from qcompute.units import Counts

QUANTINUUM_RESULTS: Final = "honeywell.quantum-results.v1"
IONQ_RESULTS: Final = "ionq.quantum-results.v1"
MICROSOFT_RESULTS: Final = "microsoft.quantum-results.v2"

LOST: Final = frozenset((2, "2", "-"))
"""What stands for the bit of a qubit that leaked or was lost: the whole shot counts for nothing."""

NO_CIRCUITS: Final = ("pasqal.", "microsoft.")
"""Targets that take pulses or chemistry, or only estimate."""
NO_RESULTS: Final = ("sc",)
"""Endings of Quantinuum's syntax checkers: they run nothing and answer zeros."""


@dataclass(frozen=True, slots=True)
class Form:
    """How circuits of a dialect are sent and what comes back. ``gates`` are the vendor's names, ``basis`` Qiskit's."""

    input_format: str
    output_format: str
    content_type: str
    gates: tuple[str, ...]
    basis: tuple[str, ...] | None = None


_QUANTINUUM_GATES: Final = ("x", "y", "z", "rx", "ry", "rz", "h", "cx", "cz", "s", "sdg", "t", "tdg")
_IONQ_GATES: Final = ("x", "y", "z", "h", "s", "si", "t", "ti", "v", "vi", "rx", "ry", "rz", "cnot", "swap", "zz")
_QIR_GATES: Final = (
    *("x", "y", "z", "h", "s", "s_adj", "t", "t_adj", "rx", "ry", "rz"),
    *("cx", "cy", "cz", "swap", "ccx", "rxx", "ryy", "rzz"),
)

FORMS: Final = {
    Dialect.OPENQASM_2: Form(
        "honeywell.openqasm.v1", QUANTINUUM_RESULTS, "application/qasm", _QUANTINUUM_GATES, _QUANTINUUM_GATES
    ),
    Dialect.IONQ_JSON: Form("ionq.circuit.v1", IONQ_RESULTS, "application/json", _IONQ_GATES),
    Dialect.QIR: Form("qir.v1", MICROSOFT_RESULTS, "qir.v1", _QIR_GATES),
}

KNOWN: Final[dict[str, tuple[int, int | None]]] = {
    "ionq.simulator": (29, None),
    "ionq.qpu.aria-1": (23, 10_000),
    "ionq.qpu.forte-1": (35, 10_000),
    "ionq.qpu.forte-enterprise-1": (35, 10_000),
    "quantinuum.qpu.h2-1": (56, 10_000),
    "quantinuum.qpu.h2-2": (56, 10_000),
    "quantinuum.sim.h2-1e": (56, None),
    "quantinuum.sim.h2-2e": (56, None),
    "quantinuum.sim.h2-1sc": (56, None),
    "quantinuum.sim.h2-2sc": (56, None),
    "quantinuum.qpu.helios-1": (98, 10_000),
    "quantinuum.sim.helios-1e": (98, None),
    "quantinuum.sim.helios-1sc": (98, None),
    "rigetti.sim.qvm": (20, 10_000),
    "rigetti.qpu.cepheus-1-108q": (108, 10_000),
}
"""Qubits, for when the service does not say, and the most shots (None: not known). From azure-quantum's own tables
(``qiskit/backends``, ``target/rigetti``); where those disagree with one another, the smaller number."""


def dialect_of(target: str) -> Dialect:
    """What a target takes, by its name.

    Helios is Quantinuum's, but azure-quantum 3.13 offers it to Qiskit's users through QIR only.
    """
    if target.startswith("ionq."):
        return Dialect.IONQ_JSON
    if target.startswith("quantinuum.") and ".helios-" not in target:
        return Dialect.OPENQASM_2
    return Dialect.QIR


def _or_none(value: object, read: ValidatorFunctionWrapHandler) -> object:
    """What is only told beside a result must not stand in its way."""
    try:
        return read(value)
    except ValidationError:
        return None


class _Record(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, frozen=True)


class Quota(_Record):
    """What may be used of one thing of one provider in a period."""

    dimension: str
    provider_id: str = ""
    utilization: float = 0.0
    limit: float | None = None
    period: str = ""

    @property
    def is_used_up(self) -> bool:
        """Whether nothing is left."""
        return self.limit is not None and self.utilization >= self.limit

    @property
    def text(self) -> str:
        """For people."""
        most = "no limit" if self.limit is None else f"of {self.limit:g}"
        return f"{self.provider_id} {self.dimension}: {self.utilization:g} {most}, {self.period or 'no period'}"


class Quotas(_Record):
    """All quotas of a workspace."""

    value: list[Quota] = []


class TargetStatus(_Record):
    """``average_queue_time`` in seconds."""

    id: str
    current_availability: str = ""
    average_queue_time: Annotated[float | None, WrapValidator(_or_none)] = None
    num_qubits: Annotated[PositiveInt | None, WrapValidator(_or_none)] = None
    target_profile: str | None = None


class Provider(_Record):
    """A provider and its targets."""

    id: str
    targets: list[TargetStatus] = []


class Providers(_Record):
    """The answer to ``GET providerStatus``."""

    value: list[Provider]


class SasPlace(_Record):
    """The answer to ``POST storage/sasUri``: a URL that carries its own, short-lived permission."""

    sas_uri: str = Field(repr=False)


class JobError(_Record):
    """Why a job failed."""

    code: str = ""
    message: str = ""


class UsageEvent(_Record):
    """One line of a cost estimate."""

    dimension_name: str = ""
    measure_unit: str = ""
    amount_billed: float | None = None
    unit_price: float | None = None


class CostEstimate(_Record):
    """The service's own, after the run: "the final cost on your bill might be slightly different"."""

    currency_code: str = Field(pattern="^[A-Z]{3}$")
    estimated_total: float = Field(ge=0)
    events: list[UsageEvent] | None = None


class JobDetails(_Record):
    """One job. ``status`` is the vendor's word."""

    id: str
    target: str = ""
    status: str = ""
    creation_time: AwareDatetime | None = None
    begin_execution_time: AwareDatetime | None = None
    end_execution_time: AwareDatetime | None = None
    cancellation_time: AwareDatetime | None = None
    input_params: JsonValue = None
    metadata: JsonValue = None
    output_data_uri: str | None = Field(default=None, repr=False)
    output_data_format: str | None = None
    error_data: Annotated[JobError | None, WrapValidator(_or_none)] = None
    cost_estimate: Annotated[CostEstimate | None, WrapValidator(_or_none)] = None

    @property
    def shots(self) -> int | None:
        """As it was submitted with."""
        shots = self.input_params.get("shots") if isinstance(self.input_params, dict) else None
        return shots if isinstance(shots, int) and shots > 0 else None

    @property
    def measurement(self) -> MeasurementMap | None:
        """The map that went with the job, if it did."""
        text = self.metadata.get("measurement") if isinstance(self.metadata, dict) else None
        if not isinstance(text, str):
            return None
        try:
            return MeasurementMap.model_validate_json(text)
        except ValidationError:
            return None


class Jobs(_Record):
    """A page of a list; ``next_link`` leads to the next."""

    value: list[JobDetails]
    next_link: str | None = Field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Counts in Qiskit's order, how many shots were thrown away, and whether the counts were derived."""

    counts: Counts
    discarded: int = 0
    sampled: bool = False


def outcome(document: object, form: str | None, measurement: MeasurementMap, shots: int | None) -> Outcome:
    """The JSON of a job's output blob, by its format.

    Raises:
        BadReply: not that format, a format we do not know, or not the bits that were measured.
    """
    if not isinstance(document, dict):
        raise BadReply("azure's result is not an object", field="results")
    results = cast("dict[str, Any]", document)
    if form == QUANTINUUM_RESULTS:
        return _of_registers(results, measurement)
    if form == IONQ_RESULTS:
        return _of_probabilities(results, measurement, shots)
    if form == MICROSOFT_RESULTS:
        return _of_shots(results, measurement)
    raise BadReply(f"azure's result has the unknown format {str(form)[:60]!r}", field="outputDataFormat")


def _of_registers(results: Mapping[str, Any], measurement: MeasurementMap) -> Outcome:
    """``{"c": ["10", …], "d": […]}``: leftmost is a register's highest bit; the order of the registers says nothing."""
    names = [register.name for register in measurement.registers if register.name in results]
    columns = [_texts(results[name]) for name in names]
    if len({len(column) for column in columns}) != 1:
        raise BadReply("azure's result lacks registers, or they have different numbers of shots", field="results")
    shots = list(zip(*columns, strict=True))
    kept = [shot for shot in shots if LOST.isdisjoint("".join(shot))]
    counts = measurement.counts_from_registers(
        {name: bits[::-1] for name, bits in zip(names, shot, strict=True)} for shot in kept
    )
    return Outcome(counts, discarded=len(shots) - len(kept))


def _texts(column: object) -> list[str]:
    if not isinstance(column, list) or not all(isinstance(one, str) for one in cast("list[object]", column)):
        raise BadReply("azure's result has a register that is not a list of texts", field="results")
    return cast("list[str]", column)


def _of_probabilities(results: Mapping[str, Any], measurement: MeasurementMap, shots: int | None) -> Outcome:
    """``{"histogram": {"5": 0.25, …}}``: keys are decimal, qubit 0 the lowest bit, over all qubits."""
    if shots is None:
        raise BadReply("azure does not say how many shots the job had", field="inputParams")
    try:
        histogram = {str(int(key)): float(value) for key, value in results["histogram"].items()}
    except (KeyError, AttributeError, TypeError, ValueError):
        raise BadReply("azure's result has no histogram of numbers", field="histogram") from None
    if min(map(int, histogram), default=0) < 0:
        raise BadReply("azure's result has a negative key", field="histogram")
    width = 1 + max(measurement.qubits, default=0)
    whole = shots_of_probabilities(histogram, shots)
    bits = (([int(key) >> qubit & 1 for qubit in range(width)], number) for key, number in whole.items())
    return Outcome(measurement.counts_from_qubits(bits), sampled=True)


def _of_shots(results: Mapping[str, Any], measurement: MeasurementMap) -> Outcome:
    """``{"Results": [{"Shots": [[0, 1], …], "Histogram": […]}]}``: a shot is what the program recorded, in order."""
    try:
        (result,) = results["Results"]
        if result.get("Shots") is not None:
            shots = list(result["Shots"])
        else:
            shots = [one["Outcome"] for one in result["Histogram"] for _ in range(int(one["Count"]))]
    except (KeyError, AttributeError, TypeError, ValueError):
        raise BadReply("azure's result has no shots", field="Results") from None
    rows = [list(_flat(shot)) for shot in shots]
    kept = [row for row in rows if LOST.isdisjoint(row)]
    return Outcome(measurement.counts_from_rows(kept), discarded=len(rows) - len(kept))


def _flat(shot: object) -> Iterator[int | str]:
    """The bits of a shot; tuples are ``{"Item1": …, "Item2": …}``, and a shot that failed is ``{"Error": …}``."""
    if isinstance(shot, int | str):
        yield shot
    elif isinstance(shot, list):
        for one in cast("list[object]", shot):
            yield from _flat(one)
    elif isinstance(shot, dict) and "Error" in shot:
        yield "-"
    elif isinstance(shot, dict):
        items = cast("dict[str, object]", shot)
        for number in range(1, len(items) + 1):
            yield from _flat(items.get(f"Item{number}"))
    else:
        raise BadReply("azure's result has a shot of an unknown form", field="Shots")
