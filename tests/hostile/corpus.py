"""Circuits nobody should run, and honest large ones that must pass: each as data, with what must become of it.

The short ones stand in ``tests/unit/circuits/programs.py``; here are those, the long ones, the wrong encodings and what
is no circuit at all. ``tests.hostile.circuits`` runs them in a sandbox, ``tests.hostile.road`` through a daemon.
"""

from __future__ import annotations

import io
import json
import math
import pickle
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.unit.circuits.programs import END_2, END_3, HOSTILE, ONE_2, ONE_3, THREE, TWO

RUNS: Final = "runs"
"""What is expected of a circuit that is odd but honest."""

MIB: Final = 1 << 20

_HEAD_2: Final = TWO + ONE_2
_HEAD_3: Final = THREE + ONE_3
_PARSE: Final = frozenset({"parse_error"})


@dataclass(frozen=True, slots=True)
class Case:
    """One circuit. ``expect`` holds the reasons it may be refused for (empty: any clear one), or `RUNS` alone.

    ``build`` makes the text, or bytes that are none; made when asked for, because some are large.
    """

    name: str
    build: Callable[[], str | bytes]
    expect: frozenset[str]

    @property
    def runs(self) -> bool:
        """Whether it must pass."""
        return RUNS in self.expect

    def payload(self) -> bytes:
        """What a circuit's host sends. Half characters are sent as the three bytes some encoders make of them."""
        made = self.build()
        return made if isinstance(made, bytes) else made.encode("utf-8", "surrogatepass")


def _case(name: str, what: str | bytes | Callable[[], str | bytes], *expect: str) -> Case:
    return Case(name, what if callable(what) else lambda: what, frozenset(expect))


def _in_2(name: str, body: str, *expect: str) -> Case:
    return _case(name, _HEAD_2 + body + END_2, *expect)


def _in_3(name: str, body: str, *expect: str) -> Case:
    return _case(name, _HEAD_3 + body + END_3, *expect)


def _doubling_gates(levels: int, use: str) -> str:
    """Gate ``gN`` stands for 2^N gates; ``use`` follows the definitions."""
    first = "gate g0 a { x a; x a; }\n"
    return first + "".join(f"gate g{n} a {{ g{n - 1} a; g{n - 1} a; }}\n" for n in range(1, levels)) + use


def _zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("circuit.qasm", TWO)
    return file.getvalue()


def _parameters(count: int) -> str:
    names = ", ".join(f"p{n}" for n in range(count))
    return f"gate wide({names}) a {{ rz(p0) a; }}\nwide({', '.join('1' for _ in range(count))}) q[0];\n"


_FILES: Final = (
    _case("include of a file in the working folder", 'OPENQASM 2.0;\ninclude "qcompute.toml";\n' + ONE_2, "include"),
    _case("include of the daemon's own memory", 'OPENQASM 2.0;\ninclude "/proc/self/mem";\n' + ONE_2, "include"),
    _case("include of its environment", 'OPENQASM 3.0;\ninclude "/proc/self/environ";\n' + ONE_3, "include"),
    _case("include of a terminal", 'OPENQASM 3.0;\ninclude "/dev/tty";\n' + ONE_3, "include"),
    _case("include of a URL", 'OPENQASM 3.0;\ninclude "http://169.254.169.254/latest";\n' + ONE_3, "include"),
    _case("include with a file scheme", 'OPENQASM 2.0;\ninclude "file:///etc/passwd";\n' + ONE_2, "include"),
    _case("include of the standard file up a folder", 'OPENQASM 2.0;\ninclude "./qelib1.inc";\n' + ONE_2, "include"),
    _case("include of the other language's file", 'OPENQASM 2.0;\ninclude "stdgates.inc";\n' + ONE_2, "include"),
    _case("include of 100,000 characters", f'OPENQASM 2.0;\ninclude "{"a/" * 50_000}";\n' + ONE_2, "include"),
    _in_2("include in a gate", 'gate g a { include "/etc/passwd"; }\n', "include"),
    _case("include in one word", 'OPENQASM 2.0;\ninclude"/etc/passwd";\n' + ONE_2, "include"),
    _case("include over two lines", 'OPENQASM 2.0;\ninclude\n\n"/etc/passwd";\n' + ONE_2, "include"),
    _case("include in capitals", 'OPENQASM 2.0;\nINCLUDE "/etc/passwd";\n' + ONE_2, "parse_error"),
    _case("include twice", TWO + 'include "qelib1.inc";\n' + ONE_2 + END_2, "parse_error"),
    _case("include 10,000 times", TWO + 'include "qelib1.inc";\n' * 10_000 + ONE_2, "parse_error"),
)

