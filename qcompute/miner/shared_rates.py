"""Several processes of one miner keep one rate for each validator: they tell each other whom they let in.

What one let in is told within `SHARE_SECONDS`, so each may at worst give a validator its whole burst before it hears of
the others'. That is counted all the same: over any time P processes let in at most ``requests_per_second`` times that
time, and P bursts. A process that hears nothing, because the database is away, keeps the rate by itself.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Annotated, Final

from pydantic import Field, TypeAdapter, ValidationError

from qcompute.axon.gate import Gate
from qcompute.errors import StoreError
from qcompute.ledger.contract import Ledger
from qcompute.units import Hotkey

_log = logging.getLogger(__name__)

SHARE_SECONDS: Final = 0.25

_TOGETHER: Final = 64
"""Validators in one notice: sixty bytes each."""

_COUNTS: Final = TypeAdapter(dict[Annotated[str, Field(max_length=64)], Annotated[int, Field(ge=1)]])


class SharedRates:
    """Brings what one gate let in to the gates of the other processes on its ledger."""

    def __init__(self, gate: Gate, ledger: Ledger) -> None:
        self._gate = gate
        self._ledger = ledger

    async def run(self) -> None:
        """Tell and hear, until cancelled. Sleeps while nobody asks anything."""
        self._ledger.hear_others(self._hear)
        while True:
            await self._gate.admissions.wait()
            await asyncio.sleep(SHARE_SECONDS)
            admitted = list(self._gate.take_admitted().items())
            try:
                for start in range(0, len(admitted), _TOGETHER):
                    some: dict[str, int] = dict(admitted[start : start + _TOGETHER])
                    await self._ledger.tell_others(_COUNTS.dump_json(some).decode())
            except StoreError as error:
                _log.warning("the rates of validators are not shared now: %s", error, extra={"action": "rates"})

    def _hear(self, words: str) -> None:
        try:
            counts = _COUNTS.validate_json(words)
        except ValidationError:
            return  # of a newer qcompute, which may say more
        for hotkey, count in counts.items():
            self._gate.count(Hotkey(hotkey), count)
