"""The record of where a job is to run: its order never changes, each step has a reason, and it stays small."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qcompute.errors import Bug
from qcompute.miner.placement import (
    MAX_CANDIDATES,
    MAX_REASON,
    MAX_REFUSALS,
    Candidate,
    Placement,
    Policy,
    Price,
    Rejection,
)
from qcompute.units import Money

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def candidate(name: str, *, fallback_from: str | None = None) -> Candidate:
    return Candidate(
        account="ibm",
        device_id=name,
        device_type="QPU",
        estimate=Price.of(Money(Decimal("1.30"), "USD")),
        reason="its turn",
        fallback_from=fallback_from,
    )


def placement(*names: str) -> Placement:
    return Placement(policy=Policy.CHEAPEST, asked="a QPU", candidates=tuple(map(candidate, names)))


def test_it_moves_on_with_a_reason_until_there_is_nobody_left() -> None:
    first = placement("a", "b").waiting(NOW)
    assert (first.current.name, first.index, first.is_last) == ("ibm/a", 0, False)
    second = first.next("ibm/a refuses jobs of more than 5 qubits")
    assert second is not None
    assert (second.current.name, second.index, second.is_last) == ("ibm/b", 1, True)
    assert second.left == ("ibm/a refuses jobs of more than 5 qubits",)
    assert second.unavailable_since is None
    assert second.next("and this one as well") is None
    assert first.current.name == "ibm/a"


def test_what_is_stored_is_what_is_read() -> None:
    first = placement("a", "b").waiting(NOW).priced(Money(Decimal("0.35"), "EUR"))
    again = Placement.of(json.loads(json.dumps(first.document())))
    assert again == first
    assert again is not None
    assert again.current.estimate is not None
    assert again.current.estimate.money == Money(Decimal("0.35"), "EUR")
    moved = first.next("offline for 600 s")
    assert moved is not None
    assert Placement.of(moved.document()) == moved
    assert Placement.of(None) is None


def test_a_price_becomes_unknown_again_when_nobody_can_tell_it_any_more() -> None:
    assert placement("a").priced(None).current.estimate is None


def test_what_the_current_candidate_stands_in_for() -> None:
    both = Placement(
        policy=Policy.ORDER,
        asked="a QPU",
        candidates=(candidate("a"), candidate("sim", fallback_from="a QPU")),
    )
    assert both.fallback_from is None
    moved = both.next("refused")
    assert moved is not None
    assert moved.fallback_from == "a QPU"


UNREADABLE: list[dict[str, Any]] = [
    {},
    {"version": 2, "policy": "order", "asked": "a QPU", "candidates": []},
    placement("a").document() | {"policy": "best"},
    placement("a").document() | {"left": ["gone"]},
    placement("a").document() | {"candidates": []},
    placement("a").document() | {"candidates": [candidate(str(n)).model_dump(mode="json") for n in range(9)]},
]


@pytest.mark.parametrize("document", UNREADABLE)
def test_what_cannot_be_read_is_a_bug_and_no_guess(document: dict[str, Any]) -> None:
    with pytest.raises(Bug, match="placement"):
        Placement.of(document)


def test_a_field_of_a_later_version_is_no_fault() -> None:
    """During a rolling upgrade two versions read each other's rows."""
    first = placement("a")
    assert Placement.of(first.document() | {"new": 1}) == first


@given(st.text(), st.integers(1, MAX_CANDIDATES), st.integers(0, MAX_REFUSALS))
@example("\\", MAX_CANDIDATES, MAX_REFUSALS)
def test_it_stays_small_whatever_the_reasons(reason: str, candidates: int, rejections: int) -> None:
    """Quotes and backslashes take two characters each when written; the limit had been set by texts without them."""
    one = candidate("d").model_copy(update={"reason": ""})
    made = Placement(
        policy=Policy.FASTEST,
        asked=reason * 100,
        candidates=tuple(
            Candidate.model_validate(one.model_dump() | {"reason": reason * 100}) for _ in range(candidates)
        ),
        rejections=tuple(Rejection(account="ibm", reason=reason * 100) for _ in range(rejections)),
    )
    while (moved := made.next(reason * 1000)) is not None:
        made = moved
    assert all(len(text) <= MAX_REASON for text in (*made.left, made.asked, *(one.reason for one in made.rejections)))
    assert len(json.dumps(made.document(), ensure_ascii=False)) < 14_000
    assert Placement.of(made.document()) == made


def test_money_keeps_its_digits() -> None:
    """A price of 0.1 USD is not 0.1000000000000000055 of anything."""
    price = Price.of(Money(Decimal("0.1"), "USD"))
    assert price is not None
    assert json.loads(price.model_dump_json()) == {"amount": "0.1", "currency": "USD"}
    assert replace(price.money, currency="EUR") == Money(Decimal("0.1"), "EUR")
