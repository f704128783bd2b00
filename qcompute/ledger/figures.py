"""What a store knows of its ledger without looking: how many jobs there are, and how far they are closed."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from sqlalchemy import Connection

from qcompute.ledger import statements
from qcompute.ledger.cursor import Place
from qcompute.miner.job import Job, State
from qcompute.units import Hotkey


def _none() -> defaultdict[tuple[State, str], list[Job]]:
    return defaultdict(list)


@dataclass(slots=True)
class Effects:
    """What a committed batch changes."""

    latest: Place | None = None
    """The place of the job closed last, when the batch closed any."""
    states: Counter[State] = field(default_factory=Counter[State])
    """How many more jobs are in each state."""
    open_jobs: Counter[Hotkey] = field(default_factory=Counter[Hotkey])
    """How many more unclosed jobs each validator has."""
    arrivals: defaultdict[tuple[State, str], list[Job]] = field(default_factory=_none)
    """What is newly to be done, by state and lane."""


@dataclass(slots=True)
class Figures:
    """The whole ledger in numbers."""

    latest: Place
    """The place of the job closed last."""
    states: Counter[State]
    """How many jobs are in each state."""
    open_jobs: Counter[Hotkey]
    """How many unclosed jobs each validator has; nobody with none."""

    def add(self, effects: Effects) -> None:
        """Take in what a commit changed."""
        if effects.latest is not None:
            self.move_latest(effects.latest)
        self.states.update(effects.states)
        for hotkey, more in effects.open_jobs.items():
            self.open_jobs[hotkey] += more
            if not self.open_jobs[hotkey]:
                del self.open_jobs[hotkey]

    def move_latest(self, place: Place) -> None:
        """Jobs up to ``place`` are closed; news that comes late changes nothing."""
        if place.seq > self.latest.seq:
            self.latest = place


def read_figures(connection: Connection, latest: Place) -> Figures:
    """Count. Only open jobs are looked at, each in an index.

    Closed jobs are not counted: their numbers have no gaps, because each is given in the transaction that closes the
    job, and a purge takes those closed first.
    """
    states: Counter[State] = Counter()
    open_jobs: Counter[Hotkey] = Counter()
    for state, hotkey, is_whole, count in connection.execute(statements.OPEN_JOBS):
        states[State(state)] += count
        if is_whole:
            open_jobs[Hotkey(hotkey)] += count
    first, last = connection.execute(statements.CLOSED_RANGE).one()
    if first is not None:
        states[State.CLOSED] = last - first + 1
    return Figures(latest, states, open_jobs)
