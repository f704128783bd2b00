"""What a benchmark leaves behind: a row in the table and a line in ``build/bench.jsonl``."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

FILE = Path(__file__).resolve().parents[2] / "build" / "bench.jsonl"


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure beside a peer's. ``ratio`` says how many times better we are; the peer may be a limit, below 1."""

    name: str
    value: float
    unit: str
    peer: str
    peer_value: float
    higher_is_better: bool = True

    @property
    def ratio(self) -> float:
        """Ours over the peer's, or the other way where less is better."""
        ours, theirs = max(self.value, 1e-9), max(self.peer_value, 1e-9)
        return ours / theirs if self.higher_is_better else theirs / ours


@dataclass(frozen=True, slots=True)
class Run:
    """Which benchmark was run when, and how busy the machine was already."""

    bench: str
    about: str
    run: str
    load: float
    cores: int

    @classmethod
    def begun(cls, bench: str, about: str) -> Run:
        """A run that begins now."""
        return cls(bench, about, datetime.now(UTC).isoformat(), os.getloadavg()[0], os.cpu_count() or 1)


def show(run: Run, figures: list[Figure]) -> None:
    """Print the table and append the lines."""
    FILE.parent.mkdir(exist_ok=True)
    with FILE.open("a", encoding="utf-8") as lines:
        for figure in figures:
            document = asdict(figure) | {"ratio": figure.ratio} | asdict(run)
            del document["higher_is_better"]
            lines.write(json.dumps(document) + "\n")
    out = [f"{'figure':<34}{'ours':>12} {'unit':<12}{'peer':<34}{'peer':>10}{'ratio':>9}"]
    out += [
        f"{f.name:<34}{f.value:>12.5g} {f.unit:<12}{f.peer:<34}{f.peer_value:>10.5g}{f.ratio:>8.3g}x" for f in figures
    ]
    sys.stdout.write("\n".join(out) + "\n\n")
