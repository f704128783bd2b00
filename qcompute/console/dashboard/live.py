"""Live updates: one look at the daemon's figures for all browsers, and a word to each when something moved.

Only that something moved is sent; the page then asks for its own part again. So an update costs the same however many
jobs moved, and nothing at all while nobody looks.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final

from qcompute.console.dashboard.facts import Facts
from qcompute.errors import StoreError

LOOK_SECONDS: Final = 2.0
"""How often the figures are looked at, and so the shortest time between two updates of a page."""

STREAM_SECONDS: Final = 40.0
"""A stream ends after this and its browser comes again at once: the port ends longer exchanges itself, and rudely."""

MOST_STREAMS: Final = 16
"""Browsers that are kept up to date at once; others show what is there when they ask."""

MOVED: Final = b"event: moved\ndata: 1\n\n"
_FIRST: Final = b"retry: 1500\n\n" + MOVED


class Pulse:
    """Watches the daemon while anybody listens."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._streams = 0
        self._number = 0
        """Grows with each move."""
        self._moved = asyncio.Event()
        self._last: object = None
        self._looking: asyncio.Task[None] | None = None

    @property
    def streams(self) -> int:
        """How many browsers listen."""
        return self._streams

    @property
    def is_full(self) -> bool:
        """Whether one more would be too many."""
        return self._streams >= MOST_STREAMS or self._facts.is_stopping

    async def stream(self, has_left: Callable[[], Awaitable[bool]]) -> AsyncGenerator[bytes]:
        """Server-sent events for one browser, until it has left: of that a server hears when it sends something."""
        ends = asyncio.get_running_loop().time() + STREAM_SECONDS
        self._streams += 1
        try:
            if self._looking is None:
                # Compared with from the start: what moved before the first look would else never be told.
                self._last = await self._figures()
            if self._looking is None:
                self._looking = asyncio.create_task(self._look(), name="dashboard pulse")
            yield _FIRST
            seen = self._number
            while not self._facts.is_stopping and asyncio.get_running_loop().time() < ends:
                await self._moved.wait()
                if await has_left():
                    return
                if seen != self._number:
                    seen = self._number
                    yield MOVED
        finally:
            self._streams -= 1

    async def _look(self) -> None:
        """Look until nobody listens any more. Every look wakes the streams: that is how they see their end come."""
        try:
            while self._streams:
                await asyncio.sleep(LOOK_SECONDS if not self._facts.is_stopping else 0)
                now = await self._figures()
                self._number += now != self._last
                self._last = now
                self._moved.set()
                self._moved = asyncio.Event()
        finally:
            self._looking = None

    async def _figures(self) -> object:
        try:
            counts = await self._facts.counts()
        except StoreError:
            return "the store fails"
        accounts = [(one.name, one.trouble, len(one.devices)) for one in self._facts.accounts()]
        return counts, accounts, sum(one.asked for one in self._facts.visitors())
