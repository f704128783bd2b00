"""Numbers of OpenQASM 3 written as sums and products of literals and constants, as `qcompute.circuits.flat` reads them.

Facts used: the numbers of ``openqasm3`` 1.0 and the arithmetic of ``qiskit_qasm3_import`` 0.6. Values are Python's, but
``/`` of two integers rounds down; there is neither ``**`` nor a plus sign.
"""

from __future__ import annotations

import math
import re
from typing import Final, NoReturn

CONSTANTS: Final = {
    "pi": math.pi,
    "\u03c0": math.pi,
    "tau": math.tau,
    "\u03c4": math.tau,
    "euler": math.e,
    "\u2107": math.e,
}
"""The names a number may have."""

_TOKEN: Final = re.compile(
    r"[ \t\r\n]*(?:([0-9]+\.[0-9]+(?:[eE][-+]?[0-9]+)?|\.[0-9]+(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)(?![\w.])"
    r"|([0-9]+)(?![\w.])|([^\W0-9]\w*)|([-+*/()]))[ \t\r\n]*"
)
_MAX_TOKENS: Final = 64
"""Of an angle. The reference parser gives up on very long ones, at a depth of its own."""


class NotANumberError(Exception):
    """Something other than a plain number; the reference parser may know it."""


def number(text: str) -> int | float:
    """The value of a constant expression, as the importer computes it.

    Raises:
        NotANumberError, ArithmeticError, LookupError: it is none, or none the importer takes.
    """
    tokens = _tokens(text)
    value, end = _sum(tokens, 0)
    if end != len(tokens):
        raise NotANumberError
    return value


def _tokens(text: str) -> list[int | float | str]:
    found: list[int | float | str] = []
    at = 0
    while at < len(text) and len(found) < _MAX_TOKENS:
        token = _TOKEN.match(text, at)
        if token is None:
            raise NotANumberError
        fraction, whole, name, sign = token.groups()
        found.append(sign or (float(fraction) if fraction else int(whole) if whole else CONSTANTS[name]))
        at = token.end()
    if at < len(text) or not found:
        raise NotANumberError
    return found


def _sum(tokens: list[int | float | str], at: int) -> tuple[int | float, int]:
    value, at = _product(tokens, at)
    while at < len(tokens) and tokens[at] in ("+", "-"):
        right, end = _product(tokens, at + 1)
        value, at = (value + right if tokens[at] == "+" else value - right), end
    return value, at


def _product(tokens: list[int | float | str], at: int) -> tuple[int | float, int]:
    value, at = _signed(tokens, at)
    while at < len(tokens) and tokens[at] in ("*", "/"):
        right, end = _signed(tokens, at + 1)
        value, at = (value * right if tokens[at] == "*" else _quotient(value, right)), end
    return value, at


def _quotient(left: float, right: float) -> int | float:
    return left // right if isinstance(left, int) and isinstance(right, int) else left / right


def _signed(tokens: list[int | float | str], at: int) -> tuple[int | float, int]:
    first = tokens[at]
    if first == "-":
        value, at = _signed(tokens, at + 1)
        return -value, at
    if first == "(":
        value, at = _sum(tokens, at + 1)
        return (value, at + 1) if tokens[at] == ")" else _refuse()
    return _refuse() if isinstance(first, str) else (first, at + 1)


def _refuse() -> NoReturn:
    raise NotANumberError
