from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompute.circuits.counts import bitstring, counts_of, normalize_counts
from qcompute.circuits.program import JobOptions
from qcompute.errors import BadReply, CannotRun


def test_spaces_between_registers_go_and_order_stays() -> None:
    assert normalize_counts({"01 0": 7, "00 1": 3}, shots=10, num_clbits=3) == {"001": 3, "010": 7}


def test_hexadecimal_keys_need_the_width() -> None:
    assert normalize_counts({"0x2": 5}, shots=5, num_clbits=3) == {"010": 5}
    with pytest.raises(BadReply):
        normalize_counts({"0x2": 5}, shots=5, num_clbits=None)


def test_results_that_never_came_are_left_out() -> None:
    assert normalize_counts({"0": 5, "1": 0}, shots=5, num_clbits=1) == {"0": 5}


def test_fewer_results_than_shots_are_a_partial_result() -> None:
    assert normalize_counts({"0": 4}, shots=5, num_clbits=1) == {"0": 4}


@pytest.mark.parametrize(
    "raw",
    [
        None,
        [],
        "00",
        {},
        {"0": 0},
        {"2": 1},
        {"": 1},
        {"0": -1},
        {"0": 1.5},
        {"0": "1"},
        {"0": True},
        {"0": None},
        {"0": float("nan")},
        {"0": float("inf")},
        {0: 1},
        {"0": 1, "00": 1},
        {"0": 11},
        {"000": 1},
        {"0x9": 1},
    ],
)
def test_what_cannot_be_the_result_is_a_bad_reply(raw: Any) -> None:
    with pytest.raises(BadReply):
        normalize_counts(raw, shots=10, num_clbits=1)


def test_the_asymmetric_example() -> None:
    """One bit set, in the middle: the example every adapter is measured by."""
    a0, b0, b1 = 0, 1, 0
    assert bitstring([a0, b0, b1]) == "010"
    assert counts_of([[a0, b0, b1]] * 3) == {"010": 3}


@given(st.lists(st.lists(st.integers(0, 1), min_size=4, max_size=4), min_size=1, max_size=50))
def test_counts_of_rows_are_accepted_as_they_are(rows: list[list[int]]) -> None:
    counts = counts_of(rows)
    assert normalize_counts(counts, shots=len(rows), num_clbits=4) == counts
    assert sum(counts.values()) == len(rows)


def test_documented_options_are_read_and_others_passed_on() -> None:
    options = JobOptions.of({"device": "d", "optimization_level": 2, "seed": 7, "theirs": {"x": 1}})
    assert (options.device, options.optimization_level, options.seed) == ("d", 2, 7)
    assert options.passed_on == {"theirs": {"x": 1}}


@pytest.mark.parametrize(
    "wrong", [{"seed": -1}, {"seed": "7"}, {"optimization_level": 4}, {"device": ""}, {"device": 3}]
)
def test_an_option_that_cannot_be_honoured_is_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(CannotRun, match=f"configuration_data.{next(iter(wrong))}"):
        JobOptions.of(wrong)
