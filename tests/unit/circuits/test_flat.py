"""The fast reader of plain OpenQASM 3 gives the reference parser's very circuit, or leaves the program to it."""

# openqasm3, qiskit and qiskit_qasm3_import ship no types
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateImportUsage=false

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openqasm3.parser import qasm3Lexer  # pyright: ignore[reportAttributeAccessIssue] - its module is not typed
from qiskit import QuantumCircuit, qasm3
from qiskit.circuit import library
from qiskit.circuit.random import random_circuit
from qiskit_qasm3_import.converter import _STDGATES
from qiskit_qasm3_import.state import _BUILTINS

from qcompute.circuits.arithmetic import CONSTANTS
from qcompute.circuits.cost import check_cost
from qcompute.circuits.flat import RESERVED, STANDARD, read_flat
from qcompute.circuits.parse import _load_3_by_reference
from qcompute.circuits.program import Language
from qcompute.circuits.settings import CircuitSettings
from qcompute.errors import CannotRun
from tests.hostile.corpus import HOSTILE_CASES
from tests.unit.circuits.programs import THREE

HEAD: Final = THREE + "qubit[3] q;\nqubit a;\nqreg o[1];\nbit[3] c;\nbit b;\ncreg d[1];\n"


def by_reference(source: str) -> QuantumCircuit | None:
    """The reference parser's circuit, None where it refuses."""
    try:
        return _load_3_by_reference(source)
    except (CannotRun, RecursionError):
        return None


def facts(circuit: QuantumCircuit) -> list[Any]:
    """All of a circuit that can be told, numbers to their last bit and with their type."""
    qubit = {bit: place for place, bit in enumerate(circuit.qubits)}
    clbit = {bit: place for place, bit in enumerate(circuit.clbits)}
    registers = [(one.name, [qubit[bit] for bit in one]) for one in circuit.qregs]
    registers += [(one.name, [clbit[bit] for bit in one]) for one in circuit.cregs]
    done = [
        (
            type(one.operation),
            one.operation.name,
            one.operation.label,
            [(type(value), repr(value)) for value in one.params],
            [qubit[bit] for bit in one.qubits],
            [clbit[bit] for bit in one.clbits],
        )
        for one in circuit.data
    ]
    phase = (type(circuit.global_phase), repr(circuit.global_phase))
    return [len(qubit), len(clbit), registers, phase, circuit.layout, circuit.metadata, done]


def same_or_left(source: str) -> bool:
    """Whether the fast reader took ``source``; fails when it made of it what the reference parser does not."""
    circuit = read_flat(source)
    if circuit is None:
        return False
    reference = by_reference(source)
    assert reference is not None, f"refused by the reference parser:\n{source}"
    assert facts(circuit) == facts(reference), source
    assert check_cost(source, Language.OPENQASM_3, CircuitSettings()) >= len(circuit.data)
    return True


def test_its_tables_are_those_of_the_importer() -> None:
    """A gate or a reserved word that an update brings must not be overlooked."""
    assert {name: sizes for name, (_, *sizes) in STANDARD.items()} == {n: sizes for n, (_, *sizes) in _STDGATES.items()}
    built = {name: getattr(library, of) for name, (of, *_) in STANDARD.items()}
    assert {name: made for name, made in built.items() if name != "id"} == {
        name: made for name, (made, *_) in _STDGATES.items() if name != "id"
    }
    assert {name: symbol.data for name, symbol in _BUILTINS.items() if name != "U"} == CONSTANTS
    words = {word.strip("'") for word in qasm3Lexer.literalNames}
    assert {word for word in words if re.fullmatch(r"\w+", word)} | {"pragma", "true", "false"} == RESERVED


