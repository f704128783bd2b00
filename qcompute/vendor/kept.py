"""Answers of a vendor that are worth keeping for a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from qcompute.errors import BadReply, Unavailable

T = TypeVar("T")


class Kept(Generic[T]):
    """An answer that is fetched again when it is older than ``seconds``.

    Thread-safe; one thread fetches, the others wait for it.
    """

    def __init__(self, fetch: Callable[[], T], seconds: float) -> None:
        self._fetch = fetch
        self._seconds = seconds
        self._lock = threading.Lock()
        self._kept: tuple[T, float] | None = None

    def get(self, *, or_old: bool = False) -> T:
        """The answer; with ``or_old`` an old one when no new one can be had now. Raises what ``fetch`` raises."""
        with self._lock:
            if self._kept is not None and time.monotonic() < self._kept[1]:
                return self._kept[0]
            try:
                answer = self._fetch()
            except (Unavailable, BadReply):
                if not or_old or self._kept is None:
                    raise
                return self._kept[0]
            self._kept = answer, time.monotonic() + self._seconds
            return answer
