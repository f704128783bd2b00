"""Thirty circuits every adapter must agree with Aer on: 1 to 12 qubits, two registers, out of order, partly measured.

``exact`` is set for circuits that can only end one way: no statistics hides a reversed bit there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_HEAD_2: Final = 'OPENQASM 2.0;\ninclude "qelib1.inc";\n'
_HEAD_3: Final = 'OPENQASM 3.0;\ninclude "stdgates.inc";\n'


@dataclass(frozen=True, slots=True)
class Sample:
    """One circuit. ``exact`` is the only key there can be, None where chance decides."""

    name: str
    source: str
    exact: str | None = None

    @property
    def language(self) -> str:
        """As `tests.doubles.aer_worker` calls it."""
        return "openqasm2" if self.source.startswith("OPENQASM 2") else "openqasm3"


def _two(name: str, registers: str, body: str, exact: str | None = None) -> Sample:
    return Sample(f"{name}, OpenQASM 2", _HEAD_2 + registers + "\n" + body + "\n", exact)


def _three(name: str, registers: str, body: str, exact: str | None = None) -> Sample:
    return Sample(f"{name}, OpenQASM 3", _HEAD_3 + registers + "\n" + body + "\n", exact)


def _chain(qubits: int) -> str:
    return "h q[0]; " + " ".join(f"cx q[{n}],q[{n + 1}];" for n in range(qubits - 1))


def _ladder(qubits: int) -> str:
    turns = " ".join(f"ry({0.1 + 0.2 * n:.1f}) q[{n}];" for n in range(qubits))
    return turns + " " + " ".join(f"cx q[{n}],q[{n + 1}];" for n in range(0, qubits - 1, 2))


THIRTY: Final = (
    _two("one qubit up", "qreg q[1]; creg c[1];", "x q[0]; measure q -> c;", "1"),
    _three("one qubit up", "qubit[1] q; bit[1] c;", "x q[0]; c = measure q;", "1"),
    _two("one of three", "qreg q[3]; creg c[3];", "x q[0]; measure q -> c;", "001"),
    _three("one of three", "qubit[3] q; bit[3] c;", "x q[0]; c = measure q;", "001"),
    _two(
        "two registers",
        "qreg q[3]; creg a[1]; creg b[2];",
        "x q[0]; measure q[2]->a[0]; measure q[0]->b[0]; measure q[1]->b[1];",
        "010",
    ),
    _three(
        "two registers",
        "qubit[3] q; bit[1] a; bit[2] b;",
        "x q[0]; a[0] = measure q[2]; b[0] = measure q[0]; b[1] = measure q[1];",
        "010",
    ),
    _two(
        "out of order",
        "qreg q[4]; creg c[4];",
        "x q[1]; measure q[0]->c[3]; measure q[1]->c[2]; measure q[2]->c[0]; measure q[3]->c[1];",
        "0100",
    ),
    _three(
        "out of order",
        "qubit[4] q; bit[4] c;",
        "x q[1]; x q[3]; c[3] = measure q[0]; c[2] = measure q[1]; c[0] = measure q[2]; c[1] = measure q[3];",
        "0110",
    ),
    _two("partial", "qreg q[5]; creg c[5];", "x q[3]; x q[4]; measure q[3]->c[1];", "00010"),
    _three("partial", "qubit[5] q; bit[5] c;", "x q[3]; x q[4]; c[1] = measure q[3];", "00010"),
    _two("bits never written", "qreg q[2]; creg a[2]; creg b[3];", "x q[1]; measure q[1]->b[2];", "10000"),
    _three("bits never written", "qubit[2] q; bit[2] a; bit[3] b;", "x q[1]; a[0] = measure q[1];", "00001"),
    _two("Toffoli", "qreg q[3]; creg c[3];", "x q[0]; x q[1]; ccx q[0],q[1],q[2]; measure q -> c;", "111"),
    _three(
        "swap and controlled swap",
        "qubit[4] q; bit[4] c;",
        "x q[0]; swap q[0],q[3]; x q[1]; cswap q[1],q[3],q[2]; c = measure q;",
        "0110",
    ),
    _two("barriers", "qreg q[3]; creg c[3];", "x q[2]; barrier q; cx q[2],q[0]; barrier q[0]; measure q -> c;", "101"),
    _two(
        "awkward names",
        "qreg qubit[2]; creg data[1]; creg measurements[1];",
        "x qubit[0]; measure qubit[0]->measurements[0]; measure qubit[1]->data[0];",
        "10",
    ),
    _three(
        "constants",
        "const int n = 3; qubit[n] q; bit[n] c;",
        "for int i in [0:1] { x q[i]; } c = measure q;",
        "011",
    ),
    _two(
        "a gate of its own",
        "gate flip a,b { x a; cx a,b; } qreg q[3]; creg c[3];",
        "flip q[0],q[2]; measure q->c;",
        "101",
    ),
    _two("Bell", "qreg q[2]; creg c[2];", "h q[0]; cx q[0],q[1]; measure q -> c;"),
    _three("Bell, one end flipped", "qubit[2] q; bit[2] c;", "h q[0]; cx q[0],q[1]; x q[1]; c = measure q;"),
    _two("GHZ of 5", "qreg q[5]; creg c[5];", _chain(5) + " measure q -> c;"),
    _three("GHZ of 12", "qubit[12] q; bit[12] c;", _chain(12) + " c = measure q;"),
    _two("rotations", "qreg q[3]; creg c[3];", "rx(0.7) q[0]; ry(1.9) q[1]; rz(0.4) q[2]; h q[2]; measure q -> c;"),
    _three("rotations", "qubit[3] q; bit[3] c;", "ry(pi/3) q[0]; rx(-pi/5) q[1]; ry(2.5) q[2]; c = measure q;"),
    _two("phases", "qreg q[2]; creg c[2];", "h q[0]; t q[0]; s q[0]; h q[0]; h q[1]; tdg q[1]; h q[1]; measure q->c;"),
    _three(
        "controlled phases",
        "qubit[3] q; bit[3] c;",
        "h q[0]; h q[1]; x q[2]; cp(pi/4) q[2],q[0]; cp(pi/2) q[2],q[1]; h q[0]; h q[1]; c = measure q;",
    ),
    _two(
        "general gates",
        "qreg q[2]; creg c[2];",
        "u3(0.3,0.2,0.1) q[0]; u2(0.4,0.5) q[1]; cu1(0.6) q[0],q[1]; measure q->c;",
    ),
    _two(
        "a ladder of 8, upside down",
        "qreg q[8]; creg c[8];",
        _ladder(8) + " " + " ".join(f"measure q[{n}]->c[{7 - n}];" for n in range(8)),
    ),
    _three(
        "a ladder of 6, half measured",
        "qubit[6] q; bit[2] a; bit[2] b;",
        _ladder(6) + " a[1] = measure q[5]; b[0] = measure q[0]; b[1] = measure q[2];",
    ),
    _three(
        "a coin and its copy in two registers",
        "qubit[2] q; bit a; bit[2] b;",
        "h q[1]; cx q[1],q[0]; a = measure q[0]; b[1] = measure q[1];",
    ),
)
