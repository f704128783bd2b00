"""Loops over constants, written out: the importer of OpenQASM 3 cannot use a loop's variable as an index.

Runs in the sandbox, after `qcompute.circuits.cost` has bounded how much writing out there is.
"""

# openqasm3 ships no types
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import copy
from typing import Any

from qcompute.circuits.cost import constant, trip_values
from qcompute.errors import CannotRun


def unrolled(program: Any) -> Any:  # noqa: ANN401 - openqasm3 ships no types
    """``program`` with every ``for`` replaced by its body, once per value, the variable by that value.

    Raises:
        CannotRun: a loop does not run over constants.
    """
    program.statements = _written_out(program.statements, {})
    return program


def _written_out(statements: list[Any], constants: dict[str, int | float]) -> list[Any]:
    result: list[Any] = []
    for statement in statements:
        kind = type(statement).__name__
        if kind == "ConstantDeclaration":
            _remember(statement, constants)
        if kind == "ForInLoop":
            for value in trip_values(statement.set_declaration, constants):
                inner = constants | {statement.identifier.name: value}
                body = [_replaced(copy.deepcopy(node), inner, statement.identifier.name) for node in statement.block]
                result += _written_out(body, inner)
            continue
        if kind == "BranchingStatement":
            statement.if_block = _written_out(statement.if_block, constants)
            statement.else_block = _written_out(statement.else_block, constants)
        result.append(statement)
    return result


def _remember(statement: Any, constants: dict[str, int | float]) -> None:  # noqa: ANN401
    try:
        constants[statement.identifier.name] = constant(statement.init_expression, constants)
    except CannotRun:
        return  # not a number we need: the importer knows more kinds of constants


def _replaced(node: Any, constants: dict[str, int | float], name: str) -> Any:  # noqa: ANN401
    """``node`` with the loop's variable replaced, and what becomes constant by that computed."""
    import openqasm3.ast as tree  # noqa: PLC0415 - the sandbox's own import

    if isinstance(node, tree.Identifier):
        return tree.IntegerLiteral(int(constants[name])) if node.name == name else node
    if isinstance(node, list):
        return [_replaced(item, constants, name) for item in node]
    if not isinstance(node, tree.QASMNode):
        return node
    for field, value in vars(node).items():
        if field != "span":
            setattr(node, field, _replaced(value, constants, name))
    return _folded(node, tree)


def _folded(node: Any, tree: Any) -> Any:  # noqa: ANN401
    """An expression of whole numbers alone as one literal."""
    if not isinstance(node, tree.BinaryExpression | tree.UnaryExpression):
        return node
    try:
        value = constant(node, {})
    except CannotRun:
        return node
    if not isinstance(value, int) or value < 0:
        return node
    return tree.IntegerLiteral(value)