_BOMBS: Final = (
    _in_2("gate bomb never used", _doubling_gates(60, ""), "too_many_ops"),
    _in_2("gate bomb of 2^20", _doubling_gates(20, "g19 q[0];\n"), RUNS, "sandbox_memory", "sandbox_cpu"),
    _in_3(
        "gate bomb of three calls each", _doubling_gates(21, "g20 q[0];\n").replace("x a;", "x a; y a;"), "too_many_ops"
    ),
    _in_2("gate bomb under a condition", _doubling_gates(30, "if(c==1) g29 q[0];\n"), "too_many_ops"),
    _in_3("gate bomb in a loop", _doubling_gates(12, "for int i in [0:9999] { g11 q[0]; }\n"), "too_many_ops"),
    _in_3("pow tower", "pow(1000) @ pow(1000) @ pow(1000) @ pow(1000) @ x q[0];\n", "too_many_ops"),
    _in_3("pow of a fraction", "pow(0.5) @ x q[0];\n", RUNS),
    _in_3("pow of a negative number", "pow(-1000000000) @ x q[0];\n", "too_many_ops"),
    _in_3("inv tower", "inv @ " * 3000 + "x q[0];\n", RUNS),
    _in_3("ctrl tower on one qubit", "ctrl @ " * 3000 + "x q[0];\n", "too_many_ops"),
    _case(
        "ctrl tower that fits",
        THREE
        + "qubit[9] q;\nbit c;\n"
        + "ctrl @ " * 8
        + "x q[0],q[1],q[2],q[3],q[4],q[5],q[6],q[7],q[8];\nc = measure q[0];\n",
        RUNS,
    ),
    _in_3("negctrl of 10^9", "negctrl(1000000000) @ x q[0];\n", "too_many_ops"),
    _in_3("ctrl of a negative number", "ctrl(-3) @ x q[0];\n", "too_many_ops"),
    _in_3("controls on pow on a bomb", _doubling_gates(18, "pow(100) @ g17 q[0];\n"), "too_many_ops"),
)

