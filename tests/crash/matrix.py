"""The cases: a story, and the points at which the miner is killed while it is told; one function runs and judges."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from qcompute.testing.crash_points import CrashPoint, Journal
from tests.crash.judge import faults
from tests.crash.lives import Store, Trouble, live, staged
from tests.crash.stories import STORIES, Story


@dataclass(frozen=True, slots=True)
class Case:
    """Each of ``fatal`` ends one life of the miner, in this order."""

    story: Story
    fatal: tuple[CrashPoint, ...]

    @property
    def name(self) -> str:
        """As written on the command line: ``road submit:before#1``."""
        return " + ".join((f"{self.story.name} {self.fatal[0]}", *map(str, self.fatal[1:])))

    @classmethod
    def parse(cls, text: str) -> Case:
        """The case of this name."""
        story, _, points = text.partition(" ")
        return cls(STORIES[story], tuple(CrashPoint.parse(point) for point in points.split(" + ")))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a case: ``wrong`` is empty when every promise held."""

    case: Case
    wrong: Sequence[str]
    killed: int
    seconds: float
    journals: Sequence[Journal]

    @property
    def ok(self) -> bool:
        """Whether all promises held, and the first point was met."""
        return not self.wrong and (self.killed > 0 or not self.case.fatal)

    @property
    def outcome(self) -> str:
        """In a few words."""
        if self.wrong:
            return "; ".join(self.wrong)
        if self.killed < len(self.case.fatal):
            return "the point was never met" if self.killed == 0 else "the second point was never met: paid once"
        return "each job paid once and delivered"


async def run(case: Case, compiled: Path | None = None, store: Store = Store.SQLITE) -> Verdict:
    """Run one case in a folder of its own and judge it."""
    began = time.monotonic()
    with TemporaryDirectory(prefix="crash-", ignore_cleanup_errors=True) as folder:
        async with staged(case.story, Path(folder), compiled, store) as scene:
            try:
                await live(scene, case.fatal)
            except Trouble as trouble:
                wrong = [str(trouble)]
            else:
                wrong = await faults(scene)
            journals = scene.miner.journals
    killed = sum(journal.killed_at is not None for journal in journals)
    return Verdict(case, wrong, killed, time.monotonic() - began, journals)
