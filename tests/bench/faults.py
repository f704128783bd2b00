"""``python -m tests.bench.faults [VENDOR …]``: every vendor, every way to fail, every call, and what became of the job.

Exit code 1 when a job was paid twice, was lost, or a fault was never met.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Final

import pytest

from tests.doubles.kits import VENDORS, kit
from tests.providers.matrix import FAULTY_VERBS, Cell, cells

FILE: Final = Path(__file__).resolve().parents[2] / "build" / "faults.jsonl"


def main(names: list[str]) -> int:
    """Run the matrix of the named vendors, or of all; 2 for a name that is none."""
    if unknown := [name for name in names if name not in VENDORS]:
        sys.stderr.write(f"no double of {', '.join(unknown)}; there are {', '.join(VENDORS)}\n")
        return 2
    logging.disable(logging.CRITICAL)  # what the stages say of every fault is in the table
    seen = [cell for name in names or VENDORS for cell in _vendor(name)]
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text("".join(json.dumps(asdict(cell)) + "\n" for cell in seen))
    wrong = [cell for cell in seen if not cell.ok]
    sys.stdout.write(f"{len(seen)} cells, {len(wrong)} wrong; kept in {FILE.relative_to(FILE.parents[1])}\n")
    return 1 if wrong else 0


def _vendor(name: str) -> list[Cell]:
    seen: list[Cell] = []
    kit_ = kit(name)
    with kit_.double() as double, pytest.MonkeyPatch.context() as monkeypatch:
        adapter = kit_.open(double, monkeypatch)
        for verb in FAULTY_VERBS:
            for one in asyncio.run(cells(kit_, adapter, double, verb)):
                mark = "ok   " if one.ok else "WRONG"
                sys.stdout.write(
                    f"{mark} {one.vendor:<7}{one.verb:<9}{one.fault:<28}jobs {one.created}  {one.outcome[:90]}\n"
                )
                sys.stdout.flush()
                seen.append(one)
        adapter.close()
    return seen


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