_LARGE: Final = (
    _case("register of 2^31", TWO + "qreg q[2147483648];\ncreg c[1];\n", "too_wide"),
    _case("register of 2^63", TWO + "qreg q[9223372036854775808];\ncreg c[1];\n", "not_allowed"),
    _case("register of -1", TWO + "qreg q[-1];\ncreg c[1];\n" + END_2, "parse_error"),
    _case("register of 0", TWO + "qreg q[0];\ncreg c[0];\nmeasure q -> c;\n", "empty"),
    _case("bit register of 10^9", THREE + "qubit q;\nbit[1000000000] c;\nc[0] = measure q;\n", "too_wide"),
    _case("integers of 10^9 bits", THREE + "int[1000000000] i;\n" + ONE_3 + END_3, "parse_error"),
    _case("10^5 registers in 2", lambda: TWO + "".join(f"qreg r{n}[1];\n" for n in range(50_000)), "too_wide"),
    _case("10^6 registers", lambda: TWO + "".join(f"qreg r{n}[1];\n" for n in range(1_000_000)), "too_large"),
    _case(
        "50,000 bit registers",
        lambda: THREE + "qubit q;\n" + "".join(f"bit b{n};\n" for n in range(50_000)),
        "too_wide",
    ),
    _case("10^6 gates", lambda: _HEAD_2 + "x q[0];\n" * 1_000_000 + END_2, "too_large"),
    _case(
        "10^6 gates by broadcast",
        TWO + "qreg q[4000];\ncreg c[1];\n" + "x q;\n" * 250 + "measure q[0] -> c[0];\n",
        RUNS,
        "sandbox_cpu",
    ),
    _case(
        "10^6 barriers", TWO + "qreg q[4000];\ncreg c[1];\n" + "barrier q;\n" * 250 + "measure q[0] -> c[0];\n", RUNS
    ),
    _case(
        "30,000 gate definitions",
        lambda: _HEAD_2 + "".join(f"gate d{n} a {{ x a; }}\n" for n in range(30_000)) + END_2,
        RUNS,
        "sandbox_memory",
    ),
    _case(
        "100,000 gate definitions",
        lambda: _HEAD_2 + "".join(f"gate d{n} a {{ x a; }}\n" for n in range(100_000)) + END_2,
        RUNS,
        "sandbox_memory",
        "sandbox_cpu",
    ),
    _case("gate of 100,000 parameters", lambda: _HEAD_2 + _parameters(100_000) + END_2, RUNS),
    _case("gate of 5,000 parameters in 3", lambda: _HEAD_3 + _parameters(5000) + END_3, RUNS),
    _case(
        "gate on 20,000 qubits",
        lambda: TWO + f"gate w {','.join(f'a{n}' for n in range(20_000))} {{ x a0; }}\n" + ONE_2 + END_2,
        RUNS,
    ),
    _case(
        "array of huge dimensions",
        THREE + "array[int[32], 65535, 65535, 65535, 65535] a;\n" + ONE_3 + END_3,
        "parse_error",
    ),
    _case("array literal", THREE + "array[int[8], 3] a = {1, 2, 3};\n" + ONE_3 + END_3, "parse_error"),
    _in_3("100,000 values in a set", "for int i in {" + "1," * 100_000 + "1} { x q[0]; }\n", RUNS, "sandbox_cpu"),
    _in_3("angle of 15,000 terms", "rz(" + "pi*" * 15_000 + "0) q[0];\n", "too_deep"),
    _in_2("angle of 15,000 terms in 2", "rz(" + "pi*" * 15_000 + "0) q[0];\n", "not_finite"),
    _in_2("angle of 200,000 digits", f"rz(0.{'1' * 200_000}) q[0];\n", "not_allowed"),
)

_DEEP: Final = (
    _in_3("10,000 blocks", "{" * 10_000 + "}" * 10_000, "too_deep"),
    _in_3("47 blocks", "{" * 47 + "x q[0];" + "}" * 47, "parse_error"),
    _in_3("10,000 indices", "x q" + "[0" * 10_000 + "]" * 10_000 + ";\n", "too_deep"),
    _in_3("40 ifs in braces", "if (c[0]) { " * 40 + "x q[0];" + "}" * 40 + "\n", RUNS),
    _in_3("loops in loops, 45 deep", "for int i in [0:1] { " * 45 + "x q[0];" + "}" * 45 + "\n", "too_many_ops"),
    _in_3("switch in switch", "switch (c[0]) { case 0 { " * 20 + "x q[0];" + "} }" * 20 + "\n", "parse_error"),
    _in_2("sines of sines", "rz(" + "sin(" * 5000 + "1" + ")" * 5000 + ") q[0];\n", "too_deep"),
    _in_2("40 sines of sines", "rz(" + "sin(" * 40 + "1" + ")" * 40 + ") q[0];\n", RUNS),
    _in_2("closing brackets alone", "x q[0];" + "]" * 100_000 + "\n", "parse_error"),
    _in_2("brackets of the wrong kind", "rz" + "([{" * 10_000 + "1" + ")" * 10_000 + " q[0];\n", "too_deep"),
    _in_3("chain of nots", "if (" + "!" * 10_000 + "c[0]) x q[0];\n", "not_allowed"),
    _in_3("chain of nots and brackets", "if (" + "!(" * 2000 + "c[0]" + ")" * 2000 + ") x q[0];\n", "too_deep"),
    _in_3("chain of comparisons", "if (" + "c == " * 20_000 + "c) x q[0];\n", "too_deep"),
    _in_3("chain of ors", "if (" + "c[0] || " * 20_000 + "c[0]) x q[0];\n", "too_deep"),
    _in_3("chain of assignments", "c = " * 5000 + "measure q;\n", "parse_error"),
    _in_3("chain of concatenations", "let a = " + "q ++ " * 5000 + "q;\n", "too_deep"),
)

