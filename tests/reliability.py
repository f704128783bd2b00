"""What the reliability suites saw: one JSON line for each case, from which ``docs/reference/reliability.md`` is made.

Each suite (``python -m tests.crash``, ``tests.hostile``, ``tests.fuzz``) replaces its own lines and leaves the others.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

FILE: Final = Path(__file__).resolve().parents[1] / "build" / "reliability.jsonl"


@dataclass(frozen=True, slots=True)
class Seen:
    """One case of a suite and what became of it.

    ``ok`` is false when what was promised did not hold. ``facts`` are figures of the case, JSON values, with their unit
    in the name: ``seconds``, ``peak_mib``, ``served_meanwhile``.
    """

    suite: str
    case: str
    outcome: str
    ok: bool
    facts: dict[str, Any] = field(default_factory=dict[str, Any])

    def line(self) -> str:
        """The case as one line of the file."""
        whole = {"suite": self.suite, "case": self.case, "outcome": self.outcome, "ok": self.ok, **self.facts}
        return json.dumps(whole, ensure_ascii=True) + "\n"


class Record:
    """What one suite has seen so far. Making it forgets what the suite saw in an earlier run."""

    def __init__(self, suite: str, file: Path = FILE) -> None:
        self._suite = suite
        self._file = file
        self.seen: list[Seen] = []
        kept = [one for one in read(file) if one.suite != suite]
        file.parent.mkdir(exist_ok=True)
        file.write_text("".join(one.line() for one in kept))

    def add(self, case: str, outcome: str, *, ok: bool, **facts: Any) -> Seen:
        """Keep one case; it is in the file when this returns, so a run that is cut short leaves what it saw."""
        one = Seen(self._suite, case, outcome, ok, facts)
        self.seen.append(one)
        with self._file.open("a") as file:
            file.write(one.line())
        return one

    @property
    def wrong(self) -> list[Seen]:
        """The cases in which a promise did not hold."""
        return [one for one in self.seen if not one.ok]


def read(file: Path = FILE) -> Iterator[Seen]:
    """Every case in the file, in the order it was seen; none when there is no file."""
    if not file.exists():
        return
    for line in file.read_text().splitlines():
        whole = json.loads(line)
        yield Seen(whole.pop("suite"), whole.pop("case"), whole.pop("outcome"), whole.pop("ok"), whole)
