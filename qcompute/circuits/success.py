"""How likely a circuit is to run without any error on a device, from the device's calibration.

The estimate is the field's usual one: the product of ``1 - error`` over all gates and measured qubits, as if errors
were independent. Qiskit's mapomatic ranks layouts by it, MQT Predictor calls it the expected fidelity. Here the
errors are a device's medians, so it says which *device* suits a circuit, not which of its qubits. It is for ranking:
as a promise of fidelity it is wrong, because errors are neither independent nor the same everywhere.

Idling decays too: ``exp(-t / min(T1, T2))`` for the time qubits wait on the critical path. That needs the duration of
gates, which only some vendors tell, so it is a factor of its own and is used where all compared devices have it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from qcompute.circuits.program import CompiledCircuit

_ONE_QUBIT: Final = frozenset(("x", "y", "h", "sx", "sxdg", "rx", "ry", "r", "u", "u2", "u3", "U"))
_TWO_QUBIT: Final = {
    **dict.fromkeys(("cx", "cy", "cz", "ch", "cp", "cu1", "crx", "cry", "crz", "ecr", "CX"), 1),
    **dict.fromkeys(("rxx", "ryy", "rzz", "rzx", "cu", "cu3", "csx", "iswap"), 2),
    "swap": 3,
    "ccx": 6,
    "cswap": 8,
}
"""Two-qubit gates a gate costs on a device that has only CX: the textbook decompositions."""
_FREE: Final = frozenset(("rz", "p", "u1", "z", "s", "sdg", "t", "tdg", "id", "barrier", "delay", "gphase"))
"""Turns about Z are a change of frame, made in software without an error on superconducting qubits and on ions."""
_READ: Final = frozenset(("measure", "reset"))


@dataclass(frozen=True, slots=True)
class Work:
    """What a circuit asks of a device. ``readouts`` counts measurements and resets; ``depth`` layers of gates."""

    num_qubits: int
    one_qubit_gates: int
    two_qubit_gates: int
    readouts: int
    depth: int

    @classmethod
    def of(cls, circuit: CompiledCircuit) -> Work | None:
        """The work of a circuit as compiled for its device where it was, else as written.

        None when it cannot be counted: it has conditions or loops, or gates of its own that are not expanded here.
        """
        if circuit.has_control_flow:
            return None
        if (made := circuit.translation) is not None:
            counts = made.gate_counts
            free = sum(counts.get(name, 0) for name in _FREE - {"barrier", "delay"})
            ones, twos = max(made.one_qubit_gates - free, 0), made.two_qubit_gates
            return cls(made.num_qubits, ones, twos, _sum(counts, _READ), made.depth)
        counts = circuit.gate_counts
        if counts.keys() - _ONE_QUBIT - _TWO_QUBIT.keys() - _FREE - _READ:
            return None
        twos = sum(times * counts.get(name, 0) for name, times in _TWO_QUBIT.items())
        return cls(circuit.num_qubits, _sum(counts, _ONE_QUBIT), twos, _sum(counts, _READ), circuit.depth)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a device's calibration says of all its qubits; None for what is not known. Errors from 0 to 1, medians.

    ``coherence_seconds`` is the shorter of the qubits' median T1 and median T2.
    """

    one_qubit_error: float | None = None
    two_qubit_error: float | None = None
    readout_error: float | None = None
    coherence_seconds: float | None = None
    one_qubit_seconds: float | None = None
    two_qubit_seconds: float | None = None

    @classmethod
    def of(cls, extras: Mapping[str, Any] | None) -> Calibration:
        """Read ``Capability.extras``; a value that is not what its name promises counts as not known."""
        known = extras or {}
        return cls(
            one_qubit_error=_error(known.get("one_qubit_error")),
            two_qubit_error=_error(known.get("two_qubit_error")),
            readout_error=_error(known.get("readout_error")),
            coherence_seconds=_coherence(known.get("t1_seconds"), known.get("t2_seconds")),
            one_qubit_seconds=_duration(known.get("one_qubit_seconds")),
            two_qubit_seconds=_duration(known.get("two_qubit_seconds")),
        )


@dataclass(frozen=True, slots=True)
class Success:
    """An estimate, each part from 0 to 1. ``operations`` is of gates and readouts, ``idling`` of waiting qubits.

    ``idling`` is None where the device does not tell its gates' durations or its coherence times.
    """

    operations: float
    idling: float | None = None

    def probability(self, *, with_idling: bool) -> float:
        """The estimate; two of them compare only when both were asked for the same way."""
        return self.operations * self.idling if with_idling and self.idling is not None else self.operations


def estimated_success(work: Work | None, calibration: Calibration) -> Success | str:
    """The estimate, or why there is none, in words that end a sentence on the device."""
    if work is None:
        return "the circuit's gates cannot be counted"
    needs = (
        ("one-qubit gates", work.one_qubit_gates, calibration.one_qubit_error),
        ("two-qubit gates", work.two_qubit_gates, calibration.two_qubit_error),
        ("readout", work.readouts, calibration.readout_error),
    )
    missing = [name for name, times, error in needs if times and error is None]
    if missing:
        return f"its error of {' and '.join(missing)} is not known"
    operations = math.prod((1.0 - error) ** times for _, times, error in needs if error is not None)
    return Success(operations, _idling(work, calibration))


def _idling(work: Work, calibration: Calibration) -> float | None:
    one, two, coherence = calibration.one_qubit_seconds, calibration.two_qubit_seconds, calibration.coherence_seconds
    if one is None or two is None or coherence is None:
        return None
    gates = work.one_qubit_gates + work.two_qubit_gates
    if not gates:
        return 1.0
    # The critical path: as many layers as the circuit is deep, each as long as its gates are on average.
    path_seconds = work.depth * (work.one_qubit_gates * one + work.two_qubit_gates * two) / gates
    busy_seconds = work.one_qubit_gates * one + 2 * work.two_qubit_gates * two
    return math.exp(-max(work.num_qubits * path_seconds - busy_seconds, 0.0) / coherence)


def _sum(counts: Mapping[str, int], names: frozenset[str]) -> int:
    return sum(counts.get(name, 0) for name in names)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _error(value: object) -> float | None:
    number = _number(value)
    return number if number is not None and 0.0 <= number <= 1.0 else None


def _duration(value: object) -> float | None:
    number = _number(value)
    return number if number is not None and number > 0.0 else None


def _coherence(t1: object, t2: object) -> float | None:
    one, two = _median_duration(t1), _median_duration(t2)
    return None if one is None or two is None else min(one, two)


def _median_duration(times: object) -> float | None:
    """Of a list, of a mapping from qubits, or the one number that stands for all: vendors differ."""
    values: list[object] = [times]
    if isinstance(times, Mapping):
        values = [*times.values()]
    elif isinstance(times, list | tuple):
        values = [*times]
    known = [time for value in values if (time := _duration(value)) is not None]
    return statistics.median(known) if known else None
