"""Named points before and after each side effect of the daemon; at any of them it can be made to kill itself.

The daemon knows nothing of them: `qcompute.testing.crash_run` lays them around its seams and then runs the unmodified
``neurons/miner.py``. A point is written ``NAME:before#1`` or ``NAME:after#1``, the first time the process comes by.
What was passed stands in a journal, one line a point, written before the process goes on.
"""

from __future__ import annotations

import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

_WRITTEN: Final = re.compile(r"(?P<name>.+):(?P<when>before|after)#(?P<occurrence>[1-9]\d*)")
_KILLED: Final = "killed at "


class When(StrEnum):
    """On which side of the side effect; *after* is passed only by one that returned."""

    BEFORE = "before"
    AFTER = "after"


@dataclass(frozen=True, slots=True, order=True)
class CrashPoint:
    """One passing of a named place; ``occurrence`` counts from 1 within the life of a process."""

    name: str
    when: When
    occurrence: int = 1

    def __str__(self) -> str:
        return f"{self.name}:{self.when}#{self.occurrence}"

    @classmethod
    def parse(cls, text: str) -> CrashPoint:
        """The point that is written so; raises ValueError for text that is none."""
        written = _WRITTEN.fullmatch(text)
        if written is None:
            raise ValueError(f"{text!r} is not a crash point: write NAME:before#1 or NAME:after#1")
        return cls(written["name"], When(written["when"]), int(written["occurrence"]))


@dataclass(frozen=True, slots=True)
class Journal:
    """What one process passed, in order, and where it killed itself, if it did."""

    passed: Sequence[CrashPoint]
    killed_at: CrashPoint | None

    @classmethod
    def read(cls, file: Path) -> Journal:
        """The journal in ``file``; an empty one when the process did not come far enough to write any."""
        lines = file.read_text().splitlines() if file.exists() else []
        killed = [line.removeprefix(_KILLED) for line in lines if line.startswith(_KILLED)]
        passed = [CrashPoint.parse(line) for line in lines if not line.startswith(_KILLED)]
        return cls(passed, CrashPoint.parse(killed[0]) if killed else None)

    def often(self) -> Counter[tuple[str, When]]:
        """How often each place was passed."""
        return Counter((point.name, point.when) for point in self.passed)


class CrashPoints:
    """Counts what is passed, from any thread, and ends the process with SIGKILL at ``fatal``."""

    def __init__(self, journal: Path, fatal: CrashPoint | None) -> None:
        self._journal = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._fatal = fatal
        self._passed: Counter[tuple[str, When]] = Counter()
        self._lock = threading.Lock()

    def passing(self, name: str, when: When) -> None:
        """Note that the process is here; does not return from the fatal point."""
        with self._lock:
            self._passed[name, when] += 1
            point = CrashPoint(name, when, self._passed[name, when])
            os.write(self._journal, f"{point}\n".encode())
            if point == self._fatal:
                os.write(self._journal, f"{_KILLED}{point}\n".encode())
                os.kill(os.getpid(), signal.SIGKILL)

    @contextmanager
    def around(self, *names: str) -> Generator[None]:
        """One side effect that all these names stand for: several writes in one commit, say."""
        for name in names:
            self.passing(name, When.BEFORE)
        yield
        for name in names:
            self.passing(name, When.AFTER)
