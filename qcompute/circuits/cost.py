"""How much work a circuit is, estimated without expanding anything: a kilobyte can stand for 2^30 gates.

Runs in the sandbox, before qiskit sees the text. Numbers saturate at the limit, gate definitions cost the sum of what
they call, loops multiply. Plain programs are read by a small tokenizer; OpenQASM 3 with loops, branches or modifiers
goes through the reference parser's syntax tree.
"""

# openqasm3 ships no types
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from qcompute.circuits.program import Language
from qcompute.circuits.screen import without_comments
from qcompute.circuits.settings import CircuitSettings
from qcompute.errors import CannotRun

_NEEDS_TREE: Final = re.compile(
    r"\b(?:for|if|else|switch|ctrl|negctrl|pow|inv|let|const|array|int|uint|float|angle|bool|complex|input|output)\b|@"
    # What is between brackets but not a plain number: `0xff`, `1_000`, `2*n`, `0:3` …
    r"|\[(?!\s*+[0-9]++\s*+\])"
)
_END: Final = re.compile(r"([;{}])")
_DECLARED: Final = (
    re.compile(r"(qreg|creg)\s+(\w+)\s*\[\s*(\d+)\s*\]$"),
    re.compile(r"(qubit|bit)\b\s*+(?:\[\s*+(\d+)\s*+\]\s*+)?(\w+)(?:\s*=.*)?$", re.DOTALL),
)
_CALL: Final = re.compile(r"(\w+)\s*(?:\(.*\))?\s*(.*)$", re.DOTALL)
_PLAIN_CALL: Final = re.compile(
    r"(?!OPENQASM|include)(?!(?:qreg|creg|qubit|bit|if)\b)(\w++)(?:\s*+\([^()]*+\))?+(?:\s*+(?:,|->)?+\s*+\w++\s*+\[\d++\])++$"
)
"""A gate or a measurement on single bits alone: most statements are, and need not be looked at in any other way."""
_OPERAND: Final = re.compile(r"(\w+)\s*(\[)?")
_CONDITION: Final = re.compile(r"if\s*\(\s*(\w*)[^)]*\)\s*")
_PHYSICAL: Final = re.compile(r"\$([0-9]+)")
_MAX_CONTROLS: Final = 8
_MAX_CONSTANT: Final = 1 << 62


@dataclass(slots=True)
class _Estimate:
    limits: CircuitSettings
    gates: dict[str, int] = field(default_factory=dict[str, int])
    widths: dict[str, int] = field(default_factory=dict[str, int])
    qubits: int = 0
    clbits: int = 0

    def capped(self, ops: int) -> int:
        if ops > self.limits.max_ops:
            raise CannotRun(f"the circuit expands to more than {self.limits.max_ops} operations", reason="too_many_ops")
        return ops

    def declare(self, name: str, size: int, *, quantum: bool) -> None:
        if size < 0:
            raise CannotRun("a register must not have a negative size", reason="not_constant")
        self.widths[name] = size
        if quantum:
            self.qubits += size
        else:
            self.clbits += size
        if self.qubits > self.limits.max_qubits:
            raise CannotRun(f"the circuit has more than {self.limits.max_qubits} qubits", reason="too_wide")
        if self.clbits > self.limits.max_clbits:
            raise CannotRun(f"the circuit has more than {self.limits.max_clbits} classical bits", reason="too_wide")


def check_cost(source: str, language: Language, limits: CircuitSettings) -> int:
    """The number of operations ``source`` stands for, about; for a circuit within the limits.

    Raises:
        CannotRun: more qubits, classical bits or operations than allowed; or not readable (the parser says it better).
    """
    code = without_comments(source)
    if any(int(number) >= limits.max_qubits for number in _PHYSICAL.findall(code)):
        raise CannotRun(f"the circuit has more than {limits.max_qubits} qubits", reason="too_wide")
    if language is Language.OPENQASM_3 and _NEEDS_TREE.search(code):
        return Costs(limits).block(read_tree(source).statements)
    return _plain_cost(code, _Estimate(limits))


def read_tree(source: str) -> Any:  # noqa: ANN401 - openqasm3 ships no types
    """The syntax tree of an OpenQASM 3 program.

    Raises:
        CannotRun: it does not parse.
    """
    import openqasm3  # noqa: PLC0415 - the sandbox's own import

    try:
        return openqasm3.parse(source)
    except openqasm3.parser.QASM3ParsingError as error:
        line = re.match(r"L(\d+)", str(error))
        number = int(line.group(1)) if line else None
        where = f"line {number}: " if number else ""
        raise CannotRun(f"{where}not valid OpenQASM 3", reason="parse_error", line=number) from None