_NUMBERS: Final = (
    _in_2("powers of pi", "rz(pi^9^9^9^9) q[0];\n", "not_allowed"),
    _in_3("powers of two", "rz(2**2**2**2**2**2**2) q[0];\n", "not_allowed"),
    _in_2("not a number", "rz(nan) q[0];\n", "parse_error"),
    _in_2("infinity", "rz(inf) q[0];\n", "parse_error"),
    _in_2("infinity by a literal", "rz(1e999) q[0];\n", "not_finite"),
    _in_3("infinity by a literal in 3", "rz(1e999) q[0];\n", "not_finite"),
    _in_2("not a number by arithmetic", "rz(1e999-1e999) q[0];\n", "not_finite"),
    _in_2("not a number by a root", "rz(sqrt(-1)) q[0];\n", "parse_error"),
    _in_2("logarithm of zero", "rz(ln(0)) q[0];\n", "parse_error"),
    _in_3("infinity by a product", "const float f = 1e300 * 1e300;\nrz(f) q[0];\n", "too_many_ops"),
    _in_2("zero divided by", "rz(1/0) q[0];\n", "parse_error"),
    _in_3("modulo zero", "rz(5 % 0) q[0];\n", "parse_error"),
    _in_3("integer divided by zero", "const int n = 1 / 0;\nqubit[n] r;\n", "not_constant"),
    _in_3("modulo zero in a size", "const int n = 7 % 0;\nqubit[n] r;\n", "not_constant"),
    _in_3("shift by 10^9 in an angle", "rz(1 << 1000000000) q[0];\n", "parse_error"),
    _in_3("shift by 10^9 in a loop", "for int i in [0:1 << 1000000000] { x q[0]; }\n", "not_constant"),
    _in_3("shift to the left by -1", "rz(1 << -1) q[0];\n", "parse_error"),
    _in_3("product of large numbers", "rz(" + "*".join(["999999999999999999"] * 5000) + ") q[0];\n", "too_deep"),
    _in_3("loop over 10^12", "for int i in [0:1000000000000] { x q[0]; }\n", "too_many_ops"),
    _in_3("empty loop over 10^12", "for int i in [0:1000000000000] { }\n", "too_many_ops"),
    _in_3("loop downwards for ever", "for int i in [0:-1:-1000000000000] { x q[0]; }\n", "too_many_ops"),
    _in_3("loop over fractions", "for float i in [0:0.0000001:1] { x q[0]; }\n", "not_constant"),
    _in_2("condition of 10^18", "if(c==999999999999999999) x q[0];\n", RUNS),
    _in_2("condition of 10^30", f"if(c==1{'0' * 30}) x q[0];\n", "not_allowed"),
    _in_2("index of 10^18", "x q[999999999999999999];\n", "parse_error"),
    _in_2("negative index", "x q[-1];\n", "parse_error"),
    _in_3("index by a measured bit", "x q[c[0]];\n", "parse_error"),
)

