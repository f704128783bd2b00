"""One page of the list of jobs: the open ones first, then the closed ones, however many there are."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlencode

from qcompute.console.dashboard.facts import Facts
from qcompute.ledger.listing import JobLine, Wish
from qcompute.ledger.times import from_micros, micros
from qcompute.miner.job import State, Verdict
from qcompute.protocol import is_row_id
from qcompute.units import ExecutionId, Hotkey, ProviderKey

PAGE: Final = 50
LOOK: Final = 1000
"""Closed jobs gone over at once: the road's own questions wait no longer than that takes, a few milliseconds."""

LOOK_SECONDS: Final = 0.1
"""How long closed jobs are gone over for one page; a rare thing is looked for page by page."""

MAX_TEXT: Final = 128
_DIGITS: Final = 18
"""Of a number that every database can hold."""

_LATEST: Final = micros(datetime.max.replace(tzinfo=UTC))


@dataclass(frozen=True, slots=True)
class Listed:
    """One page. ``after`` is the place behind it, None at the end; ``exact`` a job of the very id that was typed."""

    wish: Wish
    lines: list[JobLine]
    after: str | None
    exact: ExecutionId | None
    is_first: bool

    def query(self, after: str | None = None) -> str:
        """The address of the same wish, at a place."""
        wish = self.wish
        given = {
            "state": wish.state,
            "verdict": wish.verdict,
            "provider": wish.provider,
            "validator": wish.validator,
            "q": wish.text,
            "after": after,
        }
        return urlencode({name: str(value) for name, value in given.items() if value})


def wish_of(query: Mapping[str, str]) -> Wish:
    """What an address asks for; words it does not know are no condition."""

    def text(name: str) -> str:
        return query.get(name, "").replace("\0", "").strip()[:MAX_TEXT]

    state, verdict = text("state"), text("verdict")
    return Wish(
        state=State(state) if state in list(State) else None,
        verdict=Verdict(verdict) if verdict in list(Verdict) else None,
        provider=ProviderKey(text("provider")) or None,
        validator=Hotkey(text("validator")) or None,
        text=text("q"),
    )


async def listed(facts: Facts, query: Mapping[str, str]) -> Listed:
    """The page an address asks for."""
    wish = wish_of(query)
    place = query.get("after", "")
    exact = None
    if wish.text and is_row_id(wish.text) and await facts.has_job(ExecutionId(wish.text)):
        exact = ExecutionId(wish.text)
    lines: list[JobLine] = []
    below: int | None = None
    if place.startswith("c"):
        below = _number(place[1:])
    elif wish.state is not State.CLOSED:
        lines = await facts.open_jobs(wish, PAGE + 1, before=_before(place))
        if len(lines) > PAGE:
            last = lines[PAGE - 1]
            after = f"o{micros(last.received_at)}-{last.execution_id}"
            return Listed(wish, lines[:PAGE], after, exact, not place)
    if wish.state not in (None, State.CLOSED):
        return Listed(wish, lines, None, exact, not place)
    closed, next_below = await _closed(facts, wish, PAGE - len(lines), below)
    after = None if next_below is None else f"c{next_below}"
    return Listed(wish, lines + closed, after, exact, not place)


async def _closed(facts: Facts, wish: Wish, most: int, below: int | None) -> tuple[list[JobLine], int | None]:
    loop = asyncio.get_running_loop()
    ends = loop.time() + LOOK_SECONDS
    found: list[JobLine] = []
    while True:
        piece = await facts.closed_jobs(wish, max(most - len(found), 1), below=below, look=LOOK)
        found += piece.lines
        below = piece.below
        if below is None or len(found) >= most or loop.time() > ends:
            return found, below


def _before(place: str) -> tuple[datetime, ExecutionId] | None:
    if not place.startswith("o"):
        return None
    received, _, execution_id = place[1:].partition("-")
    number = _number(received)
    if number is None or number > _LATEST or not is_row_id(execution_id):
        return None
    return from_micros(number), ExecutionId(execution_id)


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS else None
