"""Every SQL statement of the ledger. Each is built once, so SQLAlchemy compiles each once."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    LargeBinary,
    Table,
    Text,
    bindparam,
    case,
    column,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects.sqlite import Insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from qcompute.ledger.rows import FINISHED_COLUMNS
from qcompute.ledger.schema import charges, circuits, jobs, meta, nonces, outcomes, receipts, used_nonces
from qcompute.ledger.times import DAY_MICROS


def _put(table: Table, *key: str) -> Insert:
    """Insert rows, replacing those of the same key."""
    statement = sqlite_insert(table)
    replaced = {column.name: statement.excluded[column.name] for column in table.c if column.name not in key}
    return statement.on_conflict_do_update(index_elements=list(key), set_=replaced)


# Reading. Parameters: see each bindparam; times are microseconds.

JOB: Final = select(jobs).where(jobs.c.execution_id == bindparam("id"))
CIRCUIT: Final = select(circuits.c.text).where(circuits.c.execution_id == bindparam("id"))
OUTCOME: Final = select(outcomes).where(outcomes.c.execution_id == bindparam("id"))
RECEIPT: Final = select(receipts.c.document).where(receipts.c.execution_id == bindparam("id"))

DUE: Final = (
    select(jobs)
    .where(jobs.c.state == bindparam("state"), jobs.c.due_at <= bindparam("now"))
    .order_by(jobs.c.due_at, jobs.c.execution_id)
    .limit(bindparam("most"))
)
NEXT_DUE: Final = select(func.min(jobs.c.due_at)).where(jobs.c.state == bindparam("state"))

SEQ_AT: Final = (
    select(jobs.c.cursor_seq).where(jobs.c.closed_at <= bindparam("micros")).order_by(jobs.c.closed_at.desc()).limit(1)
)
"""The number of the last job closed by a time."""
FINISHED: Final = (
    select(*(jobs.c[name] for name in FINISHED_COLUMNS))
    .where(jobs.c.cursor_seq > bindparam("seq"))
    .order_by(jobs.c.cursor_seq)
    .limit(bindparam("most"))
)

_DAY = charges.c.charged_at // DAY_MICROS
CHARGES_BY_DAY: Final = (
    select(_DAY, charges.c.currency, charges.c.amount, func.count())
    .where(charges.c.account == bindparam("account"), charges.c.charged_at >= bindparam("since"))
    .group_by(_DAY, charges.c.currency, charges.c.amount)
)
"""Equal amounts are counted together: most jobs of a device cost the same."""
OPEN_CHARGES: Final = select(charges).where(charges.c.account == bindparam("account"), charges.c.settled_at.is_(None))

# Writing: what a batch must know first, then the changes.

# The keys of a batch are one parameter, a JSON list, so a statement is the same text for any number of them. An outer
# join, because SQLite then goes through the keys and looks each up; for row values in a list it reads the whole table.

_KEYS = func.json_each(bindparam("keys", type_=Text)).table_valued(column("value", Text))


def _key(place: int) -> ColumnElement[Any]:
    return func.json_extract(_KEYS.c.value, f"$[{place}]")


GREATEST_NONCES: Final = select(nonces).select_from(
    _KEYS.outerjoin(nonces, (nonces.c.hotkey == _key(0)) & (nonces.c.scope == _key(1)))
)
"""For each pair of hotkey and scope in ``keys`` its row, or NULLs."""
USED_NONCES: Final = select(used_nonces).select_from(
    _KEYS.outerjoin(
        used_nonces,
        (used_nonces.c.hotkey == _key(0)) & (used_nonces.c.scope == _key(1)) & (used_nonces.c.value_ns == _key(2)),
    )
)
"""For each triple of hotkey, scope and value in ``keys`` its row, or NULLs."""
RAISE_NONCE: Final = _put(nonces, "hotkey", "scope")
USE_NONCE: Final = insert(used_nonces)
FORGET_NONCES: Final = tuple(
    delete(table).where(table.c.value_ns < bindparam("before")) for table in (nonces, used_nonces)
)

KNOWN_JOBS: Final = select(jobs.c.execution_id, jobs.c.version, jobs.c.state).select_from(
    _KEYS.outerjoin(jobs, jobs.c.execution_id == _KEYS.c.value)
)
"""For each id in ``keys`` what is needed of its row, or NULLs."""
INSERT_JOB: Final = insert(jobs)
REPLACE_JOB: Final = (
    update(jobs)
    .where(jobs.c.execution_id == bindparam("key"))
    # Encrypting an unchanged URL again at every save would be work for nothing.
    .values(
        input_data_url=case((bindparam("keeps_url"), jobs.c.input_data_url), else_=bindparam("url", type_=LargeBinary))
    )
)
"""Further columns are set by parameters of their names."""
PUT_CIRCUIT: Final = _put(circuits, "execution_id")
PUT_OUTCOME: Final = _put(outcomes, "execution_id")
PUT_RECEIPT: Final = _put(receipts, "execution_id")
PUT_CHARGE: Final = _put(charges, "execution_id")
FORGET_CHARGES: Final = delete(charges).where(
    charges.c.charged_at < bindparam("before"), charges.c.settled_at.is_not(None)
)
MOVE_LATEST: Final = update(meta).values(last_cursor_seq=bindparam("seq"), last_closed_at=bindparam("micros"))

_CLOSED_FIRST = (
    select(jobs.c.execution_id)
    .where(jobs.c.closed_at < bindparam("closed_before"))
    .order_by(jobs.c.closed_at)
    .limit(bindparam("most"))
)
PURGE: Final = delete(jobs).where(jobs.c.execution_id.in_(_CLOSED_FIRST))
"""Takes the parts of each job along."""