_WORDS: Final = (
    _in_3("while of something measured", "while (c[0]) { x q[0]; c = measure q; }\n", "not_allowed"),
    _in_3("while in capitals", "WHILE (true) { x q[0]; }\n", "parse_error"),
    _in_3("break outside a loop", "break;\n", "parse_error"),
    _in_3("continue and end", "for int i in [0:3] { continue; }\nend;\n", "parse_error"),
    _in_3("return at the top", "return 1;\n", "parse_error"),
    _in_3("gate that calls itself", "gate f a { f a; }\nf q[0];\n", "parse_error"),
    _in_3("gates that call each other", "gate f a { g a; }\ngate g a { f a; }\nf q[0];\n", "parse_error"),
    _in_3("subroutines that call each other", "def f(qubit a) { g(a); }\ndef g(qubit a) { f(a); }\n", "not_allowed"),
    _in_3("calibration grammar", 'defcalgrammar "openpulse";\n', "not_allowed"),
    _in_3("calibration block", "cal {\n  extern frame drive;\n}\n", "not_allowed"),
    _in_3("annotation behind a statement", "x q[0]; @evil\nx q[0];\n", "not_allowed"),
    _in_3("delay of 10^18 s", "delay[999999999999999999s] q[0];\n", "not_allowed"),
    _in_3("duration and stretch", "duration d = 1e300ns;\nstretch s;\n", "not_allowed"),
    _in_3("box", "box { x q[0]; }\n", "not_allowed"),
    _in_3("output", "output bit[1] r;\n", "parse_error"),
    _in_3("input of 10^9 bits", "input int[1000000000] n;\n", "parse_error"),
    _in_2("duplicate register", "creg c[1];\n", "parse_error"),
    _in_3("duplicate register in 3", "bit[1] c;\n", "parse_error"),
    _in_2("duplicate gate", "gate g a { x a; }\ngate g a { y a; }\n", "parse_error"),
    _in_2("gate named like the standard one", "gate x a { h a; }\nx q[0];\n", "parse_error"),
    _in_3("gate named like the standard one in 3", "gate x a { h a; }\nx q[0];\n", "parse_error"),
    _case("gate named like a built-in", "OPENQASM 2.0;\ngate U(a,b,c) d { }\n" + ONE_2 + END_2, "parse_error"),
    _in_2("measuring a bit", "measure c -> c;\n", "parse_error"),
    _in_2("measuring into a qubit", "measure q -> q;\n", "parse_error"),
    _in_3("measuring into a qubit in 3", "q = measure q;\n", "parse_error"),
    _in_3("condition on a qubit", "if (q == 1) x q[0];\n", "parse_error"),
    _case("condition on 4,000 bits", THREE + "qubit q;\nbit[4000] c;\nif (c == 1) x q;\nc[0] = measure q;\n", RUNS),
    _in_3("declaration in a branch", "if (c[0]) { qubit[4000] r; }\n", "parse_error"),
    _in_3("declaration in a loop", "for int i in [0:9999] { bit[4000] r; }\n", "parse_error"),
    _in_2("word of another alphabet", "x \u0441[0];\n", "parse_error"),
    _case("register named in another alphabet", THREE + "qubit \u043e;\nbit c;\nc = measure \u043e;\n", RUNS),
    _in_2("full-width digits", "x q[\uff10];\n", "parse_error"),
    _case("size in Arabic digits", TWO + "qreg q[\u0661];\ncreg c[1];\n", "parse_error"),
    _in_2("right-to-left override", "// \u202e\nx q[0];\n", RUNS),
    _in_2("percent and braces", "%s%n%x {0.__class__} ${jndi:ldap://x} q[0];\n", "parse_error"),
    _in_2("quotes of SQL", "x q[0]'; DROP TABLE jobs; --\n", "parse_error"),
    _case("200,000 names", lambda: _HEAD_2 + "barrier " + ",".join(["q[0]"] * 150_000) + ";\n" + END_2, RUNS),
    _case("name of 1,000,000 characters", lambda: _HEAD_2 + "a" * 1_000_000 + " q[0];\n", "not_allowed"),
    _case(
        "names of 256 characters",
        lambda: _HEAD_2 + "".join(f"gate {'n' * 250}{n} a {{ }}\n" for n in range(3000)) + END_2,
        RUNS,
    ),
)

