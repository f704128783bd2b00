"""Which nonces were used: read, decided and written for a whole batch with four statements at most.

Where nonces must grow, the greatest one used in a scope is kept; elsewhere each one is. The two never mix.
After a restore from a copy, `FLOOR` holds the time up to which nonces may have been used that the copy does not know.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

import orjson
from sqlalchemy import Connection

from qcompute.ledger import statements
from qcompute.ledger.dialect import KEYS, Dialect
from qcompute.ledger.races import Raced
from qcompute.miner.job import Nonce

_Scope: TypeAlias = tuple[str, str]
_Use: TypeAlias = tuple[str, str, int]

FLOOR: Final[_Scope] = ("", "")
"""Scope of nobody, whose value in ``nonces`` no new nonce of anybody may be below. Written by a restore, and forgotten
with the other nonces of that age, when requests so old are refused anyway."""


def use_nonces(connection: Connection, dialect: Dialect, nonces: Sequence[Nonce]) -> list[bool]:
    """Whether each nonce is new, seen in this order; the new ones are used up.

    Raises:
        Raced: another process used a nonce of the same scope meanwhile.
    """
    growing = {(nonce.hotkey, nonce.scope) for nonce in nonces if nonce.strictly_growing}
    greatest = _greatest(connection, dialect, {*growing, FLOOR})
    floor = greatest.pop(FLOOR, -1)
    used = _used(connection, dialect, nonces)
    raised: dict[_Scope, int] = {}
    added: list[_Use] = []
    answers: list[bool] = []
    for nonce in nonces:
        scope = (nonce.hotkey, nonce.scope)
        use = (*scope, nonce.value_ns)
        if nonce.value_ns <= floor:
            is_new = False
        elif nonce.strictly_growing:
            is_new = scope not in greatest or nonce.value_ns > greatest[scope]
            if is_new:
                greatest[scope] = raised[scope] = nonce.value_ns
        else:
            is_new = use not in used
            if is_new:
                used.add(use)
                added.append(use)
        answers.append(is_new)
    if raised:
        # In one order everywhere, so that two processes do not wait for each other's rows.
        rows = [_row((*scope, value)) for scope, value in sorted(raised.items())]
        if dialect.raise_nonce(connection, rows) != len(rows):
            raise Raced
    if added:
        connection.execute(statements.USE_NONCE, [_row(use) for use in sorted(added)])
    return answers


def forget_nonces(connection: Connection, before_ns: int) -> int:
    """Drop the older ones of both kinds; how many."""
    return sum(connection.execute(forget, {"before": before_ns}).rowcount for forget in statements.FORGET_NONCES)


def _greatest(connection: Connection, dialect: Dialect, scopes: Iterable[_Scope]) -> dict[_Scope, int]:
    rows = connection.execute(dialect.greatest_nonces, {KEYS: orjson.dumps(list(scopes)).decode()})
    return {(hotkey, scope): value for hotkey, scope, value in rows if hotkey is not None}


def _used(connection: Connection, dialect: Dialect, nonces: Sequence[Nonce]) -> set[_Use]:
    uses = {(nonce.hotkey, nonce.scope, nonce.value_ns) for nonce in nonces if not nonce.strictly_growing}
    if not uses:
        return set()
    rows = connection.execute(dialect.used_nonces, {KEYS: orjson.dumps(list(uses)).decode()})
    return {(hotkey, scope, value) for hotkey, scope, value in rows if hotkey is not None}


def _row(use: _Use) -> dict[str, str | int]:
    hotkey, scope, value_ns = use
    return {"hotkey": hotkey, "scope": scope, "value_ns": value_ns}
