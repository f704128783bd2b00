"""What Postgres words in its own way; see `qcompute.ledger.dialect`.

Every statement for one row is a question to another process, so rows go to Postgres in one: each column is a parameter,
a list of the values of all rows, and `unnest` makes a table of the lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Executable,
    LargeBinary,
    Table,
    TableValuedAlias,
    Text,
    bindparam,
    case,
    cast,
    column,
    func,
    select,
    update,
)
from sqlalchemy import literal_column as literal
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.types import TypeEngine

from qcompute.ledger.dialect import KEYS, KeyList, Writing, dialect, others
from qcompute.ledger.many import Many
from qcompute.ledger.rows import Row
from qcompute.ledger.schema import jobs
from qcompute.ledger.statements import until_deadline

_REPLACED: Final = tuple(
    one for one in jobs.c if one.name not in ("execution_id", "validator_hotkey", "input_data_url")
)
_BESIDE: Final[dict[str, TypeEngine[Any]]] = {
    "key": Text(),
    "was": BigInteger(),
    "keeps_url": Boolean(),
    "url": LargeBinary(),
}
"""What `qcompute.ledger.statements.REPLACE_JOB` is given besides the columns it sets."""


class _AtOnce:
    """A statement whose parameters are the columns of all rows."""

    def __init__(self, statement: Executable, names: Sequence[str], key: str | None = None) -> None:
        self._statement = statement.execution_options(preserve_rowcount=True)
        self._names = tuple(names)
        self._key = key

    def __call__(self, connection: Connection, rows: Sequence[Row]) -> int:
        """See `qcompute.ledger.many.Many`."""
        changed = 0
        while rows:
            now, rows = self._parted(rows)
            lists = {name: [row[name] for row in now] for name in self._names}
            changed += connection.execute(self._statement, lists).rowcount
        return changed

    def _parted(self, rows: Sequence[Row]) -> tuple[Sequence[Row], Sequence[Row]]:
        """The rows that one statement can write, and those left: it changes each row of the table once."""
        if self._key is None or len({row[self._key] for row in rows}) == len(rows):
            return rows, ()
        now: dict[str, Row] = {}
        left: list[Row] = []
        for row in rows:
            if row[self._key] in now:
                left.append(row)
            else:
                now[row[self._key]] = row
        return list(now.values()), left


def _rows(columns: dict[str, TypeEngine[Any]]) -> TableValuedAlias:
    """The lists as a table."""
    lists = [bindparam(name, type_=ARRAY(kind)) for name, kind in columns.items()]
    table = func.unnest(*lists).table_valued(*(column(name, kind) for name, kind in columns.items()), name="new")
    return table.render_derived()


def _types(columns: Sequence[Column[Any]]) -> dict[str, TypeEngine[Any]]:
    return {one.name: one.type for one in columns}


def _insert(table: Table) -> Many:
    new = _rows(_types(list(table.c)))
    names = [one.name for one in table.c]
    return _AtOnce(insert(table).from_select(names, select(*new.c)), names)


def _replace() -> Many:
    columns = _types(_REPLACED) | _BESIDE
    new = _rows(columns)
    url = case((new.c.keeps_url, jobs.c.input_data_url), else_=new.c.url)
    changes = {one.name: new.c[one.name] for one in _REPLACED} | {"input_data_url": url}
    same = (jobs.c.execution_id == new.c.key) & (jobs.c.version == new.c.was)
    return _AtOnce(update(jobs).where(same).values(changes), list(columns), key="key")


def _upsert(table: Table, *key: str, if_greater: str | None = None) -> Many:
    new = _rows(_types(list(table.c)))
    names = [one.name for one in table.c]
    statement = insert(table).from_select(names, select(*new.c))
    condition = None if if_greater is None else table.c[if_greater] < statement.excluded[if_greater]
    replaced = {name: statement.excluded[name] for name in others(table, key)}
    upsert = statement.on_conflict_do_update(index_elements=list(key), set_=replaced, where=condition)
    return _AtOnce(upsert, names, key=key[0] if len(key) == 1 else None)


def _keys() -> KeyList:
    document = cast(bindparam(KEYS, type_=Text), JSON)
    rows = func.json_array_elements(document).table_valued(column("value", JSON), name="key")

    def part(place: int) -> ColumnElement[Any]:
        return rows.c.value.op("->>", return_type=Text)(literal(str(place)))

    text = rows.c.value.op("#>>", return_type=Text)(literal("'{}'"))
    return KeyList(rows, text, part, lambda place: cast(part(place), BigInteger))


def _postpone() -> Many:
    new = _rows({"key": Text(), "was": BigInteger(), "due": BigInteger()})
    same = (jobs.c.execution_id == new.c.key) & (jobs.c.version == new.c.was)
    return _AtOnce(update(jobs).where(same).values(due_at=until_deadline(new.c.due)), ("key", "was", "due"))


POSTGRES: Final = dialect(
    _keys(), Writing(insert_job=_insert(jobs), replace_job=_replace(), postpone=_postpone(), put=_upsert)
)
