"""A circuit in a device's form says the same as before, or is refused by name."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest

from qcompute.circuits.compiler import CircuitCompiler
from qcompute.circuits.measurement import MeasurementMap, Register
from qcompute.circuits.program import CompiledCircuit
from qcompute.circuits.settings import CircuitSettings
from qcompute.circuits.target import Dialect, Target, Translation
from qcompute.errors import CannotRun
from tests.doubles.worker import shared

HEAD_2 = 'OPENQASM 2.0;\ninclude "qelib1.inc";\n'
HEAD_3 = 'OPENQASM 3.0;\ninclude "stdgates.inc";\n'

TWO_REGISTERS = (
    HEAD_2 + "qreg q[3];\ncreg data[1];\ncreg shape[3];\nx q[0];\nh q[1];\ncx q[1], q[2];\nccx q[0], q[1], q[2];\n"
    "measure q[2] -> data[0];\nmeasure q[0] -> shape[2];\n"
)
BRANCH = HEAD_3 + (
    "qubit[2] q;\nbit[1] a;\nbit[2] b;\nx q[0];\na[0] = measure q[0];\nif (a == 1) { x q[1]; }\n"
    "b[1] = measure q[1];\nb[0] = measure q[0];\n"
)
AGAIN = HEAD_2 + "qreg q[1];\ncreg c[2];\nx q[0];\nmeasure q[0] -> c[0];\nx q[0];\nmeasure q[0] -> c[1];\n"
RESET = HEAD_2 + "qreg q[2];\ncreg c[2];\nx q[0];\ncx q[0], q[1];\nreset q[0];\nmeasure q -> c;\n"

LINE = tuple((a, b) for a in range(6) for b in (a - 1, a + 1) if 0 <= b < 6)
IBM_LIKE = Target(
    dialect=Dialect.OPENQASM_3, num_qubits=6, basis_gates=("rz", "sx", "x", "cz", "id"), coupling_map=LINE
)
EVERYTHING = Target(dialect=Dialect.OPENQASM_3, can_branch=True, can_measure_mid_circuit=True, can_reset=True)


@pytest.fixture(scope="module")
def compiler() -> Iterator[CircuitCompiler]:
    made = CircuitCompiler(CircuitSettings())
    yield made
    made.close()


def translated(compiler: CircuitCompiler, source: str, target: Target, level: int | None = None) -> Translation:
    circuit = compiler.translate(compiler.compile(source), target, level)
    assert circuit.translation is not None
    assert circuit.text == circuit.translation.text
    return circuit.translation


def computed(translation: Translation, shots: int = 200) -> dict[str, int]:
    """Counts of a translation, by Aer, read by the map alone."""
    request: dict[str, Any] = {"language": translation.dialect, "text": translation.text, "shots": shots}
    memory = shared("tests.doubles.aer_worker").ask(request)["memory"]
    names = [register.name for register in translation.measurement.registers]
    rows = [dict(zip(names, (part[::-1] for part in reversed(shot.split(" "))), strict=True)) for shot in memory]
    return translation.measurement.counts_from_registers(rows)


@pytest.mark.parametrize("target", [IBM_LIKE, EVERYTHING, Target(dialect=Dialect.OPENQASM_2)], ids=lambda t: t.dialect)
def test_registers_are_ours_and_the_result_is_the_users(compiler: CircuitCompiler, target: Target) -> None:
    """A register named ``data`` or ``shape`` is nothing to a parser, and an attribute to a vendor's client."""
    translation = translated(compiler, TWO_REGISTERS, target)
    assert translation.measurement.registers == (Register(name="c0", size=1), Register(name="c1", size=3))
    assert translation.measurement.written == (0, 3)
    assert "shape" not in translation.text
    counts = computed(translation)
    assert set(counts) <= {"1000", "1001"}
    assert sum(counts.values()) == 200


def test_couplings_and_gates_are_the_devices(compiler: CircuitCompiler) -> None:
    translation = translated(compiler, TWO_REGISTERS, IBM_LIKE)
    assert set(translation.gate_counts) <= {"rz", "sx", "x", "cz", "measure"}
    assert translation.two_qubit_gates == translation.gate_counts["cz"] > 0
    assert translation.one_qubit_gates == sum(translation.gate_counts.get(name, 0) for name in ("rz", "sx", "x"))
    assert translation.layout is not None
    assert len(set(translation.layout)) == translation.num_qubits == 3
    assert all(abs(a - b) == 1 for a, b in pairs(translation.text, "cz")), (
        "a gate joins two qubits that are not neighbours"
    )


def pairs(text: str, gate: str) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for line in text.splitlines():
        if line.startswith(f"{gate} "):
            first, second = (int(part.strip(" ;q[]")) for part in line.removeprefix(gate).split(","))
            found.append((first, second))
    return found