PLAIN: Final = (
    "",
    "h q[0]; cx q[0], q[2]; ccx q[0],q[1],q[2];",
    "h q; h a; h o; h o[0]; cx q, a; cx a, q; cx o, a; cx q[1], a;",
    "U(0.1, 0.2, 0.3) q[0]; u3(1,2,3) a; u2(1,-2) a; u1(.5) a; cu(1, 2, 3, 4) q[0], a; id q; CX q[0], a;",
    "rx(pi/2) a; rx(-pi) a; rx(2*pi/3) a; rx(pi/2/2) a; rx(-(1 + 2)*tau - euler) a; rx(--1) a; rx(1 - -1) a;",
    "rx(\u03c0) a; rx(\u03c4/4) a; rx(\u2107) a; rx((((pi)))) a;",
    "rx(1/2) a; rx(-1/2) a; rx(7/2) a; rx(1/2.0) a; rx(1.0/2) a; rx(2 - 3*4) a; rx(-1 - 2) a; rx(3/2*pi) a;",
    "rx(1e-3) a; rx(1.5E+3) a; rx(.5e2) a; rx(007) a; rx(1e999) a; rx(-1e999) a; rx(999999999999999999) a;",
    "rx(123456789012345678*1.1) a; rx(0.1 + 0.2) a; rx(0.1+0.2+0.3) a; rx(0.1*3) a; rx(-0.0) a; rx(0*-1.5) a;",
    "gphase(pi); gphase(-1); gphase(7.5); gphase (0.25) ;",
    "c = measure q; c[0] = measure a; b = measure a;",
    "b = measure q[1]; d = measure o; d = measure a; b = measure o; d[0]=measure q[0];",
    "measure q -> c; measure q[0]->c[1]; measure a -> b; measure o -> d; measure\tq[0]\n->\nb;",
    "bit e = measure a; bit[3] f = measure q; bit[1] g = measure a;",
    "reset q; reset q[1]; reset a; barrier; barrier q; barrier q[0], a, o; barrier a,q; barrier q, q; barrier q[0], q;",
    "rx\n(\n0.5\n)\nq[ 0 ]\n; cx\tq [0] ,q[1];rx(1)a;",
    "// a comment; h q[9];\nh /* one\nmore; */ q[0]; // \u2028 /* open\n/* // */ x a; /**/ x a; // last",
    "// ended by a carriage return\rh a; // \r\nh a;\r\n",
    "qubit[2] Q; qubit _r; bit[2] _c; bit E; x Q; _c = measure Q; E = measure _r;",
    "qubit[2] sin; x sin[1]; qubit sizeof; y sizeof; qubit measured; qubit h2; x h2; bit pi2; bit ctrlx; qubit dt;",
)


@pytest.mark.parametrize("body", PLAIN)
def test_what_is_plain_is_read_alike(body: str) -> None:
    assert same_or_left(HEAD + body)


@pytest.mark.parametrize(
    "head",
    [
        "OPENQASM 3;",
        "OPENQASM 3.0 ;",
        "OPENQASM\n3.1;",
        "// first\n/* OPENQASM 2.0; */ OPENQASM 3.0;",
        'OPENQASM 3.0;include"stdgates.inc";',
        'OPENQASM 3.0;\n\ninclude   "stdgates.inc" ;',
    ],
)
def test_heads_are_read_alike(head: str) -> None:
    assert same_or_left(head + "qubit q; bit c; U(1,2,3) q; c = measure q;")


LEFT: Final = (
    "hh q[0];",
    "h;",
    "h q[0], q[1];",
    "cx q[0];",
    "cx q[0], q[0];",
    "cx q, q;",
    "cx q, o;",
    "swap q, q[1];",
    "h q[3];",
    "h q[-1];",
    "h q[0:1];",
    "h q[{0, 1}];",
    "h q[0][0];",
    "h a[0];",
    "h c[0];",
    "h z;",
    "h $0;",
    "h q[1.0];",
    "h q[];",
    "h q[0],;",
    "h() q[0];",
    "h(1) q[0];",
    "rx q[0];",
    "rx() q[0];",
    "rx(1,2) q[0];",
    "rx(1,) q[0];",
    "rx(+1) q[0];",
    "rx(2**3) q[0];",
    "rx(2 3) q[0];",
    "rx(2 pi) q[0];",
    "rx(1 im) q[0];",
    "rx(1ns) q[0];",
    "rx(1_000) q[0];",
    "rx(0x10) q[0];",
    "rx(1.) q[0];",
    "rx(sin(1)) q[0];",
    "rx(1/0) q[0];",
    "rx(1.0/0) q[0];",
    "rx((1) q[0];",
    "rx(1)) q[0];",
    "rx(()) q[0];",
    "rx(true) q[0];",
    "rx(a) q[0];",
    "rx(1++1) q[0];",
    "rx(~1) q[0];",
    "rx(5 % 3) q[0];",
    "hq[0];",
    "h[1ns] q[0];",
    "h q[0]",
    "h q[0];;",
    "; h q[0];",
    "h\u00a0q[0];",
    "h\u2028q[0];",
    "h q[\uff10];",
    "h q[0] // open",
    "h q[0]; /* open",
    "h q[0]; /*/",
    "h q[0]; */",
    "h \u0441[0];",
    "gphase;",
    "gphase();",
    "gphase(1, 2);",
    "gphase(1) q[0];",
    "measure q;",
    "measure q[0] -> c;",
    "measure q -> b;",
    "c = measure a;",
    "b = measure q;",
    "c[3] = measure a;",
    "q = measure q;",
    "c = measure c;",
    "c = c;",
    "c = measure q = measure q;",
    "c == measure q;",
    "measure(q) -> c;",
    "measureq -> c;",
    "reset;",
    "reset c;",
    "reset q[0], q[1];",
    "barrier c;",
    "qubit q;",
    "qubit c;",
    "bit[2] q;",
    "qubit h;",
    "qubit U;",
    "qubit pi;",
    "bit gphase;",
    "qubit[0] r;",
    "qubit[-1] r;",
    "qubit[n] r;",
    "qubit [2] r[2];",
    "qubit r[2];",
    "bit r[2];",
    "qreg [2] r;",
    "qubitr;",
    "qubit[2] R; qubit[2] esc_R;",
    "bit[2] r = 1;",
    "bit[2] r = measure q;",
    "qubit r = measure q;",
    "creg r[3] = measure q;",
    "let r = q;",
    "const int n = 1;",
    "gate g r { h r; } g a;",
    "ctrl @ h q[0], q[1];",
    "inv @ h a;",
    "if (b) h a;",
    "for int i in [0:1] { h q[i]; }",
    "include 'stdgates.inc';",
    'include "stdgates.inc";',
    "OPENQASM 3.0;",
    "end;",
    "@note\nh a;",
    "#pragma x\nh a;",
    "delay[1ns] a;",
    "box { h a; }",
    "switch (b) { case 1 { h a; } }",
)


