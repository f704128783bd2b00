"""Whatever format IonQ gives a result in, it reads as the same counts, or as nothing."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompute.circuits.measurement import MeasurementMap, Register
from qcompute.errors import BadReply
from qcompute.units import Counts
from qcompute.vendor.ionq.api import Job
from qcompute.vendor.ionq.results import FORMATS, counts_of_job

SHOTS_2, HISTOGRAM_2, SHOTS_1, HISTOGRAM_1, PROBABILITIES_2, PROBABILITIES_1, LEGACY = FORMATS

ONE = MeasurementMap(registers=(Register(name="c", size=2),), measured=((0, 1), (1, 0)))
TWO = MeasurementMap(registers=(Register(name="a", size=1), Register(name="b", size=1)), measured=((0, 0), (1, 1)))


def read(measurement: MeasurementMap | None, results: dict[str, Any], shots: int | None = 10) -> tuple[Counts, str]:
    job = Job(id="j", status="completed", shots=shots, results={form: {"id": form} for form in results})
    counts, form, _ = counts_of_job(job, measurement, lambda _job, form, _told: results[form])
    return counts, form


@st.composite
def measured_shots(draw: st.DrawFn) -> tuple[MeasurementMap, list[int]]:
    """A circuit's measurement of up to six qubits into up to four registers, and the qubits' states, shot by shot."""
    sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    clbits = draw(st.lists(st.integers(0, sum(sizes) - 1), unique=True, min_size=1, max_size=6))
    qubits = draw(st.permutations(range(6)))
    registers = tuple(Register(name=f"c{number}", size=size) for number, size in enumerate(sizes))
    states = draw(st.lists(st.integers(0, 63), min_size=1, max_size=30))
    return MeasurementMap(registers=registers, measured=tuple(zip(sorted(clbits), qubits, strict=False))), states


def rows_of(measurement: MeasurementMap, states: list[int]) -> list[dict[str, list[int]]]:
    """Bits by register, shot by shot."""
    rows: list[dict[str, list[int]]] = []
    for state in states:
        values = [0] * measurement.num_clbits
        for clbit, qubit in measurement.measured:
            values[clbit] = state >> qubit & 1
        row: dict[str, list[int]] = {}
        for register in measurement.registers:
            row[register.name], values = values[: register.size], values[register.size :]
        rows.append(row)
    return rows


def text(bits: list[int]) -> str:
    return "".join(map(str, reversed(bits)))


@given(measured_shots())
def test_all_formats_of_the_same_shots_are_the_same_counts(drawn: tuple[MeasurementMap, list[int]]) -> None:
    measurement, states = drawn
    rows = rows_of(measurement, states)
    expected = dict(Counter("".join(text(bits) for bits in reversed(row.values())) for row in rows))
    by_register = {name: dict(Counter(text(row[name]) for row in rows)) for name in rows[0]}
    by_state = {str(state): number for state, number in Counter(states).items()}
    shares = {state: number / len(states) for state, number in by_state.items()}
    for form, payload in {
        SHOTS_2: {"shots": [{"registers": row} for row in rows]},
        SHOTS_1: [str(state) for state in states],
        HISTOGRAM_1: by_state,
        PROBABILITIES_1: shares,
        LEGACY: shares,
    }.items():
        assert read(measurement, {form: payload}, len(states)) == (expected, form)
    try:
        counts, _ = read(measurement, {HISTOGRAM_2: {"histogram": {"registers": by_register}}})
    except BadReply:
        assert sum(len(one) > 1 for one in by_register.values()) > 1
    else:
        assert counts == expected


def test_bit_0_is_first_in_lists_and_last_in_texts() -> None:
    assert read(ONE, {SHOTS_2: {"shots": [{"registers": {"c": [1, 0]}}]}})[0] == {"01": 1}
    assert read(ONE, {HISTOGRAM_2: {"histogram": {"registers": {"c": {"01": 1}}}}})[0] == {"01": 1}
    assert read(ONE, {HISTOGRAM_1: {"1": 1}})[0] == {"10": 1}, "qubit 0 is measured into bit 1"


def test_numbers_may_come_as_fractions_that_are_whole() -> None:
    assert read(ONE, {SHOTS_2: {"shots": [{"registers": {"c": [1.0, 0.0]}}]}})[0] == {"01": 1}
    assert read(ONE, {HISTOGRAM_1: {"3": 5.0}})[0] == {"11": 5}


def test_one_register_needs_no_description_and_two_do() -> None:
    """``output_all`` is IonQ's own."""
    row = {"c": [1, 0], "output_all": [1, 0, 0]}
    assert read(None, {SHOTS_2: {"shots": [{"registers": row}]}})[0] == {"01": 1}
    registers = {"c": {"01": 3}, "output_all": {"001": 3}}
    assert read(None, {HISTOGRAM_2: {"histogram": {"registers": registers}}})[0] == {"01": 3}
    for results in (
        {SHOTS_2: {"shots": [{"registers": {"a": [1], "b": [0]}}]}},
        {HISTOGRAM_2: {"histogram": {"registers": {"a": {"1": 3}, "b": {"0": 3}}}}},
        {HISTOGRAM_1: {"1": 3}},
    ):
        with pytest.raises(BadReply) as raised:
            read(None, results)
        assert raised.value.field == "measurement"


