"""A reader for plain OpenQASM 3: declarations, standard gates on numbers, measurements, resets and barriers.

The reference parser is written for the whole language and takes half a millisecond of CPU for each gate: 100,000 of
them were refused for it. What is read here is read in one pass, and handed to Qiskit by the very calls that
``qiskit_qasm3_import`` (0.6) makes, so that both give the same circuit. Anything else, and anything that is wrong, is
left to the reference parser, which knows it or says what is wrong with it: this reader only ever says no.

Facts used: the grammar of ``openqasm3`` 1.0 and the importer's table of gates.
"""

# qiskit ships no types
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from qcompute.circuits.arithmetic import CONSTANTS, NotANumberError, number

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

STANDARD: Final = {
    "p": ("PhaseGate", 1, 1),
    "x": ("XGate", 0, 1),
    "y": ("YGate", 0, 1),
    "z": ("ZGate", 0, 1),
    "h": ("HGate", 0, 1),
    "s": ("SGate", 0, 1),
    "sdg": ("SdgGate", 0, 1),
    "t": ("TGate", 0, 1),
    "tdg": ("TdgGate", 0, 1),
    "sx": ("SXGate", 0, 1),
    "rx": ("RXGate", 1, 1),
    "ry": ("RYGate", 1, 1),
    "rz": ("RZGate", 1, 1),
    "cx": ("CXGate", 0, 2),
    "cy": ("CYGate", 0, 2),
    "cz": ("CZGate", 0, 2),
    "cp": ("CPhaseGate", 1, 2),
    "crx": ("CRXGate", 1, 2),
    "cry": ("CRYGate", 1, 2),
    "crz": ("CRZGate", 1, 2),
    "ch": ("CHGate", 0, 2),
    "swap": ("SwapGate", 0, 2),
    "ccx": ("CCXGate", 0, 3),
    "cswap": ("CSwapGate", 0, 3),
    "cu": ("CUGate", 4, 2),
    "CX": ("CXGate", 0, 2),
    "phase": ("PhaseGate", 1, 1),
    "cphase": ("CPhaseGate", 1, 2),
    "id": ("UGate", 0, 1),  # the importer's: a `UGate(0, 0, 0)`, because Qiskit's own `id` may mean more than nothing
    "u1": ("U1Gate", 1, 1),
    "u2": ("U2Gate", 2, 1),
    "u3": ("U3Gate", 3, 1),
}
"""The gates of ``stdgates.inc``: Qiskit's class, its parameters, its qubits."""

_WORDS: Final = """
OPENQASM include defcalgrammar def cal defcal gate extern box let break continue if else end return
for while in switch case default pragma input output const readonly mutable qreg qubit creg bool bit
int uint float angle complex array void duration stretch gphase inv pow ctrl negctrl durationof
delay reset measure barrier true false im
"""
RESERVED: Final = frozenset(_WORDS.split())
"""Words no register can be named; the lexer's."""

_HEADER: Final = re.compile(
    # Comments may stand before the header but not in it, nor between `include` and the file: the lexer reads those
    # two in modes that know no comments. A name in single quotes and the like are for the reference parser.
    r"(?:[ \t\r\n]++|//[^\r\n]*+|(?>/\*.*?\*/))*+"
    r"OPENQASM[ \t\r\n]++3(?:\.[01])?[ \t\r\n]*+;"
    r'(?:[ \t\r\n]*+(include)[ \t]*+"stdgates\.inc"[ \t\r\n]*+;)?',
    re.DOTALL,
)
_COMMENT: Final = re.compile(r"//[^\r\n]*|/\*.*?\*/", re.DOTALL)
_BLANKS: Final = " \t\r\n"
_S: Final = "[ \t\r\n]*"
_NAME: Final = "[A-Za-z_][A-Za-z0-9_]*"
_CALL: Final = re.compile(rf"({_NAME})(?:[ \t\r\n]+|{_S}\((.*)\){_S})(?=[A-Za-z_])(.*)", re.DOTALL)
_DECLARATION: Final = re.compile(
    rf"(?:(qubit|bit)(?:{_S}\[{_S}([0-9]{{1,9}}){_S}\]{_S}|[ \t\r\n]+)({_NAME})"
    rf"|(qreg|creg)[ \t\r\n]+({_NAME}){_S}(?:\[{_S}([0-9]{{1,9}}){_S}\])?)"
)
_PHASE: Final = re.compile(rf"gphase{_S}\((.*)\)", re.DOTALL)
_ASSIGNMENT: Final = re.compile(rf"([^=]*)={_S}measure[ \t\r\n]+([^=]*)")
_OPERAND: Final = re.compile(rf"{_S}({_NAME}){_S}(?:\[{_S}([0-9]{{1,9}}){_S}\]{_S})?")