@pytest.mark.parametrize("body", LEFT)
def test_the_rest_is_left_to_the_reference_parser(body: str) -> None:
    """Also what it takes: a fast reader that is unsure must say no."""
    assert read_flat(HEAD + body) is None


@pytest.mark.parametrize("word", sorted(RESERVED | set(STANDARD) | set(CONSTANTS) | {"U", "stdgates", "defcalx"}))
@pytest.mark.parametrize("kind", ["qubit", "bit[2]", "creg"])
def test_names_are_taken_and_refused_alike(word: str, kind: str) -> None:
    same_or_left(f"{THREE}{kind} {word}; qubit r; h r;")
    same_or_left(f"OPENQASM 3.0;{kind} {word}; qubit r; U(1,2,3) r;")


@pytest.mark.parametrize(
    "source",
    [
        "OPENQASM 3.0; qubit q; h q;",
        'OPENQASM 3.0; qubit q; include "stdgates.inc"; h q;',
        'OPENQASM 3.0; qubit h; include "stdgates.inc"; h q;',
        'OPENQASM /* */ 3.0; include "stdgates.inc"; qubit q; h q;',
        'OPENQASM 3.0; include /* */ "stdgates.inc"; qubit q; h q;',
        'OPENQASM 3.0; include "stdgates.inc"; include "stdgates.inc"; qubit q; h q;',
        'OPENQASM 3.0; include "stdgates.inc//"; qubit q; h q;',
        'OPENQASM 3.2; include "stdgates.inc"; qubit q; h q;',
        'OPENQASM 3.0.0; include "stdgates.inc"; qubit q; h q;',
        'OPENQASM3.0; include "stdgates.inc"; qubit q; h q;',
        'include "stdgates.inc"; qubit q; h q;',
        THREE + "rx(" + "pi*" * 100 + "1) q;",
        "",
    ],
)
def test_odd_heads_and_long_angles_are_left(source: str) -> None:
    assert read_flat(source) is None


@pytest.mark.parametrize(
    "source", [case.build() for case in HOSTILE_CASES if case.expect and len(case.payload()) < 2000]
)
def test_hostile_programs_are_read_alike_or_left(source: str | bytes) -> None:
    if isinstance(source, str) and source.lstrip().startswith("OPENQASM 3"):
        same_or_left(source)
    else:
        assert isinstance(source, bytes) or read_flat(source) is None


NUMBERS: Final = st.recursive(
    st.one_of(
        st.integers(0, 9999).map(str),
        st.floats(0, 1e6, allow_nan=False).map(repr),
        st.floats(0, 1, allow_nan=False).map("{:.17g}".format),
        st.sampled_from([*CONSTANTS, "1e3", ".5", "0", "2.0"]),
    ),
    lambda inner: st.one_of(
        inner.map("-{}".format),
        inner.map("({})".format),
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", " / ", " - "]), inner).map("".join),
    ),
    max_leaves=6,
)
OPERANDS: Final = st.sampled_from(["q", "q[0]", "q[1]", "q[2]", "q[3]", "a", "o", "o[0]", "c", "b", "z"])
BITS: Final = st.sampled_from(["c", "c[0]", "c[2]", "c[3]", "b", "d", "d[0]", "q"])