_VERSIONS: Final = (
    _case("2 with the body of 3", TWO + ONE_3 + END_3, "parse_error"),
    _case("3 with the body of 2", THREE + ONE_2 + END_2, RUNS),
    _case("3.1", "OPENQASM 3.1;\n" + 'include "stdgates.inc";\n' + ONE_3 + END_3, RUNS),
    _case("2.5", "OPENQASM 2.5;\n" + 'include "qelib1.inc";\n' + ONE_2 + END_2, "parse_error"),
    _case("two headers", TWO + "OPENQASM 3.0;\n" + ONE_2 + END_2, "parse_error"),
    _case("header of 10^9", "OPENQASM 1000000000.0;\n" + ONE_2, "no_header"),
    _case("header in a comment", "// OPENQASM 2.0;\n" + ONE_2, "no_header"),
    _case("header without an end", "OPENQASM 2.0\n" + ONE_2, "no_header"),
    _case("header behind a statement", "qreg q[1];\n" + TWO, "no_header"),
    _case("header alone", "OPENQASM 2.0;\n", "empty"),
    _case("header in lower case", "openqasm 2.0;\n" + ONE_2, "no_header"),
)

_BYTES: Final = (
    _case("nothing but blanks", " \n\t" * 1000, "no_header"),
    _case("a megabyte of blanks", lambda: " " * (MIB - 1), "no_header"),
    _case("a megabyte of line ends", lambda: TWO + ONE_2 + "\n" * (MIB - 200) + END_2, RUNS),
    _case("a megabyte of comments", lambda: TWO + "// a comment of no use to anybody\n" * 30_000 + ONE_2 + END_2, RUNS),
    _case("a megabyte in one comment", lambda: TWO + "/* " + "*" * 1_000_000 + "*/" + ONE_2 + END_2, "parse_error"),
    _case("a megabyte in one line", lambda: _HEAD_2 + "x q[0]; " * 125_000 + END_2, RUNS),
    _case("a megabyte of slashes", lambda: TWO + "/" * 1_000_000 + "\n" + ONE_2 + END_2, RUNS),
    _case("comments opened, never closed", lambda: _HEAD_2 + "/*\n" * 300_000, "not_allowed"),
    _case("a string of a megabyte", lambda: _HEAD_2 + '"' + "a" * 1_000_000 + '";\n', "not_allowed"),
    _case("bare carriage returns", (TWO + ONE_2 + END_2).replace("\n", "\r"), RUNS),
    _case("Windows line ends", (TWO + ONE_2 + END_2).replace("\n", "\r\n"), RUNS),
    _case("form feeds", _HEAD_2.replace("\n", "\f\n"), "not_text"),
    _case("Unicode line ends", _HEAD_2 + "x q[0];\u2028x q[0];\n" + END_2, "parse_error"),
    _case("no-break spaces", _HEAD_2 + "x\u00a0q[0];\n" + END_2, "parse_error"),
    _case("zero-width spaces", _HEAD_2 + "x\u200b q[0];\n" + END_2, "parse_error"),
    _case("C1 control characters", _HEAD_2 + "// \x85\x9b2J\n" + END_2, RUNS),
    _case("delete characters", _HEAD_2 + "// \x7f\n" + END_2, "not_text"),
    _case("byte order mark", b"\xef\xbb\xbf" + (TWO + ONE_2 + END_2).encode(), "no_header"),
    _case("byte order marks in the middle", _HEAD_2 + "\ufeff" * 1000 + END_2, "parse_error"),
    _case("UTF-16", (TWO + ONE_2 + END_2).encode("utf-16"), "not_text"),
    _case("UTF-16 without a mark", (TWO + ONE_2 + END_2).encode("utf-16-le"), "not_text"),
    _case("UTF-32", (TWO + ONE_2 + END_2).encode("utf-32-le"), "not_text"),
    _case("EBCDIC", (TWO + ONE_2 + END_2).encode("cp500"), "not_text"),
    _case("invalid UTF-8", _HEAD_2.encode() + b"// \xff\xfe\xc0\x80\n" + END_2.encode(), "not_text"),
    _case("overlong slash", _HEAD_2.encode() + b"\xc0\xaf\xc0\xaf\n", "not_text"),
    _case("cut character", _HEAD_2.encode() + b"// \xe2\x82", "not_text"),
    _case("NUL bytes alone", b"\0" * 100_000, "not_text"),
    _case("JSON", json.dumps({"qasm": TWO, "shots": 10**9}), "no_header"),
    _case("deep JSON", "[" * 100_000, "no_header"),
    _case("a zip file", _zip, "not_text"),
    _case("a program of the machine", b"\x7fELF\x02\x01\x01" + b"\0" * 9 + struct.pack("<HHI", 2, 62, 1), "not_text"),
    _case("a pickle", lambda: pickle.dumps(math.sin), "not_text"),
    _case("a QPY file", b"QISKIT\x0d\x00\x01\x04\x02" + b"\0\0\0\0\0\0\0\x01q" * 20, "not_text"),
    _case("a gzip file", b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + bytes(range(256)), "not_text"),
    _case("a script", "#!/bin/sh\nrm -rf /\n", "no_header"),
    _case("a Python program", "import os\nos.system('id')\n", "no_header"),
    _case("five megabytes", lambda: TWO + "x" * (5 * MIB), "too_large"),
)

