"""Looking through the jobs of a ledger, latest first, at a cost that does not grow with how many there are.

Open jobs are few, because intake bounds them, and are found by their states. Closed ones have numbers without gaps, so
a look goes over a bounded piece of those, whatever is wanted of it, and says where the next look begins. No index is
kept for this: the road's saves cost what they did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, Text, bindparam, literal, or_, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from qcompute.ledger.listing import OPEN_STATES, ClosedJobs, JobLine, Wish
from qcompute.ledger.schema import jobs
from qcompute.ledger.times import from_micros, micros
from qcompute.miner.job import State, Verdict
from qcompute.units import ExecutionId

_SEARCHED: Final = ("execution_id", "provider_job_id", "validator_hotkey", "device_id", "error_code", "error")
"""Where a text is looked for."""

_TIMES: Final = frozenset({"received_at", "due_at", "settled_at", "closed_at"})


_NAMES: Final = tuple(field.name for field in fields(JobLine))
_COLUMNS: Final = tuple(jobs.c[name] for name in _NAMES)

LEAST_CLOSED: Final = (
    select(jobs.c.cursor_seq).where(jobs.c.cursor_seq > bindparam("none")).order_by(jobs.c.cursor_seq).limit(1)
)
"""The number of the job closed first; ``none`` is 0."""


def line_from(row: Mapping[str, Any]) -> JobLine:
    """The line of a row, whose times are microseconds; other columns are passed over."""
    values = {name: row[name] for name in _NAMES}
    for name in _TIMES:
        values[name] = None if values[name] is None else from_micros(values[name])
    values["state"] = State(values["state"])
    values["verdict"] = None if values["verdict"] is None else Verdict(values["verdict"])
    return JobLine(**values)


def lines_of(connection: Connection, statement: Select[Any], parameters: Mapping[str, Any]) -> list[JobLine]:
    """The lines a statement of this module answers."""
    return [line_from(dict(zip(_NAMES, row, strict=True))) for row in connection.execute(statement, parameters)]


def is_wanted(wish: Wish, row: Mapping[str, Any]) -> bool:
    """Whether a row is what is wished for, as the SQL below decides it."""
    for name, value in _conditions(wish).items():
        if row[name] != value:
            return False
    text = _lower(wish.text)
    return not text or any(text in _lower(row[name] or "") for name in _SEARCHED)


def open_statement(wish: Wish, *, has_before: bool) -> Select[Any]:
    """The jobs that are not closed, last received first."""
    states = OPEN_STATES if wish.state is None else (wish.state,)
    statement = select(*_COLUMNS).where(jobs.c.state.in_([state.value for state in states]), *_where(wish))
    if has_before:
        at_once = (jobs.c.received_at == bindparam("received")) & (jobs.c.execution_id > bindparam("behind"))
        statement = statement.where(or_(jobs.c.received_at < bindparam("received"), at_once))
    return statement.order_by(jobs.c.received_at.desc(), jobs.c.execution_id).limit(bindparam("most"))


def open_parameters(wish: Wish, before: tuple[datetime, ExecutionId] | None, limit: int) -> dict[str, Any]:
    """The parameters of `open_statement`."""
    parameters = _parameters(wish) | {"most": max(limit, 0)}
    if before is not None:
        parameters |= {"received": micros(before[0]), "behind": before[1]}
    return parameters


def look_at_closed(connection: Connection, wish: Wish, below: int, limit: int, look: int) -> ClosedJobs:
    """Go over at most ``look`` numbers below ``below``."""
    statement = (
        select(*_COLUMNS)
        .where(jobs.c.cursor_seq < bindparam("below"), jobs.c.cursor_seq >= bindparam("floor"), *_where(wish))
        .order_by(jobs.c.cursor_seq.desc())
        .limit(bindparam("most"))
    )
    floor = max(below - max(look, 1), 1)
    parameters = _parameters(wish) | {"below": below, "floor": floor, "most": max(limit, 0)}
    lines = lines_of(connection, statement, parameters)
    first = connection.execute(LEAST_CLOSED, {"none": 0}).scalar()
    return ClosedJobs(lines, next_below(lines, floor, limit, first))


def next_below(lines: Sequence[JobLine], floor: int, limit: int, first: int | None) -> int | None:
    """Where the next look begins; ``first`` is the least number there is."""
    reached = floor
    if lines and len(lines) >= limit:
        reached = lines[-1].cursor_seq or floor
    return reached if first is not None and reached > first else None


def _conditions(wish: Wish) -> dict[str, str]:
    wanted = {
        "verdict": wish.verdict,
        "provider": wish.provider,
        "validator_hotkey": wish.validator,
    }
    return {name: str(value) for name, value in wanted.items() if value}


def _where(wish: Wish) -> list[ColumnElement[bool]]:
    where: list[ColumnElement[bool]] = [jobs.c.parent_id.is_(None)]
    where += [jobs.c[name] == bindparam(f"is_{name}") for name in _conditions(wish)]
    if wish.text:
        where.append(_has(bindparam("text")))
    return where


def _parameters(wish: Wish) -> dict[str, Any]:
    parameters: dict[str, Any] = {f"is_{name}": value for name, value in _conditions(wish).items()}
    if wish.text:
        parameters["text"] = _pattern(wish.text)
    return parameters


def contains(text: str) -> ColumnElement[bool]:
    """Whether a job has a text in an id, a place or a problem. Case of ASCII letters is ignored."""
    return _has(literal(_pattern(text)))


def _has(pattern: ColumnElement[str]) -> ColumnElement[bool]:
    return or_(*(_LowerAscii(jobs.c[name]).like(pattern, escape="/") for name in _SEARCHED))


def _pattern(text: str) -> str:
    escaped = _lower(text).replace("/", "//").replace("%", "/%").replace("_", "/_")
    return f"%{escaped}%"


class _LowerAscii(FunctionElement[str]):
    """A text with ASCII letters made small; Postgres would make all letters small that its locale knows."""

    inherit_cache = True
    type = Text()


@compiles(_LowerAscii)
def _lower_ascii(element: _LowerAscii, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 - SQLAlchemy's own
    return f"lower({compiler.process(element.clauses, **options)})"


@compiles(_LowerAscii, "postgresql")
def _lower_ascii_on_postgres(element: _LowerAscii, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 - as above
    return f'lower(({compiler.process(element.clauses, **options)}) COLLATE "C")'


def _lower(text: str) -> str:
    """Text with ASCII letters made small, as SQLite does it."""
    return "".join(sign.lower() if sign.isascii() else sign for sign in text)
