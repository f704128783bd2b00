"""Who asked this axon, how often, and what was refused why: for the operator, in memory, since the start.

Bounded: anybody can make hotkeys, and each only costs a signature. Counting is a few dictionary steps a request.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from qcompute.units import Hotkey

MOST_VISITORS: Final = 1024
"""A subnet has 256 neurons; whoever came least recently is forgotten first."""

MOST_REASONS: Final = 16
"""Different refusals kept of one visitor; what comes on top is counted together."""

OTHER_REASONS: Final = "other reasons"

_MAX_REASON: Final = 160


@dataclass(slots=True)
class Visits:
    """What one hotkey asked. ``last_at`` is Unix time in seconds; ``reasons`` counts refusals by what was answered."""

    hotkey: Hotkey
    asked: int = 0
    refused: int = 0
    last_at: float = 0.0
    last_refusal: str | None = None
    reasons: Counter[str] = field(default_factory=Counter[str])


class Visitors:
    """Counts visits. Everything is called on the event loop."""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._known: OrderedDict[Hotkey, Visits] = OrderedDict()
        self.strangers: Counter[str] = Counter()
        """Refusals of those who did not prove who they are, by what they were answered; bounded as reasons are."""

    def asked(self, hotkey: Hotkey) -> None:
        """A request whose signature is right."""
        visits = self._of(hotkey)
        visits.asked += 1
        visits.last_at = self._clock()

    def refused(self, hotkey: Hotkey | None, reason: str) -> None:
        """What was answered instead of what was asked for; ``hotkey`` is None when nobody proved to have it."""
        reason = reason[:_MAX_REASON]
        if hotkey is None:
            _count(self.strangers, reason)
            return
        visits = self._of(hotkey)
        visits.refused += 1
        visits.last_refusal = reason
        _count(visits.reasons, reason)

    def listed(self) -> list[Visits]:
        """Everybody known, who came last first."""
        return list(reversed(self._known.values()))

    def _of(self, hotkey: Hotkey) -> Visits:
        visits = self._known.get(hotkey)
        if visits is None:
            visits = self._known[hotkey] = Visits(hotkey)
            if len(self._known) > MOST_VISITORS:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(hotkey)
        return visits


def _count(reasons: Counter[str], reason: str) -> None:
    # Numbers in a reason ("37 jobs in flight") make it a new one each time.
    kept = reason if reason in reasons or len(reasons) < MOST_REASONS else OTHER_REASONS
    reasons[kept] += 1
