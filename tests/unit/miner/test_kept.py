"""A memory of limited size forgets what was used longest ago, and nothing else."""

from __future__ import annotations

from qcompute.miner.kept import Kept


def test_what_was_used_longest_ago_goes_first() -> None:
    kept: Kept[str, int] = Kept(entries=2, size=100)
    kept.put("a", 1, 1)
    kept.put("b", 2, 1)
    assert kept.get("a") == 1
    kept.put("c", 3, 1)
    assert [kept.get(key) for key in "abc"] == [1, None, 3]


def test_the_sizes_together_are_bounded() -> None:
    kept: Kept[str, int] = Kept(entries=10, size=10)
    for number, key in enumerate("abc"):
        kept.put(key, number, 5)
    assert [kept.get(key) for key in "abc"] == [None, 1, 2]
    kept.put("b", 7, 1)
    kept.put("d", 3, 4)
    assert [kept.get(key) for key in "bcd"] == [7, 2, 3]


def test_what_is_larger_than_all_room_is_not_kept_and_drives_nothing_out() -> None:
    kept: Kept[str, int] = Kept(entries=10, size=10)
    kept.put("a", 1, 10)
    kept.put("b", 2, 11)
    assert (kept.get("a"), kept.get("b"), len(kept)) == (1, None, 1)
    kept.put("a", 3, 11)
    assert kept.get("a") is None, "the old value is not the key's any more"


def test_what_is_dropped_makes_room() -> None:
    kept: Kept[str, int] = Kept(entries=10, size=10)
    kept.put("a", 1, 6)
    kept.drop("a")
    kept.drop("a")
    kept.put("b", 2, 10)
    assert (kept.get("a"), kept.get("b")) == (None, 2)