@st.composite
def statements(draw: st.DrawFn) -> str:
    """Most are right."""
    match draw(st.sampled_from(["gate", "gate", "gate", "measure", "arrow", "barrier", "reset", "phase"])):
        case "measure":
            return f"{draw(BITS)} = measure {draw(OPERANDS)};"
        case "arrow":
            return f"measure {draw(OPERANDS)} -> {draw(BITS)};"
        case "barrier":
            return f"barrier {', '.join(draw(st.lists(OPERANDS, max_size=3)))};"
        case "reset":
            return f"reset {draw(OPERANDS)};"
        case "phase":
            return f"gphase({draw(NUMBERS)});"
        case _:
            name, (_, angles, qubits) = draw(st.sampled_from([*STANDARD.items(), ("U", ("", 3, 1))]))
            values = ", ".join(draw(NUMBERS) for _ in range(angles))
            on = draw(st.permutations(["q[0]", "q[1]", "q[2]", "a", "o[0]", "o"]))[:qubits]
            if draw(st.integers(0, 4)) == 0:
                on[0] = draw(OPERANDS)
            return f"{name}{f'({values})' if angles else ''} {', '.join(on)};"


PROGRAMS: Final = st.lists(statements(), min_size=1, max_size=5).map(lambda lines: HEAD + "\n".join(lines))


@settings(max_examples=150, deadline=None)
@given(source=PROGRAMS)
def test_drawn_programs_are_read_alike(source: str) -> None:
    """And none that the reference parser takes is left to it, but where the importer has a rule of its own."""
    assert same_or_left(source) or by_reference(source) is None or "measure" in source


PIECE: Final = re.compile(r"\w+|->|\s+|.", re.DOTALL)
SPARE: Final = (
    *(
        "q",
        "a",
        "c",
        "[",
        "]",
        "(",
        ")",
        ",",
        ";",
        "=",
        "->",
        "-",
        "+",
        "*",
        "/",
        ".",
        "0",
        "1",
        "3",
        "e5",
        "pi",
        "h",
        "cx",
    ),
    *(
        "measure",
        "reset",
        "barrier",
        "qubit",
        "bit",
        "qreg",
        "gphase",
        "include",
        '"',
        "//",
        "/*",
        "*/",
        " ",
        "\n",
        "\r",
    ),
    *("@", "{", "}", ":", "_", "$0", "\u03c0", "\u00e9", "1.5", "im", "ns", "0x1", "gate", "U", "id", "#", "'"),
)


@settings(max_examples=250, deadline=None)
@given(source=PROGRAMS, data=st.data())
def test_mutants_are_read_alike_or_left(source: str, data: st.DataObject) -> None:
    """One token dropped, doubled, put in or put in another's place: what is wrong must not be taken."""
    pieces = PIECE.findall(source)
    for _ in range(data.draw(st.integers(1, 2))):
        at = data.draw(st.integers(0, len(pieces) - 1))
        change = data.draw(st.sampled_from(["drop", "double", "insert", "replace", "swap"]))
        new = data.draw(st.sampled_from([*SPARE, data.draw(st.sampled_from(pieces))]))
        other = data.draw(st.integers(0, len(pieces) - 1))
        match change:
            case "drop":
                del pieces[at]
            case "double":
                pieces.insert(at, pieces[at])
            case "insert":
                pieces.insert(at, new)
            case "replace":
                pieces[at] = new
            case _:
                pieces[at], pieces[other] = pieces[other], pieces[at]
    same_or_left("".join(pieces))


@pytest.mark.parametrize("seed", range(12))
def test_what_qiskit_writes_is_read_alike(seed: int) -> None:
    """Gates the standard file lacks are written as definitions, so only standard ones are drawn."""
    circuit = random_circuit(4, 8, max_operands=3, measure=True, reset=seed % 2 == 0, seed=seed)
    plain = QuantumCircuit(*circuit.qregs, *circuit.cregs, global_phase=1.7 * seed - 9)
    for one in circuit.data:
        name = one.operation.name
        if name in STANDARD or name in {"measure", "reset"}:
            plain.append(one)
    assert same_or_left(qasm3.dumps(plain))


def test_a_hundred_thousand_gates_need_no_reference_parser() -> None:
    """Flat OpenQASM 3 of 100,000 gates ran out of its 45 s of CPU. The reference parser may not even be loaded."""
    program = (
        "import sys\n"
        "from tests.hostile.corpus import flat_3\n"
        "from qcompute.circuits.parse import describe\n"
        "from qcompute.circuits.settings import CircuitSettings\n"
        "print(describe(flat_3(10_000), CircuitSettings()).num_ops, 'antlr4' in sys.modules)\n"
    )
    done = subprocess.run(  # noqa: S603 - our own interpreter and our own words
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["10020", "False"]
