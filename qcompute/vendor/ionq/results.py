"""IonQ's result formats, each read into outcomes in the one bit order.

Facts are from IonQ's OpenAPI description of version 0.4 (1 October 2026, Apache-2.0). Formats of version 2 are by
register, those of version 1 by the state of all qubits as one whole number.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from typing import Final

from pydantic import BaseModel

from qcompute.circuits.measurement import MeasurementMap, Register, shots_of_probabilities
from qcompute.errors import BadReply
from qcompute.units import Counts
from qcompute.vendor.http import MAX_REPLY_BYTES, read
from qcompute.vendor.ionq.api import PROBABILITIES, Job, mapping

_STATE: Final = re.compile(r"[0-9]{1,400}")
_SYSTEM_REGISTER: Final = "output_all"
"""IonQ adds it to the registers of a program: all qubits."""

Outcomes = dict[str, float]
"""Our keys to numbers of shots or to probabilities."""


class _Shot(BaseModel):
    registers: dict[str, list[int]]


class _Shots(BaseModel):
    shots: list[_Shot]


class _Registers(BaseModel):
    registers: dict[str, dict[str, float]]


class _Histogram(BaseModel):
    histogram: _Registers


class _Probabilities(BaseModel):
    probabilities: _Registers


class _States(BaseModel):
    states: dict[str, float]


class _StateList(BaseModel):
    states: list[str]


def _of_shots(payload: object, measurement: MeasurementMap | None) -> Outcomes | None:
    """``[bit 0, bit 1 …]`` of each register, shot by shot."""
    shots = [shot.registers for shot in read(_Shots, payload, what="IonQ's shots").shots]
    if not shots:
        raise BadReply("IonQ's list of shots is empty", field="shots")
    measurement = measurement or _the_one_register({name: len(bits) for name, bits in shots[0].items()})
    if measurement is None or not shots[0].keys() >= set(written_registers(measurement)):
        return None
    return {key: float(number) for key, number in measurement.counts_from_registers(shots).items()}


def _of_histogram(payload: object, measurement: MeasurementMap | None) -> Outcomes | None:
    return _of_registers(read(_Histogram, payload, what="IonQ's histogram").histogram.registers, measurement)


def _of_probabilities(payload: object, measurement: MeasurementMap | None) -> Outcomes | None:
    told = read(_Probabilities, payload, what="IonQ's probabilities").probabilities.registers
    return _of_registers(told, measurement)


def _of_registers(told: Mapping[str, Outcomes], measurement: MeasurementMap | None) -> Outcomes | None:
    """Outcomes of all registers together, from those of each alone; None when they do not follow.

    Two registers with more than one outcome each may be correlated in any way, and a product would be made up. Bit 0 is
    taken to be rightmost in the bit strings: IonQ does not say, and all its examples read the same both ways.
    """
    told = {name: {text: number for text, number in one.items() if number} for name, one in told.items()}
    measurement = measurement or _the_one_register({name: len(next(iter(one), "")) for name, one in told.items()})
    names = [] if measurement is None else written_registers(measurement)
    undecided = [name for name in names if len(told.get(name, {})) != 1]
    if measurement is None or not names or len(undecided) > 1 or not told.keys() >= set(names):
        return None
    chosen = (undecided or names)[0]
    others = {name: next(iter(told[name]))[::-1] for name in names if name != chosen}
    outcomes: defaultdict[str, float] = defaultdict(float)
    for text, number in told[chosen].items():
        (key,) = measurement.counts_from_registers([{**others, chosen: text[::-1]}])
        outcomes[key] += number
    return dict(outcomes)


def _of_states(payload: object, measurement: MeasurementMap | None) -> Outcomes | None:
    """Whole numbers over all qubits as keys, qubit 0 the lowest bit; qubits that were not measured are summed over."""
    if measurement is None or not measurement.measured:
        return None
    used = sum({1 << qubit for qubit in measurement.qubits})
    sums: defaultdict[int, float] = defaultdict(float)
    for state, number in read(_States, {"states": payload}, what="IonQ's result").states.items():
        if not _STATE.fullmatch(state):
            raise BadReply("IonQ's result has a state that is not a whole number", field="results")
        sums[int(state) & used] += number
    width = max(measurement.qubits) + 1
    outcomes: Outcomes = {}
    for state, number in sums.items():
        (key,) = measurement.counts_from_qubits([([state >> qubit & 1 for qubit in range(width)], 1)])
        outcomes[key] = number
    return outcomes


def _of_state_list(payload: object, measurement: MeasurementMap | None) -> Outcomes | None:
    return _of_states(Counter(read(_StateList, {"states": payload}, what="IonQ's shots").states), measurement)


def written_registers(measurement: MeasurementMap) -> list[str]:
    """Names of the registers anything was measured into."""
    names: list[str] = []
    start = 0
    for register in measurement.registers:
        if any(start <= clbit < start + register.size for clbit in measurement.written):
            names.append(register.name)
        start += register.size
    return names


def _the_one_register(widths: Mapping[str, int]) -> MeasurementMap | None:
    """Where nothing was written down, a result of one register still reads in one way only."""
    ours = [(name, width) for name, width in widths.items() if name != _SYSTEM_REGISTER]
    if len(ours) != 1:
        return None
    ((name, width),) = ours
    return MeasurementMap(
        registers=(Register(name=name, size=width),), measured=tuple((place, place) for place in range(width))
    )


Reader = Callable[[object, MeasurementMap | None], Outcomes | None]

FORMATS: Final[Mapping[str, tuple[Reader, str]]] = {
    "ionq.result.shots.json.v2": (_of_shots, "measured"),
    "ionq.result.histogram.json.v2": (_of_histogram, "measured"),
    "ionq.result.shots.json.v1": (_of_state_list, "measured"),
    "ionq.result.histogram.json.v1": (_of_states, "measured"),
    "ionq.result.probabilities.json.v2": (_of_probabilities, "sampled"),
    "ionq.result.probabilities.json.v1": (_of_states, "sampled"),
    PROBABILITIES: (_of_states, "sampled"),
}
"""Readers by format, the best first, and what counts from them are. A reader answers None when its format does not tell
all registers together."""

Fetch = Callable[[str, str, object], object]
"""Gets a job's result: job id, format, and what the job says about it."""