def test_registers_under_other_names_lead_to_the_next_format() -> None:
    results = {
        SHOTS_2: {"shots": [{"registers": {"x": [1]}}]},
        HISTOGRAM_2: {"histogram": {"registers": {"a": {"1": 3}}}},
        HISTOGRAM_1: {"2": 3},
    }
    assert read(TWO, results) == ({"10": 3}, HISTOGRAM_1)


def test_registers_with_one_outcome_each_but_one_are_told_together() -> None:
    registers = {"a": {"1": 7, "0": 0}, "b": {"0": 3, "1": 4}}
    assert read(TWO, {HISTOGRAM_2: {"histogram": {"registers": registers}}})[0] == {"01": 3, "11": 4}
    shares = {"a": {"1": 1.0}, "b": {"0": 0.25, "1": 0.75}}
    assert read(TWO, {PROBABILITIES_2: {"probabilities": {"registers": shares}}}, 8)[0] == {"01": 2, "11": 6}


def test_a_list_of_shots_too_long_to_be_read_is_left_for_its_histogram() -> None:
    results: dict[str, Any] = {
        SHOTS_2: {"shots": []},
        SHOTS_1: [],
        HISTOGRAM_2: {"histogram": {"registers": {"c": {"11": 2_000_000}}}},
    }
    assert read(ONE, results, 2_000_000) == ({"11": 2_000_000}, HISTOGRAM_2)


def test_qubits_that_were_not_measured_are_summed_over_before_shots_are_made() -> None:
    """Rounding first would give shots to the first few of a million states."""
    one = MeasurementMap(registers=(Register(name="c", size=1),), measured=((0, 9),))
    shares = {str(state): 1 / 1024 for state in range(1024)}
    assert read(one, {PROBABILITIES_1: shares}, 100)[0] == {"0": 50, "1": 50}


def test_nothing_measured_reads_as_nothing() -> None:
    nothing = MeasurementMap(registers=(Register(name="c", size=1),), measured=())
    with pytest.raises(BadReply):
        read(nothing, {HISTOGRAM_1: {"1": 3}, HISTOGRAM_2: {"histogram": {"registers": {"c": {"0": 3}}}}})


STRANGE: list[tuple[str, Any]] = [
    (SHOTS_2, None),
    (SHOTS_2, {"shots": []}),
    (SHOTS_2, {"shots": [{"registers": {"c": [2, 0]}}]}),
    (SHOTS_2, {"shots": [{"registers": {"c": [0.5, 0]}}]}),
    (SHOTS_2, {"shots": [{"registers": {"c": [0]}}]}),
    (SHOTS_2, {"shots": [{"registers": {"c": [0, 0]}}, {"registers": {}}]}),
    (SHOTS_1, [1, 2]),
    (SHOTS_1, ["-1"]),
    (HISTOGRAM_2, {"histogram": {"c": {"00": 1}}}),
    (HISTOGRAM_2, {"histogram": {"registers": {"c": {"0": 1}}}}),
    (HISTOGRAM_2, {"histogram": {"registers": {"c": {"0b": 1}}}}),
    (HISTOGRAM_2, {"histogram": {"registers": {"c": {"00": 1.5}}}}),
    (HISTOGRAM_2, {"histogram": {"registers": {"c": {"00": -1}}}}),
    (HISTOGRAM_2, {"histogram": {"registers": {"c": {"00": float("nan")}}}}),
    (HISTOGRAM_1, {"0": float("inf")}),
    (HISTOGRAM_1, {"9" * 5000: 1}),
    (HISTOGRAM_1, {"\u0663": 1}),
    (PROBABILITIES_2, {"probabilities": {"registers": {"c": {"00": 0.4}}}}),
    (PROBABILITIES_1, {"0": float("nan")}),
    (PROBABILITIES_1, {}),
    (LEGACY, []),
]


@pytest.mark.parametrize(("form", "payload"), STRANGE)
def test_what_is_no_result_is_a_bad_reply(form: str, payload: Any) -> None:
    with pytest.raises(BadReply):
        read(ONE, {form: payload})
