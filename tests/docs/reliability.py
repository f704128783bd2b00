"""``docs/reference/reliability.md``, from what the suites saw: ``make crash hostile fuzz bench-faults reliability``.

The page is a record of runs, so no test can write it anew; ``tests/docs/test_reliability_page.py`` checks that it says
what is promised.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tests.reliability import FILE, Seen, read

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = ROOT / "docs" / "reference" / "reliability.md"
FAULTS_FILE: Final = ROOT / "build" / "faults.jsonl"

HEAD: Final = """\
<!-- Written by `make reliability` from what the suites saw; run them again to change it. -->

# Reliability

What was done to the daemon, and what became of it. Each case is judged by the tables of the vendor and of the job
server, never by the daemon's own word: no job paid twice, none lost, none reported failed that succeeded, no row left
behind.

| to see it again | |
|---|---|
| `make crash` | kill -9 at every side effect, at pairs of them; broken disks, databases and clocks |
| `make hostile` | hostile circuits, requests and addresses |
| `make fuzz` | coverage-guided fuzzing from the kept corpus |
| `make bench-faults` | every vendor's double failing in every way |

Each writes its cases to `build/reliability.jsonl` (`suite`, `case`, `outcome`, `ok`, figures) or `build/faults.jsonl`,
and `make reliability` this page. `make test` runs a sample of each. Times are those of the machine it ran on, and only
say that nothing hangs.
"""

SUITES: Final[Mapping[str, str]] = {
    "crash": "kill -9 at one point",
    "crash pairs": "kill -9 at a point, and again after the restart",
    "crash on postgres": "kill -9 at one point, the ledger on Postgres",
    "crash pairs on postgres": "kill -9 at a point and again after the restart, the ledger on Postgres",
    "surroundings": "broken surroundings",
    "faults": "vendors that fail",
    "hostile circuits": "hostile circuits",
    "hostile network": "hostile requests",
    "hostile ssrf": "addresses that must not be reached",
    "hostile api": "API fuzzing",
    "fuzz": "fuzzing of the parsers",
}
"""In the order of the page."""

PROMISED: Final = (
    "crash",
    "crash pairs",
    "surroundings",
    "faults",
    "hostile circuits",
    "hostile network",
    "hostile ssrf",
)
"""Suites without which the page must not be written."""

WORST: Final[Mapping[str, str]] = {
    "slowest_seconds": "slowest answer meanwhile, s",
    "slowest_answer_seconds": "slowest answer meanwhile, s",
    "seconds": "longest case, s",
    "peak_mib": "most memory of a child, MiB",
    "rss_mib": "most memory of the daemon, MiB",
    "growth_mib": "growth of the daemon, MiB",
    "memory_growth_mib": "growth of the daemon, MiB",
}
TOTALS: Final[Mapping[str, str]] = {
    "served_meanwhile": "honest requests served meanwhile",
    "kills": "kills",
    "executions": "executions",
}


def main() -> int:
    """Write the page; 1 when a suite that is promised has not run, or a case went wrong."""
    seen = [*read(FILE), *vendor_faults(FAULTS_FILE)]
    there = {one.suite for one in seen}
    if missing := [suite for suite in PROMISED if suite not in there]:
        sys.stderr.write(f"not run yet: {', '.join(missing)}; see the targets in make help\n")
        return 1
    PAGE.write_text(page(seen))
    wrong = [one for one in seen if not one.ok]
    for one in wrong:
        sys.stderr.write(f"wrong: {one.suite}: {one.case}: {one.outcome}\n")
    sys.stdout.write(f"{len(seen)} cases, {len(wrong)} wrong; written to {PAGE.relative_to(ROOT)}\n")
    return 1 if wrong else 0


def vendor_faults(file: Path) -> Iterable[Seen]:
    """What ``make bench-faults`` saw."""
    for line in file.read_text().splitlines() if file.exists() else ():
        cell: dict[str, Any] = json.loads(line)
        case = f"{cell['vendor']}: {cell['verb']}: {cell['fault']}"
        yield Seen("faults", case, str(cell["outcome"]), bool(cell["ok"]), {"created": cell["created"]})


def page(seen: Sequence[Seen]) -> str:
    """The whole page."""
    suites: dict[str, list[Seen]] = defaultdict(list)
    for one in seen:
        suites[one.suite].append(one)
    parts = [HEAD, _summary(suites, datetime.now(UTC))]
    for suite, title in SUITES.items():
        if cases := suites.get(suite):
            parts.append(f"## {title[0].upper()}{title[1:]}\n\n{_WRITERS.get(suite, _case_table)(cases)}")
    return "\n".join(parts)


def _summary(suites: Mapping[str, list[Seen]], now: datetime) -> str:
    rows = [
        [title, len(cases), sum(not one.ok for one in cases), _figures(cases)]
        for suite, title in SUITES.items()
        if (cases := suites.get(suite))
    ]
    return f"Seen on {now:%Y-%m-%d}:\n\n{_table(['', 'cases', 'wrong', 'figures'], rows)}"


def _figures(cases: Sequence[Seen]) -> str:
    found: list[str] = []
    if refusals := [one for one in cases if one.facts.get("refusal")]:
        ran = sum(one.outcome == "runs" for one in cases)
        slowest = max(float(one.facts["seconds"]) for one in refusals)
        found.append(f"refused: {len(refusals)}; run inside limits: {ran}; slowest refusal, s: {slowest:.3g}")
    for name, words in WORST.items():
        if values := [float(one.facts[name]) for one in cases if name in one.facts]:
            found.append(f"{words}: {max(values):.3g}")
    for name, words in TOTALS.items():
        if counts := [int(one.facts[name]) for one in cases if name in one.facts]:
            found.append(f"{words}: {sum(counts):,}")
    return "; ".join(found)


def _case_table(cases: Sequence[Seen]) -> str:
    return _table(["case", "outcome", ""], [[one.case, one.outcome, _mark(one)] for one in cases])


def _points_table(cases: Sequence[Seen]) -> str:
    """Crash points by story: one row for each place, before and after it side by side."""
    places: dict[tuple[str, str], dict[str, Seen]] = defaultdict(dict)
    for one in cases:
        story, _, point = one.case.partition(" ")
        place, _, side = point.partition("#")[0].rpartition(":")
        places[story, place][side] = one
    rows = [
        [story, place, *(_outcome(sides.get(side)) for side in ("before", "after"))]
        for (story, place), sides in sorted(places.items())
    ]
    return _table(["story", "side effect", "killed before", "killed after"], rows)


def _outcomes_table(cases: Sequence[Seen]) -> str:
    """Too many for a row each: how often each outcome was seen."""
    counted = Counter((one.outcome, _mark(one)) for one in cases)
    rows = [[outcome, count, mark] for (outcome, mark), count in counted.most_common()]
    return _table(["outcome", "cases", ""], rows)


def _faults_table(cases: Sequence[Seen]) -> str:
    """One row for each fault and call; jobs created at each vendor, and whether all was well."""
    vendors = sorted({one.case.split(": ")[0] for one in cases})
    rows: dict[str, dict[str, Seen]] = defaultdict(dict)
    for one in cases:
        vendor, _, rest = one.case.partition(": ")
        rows[rest][vendor] = one
    body = [
        [
            rest,
            *(f"{seen[vendor].facts['created']} {_mark(seen[vendor])}" if vendor in seen else "" for vendor in vendors),
        ]
        for rest, seen in rows.items()
    ]
    words = "Vendor's jobs created for one job of ours, in each cell; `ok` says that it also ended as it should.\n\n"
    return words + _table(["call: fault", *vendors], body)


_WRITERS: Final[Mapping[str, Callable[[Sequence[Seen]], str]]] = {
    "crash": _points_table,
    "crash pairs": _outcomes_table,
    "faults": _faults_table,
}


def _outcome(one: Seen | None) -> str:
    return "" if one is None else f"{one.outcome} {_mark(one)}"


def _mark(one: Seen) -> str:
    return "ok" if one.ok else "**wrong**"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [_row(head), "|" + "---|" * len(head), *(_row(row) for row in rows)]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[object]) -> str:
    texts = [str(cell).replace("|", "\\|").replace("<", "&lt;").replace("\n", " ") for cell in cells]
    return f"| {' | '.join(texts)} |"


if __name__ == "__main__":
    sys.exit(main())
