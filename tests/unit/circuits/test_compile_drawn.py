"""Circuits drawn at random: what is said about them is what was drawn, in both languages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompute.circuits.compiler import CircuitCompiler
from qcompute.circuits.cost import check_cost
from qcompute.circuits.program import Language
from qcompute.circuits.settings import CircuitSettings
from tests.unit.circuits.programs import THREE, TWO

ONE_QUBIT = ("h", "x", "s", "t", "rx(0.5)", "rz(-pi/4)")


@dataclass(frozen=True)
class Drawn:
    """Gates as (name, qubits), and which classical bit each measured qubit goes to."""

    qubits: int
    sizes: tuple[int, ...]
    gates: tuple[tuple[str, tuple[int, ...]], ...]
    measured: tuple[tuple[int, int], ...]

    def bit(self, number: int) -> str:
        """``r1[0]`` for the classical bit of this number."""
        for register, size in enumerate(self.sizes):
            if number < size:
                return f"r{register}[{number}]"
            number -= size
        raise AssertionError

    def text(self, language: Language) -> str:
        old = language is Language.OPENQASM_2
        lines = [f"qreg q[{self.qubits}];" if old else f"qubit[{self.qubits}] q;"]
        for number, size in enumerate(self.sizes):
            lines.append(f"creg r{number}[{size}];" if old else f"bit[{size}] r{number};")
        lines += [f"{name} {', '.join(f'q[{qubit}]' for qubit in on)};" for name, on in self.gates]
        for clbit, qubit in self.measured:
            to = self.bit(clbit)
            lines.append(f"measure q[{qubit}] -> {to};" if old else f"{to} = measure q[{qubit}];")
        return (TWO if old else THREE) + "\n".join(lines) + "\n"


@st.composite
def circuits(draw: st.DrawFn) -> Drawn:
    """At most six qubits and six classical bits in up to three registers, measured in any order at the end."""
    qubits = draw(st.integers(2, 6))
    sizes = tuple(draw(st.lists(st.integers(1, 2), min_size=1, max_size=3)))
    gates: list[tuple[str, tuple[int, ...]]] = []
    for _ in range(draw(st.integers(0, 12))):
        on = draw(st.permutations(range(qubits)))
        if draw(st.booleans()):
            gates.append((draw(st.sampled_from(ONE_QUBIT)), (on[0],)))
        else:
            gates.append((draw(st.sampled_from(["cx", "cz", "swap"])), (on[0], on[1])))
    count = draw(st.integers(1, min(qubits, sum(sizes))))
    clbits, read = draw(st.permutations(range(sum(sizes)))), draw(st.permutations(range(qubits)))
    return Drawn(qubits, sizes, tuple(gates), tuple(zip(clbits[:count], read[:count], strict=True)))


@pytest.fixture(scope="module")
def compiler() -> Iterator[CircuitCompiler]:
    made = CircuitCompiler(CircuitSettings())
    yield made
    made.close()


@pytest.mark.parametrize("language", list(Language))
@settings(max_examples=40, deadline=None)
@given(drawn=circuits())
def test_what_is_said_is_what_was_drawn(compiler: CircuitCompiler, language: Language, drawn: Drawn) -> None:
    circuit = compiler.compile(drawn.text(language))
    names = Counter(name.split("(", 1)[0] for name, _ in drawn.gates)
    assert circuit.language is language
    assert (circuit.num_qubits, circuit.num_clbits) == (drawn.qubits, sum(drawn.sizes))
    assert [register.size for register in circuit.registers] == list(drawn.sizes)
    assert circuit.measured == tuple(sorted(drawn.measured))
    assert circuit.gate_counts == names | {"measure": len(drawn.measured)}
    assert circuit.num_ops == len(drawn.gates) + len(drawn.measured)
    assert not circuit.has_mid_circuit_measurement
    assert not circuit.has_control_flow


@st.composite
def loops(draw: st.DrawFn) -> tuple[str, Counter[str]]:
    """Statements on ``q[8]`` with loops and ranges, and the gates they stand for."""
    lines: list[str] = []
    gates: Counter[str] = Counter()
    for _ in range(draw(st.integers(1, 4))):
        first, step, trips = draw(st.integers(0, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
        last = first + step * (trips - 1) + draw(st.integers(0, step - 1))
        match draw(st.sampled_from(["loop", "nested", "down", "range", "set", "all"])):
            case "loop":
                lines.append(f"for int i in [{first}:{step}:{last}] {{ x q[i]; h q[i + 1]; }}")
                gates.update(x=trips, h=trips)
            case "nested":
                lines.append(f"for int i in [0:2] {{ for int j in [{first}:{step}:{last}] {{ rz(i * j) q[j]; }} }}")
                gates.update(rz=3 * trips)
            case "down":
                lines.append(f"for int i in [{last}:-1:{first}] {{ z q[i]; }}")
                gates.update(z=last - first + 1)
            case "range":
                lines.append(f"x q[{first}:{last}];")
                gates.update(x=last - first + 1)
            case "set":
                lines.append(f"for int i in {{{first}, {first + 1}, {first}}} {{ s q[i]; }}")
                gates.update(s=3)
            case _:
                lines.append("h q;")
                gates.update(h=8)
    return "\n".join(lines), gates


@settings(max_examples=40, deadline=None)
@given(drawn=loops())
def test_loops_and_ranges_stand_for_what_was_drawn(compiler: CircuitCompiler, drawn: tuple[str, Counter[str]]) -> None:
    body, gates = drawn
    source = f"{THREE}qubit[8] q;\nbit[8] c;\n{body}\nc = measure q;\n"
    circuit = compiler.compile(source)
    assert circuit.gate_counts == gates | {"measure": 8}
    assert check_cost(source, Language.OPENQASM_3, CircuitSettings()) >= circuit.num_ops
