"""How likely a circuit runs without an error: the product over its gates, and nothing where a factor is not known."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompute.circuits.measurement import MeasurementMap, Register
from qcompute.circuits.program import CompiledCircuit, Language
from qcompute.circuits.success import Calibration, Success, Work, estimated_success
from qcompute.circuits.target import Dialect, Translation

EXTRAS: dict[str, Any] = {"one_qubit_error": 0.001, "two_qubit_error": 0.01, "readout_error": 0.02}
TIMES: dict[str, Any] = {
    "t1_seconds": [100e-6, 300e-6, None],
    "t2_seconds": [200e-6, 100e-6, 5e-6],
    "one_qubit_seconds": 50e-9,
    "two_qubit_seconds": 500e-9,
}
BELL = Work(num_qubits=2, one_qubit_gates=1, two_qubit_gates=1, readouts=2, depth=3)


def circuit(counts: dict[str, int], *, translation: Translation | None = None, loops: bool = False) -> CompiledCircuit:
    return CompiledCircuit(
        source="",
        language=Language.OPENQASM_2,
        sha256="0" * 64,
        num_qubits=2,
        num_clbits=2,
        registers=(Register(name="c", size=2),),
        measured=((0, 0), (1, 1)),
        gate_counts=counts,
        depth=3,
        num_ops=sum(counts.values()),
        has_control_flow=loops,
        translation=translation,
    )


def translated(counts: dict[str, int], ones: int, twos: int) -> Translation:
    return Translation(
        text="",
        dialect=Dialect.OPENQASM_3,
        sha256="0" * 64,
        measurement=MeasurementMap(registers=(Register(name="c0", size=2),), measured=((0, 0), (1, 1))),
        num_qubits=2,
        gate_counts=counts,
        one_qubit_gates=ones,
        two_qubit_gates=twos,
        depth=7,
        optimization_level=1,
    )


def test_a_bell_pair_is_the_product_of_its_gates_and_readouts() -> None:
    estimate = estimated_success(BELL, Calibration.of(EXTRAS))
    assert isinstance(estimate, Success)
    assert estimate.operations == pytest.approx(0.999 * 0.99 * 0.98**2)
    assert estimate.idling is None
    assert estimate.probability(with_idling=True) == estimate.probability(with_idling=False)


def test_waiting_qubits_decay_by_the_shorter_of_their_times() -> None:
    estimate = estimated_success(BELL, Calibration.of(EXTRAS | TIMES))
    assert isinstance(estimate, Success)
    path = 3 * (50e-9 + 500e-9) / 2
    idle = 2 * path - 50e-9 - 2 * 500e-9
    assert estimate.idling == pytest.approx(math.exp(-idle / 100e-6))
    assert estimate.probability(with_idling=True) == pytest.approx(estimate.operations * (estimate.idling or 0))
    assert estimate.probability(with_idling=False) == estimate.operations


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        ("one_qubit_error", "one-qubit gates"),
        ("two_qubit_error", "two-qubit gates"),
        ("readout_error", "readout"),
    ],
)
@pytest.mark.parametrize("value", [None, "not_applicable", 1.5, -0.1, True, math.nan, "0.01"])
def test_an_error_that_is_not_known_is_never_taken_for_none(lost: str, words: str, value: object) -> None:
    """A device that tells nothing would otherwise look perfect and win every job."""
    reason = estimated_success(BELL, Calibration.of(EXTRAS | {lost: value}))
    assert isinstance(reason, str)
    assert words in reason


def test_what_the_circuit_does_not_use_need_not_be_known() -> None:
    work = Work(num_qubits=1, one_qubit_gates=2, two_qubit_gates=0, readouts=0, depth=2)
    assert estimated_success(work, Calibration(one_qubit_error=0.5)) == Success(0.25)


@pytest.mark.parametrize(
    ("t1", "t2"),
    [
        ([2.0, 4.0, 6.0], [1.0, 1.0, None]),
        ({0: 2.0, 7: 6.0}, {0: 1.0, 7: None}),
        (4.0, 1),
        ({}, [1.0]),
        ([None], [1.0]),
        ("not_applicable", 1.0),
    ],
)
def test_coherence_times_come_as_lists_by_qubit_or_as_one_number(t1: object, t2: object) -> None:
    """Braket gives a mapping for some vendors and a single number for IonQ's; a list was all that was read once."""
    expected = 1.0 if t1 and t1 not in ([None], "not_applicable") else None
    assert Calibration.of({"t1_seconds": t1, "t2_seconds": t2}).coherence_seconds == expected


@pytest.mark.parametrize("lost", ["t1_seconds", "t2_seconds", "one_qubit_seconds", "two_qubit_seconds"])
def test_idling_is_left_out_where_a_time_is_not_known(lost: str) -> None:
    estimate = estimated_success(BELL, Calibration.of(EXTRAS | TIMES | {lost: None}))
    assert isinstance(estimate, Success)
    assert estimate.idling is None


def test_an_empty_circuit_is_right() -> None:
    assert estimated_success(Work(1, 0, 0, 0, 0), Calibration.of(TIMES)) == Success(1.0, 1.0)


def test_a_translation_is_counted_instead_of_what_was_written() -> None:
    made = translated({"sx": 2, "rz": 5, "ecr": 3, "measure": 2, "barrier": 1}, ones=7, twos=3)
    assert Work.of(circuit({"h": 1, "cx": 1}, translation=made)) == Work(2, 2, 3, 2, 7)


def test_what_was_written_is_counted_in_gates_a_device_has() -> None:
    counts = {"h": 2, "rz": 9, "cx": 1, "swap": 1, "ccx": 1, "measure": 2, "reset": 1, "barrier": 4}
    assert Work.of(circuit(counts)) == Work(2, 2, 10, 3, 3)


def test_gates_nobody_knows_and_loops_cannot_be_counted() -> None:
    assert Work.of(circuit({"my_oracle": 1})) is None
    assert Work.of(circuit({"h": 1}, loops=True)) is None
    assert estimated_success(None, Calibration.of(EXTRAS)) == "the circuit's gates cannot be counted"


@given(
    st.integers(0, 50_000),
    st.integers(0, 50_000),
    st.integers(0, 200),
    st.integers(1, 200),
    st.integers(0, 10_000),
    *[st.floats(0, 1, allow_nan=False)] * 3,
)
def test_an_estimate_is_a_probability_and_more_gates_never_help(  # noqa: PLR0917 - one for each factor
    ones: int, twos: int, readouts: int, qubits: int, depth: int, one: float, two: float, readout: float
) -> None:
    calibration = Calibration.of(TIMES | {"one_qubit_error": one, "two_qubit_error": two, "readout_error": readout})
    small = estimated_success(Work(qubits, ones, twos, readouts, depth), calibration)
    large = estimated_success(Work(qubits, ones + 1, twos + 1, readouts + 1, depth), calibration)
    assert isinstance(small, Success)
    assert isinstance(large, Success)
    assert 0.0 <= small.probability(with_idling=True) <= small.operations <= 1.0
    assert large.operations <= small.operations


@given(
    st.dictionaries(
        st.sampled_from(sorted(EXTRAS | TIMES)), st.recursive(st.none() | st.floats() | st.text(), st.lists)
    )
)
def test_any_extras_can_be_read(extras: dict[str, Any]) -> None:
    """Adapters of others write what they like into them."""
    calibration = Calibration.of(extras)
    errors = (calibration.one_qubit_error, calibration.two_qubit_error, calibration.readout_error)
    assert all(error is None or 0 <= error <= 1 for error in errors)
