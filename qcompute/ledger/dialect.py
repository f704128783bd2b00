"""What databases word differently: replacing a row, and looking many keys up at once.

The keys of a batch are one parameter, a JSON list, so a statement is the same text for any number of them. They are
joined to the table from outside, because a database then goes through the keys and looks each up; SQLite, for one,
reads the whole table for row values in a list.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from sqlalchemy import ColumnElement, Executable, FromClause, Table, Text, bindparam, column, func, select
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from qcompute.ledger import statements
from qcompute.ledger.many import Many, OneByOne
from qcompute.ledger.schema import charges, circuits, jobs, nonces, outcomes, owners, receipts, used_nonces

KEYS: Final = "keys"
"""The parameter that holds the keys."""


class Upsert(Protocol):
    """Makes what inserts rows, replacing those of the same key."""

    def __call__(self, table: Table, *key: str, if_greater: str | None = None) -> Many:
        """``if_greater`` names a column: a row is replaced only by one that has a greater value there."""
        ...


@dataclass(frozen=True, slots=True)
class Writing:
    """How a kind of database writes many rows."""

    insert_job: Many
    replace_job: Many
    """Rows of `qcompute.ledger.statements.REPLACE_JOB`."""
    postpone: Many
    """Rows of `qcompute.ledger.statements.POSTPONE`."""
    put: Upsert


@dataclass(frozen=True, slots=True)
class KeyList:
    """The keys as a table, and how one of its rows is read."""

    rows: FromClause
    text: ColumnElement[Any]
    """The key, where each is one text."""
    part: Callable[[int], ColumnElement[Any]]
    """The text at a place of the key, where each is a list."""
    number: Callable[[int], ColumnElement[Any]]
    """The number at a place."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """The statements of one kind of database. Each is built once, so SQLAlchemy compiles each once."""

    greatest_nonces: Executable
    """For each pair of hotkey and scope in `KEYS` its row, or NULLs."""
    used_nonces: Executable
    """For each triple of hotkey, scope and value in `KEYS` its row, or NULLs."""
    known_jobs: Executable
    """For each id in `KEYS` what is needed of its row, or NULLs."""
    fences: Executable
    """Lane and fence of those lanes in `KEYS` that were ever taken; nobody can take one until the transaction ends."""
    raise_nonce: Many
    """A greater one replaces the one there is; a smaller one changes nothing. How many it changed says whether
    somebody else raised one meanwhile."""
    insert_job: Many
    replace_job: Many
    postpone: Many
    put_circuit: Many
    put_outcome: Many
    put_receipt: Many
    put_charge: Many


def dialect(keys: KeyList, writing: Writing) -> Dialect:
    """The statements, from the words of a database."""
    scope = (nonces.c.hotkey == keys.part(0)) & (nonces.c.scope == keys.part(1))
    use = (
        (used_nonces.c.hotkey == keys.part(0))
        & (used_nonces.c.scope == keys.part(1))
        & (used_nonces.c.value_ns == keys.number(2))
    )
    put = writing.put
    return Dialect(
        greatest_nonces=select(nonces).select_from(keys.rows.outerjoin(nonces, scope)),
        used_nonces=select(used_nonces).select_from(keys.rows.outerjoin(used_nonces, use)),
        known_jobs=select(jobs.c.execution_id, jobs.c.version, jobs.c.state).select_from(
            keys.rows.outerjoin(jobs, jobs.c.execution_id == keys.text)
        ),
        fences=select(owners.c.lane, owners.c.fence)
        .select_from(keys.rows.join(owners, owners.c.lane == keys.text))
        # A beat, which changes no key, goes on beside this lock; who takes a lane locks the row against it.
        .with_for_update(read=True, key_share=True, of=owners),
        raise_nonce=put(nonces, "hotkey", "scope", if_greater="value_ns"),
        insert_job=writing.insert_job,
        replace_job=writing.replace_job,
        postpone=writing.postpone,
        put_circuit=put(circuits, "execution_id"),
        put_outcome=put(outcomes, "execution_id"),
        put_receipt=put(receipts, "execution_id"),
        put_charge=put(charges, "execution_id"),
    )


def others(table: Table, key: tuple[str, ...]) -> list[str]:
    """The columns beside the key: what an upsert replaces."""
    return [column.name for column in table.c if column.name not in key]


def _sqlite_upsert(table: Table, *key: str, if_greater: str | None = None) -> Many:
    statement = sqlite_insert(table)
    condition = None if if_greater is None else table.c[if_greater] < statement.excluded[if_greater]
    replaced = {name: statement.excluded[name] for name in others(table, key)}
    return OneByOne(statement.on_conflict_do_update(index_elements=list(key), set_=replaced, where=condition))


def _sqlite_keys() -> KeyList:
    rows = func.json_each(bindparam(KEYS, type_=Text)).table_valued(column("value", Text))

    def part(place: int) -> ColumnElement[Any]:
        return func.json_extract(rows.c.value, f"$[{place}]")

    return KeyList(rows, rows.c.value, part, part)


SQLITE: Final = dialect(
    _sqlite_keys(),
    Writing(
        insert_job=OneByOne(statements.INSERT_JOB),
        replace_job=OneByOne(statements.REPLACE_JOB),
        postpone=OneByOne(statements.POSTPONE),
        put=_sqlite_upsert,
    ),
)
