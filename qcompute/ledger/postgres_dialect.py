"""What Postgres words in its own way; see `qcompute.ledger.dialect`."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import JSON, BigInteger, ColumnElement, Executable, Table, Text, bindparam, cast, column, func
from sqlalchemy import literal_column as literal
from sqlalchemy.dialects.postgresql import insert

from qcompute.ledger.dialect import KEYS, KeyList, dialect, others


def _upsert(table: Table, *key: str, if_greater: str | None = None) -> Executable:
    statement = insert(table)
    condition = None if if_greater is None else table.c[if_greater] < statement.excluded[if_greater]
    replaced = {name: statement.excluded[name] for name in others(table, key)}
    return statement.on_conflict_do_update(index_elements=list(key), set_=replaced, where=condition)


def _keys() -> KeyList:
    document = cast(bindparam(KEYS, type_=Text), JSON)
    rows = func.json_array_elements(document).table_valued(column("value", JSON), name="key")

    def part(place: int) -> ColumnElement[Any]:
        return rows.c.value.op("->>", return_type=Text)(literal(str(place)))

    text = rows.c.value.op("#>>", return_type=Text)(literal("'{}'"))
    return KeyList(rows, text, part, lambda place: cast(part(place), BigInteger))


POSTGRES: Final = dialect(_keys(), _upsert)
