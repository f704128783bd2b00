"""``python -m tests.providers.coverage [KEY …]``: branch coverage of each adapter's file by its own tests.

Exit code 1 when an adapter is below `LEAST`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
KEYS: Final = ("aer", "azure", "braket", "dask", "ibm", "ionq", "mock", "rest")
LEAST: Final = 95.0


def main(keys: list[str]) -> int:
    """Measure each adapter."""
    failed = False
    for key in keys or KEYS:
        percent = _measured(key)
        failed |= percent < LEAST
        sys.stdout.write(f"{key:<8}{percent:6.1f} % of lines and branches\n")
        sys.stdout.flush()
    return int(failed)


def _measured(key: str) -> float:
    data = ROOT / "build" / f"coverage-{key}"
    data.parent.mkdir(exist_ok=True)
    file = f"qcompute/miner/providers/{key}.py"
    providers = ROOT / "tests" / "providers"
    tests = sorted(str(path) for path in (*providers.glob(f"test_{key}*.py"), *providers.glob(f"{key}/test_*.py")))
    contract = [str(ROOT / "tests" / "providers" / "test_contract.py")] if key in ("aer", "mock") else []
    coverage = [sys.executable, "-m", "coverage"]
    run = [*coverage, "run", "--branch", f"--include={file}", f"--data-file={data}", "-m", "pytest", "-q"]
    done = subprocess.run([*run, *tests, *contract], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    if done.returncode != 0:
        sys.stdout.write(done.stdout[-4000:])
        return 0.0
    report = [*coverage, "json", f"--data-file={data}", "-o", "-", "-q"]
    shown = subprocess.run(report, cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S603 - as above
    return float(json.loads(shown.stdout)["files"][file]["summary"]["percent_covered"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
