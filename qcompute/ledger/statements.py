"""The SQL statements of the ledger that every database understands; `qcompute.ledger.dialect` has the others.

Each is built once, so SQLAlchemy compiles each once.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    LargeBinary,
    bindparam,
    case,
    delete,
    func,
    insert,
    literal_column,
    select,
    update,
)

from qcompute.ledger.rows import FINISHED_COLUMNS
from qcompute.ledger.schema import charges, circuits, jobs, meta, nonces, outcomes, owners, receipts, used_nonces
from qcompute.ledger.times import DAY_MICROS
from qcompute.miner.job import SPLIT_LANE, State


def until_deadline(due: ColumnElement[int]) -> ColumnElement[int]:
    """``due``, or the job's deadline where that comes first."""
    return case((jobs.c.deadline_at < due, jobs.c.deadline_at), else_=due)


# Reading. Parameters: see each bindparam; times are microseconds.

JOB: Final = select(jobs).where(jobs.c.execution_id == bindparam("id"))
CIRCUIT: Final = select(circuits.c.text).where(
    circuits.c.execution_id
    == func.coalesce(
        select(jobs.c.parent_id).where(jobs.c.execution_id == bindparam("id")).scalar_subquery(), bindparam("id")
    )
)
OUTCOME: Final = select(outcomes).where(outcomes.c.execution_id == bindparam("id"))
PARTS: Final = select(jobs).where(jobs.c.parent_id == bindparam("id"))
AT_VENDOR: Final = select(jobs).where(jobs.c.provider_job_id == bindparam("vendors_id"))
"""Without an index: an operator asks it once in a while, and every job of the road would pay for one."""
RECEIPT: Final = select(receipts.c.document).where(receipts.c.execution_id == bindparam("id"))

DUE: Final = (
    select(jobs)
    .where(jobs.c.state == bindparam("state"), jobs.c.lane == bindparam("lane"), jobs.c.due_at <= bindparam("now"))
    .order_by(jobs.c.due_at, jobs.c.execution_id)
    .limit(bindparam("most"))
)
POLLS_DUE: Final = (
    select(
        jobs.c.execution_id,
        jobs.c.version,
        jobs.c.handle,
        jobs.c.vendor_status,
        jobs.c.submitted_at,
    )
    .where(jobs.c.state == bindparam("state"), jobs.c.lane == bindparam("lane"), jobs.c.due_at <= bindparam("due_by"))
    .where(jobs.c.attempts == literal_column("0"), jobs.c.error_code.is_(None), jobs.c.handle.is_not(None))
    .where(jobs.c.cancel_requested_at.is_(None), jobs.c.deadline_at > bindparam("now"))
    .order_by(jobs.c.due_at, jobs.c.execution_id)
    .limit(bindparam("most"))
)
NEXT_DUE: Final = select(func.min(jobs.c.due_at)).where(
    jobs.c.state == bindparam("state"), jobs.c.lane == bindparam("lane")
)
NEXT_LANE: Final = (
    select(jobs.c.lane)
    .where(jobs.c.state == bindparam("state"), jobs.c.lane > bindparam("after"))
    .order_by(jobs.c.state, jobs.c.lane)
    .limit(literal_column("1"))
)
"""The lane with work in a state that comes next in the order of names: a database asked for all of them at once would
read every row."""

OPEN_JOBS: Final = (
    select(jobs.c.state, jobs.c.validator_hotkey, jobs.c.parent_id.is_(None), func.count())
    .where(jobs.c.cursor_seq.is_(None))
    .group_by(jobs.c.state, jobs.c.validator_hotkey, jobs.c.parent_id.is_(None))
)
"""How many jobs that are not closed each validator has in each state, and how many parts of jobs."""
OPEN_WORK: Final = (
    select(
        jobs.c.state,
        jobs.c.provider,
        jobs.c.device_id,
        func.count(),
        func.min(jobs.c.received_at),
        func.min(jobs.c.settled_at),
    )
    .where(jobs.c.state.in_([literal_column(f"'{state}'") for state in State if state is not State.CLOSED]))
    .group_by(jobs.c.state, jobs.c.provider, jobs.c.device_id)
)
"""By state, so that an index finds the few open jobs among the many closed ones."""
CLOSED_RANGE: Final = select(func.min(jobs.c.cursor_seq), func.max(jobs.c.cursor_seq))
"""The numbers of the first and the last closed job; NULL when there is none."""

