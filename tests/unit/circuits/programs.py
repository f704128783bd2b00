"""Circuits nobody should run, each with why; and the heads of honest ones."""

from __future__ import annotations

TWO = 'OPENQASM 2.0;\ninclude "qelib1.inc";\n'
THREE = 'OPENQASM 3.0;\ninclude "stdgates.inc";\n'
ONE_2 = "qreg q[1];\ncreg c[1];\n"
ONE_3 = "qubit[1] q;\nbit[1] c;\n"
END_2 = "measure q -> c;\n"
END_3 = "c = measure q;\n"


def _bomb(head: str, regs: str, end: str) -> str:
    gates = "gate g0 a { x a; x a; }\n" + "".join(f"gate g{n} a {{ g{n - 1} a; g{n - 1} a; }}\n" for n in range(1, 31))
    return f"{head}{gates}{regs}g30 q[0];\n{end}"


def _squares(times: int) -> str:
    return "".join(f"const int a{n} = a{n - 1} * a{n - 1};\n" for n in range(1, times))


def _doubled(times: int) -> str:
    return "".join(f"let a{n} = a{n - 1} ++ a{n - 1};\n" for n in range(1, times + 1))


HOSTILE: dict[str, str] = {
    "include an absolute path": 'OPENQASM 2.0;\ninclude "/etc/passwd";\n' + ONE_2,
    "include a relative path": 'OPENQASM 2.0;\ninclude "secrets.inc";\n' + ONE_2,
    "include a device": 'OPENQASM 2.0;\ninclude "/dev/zero";\n' + ONE_2,
    "include without quotes": "OPENQASM 2.0;\ninclude qelib1.inc;\n" + ONE_2,
    "include in single quotes": "OPENQASM 3.0;\ninclude '/etc/hostname';\n" + ONE_3,
    "include up a folder": 'OPENQASM 3.0;\ninclude "../stdgates.inc";\n' + ONE_3,
    "include behind a comment": 'OPENQASM 2.0;\n/* */ include /* "qelib1.inc" */ "/etc/hosts";\n' + ONE_2,
    "gate bomb in 2": _bomb(TWO, ONE_2, END_2),
    "gate bomb in 3": _bomb(THREE, ONE_3, END_3),
    "register of 10^9 in 2": TWO + "qreg q[1000000000];\ncreg c[1];\nmeasure q[0] -> c[0];\n",
    "register of 10^9 in 3": THREE + "qubit[1000000000] q;\nbit[1] c;\nc[0] = measure q[0];\n",
    "classical register of 10^9": TWO + "qreg q[1];\ncreg c[1000000000];\nmeasure q[0] -> c[0];\n",
    "register of 10^30": TWO + f"qreg q[1{'0' * 30}];\n",
    "many registers": TWO + "".join(f"qreg q{n}[1000];\n" for n in range(100)),
    "broadcast of a wide gate": _bomb(TWO, "qreg q[1000];\ncreg c[1];\n", "measure q[0] -> c[0];\n").replace(
        "g30 q[0]", "g12 q"
    ),
    "50,000 parentheses": TWO + ONE_2 + "rz(" + "(" * 50_000 + "1" + ")" * 50_000 + ") q[0];\n",
    "3,000 parentheses": THREE + ONE_3 + "rz(" + "(" * 3000 + "1" + ")" * 3000 + ") q[0];\n",
    "2,000 nested ifs": THREE + ONE_3 + "if (c == 0) { " * 2000 + "x q[0];" + "}" * 2000,
    "40 nested ifs without braces": THREE + ONE_3 + "if (c == 0) " * 40 + "x q[0];\n",
    "never closed comments": TWO + ONE_2 + "/*" * 500_000,
    "quotes never closed": TWO + ONE_2 + "\"'" * 250_000,
    "a megabyte without an end": TWO + ONE_2 + "x " * 500_000,
    "loop of 10^9": THREE + ONE_3 + "for int i in [0:1000000000] { x q[0]; }\n" + END_3,
    "nested loops": THREE + ONE_3 + "for int i in [0:9999] { for int j in [0:9999] { x q[0]; } }\n" + END_3,
    "loop with step 0": THREE + ONE_3 + "for int i in [0:0:5] { x q[0]; }\n" + END_3,
    "loop over something measured": THREE + ONE_3 + "for int i in [0:c] { x q[0]; }\n" + END_3,
    "while true": THREE + ONE_3 + "while (true) { x q[0]; }\n" + END_3,
    "while on a measurement": THREE + ONE_3 + "while (c == 0) { x q[0]; c = measure q; }\n",
    "power tower in 3": THREE + ONE_3 + "rz(9**9**9**9) q[0];\n" + END_3,
    "power tower in 2": TWO + ONE_2 + "rz(9^9^9^9) q[0];\n" + END_2,
    "power of 10^9": THREE + ONE_3 + "pow(1000000000) @ x q[0];\n" + END_3,
    "50 controls": THREE + "qubit[60] q;\nbit[1] c;\nctrl(50) @ x q;\n",
    "controls on controls": THREE + "qubit[60] q;\nbit[1] c;\n" + "ctrl(8) @ ctrl(8) @ ctrl(8) @ x q;\n",
    "recursive def": THREE + "def f(qubit a) { f(a); }\n" + ONE_3 + "f(q[0]);\n",
    "extern": THREE + "extern f(float[64]) -> float[64];\n" + ONE_3,
    "defcal": THREE + 'defcalgrammar "openpulse";\ndefcal x q { }\n' + ONE_3,
    "cal": THREE + "cal { }\n" + ONE_3,
    "pragma": THREE + "#pragma braket verbatim\n" + ONE_3,
    "pragma without #": THREE + "pragma anything at all\n" + ONE_3,
    "annotation": THREE + "@reversible\n" + ONE_3,
    "NUL": TWO + ONE_2 + "x q[0];\0\n",
    "escape sequence": TWO + ONE_2 + "// \x1b[2J\n",
    "long name": TWO + f"qreg {'q' * 100_000}[1];\n",
    "unary tower": TWO + ONE_2 + "rz(" + "-" * 100_000 + "1) q[0];\n",
    "unary tower with spaces": TWO + ONE_2 + "rz(" + "- " * 1000 + "1) q[0];\n",
    "huge exponent": TWO + ONE_2 + "rz(1e999999999) q[0];\n",
    "unterminated comment": TWO + ONE_2 + "/* x q[0];\n",
    "unterminated string": 'OPENQASM 2.0;\ninclude "qelib1.inc;\n' + ONE_2,
    "no header": ONE_2,
    "another version": "OPENQASM 4.0;\n" + ONE_3,
    "empty": "",
    "binary": bytes(range(256)).decode("latin-1"),
    "a page of HTML": "<!doctype html><html><body>Access denied</body></html>",
    "too large": TWO + "// " + "x" * (4 << 20),
    "nothing measured": TWO + ONE_2 + "x q[0];\n",
    "unknown gate": TWO + ONE_2 + "nope q[0];\n" + END_2,
    "undeclared register": TWO + ONE_2 + "x r[0];\n" + END_2,
    "index out of range": TWO + ONE_2 + "x q[7];\n" + END_2,
    "opaque gate": TWO + "opaque magic a;\n" + ONE_2 + "magic q[0];\n" + END_2,
    "free parameter": THREE + "input float[64] theta;\n" + ONE_3 + "rz(theta) q[0];\n" + END_3,
    # Sizes that are not written as plain numbers must be limited like those that are.
    "underscored size": THREE + "qubit[1_000_000_000] q;\nbit[1] c;\nc[0] = measure q[0];\n",
    "hexadecimal size": THREE + "qubit[0x3fffffff] q;\nbit[1] c;\nc[0] = measure q[0];\n",
    "size as a product": THREE + "qubit[1000*1000*1000] q;\nbit[1] c;\nc[0] = measure q[0];\n",
    "old style hexadecimal size": THREE + "qreg q[0x3fffffff];\nbit[1] c;\nc[0] = measure q[0];\n",
    "underscored classical size": THREE + "qubit q;\nbit[9_000] c;\nc[0] = measure q;\n",
    "physical qubit of 10^9": THREE + "bit c;\nx $999999999;\nc = measure $999999999;\n",
    "infinite size": THREE + "const float f = 1e999;\nqubit[f] q;\n",
    "undefined size": THREE + "const float f = 1e999 - 1e999;\nqubit[f] q;\n",
    "negative size": THREE + "const int n = -1000000000;\nqubit[n] q;\nqubit[900000] r;\n",
    "endless loop": THREE + ONE_3 + "for int i in [0:1e999] { x q[0]; }\n" + END_3,
    "constants squared": THREE + "const int a0 = 10;\n" + _squares(40) + ONE_3 + END_3,
    "doubled aliases": THREE + "qubit[2] q;\nbit c;\nlet a0 = q ++ q;\n" + _doubled(30) + "x a30;\n",
    "bomb on a range": _bomb(THREE, "qubit[4000] q;\nbit c;\n", "").replace("g30 q[0]", "g14 q[0:3999]"),
    "bomb on an alias": _bomb(THREE, "qubit[4000] q;\nbit c;\nlet a = q[0:3999];\n", "").replace("g30 q[0]", "g14 a"),
    "wide resets in a loop": THREE + "qubit[4000] q;\nbit c;\nfor int i in [0:9999] { reset q; }\n",
    "wide conditions": TWO + "qreg q[4000];\ncreg c[4000];\n" + "if(c==1) x q;\n" * 400,
    "a megabyte of blanks in a declaration": THREE + "bit" + " " * 1_000_000 + "!;\n",
    "blanks and no name": THREE + "bit" + " " * 30_000 + "!;\n",
    "else if, 3,000 times": THREE + ONE_3 + "if (c[0]) { x q[0]; }" + " else if (c[0]) { x q[0]; }" * 3000,
    "sum of 100,000": THREE + ONE_3 + "rz(" + "1+" * 100_000 + "1) q[0];\n",
    "divided by zero in 2": TWO + ONE_2 + "rz(0/0) q[0];\n" + END_2,
    "divided by zero in 3": THREE + ONE_3 + "rz(0/0) q[0];\n" + END_3,
    "recursive gate": TWO + "gate f a { f a; }\n" + ONE_2 + "f q[0];\n",
    "gates that call each other": TWO + "gate f a { g a; }\ngate g a { f a; }\n" + ONE_2 + "f q[0];\n",
    "one qubit twice": TWO + "qreg q[2];\ncreg c[2];\ncx q[0],q[0];\n" + END_2,
    "one qubit twice in 3": THREE + "qubit[2] q;\nbit[2] c;\ncx q[0],q[0];\n" + END_3,
    "half a character": TWO + ONE_2 + "// \ud800\n" + END_2,
    "array of 10^9": THREE + "array[int[32], 1000000000] a;\n" + ONE_3,
    "shift by 10^9": THREE + "const int n = 1 << 1000000000;\nqubit[n] q;\n",
    "100,000 empty blocks": THREE + ONE_3 + "{}" * 100_000,
    "900,000 semicolons": THREE + ONE_3 + ";" * 900_000,
}