_SHORT: Final = tuple(_case(name, text) for name, text in HOSTILE.items())


def _many_registers(gates: int) -> str:
    declared = "".join(f"qreg a{n}[2];\ncreg m{n}[2];\n" for n in range(20))
    lines = "".join(f"u3(pi/2,0,-pi/{n % 9 + 1}) a{n % 20}[{n % 2}];\n" for n in range(gates - 20))
    return TWO + declared + lines + "".join(f"measure a{n} -> m{n};\n" for n in range(20))


def _flat_2(gates: int) -> str:
    lines = "".join(
        f"cx q[{n % 19}], q[{n % 19 + 1}];\nrz({0.1234567890123456 + n % 7}) q[{n % 20}];\n" for n in range(gates // 2)
    )
    return f"{TWO}qreg q[20];\ncreg c[20];\n{lines}measure q -> c;\n"


def flat_3(gates: int) -> str:
    """A plain program of ``gates`` gates on 20 qubits, half of them with an angle of its own."""
    lines = "".join(
        f"cx q[{n % 19}], q[{n % 19 + 1}];\nrz({0.1234567890123456 + n % 7}) q[{n % 20}];\n" for n in range(gates // 2)
    )
    return f"{THREE}qubit[20] q;\nbit[20] c;\n{lines}c = measure q;\n"


_WIDE_3: Final = THREE + "qubit[20] q;\nbit[20] c;\n"
_LAYERS_3: Final = (
    "for int k in [0:999] { for int i in [0:18] { cx q[i], q[i + 1]; rz(0.1) q[i]; rx(pi/4) q[i]; h q[i]; s q[i]; } }\n"
)

HONEST: Final = (
    _case("100,000 gates, OpenQASM 2", lambda: _flat_2(100_000), RUNS),
    _case("100,000 times x, OpenQASM 2", lambda: _HEAD_2 + "x q[0];\n" * 100_000 + END_2, RUNS),
    _case("100,000 gates by a gate of its own", lambda: _HEAD_2 + _doubling_gates(10, "g9 q[0];\n" * 98) + END_2, RUNS),
    _case(
        "100,000 gates by broadcast", TWO + "qreg q[1000];\ncreg c[1000];\n" + "h q;\n" * 99 + "measure q -> c;\n", RUNS
    ),
    _case("100,000 gates on 20 registers", lambda: _many_registers(100_000), RUNS),
    _case("95,000 gates in loops, OpenQASM 3", _WIDE_3 + _LAYERS_3 + "c = measure q;\n", RUNS),
    _case(
        "100,000 gates in 5,263 loops",
        lambda: _WIDE_3 + "for int i in [0:18] { cx q[i], q[i + 1]; }\n" * 5263 + "c = measure q;\n",
        RUNS,
    ),
    _case("100,000 gates, OpenQASM 3", lambda: flat_3(100_000), RUNS),
)
"""Large and honest: each must pass with the limits as they are."""

HOSTILE_CASES: Final = tuple(
    {
        case.name: case
        for case in (
            *_FILES,
            *_BOMBS,
            *_LARGE,
            *_DEEP,
            *_NUMBERS,
            *_WORDS,
            *_VERSIONS,
            *_BYTES,
            *_SHORT,
        )
    }.values()
)
"""All that is not honest, and what is odd; a name both lists have is taken once."""
