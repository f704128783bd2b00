"""The sandbox's second task: a parsed circuit into the form of one device.

What comes out has one quantum register ``q`` and classical registers ``c0``, ``c1`` … in the user's declared order and
sizes: users may name registers with any word, and some words mean something to a vendor or its client. Counts are
joined without names in the end, so nobody misses them.

Nothing is dropped to make a circuit fit. What a device cannot do is refused by name, before anything is paid.
"""

# qiskit ships no types
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import hashlib
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, assert_never

from qcompute.circuits.dialects import braket, ionq_json, openqasm, qir, qpy
from qcompute.circuits.measurement import MeasurementMap, Register
from qcompute.circuits.target import Dialect, Target, Translation
from qcompute.circuits.walk import Walk
from qcompute.errors import CannotRun

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

SEED: Final = 48
"""Of the transpiler: what is prepared again after a restart must be the very text that was prepared before."""

NAME: Final = "qcompute"
"""Of every translated circuit; Qiskit would number them, and the same job must give the same text."""

_NOT_GATES: Final = frozenset(("measure", "reset", "barrier", "delay", "if_else", "for_loop", "while_loop"))
_BRANCHES: Final = ("if_else", "while_loop", "for_loop", "switch_case")

Writer = Callable[["QuantumCircuit", MeasurementMap], str]


def translate(circuit: QuantumCircuit, target: Target, level: int | None) -> Translation:
    """``circuit`` in the gates, couplings and words of ``target``; ``level`` None is the target's own.

    Raises:
        CannotRun: the device has too few qubits, or cannot do something the circuit does.
    """
    _check(circuit, target)
    level = target.optimization_level if level is None else level
    gates, write = dialect(target.dialect)
    fitted, layout = _fitted(_plain(circuit), target, gates, level)
    walk = Walk(fitted)
    measurement = MeasurementMap(registers=_registers(circuit), measured=tuple(sorted(walk.measured.items())))
    counts = {str(name): int(count) for name, count in fitted.count_ops().items()}
    _check_words(counts, target)
    text = write(fitted, measurement)
    widths = [len(one.qubits) for one in fitted.data if one.operation.name not in _NOT_GATES]
    return Translation(
        text=text,
        dialect=target.dialect,
        sha256=hashlib.sha256(text.encode()).hexdigest(),
        measurement=measurement,
        layout=layout,
        num_qubits=circuit.num_qubits,
        gate_counts=counts,
        one_qubit_gates=widths.count(1),
        two_qubit_gates=sum(width > 1 for width in widths),
        depth=walk.depth,
        optimization_level=level,
    )


def dialect(word: Dialect) -> tuple[frozenset[str] | None, Writer]:
    """The gates a dialect can write, in Qiskit's names (None: all), and its writer."""
    match word:
        case Dialect.OPENQASM_2:
            return openqasm.GATES_2, openqasm.write_2
        case Dialect.OPENQASM_3:
            return openqasm.GATES_3, openqasm.write_3
        case Dialect.BRAKET:
            return braket.GATES, braket.write
        case Dialect.IONQ_JSON:
            return ionq_json.GATES, ionq_json.write
        case Dialect.QPY:
            return None, qpy.write
        case Dialect.QIR:
            return qir.GATES, qir.write
    assert_never(word)


def _check(circuit: QuantumCircuit, target: Target) -> None:
    healthy = None if target.num_qubits is None else target.num_qubits - len(target.faulty_qubits)
    if healthy is not None and circuit.num_qubits > healthy:
        raise CannotRun(f"the circuit has {circuit.num_qubits} qubits and the device has {healthy}", reason="too_wide")
    walk = Walk(circuit)
    if walk.control_flow and not target.can_branch:
        raise CannotRun("the circuit has conditions or loops, which this device cannot run", reason="control_flow")
    if walk.mid_circuit and not target.can_measure_mid_circuit:
        raise CannotRun("the circuit goes on after a measurement, which this device cannot do", reason="mid_circuit")


def _check_words(counts: dict[str, int], target: Target) -> None:
    if "reset" in counts and not target.can_reset:
        raise CannotRun("the circuit resets a qubit, which this device cannot do", reason="reset")
    branch = next((name for name in _BRANCHES if name in counts), None)
    if branch is not None and not target.can_branch:
        raise CannotRun(f"the circuit needs {branch}, which this device cannot run", reason="control_flow")


