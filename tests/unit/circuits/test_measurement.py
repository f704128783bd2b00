"""Whatever form a result comes in, it reads as the same counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompute.circuits.counts import bitstring
from qcompute.circuits.measurement import MeasurementMap, Register, bit, shots_of_probabilities
from qcompute.errors import BadReply

ASYMMETRIC = MeasurementMap(
    registers=(Register(name="a", size=1), Register(name="b", size=2)), measured=((0, 2), (1, 0), (2, 1))
)
"""``creg a[1]; creg b[2]``; a[0] from qubit 2, b[0] from qubit 0, b[1] from qubit 1."""

GAPS = MeasurementMap(
    registers=(Register(name="a", size=2), Register(name="idle", size=2), Register(name="b", size=1)),
    measured=((1, 3), (4, 0)),
)
"""a[0] and ``idle`` are never written."""

NOTHING = MeasurementMap(registers=(Register(name="c", size=2),), measured=())


# ---- by hand ----


def test_what_a_map_knows() -> None:
    assert (ASYMMETRIC.num_clbits, ASYMMETRIC.written, ASYMMETRIC.qubits) == (3, (0, 1, 2), (2, 0, 1))
    assert (GAPS.num_clbits, GAPS.written, GAPS.qubits) == (5, (1, 4), (3, 0))
    assert (NOTHING.num_clbits, NOTHING.written, NOTHING.qubits) == (2, (), ())


def test_rows_hold_the_written_bits_ascending() -> None:
    assert ASYMMETRIC.counts_from_rows([[0, 1, 0], "010", (0, 0, 1)]) == {"010": 2, "100": 1}
    assert GAPS.counts_from_rows([[1, 0], [0, 1], [0, 1]]) == {"00010": 1, "10000": 2}


def test_registers_hold_their_bits_by_index() -> None:
    shots: list[Mapping[str, Sequence[int | str]]] = [{"a": [0], "b": [1, 0]}, {"a": "0", "b": "10"}]
    assert ASYMMETRIC.counts_from_registers(shots) == {"010": 2}


def test_a_register_nothing_was_measured_into_may_be_missing() -> None:
    assert GAPS.counts_from_registers([{"a": [0, 1], "b": [1]}, {"a": [0, 1], "b": [1], "idle": [0, 0]}]) == {
        "10010": 2
    }
    assert NOTHING.counts_from_registers([{}]) == {"00": 1}


def test_qubits_are_picked_by_number() -> None:
    assert ASYMMETRIC.counts_from_qubits([([1, 0, 0], 5), ([1, 0, 0, 1], 2), ([0, 0, 1], 3)]) == {"001": 3, "010": 7}
    assert GAPS.counts_from_qubits([([0, 1, 1, 1], 4)]) == {"00010": 4}
    assert NOTHING.counts_from_qubits([([], 4)]) == {"00": 4}


def test_an_outcome_nobody_saw_is_left_out() -> None:
    assert ASYMMETRIC.counts_from_qubits([([1, 0, 0], 5), ([0, 0, 0], 0)]) == {"010": 5}


@pytest.mark.parametrize("row", [[], [0, 1], [0, 1, 0, 0], [0, 1, 2], [0, 1, None], [0, 1, "x"], [0, 1, -1], "01 "])
def test_a_row_that_cannot_be(row: Any) -> None:
    with pytest.raises(BadReply) as caught:
        ASYMMETRIC.counts_from_rows([row])
    assert caught.value.field == "results"


@pytest.mark.parametrize(
    "shot",
    [
        {},
        {"a": [0]},
        {"a": [0], "b": [1]},
        {"a": [0], "b": [1, 0, 0]},
        {"a": [0], "b": [1, 3]},
        {"a": [0], "c": [1, 0]},
    ],
)
def test_registers_that_cannot_be(shot: Any) -> None:
    with pytest.raises(BadReply):
        ASYMMETRIC.counts_from_registers([shot])


def test_a_register_part_of_which_was_measured_is_not_left_out() -> None:
    with pytest.raises(BadReply, match="'a'"):
        GAPS.counts_from_registers([{"b": [1]}])
    with pytest.raises(BadReply, match="'idle'"):
        GAPS.counts_from_registers([{"a": [0, 1], "b": [1], "idle": [0]}])


@pytest.mark.parametrize("values", [[], [1, 0], [1, 0, 2]])
def test_qubits_that_cannot_be(values: list[int]) -> None:
    with pytest.raises(BadReply):
        ASYMMETRIC.counts_from_qubits([(values, 1)])


@pytest.mark.parametrize(("value", "read"), [(0, 0), (1, 1), ("0", 0), ("1", 1)])
def test_a_bit(value: int | str, read: int) -> None:
    assert bit(value) == read


@pytest.mark.parametrize("value", [2, -1, "", "01", "2", " 1", None, 0.5, [], {}])
def test_no_bit(value: Any) -> None:
    with pytest.raises(BadReply):
        bit(value)


# ---- drawn: every form of the same shots ----


@st.composite
def measured_shots(draw: st.DrawFn) -> tuple[MeasurementMap, list[list[int]]]:
    """A map, and shots as values of all qubits."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    qubits = draw(st.integers(1, 8))
    total = sum(sizes)
    written = sorted(draw(st.sets(st.integers(0, total - 1))))
    measured = tuple((clbit, draw(st.integers(0, qubits - 1))) for clbit in written)
    registers = tuple(Register(name=f"c{number}", size=size) for number, size in enumerate(sizes))
    shots = draw(st.lists(st.lists(st.integers(0, 1), min_size=qubits, max_size=qubits), max_size=20))
    return MeasurementMap(registers=registers, measured=measured), shots


