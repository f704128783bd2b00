"""The circuits of the demo, and what must come of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from qcompute.units import Counts

_HEAD_2: Final = 'OPENQASM 2.0;\ninclude "qelib1.inc";\n'
_HEAD_3: Final = 'OPENQASM 3.0;\ninclude "stdgates.inc";\n'

BELL: Final = _HEAD_2 + "qreg q[2];\ncreg c[2];\nh q[0];\ncx q[0], q[1];\nmeasure q -> c;\n"

ASYMMETRIC: Final = _HEAD_2 + (
    "qreg q[3];\ncreg a[1];\ncreg b[2];\nx q[0];\nmeasure q[2] -> a[0];\nmeasure q[0] -> b[0];\nmeasure q[1] -> b[1];\n"
)
"""One bit set, in the middle of the key: any reversal of bits or registers shows."""

GHZ: Final = _HEAD_3 + (
    "qubit[20] q;\nbit[20] c;\nh q[0];\nfor int i in [0:18] { cx q[i], q[i + 1]; }\nc = measure q;\n"
)

GARBAGE: Final = "this is not a quantum circuit\n"

TOO_WIDE: Final = _HEAD_3 + "qubit[40] q;\nbit[40] c;\nt q;\nc = measure q;\n"


@dataclass(frozen=True, slots=True)
class DemoJob:
    """``expected`` says whether the counts are right, or is None when the job must be refused with ``words``."""

    title: str
    qasm: str
    shots: int
    options: dict[str, object]
    expected: Callable[[Counts], bool] | None
    words: str = ""


def _halves(zeros: str, ones: str) -> Callable[[Counts], bool]:
    """Both keys and no other, neither rarer than a third: a fair coin fails this once in 10^26 runs of 1,000."""

    def check(counts: Counts) -> bool:
        total = sum(counts.values())
        return set(counts) == {zeros, ones} and min(counts.values()) > total / 3

    return check


JOBS: Final = (
    DemoJob("Bell pair", BELL, 1000, {}, _halves("00", "11")),
    DemoJob("asymmetric, 2 registers", ASYMMETRIC, 500, {"seed": 7}, lambda counts: counts == {"010": 500}),
    DemoJob("GHZ, 20 qubits, OpenQASM 3", GHZ, 1000, {"optimization_level": 1}, _halves("0" * 20, "1" * 20)),
    DemoJob("garbage", GARBAGE, 100, {}, None, "must begin with"),
    DemoJob("too wide", TOO_WIDE, 100, {"device": "aer_statevector"}, None, "40 qubits"),
)
"""Sent by ``make demo`` with the aer provider, in this order."""

MOCK_JOBS: Final = (
    JOBS[0],
    JOBS[1],
    JOBS[3],
    DemoJob("too wide", TOO_WIDE, 100, {}, None, "40 qubits"),
)
"""Sent with the mock provider, whose devices are smaller and whose counts are made up."""
