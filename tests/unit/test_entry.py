"""The operator's entry point, run as an operator does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "neurons" / "miner.py"

HEAVY = (
    "qiskit",
    "qiskit_aer",
    "qiskit_ibm_runtime",
    "bittensor",
    "bittensor_wallet",
    "boto3",
    "braket",
    "azure",
    "torch",
)


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("QCOMPUTE_")}
    for name in ("JOB_SERVER_URL", "TENSORAUTH_URL"):
        environ.pop(name, None)
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603


def test_importing_the_entry_point_imports_nothing_heavy() -> None:
    code = f"import sys, neurons.miner; print([m for m in {HEAVY} if m in sys.modules])"
    done = run("-c", code, cwd=ROOT)
    assert done.stderr == ""
    assert done.stdout.strip() == "[]"


def test_the_script_runs_from_any_folder(tmp_path: Path) -> None:
    done = run(str(SCRIPT), "--version", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("qcompute ")


def test_a_missing_setting_ends_with_code_2_and_no_traceback(tmp_path: Path) -> None:
    done = run(str(SCRIPT), cwd=tmp_path)
    assert done.returncode == 2
    assert "JOB_SERVER_URL" in done.stderr
    assert "make demo" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_is_ours(tmp_path: Path) -> None:
    done = run(str(SCRIPT), "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "usage: python neurons/miner.py" in done.stdout
    assert "--miner.max_inflight" in done.stdout


def test_the_entry_point_stays_small() -> None:
    assert len(SCRIPT.read_text().splitlines()) < 40
