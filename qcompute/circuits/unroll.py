"""Loops over constants, written out: the importer of OpenQASM 3 cannot use a loop's variable as an index.

Nothing of the tree is changed in place: the bodies of a loop share what does not depend on its variable, which takes a
fifth of the time that copying took.

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
    """``program`` with every ``for`` replaced by its body, once per value, and every constant by its number.

    Raises:
        CannotRun: a loop does not run over constants.
    """
    program.statements = _written_out(program.statements, {})
    return program


def _written_out(statements: list[Any], constants: dict[str, int | float]) -> list[Any]:
    result: list[Any] = []
    for statement in statements:
        kind = type(statement).__name__
        if kind == "ConstantDeclaration" and _remembered(statement, constants):
            continue  # the importer knows no constants; every use gets the number
        if kind == "ForInLoop":
            for value in trip_values(statement.set_declaration, constants):
                result += _written_out(statement.block, constants | {statement.identifier.name: value})
            continue
        if kind == "BranchingStatement":
            branching = copy.copy(statement)
            branching.condition = _replaced(statement.condition, constants)
            branching.if_block = _written_out(statement.if_block, dict(constants))
            branching.else_block = _written_out(statement.else_block, dict(constants))
            result.append(branching)
            continue
        result.append(_replaced(statement, constants) if constants else statement)
    return result


def _remembered(statement: Any, constants: dict[str, int | float]) -> bool:  # noqa: ANN401
    """Whether the declared constant is a number, now known under its name."""
    try:
        constants[statement.identifier.name] = constant(statement.init_expression, constants)
    except CannotRun:
        return False
    return True


def _replaced(node: Any, constants: dict[str, int | float]) -> Any:  # noqa: ANN401
    """``node`` with names of constants replaced by numbers, and what becomes a number by that computed.

    The node itself when there is nothing to replace.
    """
    import openqasm3.ast as tree  # noqa: PLC0415 - the sandbox's own import

    if isinstance(node, tree.Identifier):
        return _literal(constants[node.name], tree) if node.name in constants else node
    if isinstance(node, list):
        items = [_replaced(item, constants) for item in node]
        return items if any(new is not old for new, old in zip(items, node, strict=True)) else node
    if not isinstance(node, tree.QASMNode):
        return node
    changed = {
        field: new
        for field, old in vars(node).items()
        if field != "span" and (new := _replaced(old, constants)) is not old
    }
    if changed:
        node = copy.copy(node)
        vars(node).update(changed)
    return _folded(node, tree)


def _folded(node: Any, tree: Any) -> Any:  # noqa: ANN401
    """An expression of numbers alone as one literal."""
    if not isinstance(node, tree.BinaryExpression | tree.UnaryExpression):
        return node
    try:
        value = constant(node, {})
    except CannotRun:
        return node
    return _literal(value, tree)


def _literal(value: float, tree: Any) -> Any:  # noqa: ANN401
    if value < 0:
        return tree.UnaryExpression(tree.UnaryOperator["-"], _literal(-value, tree))
    return tree.IntegerLiteral(value) if isinstance(value, int) else tree.FloatLiteral(value)
