"""A memory of limited size: what was used longest ago is forgotten first."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Kept(Generic[K, V]):
    """At most ``entries`` values of together ``size``; what a value counts is said when it is put in."""

    def __init__(self, *, entries: int, size: int) -> None:
        self._entries = entries
        self._size = size
        self._used = 0
        self._values: OrderedDict[K, tuple[V, int]] = OrderedDict()

    def get(self, key: K) -> V | None:
        """The value, which now was used last; None when it is not known any more."""
        if (kept := self._values.get(key)) is None:
            return None
        self._values.move_to_end(key)
        return kept[0]

    def put(self, key: K, value: V, size: int) -> None:
        """Keep a value in place of the key's earlier one; one that is larger than all there is room for is not kept."""
        self.drop(key)
        if size > self._size:
            return
        self._values[key] = value, size
        self._used += size
        while len(self._values) > self._entries or self._used > self._size:
            self._used -= self._values.popitem(last=False)[1][1]

    def drop(self, key: K) -> None:
        """Forget the key, if it is known."""
        if (dropped := self._values.pop(key, None)) is not None:
            self._used -= dropped[1]

    def __len__(self) -> int:
        return len(self._values)