def _plain(circuit: QuantumCircuit) -> QuantumCircuit:
    """The same circuit on registers with names of ours, over the very same bits.

    Over other bits Qiskit (2.6) renames those of a condition within a branch but not those of the branch itself, and
    panics when it next looks.
    """
    from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister  # noqa: PLC0415 - only in the sandbox

    plain = QuantumCircuit(circuit.qubits, circuit.clbits, name=NAME)
    plain.add_register(QuantumRegister(name="q", bits=circuit.qubits))
    clbits = iter(circuit.clbits)
    for register in _registers(circuit):
        plain.add_register(ClassicalRegister(name=register.name, bits=list(islice(clbits, register.size))))
    plain.compose(circuit, qubits=plain.qubits, clbits=plain.clbits, inplace=True)
    return plain


def _registers(circuit: QuantumCircuit) -> tuple[Register, ...]:
    """``c0``, ``c1`` … in declared order; bits outside any register are registers of one bit each."""
    sizes = [register.size for register in circuit.cregs]
    sizes += [1] * (circuit.num_clbits - sum(sizes))
    return tuple(Register(name=f"c{number}", size=size) for number, size in enumerate(sizes))


def _fitted(
    circuit: QuantumCircuit, target: Target, gates: frozenset[str] | None, level: int
) -> tuple[QuantumCircuit, tuple[int, ...] | None]:
    """Transpiled; with couplings also laid out on the device's qubits, and where each started."""
    basis = _basis(target, gates)
    if target.coupling_map is None:
        return _transpiled(circuit, level, basis_gates=basis), None
    healthy = [q for q in range(target.num_qubits or _width(target.coupling_map)) if q not in target.faulty_qubits]
    place = {qubit: number for number, qubit in enumerate(healthy)}
    pairs = [(place[a], place[b]) for a, b in target.coupling_map if a in place and b in place]
    laid_out = _transpiled(circuit, level, basis_gates=basis, coupling_map=_coupling(len(healthy), pairs))
    layout = tuple(healthy[index] for index in _starts(laid_out))
    return _on_device(laid_out, circuit, healthy), layout


def _starts(laid_out: QuantumCircuit) -> list[int]:
    """For each of the circuit's qubits the one it starts on."""
    layout = laid_out.layout
    return list(range(laid_out.num_qubits)) if layout is None else layout.initial_index_layout(filter_ancillas=True)


def _basis(target: Target, gates: frozenset[str] | None) -> list[str] | None:
    if target.basis_gates is None:
        return None if gates is None else sorted(gates)
    wanted = [name for name in target.basis_gates if gates is None or name in gates]
    if not wanted:
        raise CannotRun("none of this device's gates can be written in its language", reason="unsupported")
    return wanted


def _transpiled(circuit: QuantumCircuit, level: int, **target: Any) -> QuantumCircuit:  # noqa: ANN401 - qiskit's own
    from qiskit import transpile  # noqa: PLC0415 - only in the sandbox
    from qiskit.exceptions import QiskitError  # noqa: PLC0415

    try:
        return transpile(circuit, optimization_level=level, seed_transpiler=SEED, num_processes=1, **target)
    except QiskitError as error:
        # The texts quote gate names of the circuit and of the device, no more.
        reason = str(error).strip().strip("'\"").splitlines()[0][:200]
        raise CannotRun(f"the circuit cannot be compiled for this device: {reason}", reason="unsupported") from None


def _coupling(num_qubits: int, pairs: list[tuple[int, int]]) -> Any:  # noqa: ANN401 - qiskit's own
    from qiskit.transpiler import CouplingMap  # noqa: PLC0415 - only in the sandbox

    coupling = CouplingMap(pairs)
    for qubit in range(num_qubits):
        if qubit not in coupling.physical_qubits:
            coupling.add_physical_qubit(qubit)
    return coupling


def _width(pairs: tuple[tuple[int, int], ...]) -> int:
    return max((max(pair) for pair in pairs), default=-1) + 1


def _on_device(laid_out: QuantumCircuit, plain: QuantumCircuit, healthy: list[int]) -> QuantumCircuit:
    """On all the device's qubits, the faulty ones idle, so that qubit k is the device's qubit k."""
    from qiskit import QuantumCircuit, QuantumRegister  # noqa: PLC0415 - only in the sandbox

    whole = QuantumCircuit(QuantumRegister(healthy[-1] + 1, "q"), *plain.cregs, name=NAME)
    qubits = [whole.qubits[index] for index in healthy]
    whole.compose(laid_out, qubits=qubits, clbits=whole.clbits, inplace=True)
    return whole
