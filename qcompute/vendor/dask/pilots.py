"""Workers that are started elsewhere and kept up: one long-lived worker in each place, fed circuits by Dask.

A place is a host (ssh) or an allocation (SLURM). What has ended is started again, after a pause when it ended before
its worker had called.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

CALL_SECONDS: Final = 60.0
"""How long a command (``sbatch``, ``squeue``, ``scancel``) may take."""
_FIRST_PAUSE_SECONDS: Final = 2.0
_LONGEST_PAUSE_SECONDS: Final = 120.0


class PilotTroubles(Exception):
    """A worker could not be started or asked after; the text says why."""


class Pilot(ABC):
    """One worker elsewhere. ``name`` is how it calls itself at the scheduler."""

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    async def start(self) -> None:
        """Ask for it. Raises `PilotTroubles`."""

    @abstractmethod
    async def why_ended(self) -> str | None:
        """Why it will not call any more; None while it may. Raises `PilotTroubles` when that cannot be told."""

    @abstractmethod
    async def close(self) -> None:
        """Give it back; no error when it is gone."""


@dataclass(slots=True)
class _Place:
    """Where a pilot is or may be. ``troubles`` counts those in a row that ended before they had called."""

    label: str
    pilot: Pilot | None = None
    called: bool = False
    generation: int = 0
    troubles: int = 0
    not_before: float = 0.0
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Demand:
    """How many pilots there should be: ``least`` always, up to one for each ``cores`` circuits while there is work."""

    least: int
    most: int
    cores: int
    idle_seconds: float


class Pilots:
    """Keeps pilots up in ``places``; ``make`` gives a new one for a place and a name."""

    def __init__(
        self, places: Sequence[str], demand: Demand, make: Callable[[str, str], Pilot], *, look_seconds: float
    ) -> None:
        self._places = [_Place(label) for label in places]
        self._demand = demand
        self._make = make
        self._look_seconds = look_seconds
        self._looked = 0.0
        self._worked = time.monotonic()
        self._wanted = demand.least

    @property
    def on_demand(self) -> bool:
        """Whether having none now is how it should be."""
        return self._demand.least == 0

    def note(self, alive: int) -> str:
        """How many there are and are to be, for people."""
        asked = sum(place.pilot is not None for place in self._places)
        return f"{alive} workers, {asked} asked for, {self._demand.most} at most"

    async def keep(self, pending: int, alive: set[str]) -> str | None:
        """Start and end pilots for ``pending`` circuits; ``alive`` are the workers the scheduler has.

        Returns what went wrong last, None when nothing is wrong now.
        """
        self._wanted = self._target(pending)
        now = time.monotonic()
        for place in self._places:
            if place.pilot is not None and place.pilot.name in alive:
                place.called, place.troubles, place.problem = True, 0, None
        if now - self._looked >= self._look_seconds:
            await self._drop_ended(alive)
            self._looked = time.monotonic()
        used = [place for place in self._places if place.pilot is not None]
        for place in used[self._wanted :]:
            await self._give_back(place)
        for place in [place for place in self._places if place.pilot is None][: max(0, self._wanted - len(used))]:
            if now >= place.not_before:
                await self._start(place)
        return next((place.problem for place in self._places if place.problem is not None), None)

    async def close(self) -> None:
        """Give all back."""
        for place in self._places:
            await self._give_back(place)

    def _target(self, pending: int) -> int:
        """Never fewer while there is work: an allocation that is given back may not come again soon."""
        if pending:
            self._worked = time.monotonic()
            needed = math.ceil(pending / self._demand.cores)
            return min(self._demand.most, max(self._demand.least, needed, self._wanted))
        if time.monotonic() - self._worked > self._demand.idle_seconds:
            return self._demand.least
        return self._wanted

    async def _start(self, place: _Place) -> None:
        place.generation += 1
        pilot = self._make(place.label, f"{place.label}-{place.generation}")
        try:
            await pilot.start()
        except PilotTroubles as trouble:
            self._troubled(place, str(trouble))
        else:
            place.pilot, place.called = pilot, False

    async def _drop_ended(self, alive: set[str]) -> None:
        for place in self._places:
            if place.pilot is None or place.pilot.name in alive:
                continue
            try:
                why = await place.pilot.why_ended()
            except PilotTroubles as trouble:
                place.problem = str(trouble)
                continue
            if why is None:
                continue
            called = place.called
            await self._give_back(place)
            if not called:
                self._troubled(place, f"{place.label}: {why}")

    async def _give_back(self, place: _Place) -> None:
        if place.pilot is not None:
            await place.pilot.close()
            place.pilot = None

    @staticmethod
    def _troubled(place: _Place, problem: str) -> None:
        pause = min(_FIRST_PAUSE_SECONDS * 2**place.troubles, _LONGEST_PAUSE_SECONDS)
        place.troubles, place.not_before, place.problem = place.troubles + 1, time.monotonic() + pause, problem


async def call(command: Sequence[str], text: str = "") -> str:
    """What a command prints. Raises `PilotTroubles` with what it complained of; it is killed when it takes too long."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
    except OSError as error:
        raise PilotTroubles(f"{command[0]} cannot be run: {error.strerror}") from None
    try:
        out, err = await asyncio.wait_for(process.communicate(text.encode()), CALL_SECONDS)
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise PilotTroubles(f"{command[0]} took more than {CALL_SECONDS:g} s") from None
    if process.returncode != 0:
        raise PilotTroubles(f"{command[0]}: {last_line(err) or f'exit code {process.returncode}'}")
    return out.decode(errors="replace")


def last_line(text: bytes) -> str:
    """The last line that says something, at most 300 characters."""
    lines = [line.strip() for line in text.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