def counts_of_job(job: Job, measurement: MeasurementMap | None, fetch: Fetch) -> tuple[Counts, str, str]:
    """Counts of a completed job, the format they are from, and whether they were ``measured`` or ``sampled``.

    Raises:
        BadReply: no format of the result tells all registers together.
    """
    told, shots = mapping(job.results), job.asked_shots
    for form, (reader, source) in FORMATS.items():
        if form not in told or _is_too_large(form, measurement, shots) or (job.is_mid_circuit and _is_final(form)):
            continue
        outcomes = reader(fetch(job.id, form, told[form]), measurement)
        if outcomes is None:
            continue
        if source == "measured":
            return _whole(outcomes), form, source
        if shots is None:
            raise BadReply("IonQ gave probabilities and no number of shots", field="shots")
        return dict(sorted(shots_of_probabilities(outcomes, shots).items())), form, source
    if measurement is None:
        raise BadReply("it is not known which bits were measured", field="measurement")
    known = ", ".join(form for form in FORMATS if form in told) or "no result"
    raise BadReply(f"IonQ has {known} for this job, which does not tell its registers together", field="results")


def _whole(outcomes: Outcomes) -> Counts:
    if not all(number >= 0 and number.is_integer() for number in outcomes.values()):
        raise BadReply("IonQ's result has a number of shots that is not a whole number", field="results")
    return {key: int(number) for key, number in sorted(outcomes.items())}


def _is_too_large(form: str, measurement: MeasurementMap | None, shots: int | None) -> bool:
    """Whether a list of single shots is more than may be read; a histogram of the same is not."""
    bits = 0 if measurement is None else measurement.num_clbits
    return ".shots." in form and (shots or 0) * (2 * bits + 40) > MAX_REPLY_BYTES


def _is_final(form: str) -> bool:
    """Whether it has the qubits' states at the end, which are not what was measured earlier."""
    return form == PROBABILITIES or form.endswith(".v1")
