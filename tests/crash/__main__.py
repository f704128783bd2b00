"""``python -m tests.crash [--pairs N|all] [--store postgres] [NAME …]``: kill the miner at every point, and at pairs.

Without ``--pairs`` only single points. ``NAME`` keeps the cases whose name contains it; ``" + "`` is in that of every
pair and of no single point. Two cases run at a time. Writes the suites "crash" and "crash pairs" of
``build/reliability.jsonl``; with ``--store postgres``, where each life first outwaits the lease of the one before,
"crash on postgres" and "crash pairs on postgres". Exit code 1 when a promise did not hold or a point was not met.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.crash.lives import Store
from tests.crash.matrix import Case, Verdict, run
from tests.crash.points import EXPECTED, pairs, singles
from tests.crash.stories import STORIES
from tests.reliability import FILE, Record

AT_ONCE: Final = 2


async def main(arguments: Sequence[str]) -> int:
    """Run the wanted cases; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description="Kill the miner at every point.")
    parser.add_argument("--pairs", default="0", help="how many pairs of points after the single ones, or all")
    parser.add_argument("--store", type=Store, default=Store.SQLITE, help="sqlite or postgres")
    parser.add_argument("name", nargs="*", help="keeps the cases whose name contains it")
    wish = parser.parse_args(arguments)
    with TemporaryDirectory(prefix="crash-") as folder:
        compiled = Path(folder) / "compiled.json"
        table = _Table(compiled, wish.store)
        wrong = await table.suite("crash", _named(await table.single_cases(), wish.name))
        double = _named(pairs(), wish.name)
        wrong += await table.suite("crash pairs", double if wish.pairs == "all" else double[: int(wish.pairs)])
    sys.stdout.write(f"{wrong} wrong; kept in {FILE.relative_to(FILE.parents[1])}\n")
    return 1 if wrong else 0


@dataclass(frozen=True, slots=True)
class _Table:
    """Runs cases on one kind of ledger; ``compiled`` keeps what the compiler answered."""

    compiled: Path
    store: Store

    async def single_cases(self) -> list[Case]:
        """All single cases, from a run of each story without a kill."""
        recorded = {name: await run(Case(STORIES[name], ()), self.compiled, self.store) for name in EXPECTED}
        for name, verdict in recorded.items():
            _say(verdict, name)
        return list(singles({name: verdict.journals[0].often() for name, verdict in recorded.items()}))

    async def suite(self, name: str, cases: Sequence[Case]) -> int:
        """Run the cases and write them down; how many are wrong. Without cases what an earlier run saw is kept."""
        if not cases:
            return 0
        record = Record(name if self.store is Store.SQLITE else f"{name} on {self.store}")
        places = asyncio.Semaphore(AT_ONCE)

        async def one(case: Case) -> None:
            async with places:
                verdict = await run(case, self.compiled, self.store)
            _say(verdict, case.name)
            facts = {"seconds": round(verdict.seconds, 1), "kills": verdict.killed}
            record.add(case.name, verdict.outcome, ok=verdict.ok, **facts)

        await asyncio.gather(*(one(case) for case in cases))
        sys.stdout.write(f"{name}: {len(cases)} cases\n")
        for (ok, outcome), count in Counter((seen.ok, seen.outcome) for seen in record.seen).most_common():
            sys.stdout.write(f"  {count:>4}  {'ok   ' if ok else 'WRONG'} {outcome[:200]}\n")
        return len(record.wrong)


def _named(cases: Sequence[Case], words: Sequence[str]) -> list[Case]:
    return [case for case in cases if not words or any(word in case.name for word in words)]


def _say(verdict: Verdict, name: str) -> None:
    mark = "ok   " if verdict.ok else "WRONG"
    sys.stdout.write(f"{mark} {verdict.seconds:5.1f} s  {name:<64}  {verdict.outcome[:500]}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