@given(measured_shots())
def test_all_forms_read_the_same(drawn: tuple[MeasurementMap, list[list[int]]]) -> None:
    measurement, shots = drawn
    expected: Counter[str] = Counter()
    for values in shots:
        clbits = [0] * measurement.num_clbits
        for clbit, qubit in measurement.measured:
            clbits[clbit] = values[qubit]
        expected[bitstring(clbits)] += 1
    rows = [[values[qubit] for qubit in measurement.qubits] for values in shots]
    texts = ["".join(map(str, row)) for row in rows]
    by_register = [dict(_registers(measurement, row)) for row in rows]
    assert measurement.counts_from_qubits((values, 1) for values in shots) == expected
    assert measurement.counts_from_rows(rows) == expected
    assert measurement.counts_from_rows(texts) == expected
    assert measurement.counts_from_registers(by_register) == expected


@given(measured_shots())
def test_counts_are_in_the_contract_s_form(drawn: tuple[MeasurementMap, list[list[int]]]) -> None:
    measurement, shots = drawn
    counts = measurement.counts_from_qubits((values, 1) for values in shots)
    assert sum(counts.values()) == len(shots)
    assert {len(key) for key in counts} <= {measurement.num_clbits}
    assert list(counts) == sorted(counts)
    assert MeasurementMap.model_validate_json(measurement.model_dump_json()) == measurement


def _registers(measurement: MeasurementMap, row: list[int]) -> list[tuple[str, list[int]]]:
    values = dict(zip(measurement.written, row, strict=True))
    found: list[tuple[str, list[int]]] = []
    start = 0
    for register in measurement.registers:
        places = range(start, start + register.size)
        found.append((register.name, [values.get(place, 0) for place in places]))
        start += register.size
    return found


# ---- probabilities ----


@pytest.mark.parametrize(
    ("probabilities", "shots", "counts"),
    [
        ({"0": 0.5, "1": 0.5}, 10, {"0": 5, "1": 5}),
        ({"0": 0.5, "1": 0.5}, 3, {"0": 2, "1": 1}),
        ({"1": 0.5, "0": 0.5}, 3, {"0": 2, "1": 1}),
        ({"0": 1 / 3, "1": 1 / 3, "2": 1 / 3}, 3, {"0": 1, "1": 1, "2": 1}),
        ({"0": 0.999, "1": 0.0}, 7, {"0": 7}),
        ({"a": 1.0, "b": 0}, 0, {}),
    ],
)
def test_shots_of_probabilities(probabilities: dict[str, float], shots: int, counts: dict[str, int]) -> None:
    assert shots_of_probabilities(probabilities, shots) == counts


@pytest.mark.parametrize(
    "probabilities",
    [
        {},
        {"0": 0.4},
        {"0": 0.9, "1": 0.2},
        {"0": 1.1, "1": -0.1},
        {"0": 0.0},
        {"0": float("nan")},
        {"0": 1.0, "1": float("nan")},
        {"0": float("inf")},
    ],
)
def test_what_is_no_distribution(probabilities: dict[str, float]) -> None:
    with pytest.raises(BadReply):
        shots_of_probabilities(probabilities, 10)


@given(
    st.dictionaries(st.text("01", min_size=1, max_size=6), st.floats(0, 1), min_size=1, max_size=20).filter(
        lambda weights: sum(weights.values()) > 1e-6
    ),
    st.integers(0, 10**6),
)
def test_the_shots_are_all_given_out_and_fairly(weights: dict[str, float], shots: int) -> None:
    total = sum(weights.values())
    probabilities = {key: weight / total for key, weight in weights.items()}
    counts = shots_of_probabilities(probabilities, shots)
    assert sum(counts.values()) == shots
    assert counts.keys() <= probabilities.keys()
    assert 0 not in counts.values()
    for key, probability in probabilities.items():
        assert abs(counts.get(key, 0) - probability * shots) < 1 + 1e-6
    backwards = dict(reversed(probabilities.items()))
    assert shots_of_probabilities(backwards, shots) == counts, "the same whatever the order they come in"
