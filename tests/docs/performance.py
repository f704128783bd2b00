"""``docs/reference/performance.md``, from what the benchmarks saw: ``make bench performance``.

The page is a record of runs, so no test can write it anew; ``tests/docs/test_performance_page.py`` checks that it has
every benchmark.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.bench.__main__ import BENCHES
from tests.bench.report import FILE

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = ROOT / "docs" / "reference" / "performance.md"

HEAD: Final = """\
# Performance

Written by `make performance` from the last run of each benchmark (`make bench NAME=road`); do not edit it by hand.
Each figure stands beside a peer of the same run, or beside what the reference miner was measured at. The ratio says how
many times better ours is; beside a limit or an aim, 1 is all there is to be had. Ratios are the claim: every figure
depends on the machine, on what else it does (the load average is given), and on daemon, platform and load sharing its
cores.
"""


def main() -> int:
    """Write the page, which names the benchmarks that have not run; 1 when none has."""
    seen = latest(FILE.read_text(encoding="utf-8").splitlines() if FILE.exists() else ())
    if not seen:
        sys.stderr.write(f"nothing was measured yet: run `make bench`, or one with NAME: {', '.join(BENCHES)}\n")
        return 1
    PAGE.write_text(page(seen), encoding="utf-8")
    sys.stdout.write(f"{len(seen)} of {len(BENCHES)} benchmarks; written to {PAGE.name}\n")
    return 0


def latest(lines: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """The figures of the last run of each benchmark; lines of before runs had names are passed over."""
    seen: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        figure: dict[str, Any] = json.loads(line)
        bench = figure.get("bench")
        if bench is None:
            continue
        if bench in seen and seen[bench][0]["run"] != figure["run"]:
            del seen[bench]
        seen.setdefault(bench, []).append(figure)
    return seen


def page(seen: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """The whole page."""
    parts = [HEAD]
    for name in (name for name in BENCHES if name in seen):
        figures = seen[name]
        first = figures[0]
        where = f"Run {first['run'][:10]}, load average before it {first['load']:.1f} on {first['cores']} cores."
        rows = [_row(figure) for figure in figures]
        table = "\n".join(["| figure | ours | | peer | its figure | ratio |", "|---|---|---|---|---|---|", *rows])
        parts.append(f"## `{name}`\n\n{first['about']}\n\n{where}\n\n{table}\n")
    if missing := [name for name in BENCHES if name not in seen]:
        parts.append(f"## Not measured in this state\n\n{', '.join(f'`{name}`' for name in missing)}\n")
    return "\n".join(parts)


def _row(figure: Mapping[str, Any]) -> str:
    cells = [figure["name"], f"{figure['value']:.4g}", figure["unit"], figure["peer"], f"{figure['peer_value']:.4g}"]
    return f"| {' | '.join(cells)} | {figure['ratio']:.3g}x |"


if __name__ == "__main__":
    sys.exit(main())
