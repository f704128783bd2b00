"""A sandboxed process that has done nothing wrong compiles the next circuit too: starting one takes seconds."""

from __future__ import annotations

from pathlib import Path

from qcompute.circuits.compiler import CircuitCompiler
from qcompute.circuits.settings import CircuitSettings
from qcompute.local.demo_jobs import ASYMMETRIC, BELL, GHZ


def children() -> set[str]:
    """The processes below this one."""
    return {pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}


def test_honest_circuits_share_one_process() -> None:
    """With half of its memory as the limit, loading qiskit alone had worn a child out: every job started a new one."""
    others = children()
    compiler = CircuitCompiler(CircuitSettings())
    try:
        used: list[set[str]] = []
        for circuit in (BELL, GHZ, ASYMMETRIC):
            compiler.compile(circuit)
            used.append(children() - others)
    finally:
        compiler.close()
    assert len(used[0]) == 1
    assert used == [used[0]] * 3
