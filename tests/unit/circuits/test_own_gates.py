"""A program's own gate is what the program says, whatever it is called."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from qcompute.circuits.compiler import CircuitCompiler
from qcompute.circuits.own_gates import _new_names, renamed_2
from qcompute.circuits.settings import CircuitSettings
from qcompute.circuits.target import Dialect, Target
from qcompute.errors import CannotRun
from tests.doubles.worker import shared
from tests.unit.circuits.programs import TWO

IDLE_H_2 = "OPENQASM 2.0;\ngate h a { U(0,0,0) a; }\nqreg q[1];\ncreg c[1];\nh q[0];\nh q[0]; // h\nmeasure q -> c;\n"
FLIP_H_3 = (
    "OPENQASM 3.0;\ngate h a { U(pi, 0, pi) a; }\nqubit[2] q;\nbit[2] c;\nh q[0];\nctrl @ h q[0], q[1];\n"
    "c = measure q;\n"
)
OWN_RZZ = (
    'OPENQASM 2.0;\ninclude "qelib1.inc";\ngate rzz(t) a,b { x a; x b; }\nqreg q[2];\ncreg c[2];\nrzz(0.5) q[0],q[1];\n'
    "measure q -> c;\n"
)
OWN_ISWAP = (
    'OPENQASM 3.0;\ninclude "stdgates.inc";\ngate iswap a, b { x b; }\nqubit[2] q;\nbit[2] c;\niswap q[0], q[1];\n'
    "c = measure q;\n"
)
TARGETS = [
    Target(dialect=Dialect.OPENQASM_3),
    Target(dialect=Dialect.OPENQASM_2),
    Target(
        dialect=Dialect.OPENQASM_3, num_qubits=3, basis_gates=("rz", "sx", "h", "cx"), coupling_map=((0, 1), (1, 2))
    ),
]


@pytest.fixture(scope="module")
def compiler() -> Iterator[CircuitCompiler]:
    made = CircuitCompiler(CircuitSettings())
    yield made
    made.close()


@pytest.mark.parametrize("target", TARGETS, ids=["openqasm3", "openqasm2", "coupled"])
@pytest.mark.parametrize(
    ("source", "key"),
    [(IDLE_H_2, "0"), (FLIP_H_3, "11"), (OWN_RZZ, "11"), (OWN_ISWAP, "10")],
    ids=["an idle h", "an h that flips", "another rzz", "another iswap"],
)
def test_it_is_not_taken_for_the_standard_gate(
    compiler: CircuitCompiler, source: str, key: str, target: Target
) -> None:
    """``gate h`` that does nothing was run as the Hadamard gate: half of the shots were wrong, silently."""
    translation = compiler.translate(compiler.compile(source), target, None).translation
    assert translation is not None
    request = {"language": target.dialect, "text": translation.text, "shots": 200}
    assert set(shared("tests.doubles.aer_worker").ask(request)["memory"]) == {key}


@pytest.mark.parametrize(
    "source",
    [
        'OPENQASM 2.0;\ninclude "qelib1.inc";\ngate h a { x a; }\nqreg q[1];\ncreg c[1];\nh q[0];\nmeasure q -> c;\n',
        'OPENQASM 3.0;\ninclude "stdgates.inc";\ngate h a { x a; }\nqubit[1] q;\nbit[1] c;\nh q[0];\nc = measure q;\n',
    ],
    ids=["openqasm2", "openqasm3"],
)
def test_a_gate_of_the_included_file_cannot_be_defined_again(compiler: CircuitCompiler, source: str) -> None:
    with pytest.raises(CannotRun, match="h"):
        compiler.compile(source)


def test_a_text_without_gates_of_its_own_is_left_as_it_is() -> None:
    assert renamed_2(TWO + "qreg q[1];\nx q[0];\n") == TWO + "qreg q[1];\nx q[0];\n"


def test_names_in_comments_and_strings_stay_and_new_names_are_free() -> None:
    source = "OPENQASM 2.0;\n// gate x\ngate flip a { U(0,0,0) a; }\nqreg user_flip[1];\nflip user_flip[0]; // flip\n"
    renamed = renamed_2(source)
    assert "gate user_flip_ a" in renamed
    assert "user_flip_ user_flip[0]; // flip" in renamed
    assert "// gate x" in renamed


class Compared(str):
    """A name that counts how often names are compared."""

    __slots__ = ()
    times = 0
    __hash__ = str.__hash__

    def __radd__(self, before: str) -> Compared:
        return Compared(before + str(self))

    def __eq__(self, other: object) -> bool:
        Compared.times += 1
        return str.__eq__(self, other)


def test_new_names_are_not_sought_among_all_others() -> None:
    """Each new name was compared with every one before it: 100,000 definitions took 55 s."""
    own = {Compared(f"d{n}") for n in range(5000)}
    Compared.times = 0
    assert len(set(_new_names(own, own).values())) == 5000
    assert Compared.times < 5 * 5000
