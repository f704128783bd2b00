"""Splitting over nodes is exact, or it is refused with the reason."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompute.cluster.splitting import MAX_PARTS, SplitRequest, merge_counts, split_batch, split_shots
from qcompute.errors import BadReply, CannotRun


@given(shots=st.integers(1, 10**7), parts=st.integers(1, 100))
def test_shots_are_split_evenly_and_none_is_lost(shots: int, parts: int) -> None:
    if parts > shots:
        with pytest.raises(CannotRun) as refused:
            split_shots(shots, parts)
        assert refused.value.reason == "cannot_split"
        return
    sizes = split_shots(shots, parts)
    assert (len(sizes), sum(sizes)) == (parts, shots)
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 1


def test_shots_are_not_split_into_nothing() -> None:
    with pytest.raises(CannotRun, match="0 parts"):
        split_shots(10, 0)


@given(items=st.integers(0, 200), count=st.integers(1, 12))
def test_a_batch_is_spread_evenly_and_every_item_runs_once(items: int, count: int) -> None:
    shares = split_batch(items, [f"node-{index}" for index in range(count)])
    assert sorted(item for share in shares.values() for item in share) == list(range(items))
    sizes = [len(share) for share in shares.values()]
    assert len(sizes) == min(items, count)
    assert max(sizes, default=0) - min(sizes, default=0) <= 1


def test_a_batch_needs_a_node() -> None:
    with pytest.raises(CannotRun) as refused:
        split_batch(3, [])
    assert refused.value.reason == "cannot_split"


@given(st.lists(st.text("01", min_size=3, max_size=3), min_size=1), st.data())
def test_merged_counts_are_those_of_all_shots(outcomes: list[str], data: st.DataObject) -> None:
    parts = data.draw(st.integers(1, len(outcomes)))
    merged = merge_counts(dict(Counter(outcomes[part::parts])) for part in range(parts))
    assert merged == dict(Counter(outcomes))
    assert list(merged) == sorted(merged)


@pytest.mark.parametrize("parts", [[], [{}], [{"00": 1}, {}], [{"00": 1}, {"000": 1}], [{"0": 1, "00": 1}]])
def test_counts_of_different_circuits_are_not_merged(parts: list[dict[str, int]]) -> None:
    with pytest.raises(BadReply) as bad:
        merge_counts(parts)
    assert bad.value.field == "counts"


def test_a_job_may_ask_for_its_shots_to_be_split() -> None:
    assert SplitRequest.of({"seed": 1}) is None
    assert SplitRequest.of({"split": {"kind": "shots", "parts": 4}}) == SplitRequest(parts=4)
    assert SplitRequest.of({"split": {"kind": "shots", "parts": 2, "mixed": True}}) == SplitRequest(parts=2, mixed=True)


@pytest.mark.parametrize(
    ("kind", "why"),
    [("qubits", "belong together"), ("batch", "one circuit"), ("cutting", "expectation")],
)
def test_any_other_kind_of_split_is_refused_with_the_reason(kind: str, why: str) -> None:
    with pytest.raises(CannotRun, match=why) as refused:
        SplitRequest.of({"split": {"kind": kind, "parts": 2}})
    assert refused.value.reason == "cannot_split"


@pytest.mark.parametrize(
    "split",
    [
        "shots",
        2,
        {"parts": 2},
        {"kind": None, "parts": 2},
        {"kind": "shots"},
        {"kind": "shots", "parts": 1},
        {"kind": "shots", "parts": "2"},
        {"kind": "shots", "parts": MAX_PARTS + 1},
        {"kind": "shots", "parts": 2, "nodes": ["a"]},
    ],
)
def test_a_split_that_cannot_be_honoured_names_its_key(split: Any) -> None:
    with pytest.raises(CannotRun, match=r"configuration_data\.split") as refused:
        SplitRequest.of({"split": split})
    assert refused.value.reason == "bad_option"
