"""``python -m tests.bench [NAME …]``: run the benchmarks, print each figure beside its peer's, keep them."""

from __future__ import annotations

import sys

import uvloop

from tests.bench.benches import BENCHES as ROAD_BENCHES
from tests.bench.report import FILE, Run, show
from tests.bench.takeover import takeover

BENCHES = {**ROAD_BENCHES, "takeover": takeover}


def main(names: list[str]) -> int:
    """Run the named benchmarks, or all; 2 for a name that is none."""
    if unknown := [name for name in names if name not in BENCHES]:
        sys.stderr.write(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHES)}\n")
        return 2
    for name in names or BENCHES:
        sys.stdout.write(f"{name}: {BENCHES[name].__doc__}\n")
        sys.stdout.flush()
        run = Run.begun(name, BENCHES[name].__doc__ or "")
        show(run, uvloop.run(BENCHES[name]()))
    sys.stdout.write(f"kept in {FILE.relative_to(FILE.parents[1])}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