def test_faulty_qubits_stay_idle(compiler: CircuitCompiler) -> None:
    target = IBM_LIKE.model_copy(update={"faulty_qubits": (1, 2)})
    translation = translated(compiler, TWO_REGISTERS, target)
    assert set(translation.layout or ()) == {3, 4, 5}
    assert "q[1]" not in translation.text
    assert "q[2]" not in translation.text
    assert set(computed(translation)) <= {"1000", "1001"}
    with pytest.raises(CannotRun, match="3 qubits and the device has 2"):
        translated(compiler, TWO_REGISTERS, IBM_LIKE.model_copy(update={"faulty_qubits": (0, 1, 2, 3)}))


def test_the_level_is_the_jobs_and_else_the_targets(compiler: CircuitCompiler) -> None:
    source = TWO_REGISTERS.replace("measure", "h q[0];\nh q[0];\n" * 5 + "measure", 1)
    lazy, default = translated(compiler, source, EVERYTHING, 0), translated(compiler, source, EVERYTHING)
    assert (lazy.optimization_level, default.optimization_level) == (0, 1)
    assert lazy.gate_counts["h"] == 11
    assert default.gate_counts["h"] == 1
    assert default.depth < lazy.depth


@pytest.mark.parametrize("dialect", [Dialect.OPENQASM_3, Dialect.QPY])
def test_the_text_is_the_same_in_another_process(compiler: CircuitCompiler, dialect: Dialect) -> None:
    """What is submitted after a restart under the same token must be what was submitted before it."""
    target = IBM_LIKE.model_copy(update={"dialect": dialect})
    first = translated(compiler, TWO_REGISTERS, target)
    translated(compiler, BRANCH, EVERYTHING)
    other = CircuitCompiler(CircuitSettings())
    try:
        assert translated(other, TWO_REGISTERS, target) == first
        assert translated(compiler, TWO_REGISTERS, target) == first
    finally:
        other.close()
    assert len(first.sha256) == 64


def test_qpy_is_the_circuit_itself(compiler: CircuitCompiler) -> None:
    translation = translated(compiler, TWO_REGISTERS, IBM_LIKE.model_copy(update={"dialect": Dialect.QPY}))
    assert base64.b64decode(translation.text).startswith(b"QISKIT")


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        (BRANCH, Target(dialect=Dialect.OPENQASM_3), "conditions or loops"),
        (AGAIN, Target(dialect=Dialect.OPENQASM_3), "goes on after a measurement"),
        (RESET, Target(dialect=Dialect.OPENQASM_3), "resets a qubit"),
        (TWO_REGISTERS, Target(dialect=Dialect.OPENQASM_2, num_qubits=2), "3 qubits and the device has 2"),
        (TWO_REGISTERS, Target(dialect=Dialect.OPENQASM_3, basis_gates=("made_up",)), "none of this device's gates"),
        (TWO_REGISTERS, Target(dialect=Dialect.OPENQASM_3, basis_gates=("x", "z")), "cannot be compiled"),
        (
            BRANCH.replace("a == 1) { x q[1]; }", "a == 1) { x q[1]; } else { h q[1]; }"),
            EVERYTHING.model_copy(update={"dialect": Dialect.OPENQASM_2}),
            "OpenQASM 2, which cannot say",
        ),
    ],
    ids=["branch", "mid-circuit", "reset", "width", "no gate", "too few gates", "no words"],
)
def test_what_does_not_fit_is_refused_by_name(
    compiler: CircuitCompiler, source: str, target: Target, words: str
) -> None:
    with pytest.raises(CannotRun, match=words):
        translated(compiler, source, target)


def test_what_a_device_can_do_is_kept(compiler: CircuitCompiler) -> None:
    assert computed(translated(compiler, BRANCH, EVERYTHING)) == {"111": 200}
    assert computed(translated(compiler, AGAIN, EVERYTHING)) == {"01": 200}
    assert computed(translated(compiler, RESET, EVERYTHING)) == {"10": 200}


def test_a_branch_is_laid_out_too(compiler: CircuitCompiler) -> None:
    target = IBM_LIKE.model_copy(update={"can_branch": True, "can_measure_mid_circuit": True})
    assert computed(translated(compiler, BRANCH, target)) == {"111": 200}


def test_a_translation_is_stored_without_its_text(compiler: CircuitCompiler) -> None:
    translation = translated(compiler, TWO_REGISTERS, EVERYTHING)
    facts = translation.facts()
    assert "text" not in facts
    assert facts["optimization_level"] == 1
    assert "ccx" not in repr(translation).replace("'ccx'", "")


def test_a_circuit_of_many_gates_is_translated_in_time(compiler: CircuitCompiler) -> None:
    """Twenty thousand gates for a device of few gates and couplings, inside the sandbox's limits."""
    gates = "".join(f"rx(0.{n % 9 + 1}) q[{n % 5}];\ncx q[{n % 5}], q[{(n + 1) % 5}];\n" for n in range(10_000))
    source = HEAD_2 + "qreg q[5];\ncreg c[5];\n" + gates + "measure q -> c;\n"
    circuit: CompiledCircuit = compiler.compile(source)
    translation = compiler.translate(circuit, IBM_LIKE, 1).translation
    assert translation is not None
    assert translation.two_qubit_gates >= 10_000
    assert isinstance(translation.measurement, MeasurementMap)