def _plain_cost(code: str, estimate: _Estimate) -> int:
    total = 0
    gate: str | None = None
    body = 0
    pieces = _END.split(code)  # text, end, text, end, …, rest
    for piece, end in zip(pieces[::2], pieces[1::2], strict=False):
        text = piece.strip()
        if end == "{":
            gate, body = [*text.split(None, 2), "", ""][1].split("(", 1)[0], 0
        elif end == "}" and gate is not None:
            estimate.gates[gate] = max(body, 1)
            gate = None
        elif text and gate is not None:
            body = estimate.capped(body + _call_cost(text, estimate, in_gate=True))
        elif text:
            total = estimate.capped(total + _statement_cost(text, estimate))
    return total


def _statement_cost(text: str, estimate: _Estimate) -> int:
    if (call := _PLAIN_CALL.match(text)) is not None:
        return estimate.gates.get(call.group(1), 1)
    if text.startswith(("OPENQASM", "include")):
        return 0
    old, new = _DECLARED
    if (match := old.match(text)) is not None:
        estimate.declare(match.group(2), _size(match.group(3)), quantum=match.group(1) == "qreg")
        return 0
    if (match := new.match(text)) is not None:
        estimate.declare(match.group(3), _size(match.group(2) or "1"), quantum=match.group(1) == "qubit")
        return 1
    if (condition := _CONDITION.match(text)) is not None:
        # Each conditional operation carries every bit of the register it looks at.
        bits = 1 + estimate.widths.get(condition.group(1), 1)
        return bits * _call_cost(text[condition.end() :], estimate, in_gate=False)
    return _call_cost(text, estimate, in_gate=False)


def _call_cost(text: str, estimate: _Estimate, *, in_gate: bool) -> int:
    call = _CALL.match(text)
    if call is None:
        return 1
    name, operands = call.group(1), call.group(2)
    each = estimate.gates.get(name, 1)
    if in_gate:
        return each
    width = max(
        (estimate.widths.get(word, 1) for word, indexed in _OPERAND.findall(operands) if not indexed), default=1
    )
    return each * max(width, 1)


def _size(digits: str) -> int:
    return int(digits)


class Costs:
    """Costs on the syntax tree of ``openqasm3``."""

    def __init__(self, limits: CircuitSettings) -> None:
        self._estimate = _Estimate(limits)
        self._constants: dict[str, int | float] = {}

    def block(self, statements: list[Any]) -> int:
        """Operations the statements stand for; raises `CannotRun` above the limit."""
        total = 0
        for statement in statements:
            total = self._estimate.capped(total + self._statement(statement))
        return total

    def _statement(self, node: Any) -> int:  # noqa: ANN401 - openqasm3's nodes have no common useful type
        handler = getattr(self, "_on_" + type(node).__name__, None)
        return 1 if handler is None else handler(node)

    def _on_Include(self, _: Any) -> int:  # noqa: ANN401, N802 - named after the node
        return 0

    def _on_QubitDeclaration(self, node: Any) -> int:  # noqa: ANN401, N802
        size = 1 if node.size is None else _whole(node.size, self._constants)
        self._estimate.declare(node.qubit.name, size, quantum=True)
        return 0

    def _on_ClassicalDeclaration(self, node: Any) -> int:  # noqa: ANN401, N802
        if type(node.type).__name__ == "BitType":
            size = 1 if node.type.size is None else _whole(node.type.size, self._constants)
            self._estimate.declare(node.identifier.name, size, quantum=False)
        return 1

    def _on_ConstantDeclaration(self, node: Any) -> int:  # noqa: ANN401, N802
        self._constants[node.identifier.name] = constant(node.init_expression, self._constants)
        return 0

    def _on_QuantumGateDefinition(self, node: Any) -> int:  # noqa: ANN401, N802
        self._estimate.gates[node.name.name] = max(self.block(node.body), 1)
        return 0

    def _on_QuantumGate(self, node: Any) -> int:  # noqa: ANN401, N802
        width = max((self._width(operand) for operand in node.qubits), default=1)
        ops = self._estimate.gates.get(node.name.name, 1) * width
        for modifier in node.modifiers:
            ops = self._estimate.capped(ops * self._factor(modifier))
        return self._estimate.capped(ops)

    def _on_QuantumMeasurementStatement(self, node: Any) -> int:  # noqa: ANN401, N802
        return self._width(node.measure.qubit)

    def _on_QuantumReset(self, node: Any) -> int:  # noqa: ANN401, N802
        return self._width(node.qubits)

    def _on_QuantumBarrier(self, node: Any) -> int:  # noqa: ANN401, N802
        return sum(self._width(operand) for operand in node.qubits)

    def _on_AliasStatement(self, node: Any) -> int:  # noqa: ANN401, N802
        width = self._estimate.capped(self._width(node.value))
        self._estimate.widths[node.target.name] = width
        return width

    def _on_ForInLoop(self, node: Any) -> int:  # noqa: ANN401, N802
        return self._estimate.capped(self._trips(node.set_declaration) * max(self.block(node.block), 1))

    def _on_BranchingStatement(self, node: Any) -> int:  # noqa: ANN401, N802
        return self._estimate.capped(self.block(node.if_block) + self.block(node.else_block) + 1)

    def _on_SwitchStatement(self, node: Any) -> int:  # noqa: ANN401, N802
        branches = [branch for _, branch in node.cases] + ([node.default] if node.default else [])
        return self._estimate.capped(sum(self.block(branch.statements) for branch in branches) + 1)

    def _width(self, operand: Any) -> int:  # noqa: ANN401
        """Bits an operand stands for, at most: a range of a register counts as all of it."""
        match type(operand).__name__:
            case "Identifier":
                return max(self._estimate.widths.get(operand.name, 1), 1)
            case "IndexedIdentifier":
                return 1 if all(map(_is_one, operand.indices)) else self._width(operand.name)
            case "IndexExpression":
                return 1 if _is_one(operand.index) else self._width(operand.collection)
            case "Concatenation":
                return self._width(operand.lhs) + self._width(operand.rhs)
            case _:
                return 1

    def _trips(self, values: Any) -> int:  # noqa: ANN401
        return len(trip_values(values, self._constants))

    def _factor(self, modifier: Any) -> int:  # noqa: ANN401
        match modifier.modifier.name:
            case "pow":
                return max(1, abs(_whole(modifier.argument, self._constants)))
            case "ctrl" | "negctrl":
                controls = 1 if modifier.argument is None else _whole(modifier.argument, self._constants)
                if not 1 <= controls <= _MAX_CONTROLS:
                    raise CannotRun(f"more than {_MAX_CONTROLS} controls on one gate", reason="too_many_ops")
                return 4**controls
            case _:
                return 1