SEQ_AT: Final = (
    select(jobs.c.cursor_seq).where(jobs.c.closed_at <= bindparam("micros")).order_by(jobs.c.closed_at.desc()).limit(1)
)
"""The number of the last job closed by a time."""
FINISHED: Final = (
    select(*(jobs.c[name] for name in FINISHED_COLUMNS))
    .where(jobs.c.cursor_seq > bindparam("seq"), jobs.c.parent_id.is_(None))
    .order_by(jobs.c.cursor_seq)
    .limit(bindparam("most"))
)

# Not a parameter: Postgres would take the one in SELECT and the one in GROUP BY for two different numbers.
_DAY = charges.c.charged_at.op("/")(literal_column(str(DAY_MICROS)))
CHARGES_BY_DAY: Final = (
    select(_DAY, charges.c.currency, charges.c.amount, func.count())
    .where(charges.c.account == bindparam("account"), charges.c.charged_at >= bindparam("since"))
    .group_by(_DAY, charges.c.currency, charges.c.amount)
)
"""Equal amounts are counted together: most jobs of a device cost the same."""
OPEN_CHARGES: Final = select(charges).where(charges.c.account == bindparam("account"), charges.c.settled_at.is_(None))

# Writing: what a batch must know first, then the changes.

USE_NONCE: Final = insert(used_nonces)
FORGET_NONCES: Final = tuple(
    delete(table).where(table.c.value_ns < bindparam("before")) for table in (nonces, used_nonces)
)

LATEST: Final = select(meta.c.last_cursor_seq, meta.c.last_closed_at).with_for_update()
"""The place of the job closed last. Where several write, nobody else gets it before the transaction ends, so places are
given in the order of the commits. (SQLite has one writer, and no such words.)"""
FENCE: Final = select(owners.c.fence).where(owners.c.lane == bindparam("claimed"))
FIRST_CLAIM: Final = insert(owners).values(fence=1, beat=0)
CLAIM: Final = (
    update(owners)
    .where(owners.c.lane == bindparam("claimed"))
    .values(fence=owners.c.fence + 1, beat=0, holder=bindparam("by"), taken_at=bindparam("at"))
)
INSERT_JOB: Final = insert(jobs)
REPLACE_JOB: Final = (
    update(jobs)
    .where(jobs.c.execution_id == bindparam("key"), jobs.c.version == bindparam("was"))
    # Encrypting an unchanged URL again at every save would be work for nothing.
    .values(
        input_data_url=case(
            (bindparam("keeps_url", type_=Boolean), jobs.c.input_data_url), else_=bindparam("url", type_=LargeBinary)
        )
    )
)
"""Further columns are set by parameters of their names. A row that is not of the version ``was`` stays as it is."""
POSTPONE: Final = (
    update(jobs)
    .where(jobs.c.execution_id == bindparam("key"), jobs.c.version == bindparam("was"))
    .values(due_at=until_deadline(bindparam("due", type_=BigInteger)))
)
FORGET_CHARGES: Final = delete(charges).where(
    charges.c.charged_at < bindparam("before"), charges.c.settled_at.is_not(None)
)
MOVE_LATEST: Final = update(meta).values(last_cursor_seq=bindparam("seq"), last_closed_at=bindparam("micros"))

_whole = jobs.alias("whole")
FIRST_NEEDED: Final = select(func.min(jobs.c.closed_at)).where(
    jobs.c.parent_id == _whole.c.execution_id, _whole.c.state == State.WAITING.value, _whole.c.lane == SPLIT_LANE
)
"""When the first of those parts was closed whose whole still waits for others; NULL when there is none."""
_CLOSED_FIRST = (
    select(jobs.c.execution_id)
    .where(jobs.c.closed_at < bindparam("closed_before"))
    .order_by(jobs.c.closed_at)
    .limit(bindparam("most"))
)
PURGE: Final = delete(jobs).where(jobs.c.execution_id.in_(_CLOSED_FIRST))
"""Takes the parts of each job along."""
