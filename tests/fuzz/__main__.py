"""``python -m tests.fuzz [TARGET …] [--seconds N]``: fuzz each target from its kept corpus, and keep what is new.

New inputs go to ``build/fuzz/<target>/``, an input that breaks a promise to ``build/fuzz/<target>-crash-*``.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.fuzz.corpus_files import FOLDER, MAX_BYTES
from tests.fuzz.targets import TARGETS
from tests.reliability import Record, Seen

ROOT: Final = Path(__file__).resolve().parents[2]
NEW: Final = ROOT / "build" / "fuzz"
_GRACE_SECONDS: Final = 120
_FIGURES: Final = re.compile(r"#(\d+)\s+(?:DONE|pulse|NEW|REDUCE|INITED|RELOAD)\s+cov: (\d+) ft: (\d+)")


def fuzz(record: Record, target: str, seconds: int) -> Seen:
    """One target for so long, in a process of its own."""
    new = NEW / target
    new.mkdir(parents=True, exist_ok=True)
    crashes = {file.name for file in NEW.glob(f"{target}-crash-*")}
    command = [
        *(sys.executable, "-m", "tests.fuzz.child", target),
        *(f"-max_total_time={seconds}", f"-max_len={4 * MAX_BYTES}", "-timeout=20", "-print_final_stats=1"),
        *(f"-artifact_prefix={NEW}/{target}-crash-", str(new), str(FOLDER / target)),
    ]
    ended = subprocess.run(  # noqa: S603 - our own words
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds + _GRACE_SECONDS,
        check=False,
    )
    found = sorted({file.name for file in NEW.glob(f"{target}-crash-*")} - crashes)
    figures = _FIGURES.findall(ended.stderr)
    executions, edges = (int(figures[-1][0]), int(figures[-1][1])) if figures else (0, 0)
    ok = ended.returncode == 0 and not found and executions > 0
    if not ok:
        sys.stdout.write(ended.stderr[-4000:])
    outcome = "no promise broken" if ok else f"ended with {ended.returncode}: {', '.join(found) or 'no input kept'}"
    return record.add(
        target, outcome, ok=ok, executions=executions, coverage_edges=edges, crashes=len(found), seconds=seconds
    )


def main(arguments: list[str]) -> int:
    """0 when no target found anything, 1 when one did."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    asked = parser.parse_args(arguments)
    if unknown := [name for name in asked.targets if name not in TARGETS]:
        parser.error(f"no target {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    record = Record("fuzz")
    for name in asked.targets or TARGETS:
        seen = fuzz(record, name, asked.seconds)
        sys.stdout.write(f"{'ok   ' if seen.ok else 'WRONG'} {name}: {seen.outcome}, {seen.facts}\n")
        sys.stdout.flush()
    return 1 if record.wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