def _is_one(index: Any) -> bool:  # noqa: ANN401 - as above
    """Whether an index picks a single bit: not a range, not a set, not several."""
    return isinstance(index, list) and len(index) == 1 and type(index[0]).__name__ != "RangeDefinition"


def trip_values(values: Any, constants: Mapping[str, int | float]) -> Sequence[int]:  # noqa: ANN401 - as above
    """The values a loop variable takes, in order.

    Raises:
        CannotRun: not a constant range or set.
    """
    if type(values).__name__ == "DiscreteSet":
        return [_whole(value, constants) for value in values.values]
    if type(values).__name__ != "RangeDefinition" or values.end is None:
        raise CannotRun("a loop must run over a constant range", reason="not_constant")
    start = _whole(values.start, constants) if values.start is not None else 0
    step = _whole(values.step, constants) if values.step is not None else 1
    if step == 0:
        raise CannotRun("a loop's step must not be 0", reason="not_constant")
    # OpenQASM's end is part of the range.
    return range(start, _whole(values.end, constants) + (1 if step > 0 else -1), step)


def constant(node: Any, constants: Mapping[str, int | float]) -> int | float:  # noqa: ANN401 - as above
    """The value of a constant expression made of numbers, known names, + - * and a sign.

    Raises:
        CannotRun: it is not constant, or larger than 2^62.
    """
    kind = type(node).__name__
    if kind in ("IntegerLiteral", "FloatLiteral"):
        return node.value
    if kind == "Identifier" and node.name in constants:
        return constants[node.name]
    if kind == "UnaryExpression" and node.op.name == "-":
        return -constant(node.expression, constants)
    if kind == "BinaryExpression" and node.op.name in "+-*":
        return _combined(node.op.name, constant(node.lhs, constants), constant(node.rhs, constants))
    raise CannotRun("a size, bound or factor must be a constant", reason="not_constant")


def _whole(node: Any, constants: Mapping[str, int | float]) -> int:  # noqa: ANN401 - as above
    value = constant(node, constants)
    if not -_MAX_CONSTANT <= value <= _MAX_CONSTANT:  # infinite and undefined ones too
        raise CannotRun("a constant is too large", reason="too_many_ops")
    return int(value)


def _combined(operator: str, left: float, right: float) -> int | float:
    value = left + right if operator == "+" else left - right if operator == "-" else left * right
    if abs(value) > _MAX_CONSTANT:
        raise CannotRun("a constant is too large", reason="too_many_ops")
    return value
