"""Results of Azure Quantum by format: what is read, in which order, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from qcompute.circuits.measurement import MeasurementMap, Register
from qcompute.circuits.target import Dialect
from qcompute.errors import BadReply
from qcompute.vendor.azure import wire

MAP = MeasurementMap(
    registers=(Register(name="c0", size=2), Register(name="c1", size=1)), measured=((0, 2), (1, 0), (2, 1))
)
"""c0[0] is qubit 2, c0[1] qubit 0, c1[0] qubit 1; a key is c1[0] c0[1] c0[0]."""


def read(document: object, form: str | None, shots: int | None = 10) -> wire.Outcome:
    return wire.outcome(document, form, MAP, shots)


def test_registers_are_joined_in_declared_order_whatever_order_they_come_in() -> None:
    """A string's leftmost character is its register's highest bit."""
    both = {"c0": ["10", "01"], "c1": ["0", "1"]}
    backwards: dict[str, Any] = {"access_token": "x", "c1": ["0", "1"], "c0": ["10", "01"]}
    for document in (both, backwards):
        assert read(document, wire.QUANTINUUM_RESULTS) == wire.Outcome({"010": 1, "101": 1})


def test_a_shot_with_a_lost_bit_in_any_register_is_discarded() -> None:
    document = {"c0": ["10", "2-", "01", "11"], "c1": ["0", "0", "2", "1"]}
    assert read(document, wire.QUANTINUUM_RESULTS) == wire.Outcome({"010": 1, "111": 1}, discarded=2)


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"c0": ["10"]},
        {"c0": ["10"], "c1": ["0", "1"]},
        {"c0": ["1"], "c1": ["0"]},
        {"c0": ["1x"], "c1": ["0"]},
        {"c0": "10", "c1": "0"},
        {"c0": [1], "c1": [0]},
    ],
)
def test_registers_that_are_not_what_was_measured_are_refused(document: object) -> None:
    with pytest.raises(BadReply):
        read(document, wire.QUANTINUUM_RESULTS)


def test_integers_over_all_qubits_are_read_through_the_map() -> None:
    """Qubit 0 is the lowest bit; 5 has qubits 0 and 2 set, and qubit 5, which nobody measured, changes nothing."""
    document = {"histogram": {"5": 0.5, "2": 0.3, "37": 0.2}, "duration": 1}
    assert read(document, wire.IONQ_RESULTS) == wire.Outcome({"011": 7, "100": 3}, sampled=True)


def test_probabilities_become_whole_shots_that_add_up() -> None:
    document = {"histogram": {"0": 1 / 3, "1": 1 / 3, "4": 1 / 3}}
    assert sum(read(document, wire.IONQ_RESULTS).counts.values()) == 10


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"histogram": []},
        {"histogram": {"0": "much"}},
        {"histogram": {"0": None}},
        {"histogram": {"0b1": 1.0}},
        {"histogram": {"-1": 1.0}},
        {"histogram": {"0": 0.4}},
        {"histogram": {}},
    ],
)
def test_a_histogram_that_is_none_is_refused(document: object) -> None:
    with pytest.raises(BadReply):
        read(document, wire.IONQ_RESULTS)


def test_probabilities_without_a_number_of_shots_are_refused() -> None:
    with pytest.raises(BadReply, match="how many shots"):
        read({"histogram": {"0": 1.0}}, wire.IONQ_RESULTS, None)


def shots(*rows: object, **more: Any) -> dict[str, Any]:
    return {"DataFormat": wire.MICROSOFT_RESULTS, "Results": [{"Shots": list(rows), **more}]}


def test_shots_are_rows_of_what_was_recorded() -> None:
    """Element k is the k-th written bit, so a row is read from the lowest bit on."""
    assert read(shots([0, 1, 0], [1, 0, 1]), wire.MICROSOFT_RESULTS) == wire.Outcome({"010": 1, "101": 1})


def test_tuples_are_rows_too_and_failed_shots_are_discarded() -> None:
    """As Microsoft writes a program's own tuples: items are numbered, not ordered."""
    document = shots(
        {"Item2": [1], "Item1": [0, 0]}, {"Error": {"Code": "0x20"}}, [1, 2, 0], [1, "-", 0], ["1", "1", 0]
    )
    assert read(document, wire.MICROSOFT_RESULTS) == wire.Outcome({"011": 1, "100": 1}, discarded=3)


def test_a_histogram_will_do_where_there_are_no_shots() -> None:
    histogram = [{"Outcome": [0, 1, 0], "Display": "[0, 1, 0]", "Count": 3}]
    document = {"Results": [{"Shots": None, "Histogram": histogram}]}
    assert read(document, wire.MICROSOFT_RESULTS) == wire.Outcome({"010": 3})


def test_one_bit_may_come_without_its_list() -> None:
    one = MeasurementMap(registers=(Register(name="c0", size=1),), measured=((0, 0),))
    assert wire.outcome(shots(1, [1], 0), wire.MICROSOFT_RESULTS, one, 3) == wire.Outcome({"0": 1, "1": 2})


NO_SHOTS: list[Any] = [
    {},
    {"Results": []},
    {"Results": [{}, {}]},
    {"Results": [[]]},
    {"Results": [{}]},
    {"Results": [{"Histogram": [{"Outcome": [0]}]}]},
    {"Results": [{"Shots": 7}]},
    shots([0, 1]),
    shots([0, 1, None]),
    shots([0, 1, 7]),
    shots({"Item1": [0, 1], "Item3": [0]}),
]


@pytest.mark.parametrize("document", NO_SHOTS)
def test_shots_that_are_none_are_refused(document: object) -> None:
    with pytest.raises(BadReply):
        read(document, wire.MICROSOFT_RESULTS)


@pytest.mark.parametrize(("document", "form"), [([], wire.IONQ_RESULTS), (None, None), ({}, None), ({}, "new.v9")])
def test_a_format_we_do_not_know_is_named(document: object, form: str | None) -> None:
    with pytest.raises(BadReply):
        read(document, form)


@pytest.mark.parametrize(
    ("metadata", "known"),
    [
        ({"measurement": MAP.model_dump_json()}, True),
        ({"measurement": "{}"}, False),
        ({"measurement": "no"}, False),
        ({"measurement": 7}, False),
        ({}, False),
        ("text", False),
        (None, False),
    ],
)
def test_a_job_s_own_map_is_read_if_it_is_one(metadata: object, known: object) -> None:
    job = wire.JobDetails.model_validate({"id": "1", "metadata": metadata})
    assert job.measurement == (MAP if known else None)


@pytest.mark.parametrize(
    ("parameters", "shots"), [({"shots": 5}, 5), ({"shots": 0}, None), ({"shots": "5"}, None), ({}, None), (None, None)]
)
def test_a_job_s_shots_are_a_whole_number_or_not_known(parameters: object, shots: int | None) -> None:
    assert wire.JobDetails.model_validate({"id": "1", "inputParams": parameters}).shots == shots


def test_every_dialect_of_a_target_has_a_form() -> None:
    assert {wire.dialect_of(name) for name in wire.KNOWN} == set(wire.FORMS)
    assert wire.dialect_of("quantinuum.sim.helios-1e") is Dialect.QIR


def test_permissions_are_not_shown() -> None:
    job = wire.JobDetails.model_validate({"id": "1", "outputDataUri": "https://x?sig=abc"})
    place = wire.SasPlace.model_validate({"sasUri": "https://x?sig=abc"})
    assert "abc" not in f"{job!r} {place!r}"