class _NotFlatError(Exception):
    """Something the reference parser must look at."""


def read_flat(source: str) -> QuantumCircuit | None:
    """The circuit of a program that is plain and right; None for every other.

    Its time is linear in the length of the text.
    """
    from qiskit.exceptions import QiskitError  # noqa: PLC0415 - only in the sandbox

    head = _HEADER.match(source)
    if head is None or source.rfind("/*") > source.rfind("*/"):  # a comment may be open
        return None
    *statements, rest = _COMMENT.sub(" ", source[head.end() :]).split(";")
    if rest.strip(_BLANKS):
        return None
    reader = _Reader(with_standard=head.group(1) is not None)
    try:
        for statement in statements:
            reader.read(statement.strip(_BLANKS))
    except (_NotFlatError, NotANumberError, QiskitError, TypeError, ValueError, LookupError, ArithmeticError):
        return None
    return reader.circuit


class _Reader:
    """Reads statements into ``circuit``. What it raises leaves the circuit behind of no use."""

    def __init__(self, *, with_standard: bool) -> None:
        from qiskit import QuantumCircuit  # noqa: PLC0415 - only in the sandbox
        from qiskit.circuit.library import standard_gates  # noqa: PLC0415

        self.circuit = QuantumCircuit()
        self._gates: dict[str, tuple[Callable[..., Any], int, int]] = {"U": (standard_gates.UGate, 3, 1)}
        if with_standard:
            self._gates |= {name: (getattr(standard_gates, of), *sizes) for name, (of, *sizes) in STANDARD.items()}  # pyright: ignore[reportAttributeAccessIssue]
            self._gates["id"] = (lambda: standard_gates.UGate(0, 0, 0), 0, 1)
        self._qubits: dict[str, Any] = {}
        self._clbits: dict[str, Any] = {}
        self._operands: dict[str, Any] = {}  # what an operand's text stood for before
        self._angles: dict[str, tuple[int | float, ...]] = {}
        self._others: dict[str, Callable[[str], None]] = {
            "measure": self._measure_arrow,
            "reset": self._reset,
            "barrier": self._barrier,
        }

    def read(self, statement: str) -> None:
        """One statement, without blanks around it; raises `_NotFlatError` or what Qiskit raises."""
        call = _CALL.fullmatch(statement)
        if call is not None and (gate := self._gates.get(call.group(1))) is not None:
            self._apply(gate, call.group(2), call.group(3))
        elif call is not None and call.group(2) is None and (other := self._others.get(call.group(1))) is not None:
            other(call.group(3))
        elif statement == "barrier":
            self.circuit.barrier()
        elif (phase := _PHASE.fullmatch(statement)) is not None:
            self._turn(phase.group(1))
        else:
            self._declare_or_measure(statement)

    def _apply(self, gate: tuple[Callable[..., Any], int, int], angles: str | None, operands: str) -> None:
        build, num_angles, num_qubits = gate
        values = () if angles is None else self._values(angles)
        on = [self._qubit(text) for text in operands.split(",")]
        if len(values) != num_angles or len(on) != num_qubits or (angles is not None and not values):
            raise _NotFlatError
        operation = build(*values)
        for place, qubits in enumerate(_broadcast(on)):
            self.circuit.append(operation if place == 0 else operation.copy(), qubits, [])

    def _turn(self, angles: str) -> None:
        from qiskit import QuantumCircuit  # noqa: PLC0415 - only in the sandbox

        (angle,) = self._values(angles)
        gate: Any = QuantumCircuit(global_phase=angle).to_gate()
        self.circuit.global_phase += gate.definition.global_phase

    def _reset(self, qubits: str) -> None:
        self.circuit.reset(self._qubit(qubits))

    def _barrier(self, qubits: str) -> None:
        self.circuit.barrier(*[self._qubit(one) for one in qubits.split(",")])

    def _declare_or_measure(self, statement: str) -> None:
        target, equals, _ = statement.partition("=")
        declaration = _DECLARATION.fullmatch(target.strip(_BLANKS))
        if declaration is not None:
            kind, size, name, old_kind, old_name, old_size = declaration.groups()
            self._declare(kind or old_kind, name or old_name, size or old_size)
            if not equals:
                return
            if kind != "bit":
                raise _NotFlatError
            statement = f"{name}={statement.partition('=')[2]}"
        assignment = _ASSIGNMENT.fullmatch(statement)
        if assignment is None:
            raise _NotFlatError
        self._measure(assignment.group(2), assignment.group(1))

    def _declare(self, kind: str, name: str, size: str | None) -> None:
        from qiskit.circuit import ClassicalRegister, Clbit, QuantumRegister, Qubit  # noqa: PLC0415

        taken = (STANDARD, CONSTANTS, RESERVED, self._gates, self._qubits, self._clbits)
        if any(name in names for names in taken) or (size is not None and int(size) == 0):
            raise _NotFlatError
        quantum = kind.startswith("q")
        if size is None:
            declared = Qubit() if quantum else Clbit()
            self.circuit.add_bits([declared])
        else:
            escaped = name if "a" <= name[0] <= "z" else f"esc_{name}"  # the importer's names
            declared = (QuantumRegister if quantum else ClassicalRegister)(int(size), name=escaped)
            self.circuit.add_register(declared)
        (self._qubits if quantum else self._clbits)[name] = declared

    def _measure_arrow(self, text: str) -> None:
        qubit, arrow, clbit = text.partition("->")
        if not arrow:
            raise _NotFlatError  # the importer wants a bit to measure into
        self._measure(qubit, clbit)

    def _measure(self, qubit: str, clbit: str) -> None:
        measured, target = self._qubit(qubit), _found(clbit, self._clbits)
        if _width(measured) != _width(target):
            raise _NotFlatError
        self.circuit.measure(measured, target)

    def _qubit(self, text: str) -> Any:  # noqa: ANN401 - a bit or a register
        if (known := self._operands.get(text)) is None:
            known = self._operands[text] = _found(text, self._qubits)
        return known

    def _values(self, text: str) -> tuple[int | float, ...]:
        if (known := self._angles.get(text)) is None:
            known = self._angles[text] = tuple(map(number, text.split(",")))
        return known


def _found(text: str, registers: dict[str, Any]) -> Any:  # noqa: ANN401 - a bit or a register
    operand = _OPERAND.fullmatch(text)
    if operand is None:
        raise _NotFlatError
    name, index = operand.groups()
    bits = registers[name]
    return bits if index is None else bits[int(index)]


def _width(bits: Any) -> int:  # noqa: ANN401 - as above
    from qiskit.circuit import Register  # noqa: PLC0415

    return len(bits) if isinstance(bits, Register) else 1


def _broadcast(operands: list[Any]) -> Iterator[tuple[Any, ...]]:
    """The qubits of each call a call on registers stands for; single qubits go with each."""
    from qiskit.circuit import Register  # noqa: PLC0415

    width = max(map(_width, operands))
    if any(isinstance(one, Register) and len(one) != width for one in operands):
        raise _NotFlatError
    return zip(*(tuple(one) if isinstance(one, Register) else (one,) * width for one in operands), strict=True)
