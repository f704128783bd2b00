"""Records to plain columns and back; both stores keep what is made here, so they keep the same.

Text that came from a vendor may hold lone surrogates, which no database takes, or NULs, which Postgres does not: they
become ``?`` in the columns that are for people, and anywhere else they are a bug. Integers beyond 64 bits inside JSON
come back as floats.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import orjson

from qcompute.errors import Bug
from qcompute.ledger.times import DAY_MICROS, from_micros, micros
from qcompute.miner.job import (
    Charge,
    CostKind,
    CountsSource,
    DayCharges,
    FinishedJob,
    Job,
    NewJob,
    Nonce,
    Outcome,
    State,
    Verdict,
    is_allowed,
)
from qcompute.units import Money

Row = dict[str, Any]
"""Column name to value: str, int, bytes or None."""

NUL: Final = "\0"

_INT64: Final = range(-(2**63), 2**63)


def new_job_row(job: NewJob) -> Row:
    """The row of a job just accepted, due at once; its URL is still plain."""
    return job_row(
        Job(
            execution_id=job.execution_id,
            validator_hotkey=job.validator_hotkey,
            shots=job.shots,
            configuration_data=job.configuration_data,
            received_at=job.received_at,
            deadline_at=job.deadline_at,
            due_at=job.received_at,
            input_data_url=job.input_data_url,
        )
    )


def saved_row(before: Job, after: Job, *, has_circuit: bool) -> Row:
    """The row that replaces ``before``: a new version, not yet numbered; its URL is gone once nobody needs it.

    Raises:
        Bug: the move is not allowed, or ``after`` is another job, or no verdict says how a closing job ended.
    """
    if (before.execution_id, before.validator_hotkey) != (after.execution_id, after.validator_hotkey):
        raise Bug(f"job {before.execution_id} cannot become another one")
    if not is_allowed(before.state, after.state):
        raise Bug(f"job {before.execution_id} cannot go from {before.state} to {after.state}")
    if after.state is State.CLOSED and after.verdict is None:
        raise Bug(f"job {before.execution_id} cannot be closed without a verdict")
    row = job_row(after)
    row["version"] = _int64(before.version + 1)
    row["closed_at"] = row["cursor_seq"] = None
    if has_circuit or after.state in _ENDED:
        row["input_data_url"] = None
    return row


def stored_job(before: Job, after: Job, row: Row) -> Job:
    """`job_from` of the row that replaces ``before`` by ``after``, at a fraction of its cost.

    What ``after`` took over from ``before`` came out of the store already, so only what changed is read again.
    """
    return after.but(
        configuration_data=_read_again("configuration_data", before, after, row),
        received_at=_utc(after.received_at),
        deadline_at=_utc(after.deadline_at),
        due_at=_utc(after.due_at),
        version=row["version"],
        input_data_url=row["input_data_url"],
        submit_started_at=_utc_or_none(after.submit_started_at),
        handle=_read_again("handle", before, after, row),
        submitted_at=_utc_or_none(after.submitted_at),
        vendor_status=row["vendor_status"],
        cancel_requested_at=_utc_or_none(after.cancel_requested_at),
        error=row["error"],
        settled_at=_utc_or_none(after.settled_at),
        closed_at=_from_time(row["closed_at"]),
        cursor_seq=row["cursor_seq"],
        prepared=_read_again("prepared", before, after, row),
        placement=_read_again("placement", before, after, row),
    )


def _read_again(column: str, before: Job, after: Job, row: Row) -> Any:  # noqa: ANN401 - mappings of anything, or None
    value = getattr(after, column)
    return value if value is None or value is getattr(before, column) else _from_json(row[column])


def _utc(time: datetime) -> datetime:
    return time if time.tzinfo is UTC else time.astimezone(UTC)


def _utc_or_none(time: datetime | None) -> datetime | None:
    return None if time is None else _utc(time)


def part_row(whole: Job, part: Job) -> Row:
    """The row of a part of ``whole``, as it is added.

    Raises:
        Bug: it is no part of that job, or cannot be a new one.
    """
    if part.parent_id != whole.execution_id or whole.parent_id is not None:
        raise Bug(f"job {part.execution_id} is no part of {whole.execution_id}")
    if (part.validator_hotkey, part.circuit_sha256) != (whole.validator_hotkey, whole.circuit_sha256):
        raise Bug(f"job {part.execution_id} is not of the validator and circuit of {whole.execution_id}")
    if part.state not in _NEW_PARTS or part.submit_started_at is not None or part.version or part.input_data_url:
        raise Bug(f"job {part.execution_id} cannot begin as {part.state}")
    return job_row(part)


_NEW_PARTS: Final = frozenset({State.READY, State.SUBMITTING})
_ENDED: Final = frozenset({State.SETTLED, State.CLOSED})


def brings_forward(before: Job, after: Job) -> bool:
    """Whether a save puts the row into ``after.state``, or lets it fall due there earlier than its stage knows."""
    return before.state is not after.state or before.lane != after.lane or after.due_at < before.due_at


def job_row(job: Job) -> Row:
    """All columns of a job."""
    return {
        "execution_id": _exact(job.execution_id),
        "validator_hotkey": _exact(job.validator_hotkey),
        "shots": _int64(job.shots),
        "configuration_data": _to_json(job.configuration_data),
        "received_at": micros(job.received_at),
        "deadline_at": micros(job.deadline_at),
        "due_at": micros(job.due_at),
        "state": job.state.value,
        "verdict": None if job.verdict is None else job.verdict.value,
        "version": _int64(job.version),
        "attempts": _int64(job.attempts),
        "input_data_url": None if job.input_data_url is None else _encodable(job.input_data_url),
        "circuit_sha256": job.circuit_sha256,
        "provider": job.provider,
        "device_id": _exact(job.device_id),
        "token": _exact(job.token),
        "submit_attempts": _int64(job.submit_attempts),
        "submit_started_at": _time(job.submit_started_at),
        "estimate_amount": _amount(job.estimate),
        "estimate_currency": _currency(job.estimate),
        "provider_job_id": _exact(job.provider_job_id),
        "handle": None if job.handle is None else _to_json(job.handle),
        "submitted_at": _time(job.submitted_at),
        "vendor_status": _readable(job.vendor_status),
        "cancel_requested_at": _time(job.cancel_requested_at),
        "upload_id": _exact(job.upload_id),
        "error_code": _exact(job.error_code),
        "error": _readable(job.error),
        "settled_at": _time(job.settled_at),
        "closed_at": _time(job.closed_at),
        "cursor_seq": job.cursor_seq,
        "prepared": None if job.prepared is None else _to_json(job.prepared),
        "lane": _exact(job.lane),
        "placement": None if job.placement is None else _to_json(job.placement),
        "parent_id": _exact(job.parent_id),
    }


def job_from(row: Mapping[str, Any]) -> Job:
    """The job of a row whose URL is plain."""
    return Job(
        execution_id=row["execution_id"],
        validator_hotkey=row["validator_hotkey"],
        shots=row["shots"],
        configuration_data=_from_json(row["configuration_data"]),
        received_at=from_micros(row["received_at"]),
        deadline_at=from_micros(row["deadline_at"]),
        due_at=from_micros(row["due_at"]),
        state=State(row["state"]),
        verdict=None if row["verdict"] is None else Verdict(row["verdict"]),
        version=row["version"],
        attempts=row["attempts"],
        input_data_url=row["input_data_url"],
        circuit_sha256=row["circuit_sha256"],
        provider=row["provider"],
        device_id=row["device_id"],
        token=row["token"],
        submit_attempts=row["submit_attempts"],
        submit_started_at=_from_time(row["submit_started_at"]),
        estimate=_money(row["estimate_amount"], row["estimate_currency"]),
        provider_job_id=row["provider_job_id"],
        handle=None if row["handle"] is None else _from_json(row["handle"]),
        submitted_at=_from_time(row["submitted_at"]),
        vendor_status=row["vendor_status"],
        cancel_requested_at=_from_time(row["cancel_requested_at"]),
        upload_id=row["upload_id"],
        error_code=row["error_code"],
        error=row["error"],
        settled_at=_from_time(row["settled_at"]),
        closed_at=_from_time(row["closed_at"]),
        cursor_seq=row["cursor_seq"],
        prepared=None if row["prepared"] is None else _from_json(row["prepared"]),
        placement=None if row["placement"] is None else _from_json(row["placement"]),
        parent_id=row["parent_id"],
    )


FINISHED_COLUMNS: Final = (
    "execution_id",
    "shots",
    "verdict",
    "upload_id",
    "provider_job_id",
    "error",
    "cursor_seq",
    "closed_at",
)
"""The columns of a closed job that validators collect."""


def finished_from(row: Mapping[str, Any]) -> FinishedJob:
    """What validators collect of a closed row."""
    return FinishedJob(
        execution_id=row["execution_id"],
        shots=row["shots"],
        verdict=Verdict(row["verdict"]),
        upload_id=row["upload_id"],
        provider_job_id=row["provider_job_id"],
        error=row["error"],
        cursor_seq=row["cursor_seq"],
        closed_at=from_micros(row["closed_at"]),
    )


def charge_row(charge: Charge) -> Row:
    """All columns of a charge but the job's id."""
    return {
        "account": _exact(charge.account),
        "amount": str(charge.money.amount),
        "currency": charge.money.currency,
        "charged_at": micros(charge.charged_at),
        "settled_at": _time(charge.settled_at),
    }


def charge_from(row: Mapping[str, Any]) -> Charge:
    """The charge of a row."""
    return Charge(
        account=row["account"],
        money=Money(Decimal(row["amount"]), row["currency"]),
        charged_at=from_micros(row["charged_at"]),
        settled_at=_from_time(row["settled_at"]),
    )


def summed_by_day(rows: Iterable[tuple[int, str, str, int]]) -> list[DayCharges]:
    """The sums of rows of (days since 1970, currency, amount, how many of that amount), by day and currency.

    Decimals are added here: a database would add floats.
    """
    sums: dict[tuple[int, str], Decimal] = {}
    for day, currency, amount, count in rows:
        key = (day, currency)
        sums[key] = sums.get(key, Decimal(0)) + Decimal(amount) * count
    return [
        DayCharges(from_micros(day * DAY_MICROS).date(), Money(amount, currency))
        for (day, currency), amount in sorted(sums.items())
    ]


def outcome_row(outcome: Outcome) -> Row:
    """All columns of an outcome but the job's id."""
    return {
        "counts": None if outcome.counts is None else _to_json(outcome.counts),
        "counts_source": None if outcome.counts_source is None else outcome.counts_source.value,
        "shots_returned": None if outcome.shots_returned is None else _int64(outcome.shots_returned),
        "cost_amount": _amount(outcome.cost),
        "cost_currency": _currency(outcome.cost),
        "cost_kind": outcome.cost_kind.value,
        "message": _readable(outcome.message),
        "timestamps": _to_json(outcome.timestamps),
        "metadata": _to_json(outcome.metadata),
    }


def outcome_from(row: Mapping[str, Any]) -> Outcome:
    """The outcome of a row."""
    return Outcome(
        counts=None if row["counts"] is None else _from_json(row["counts"]),
        counts_source=None if row["counts_source"] is None else CountsSource(row["counts_source"]),
        shots_returned=row["shots_returned"],
        cost=_money(row["cost_amount"], row["cost_currency"]),
        cost_kind=CostKind(row["cost_kind"]),
        message=row["message"],
        timestamps=_from_json(row["timestamps"]),
        metadata=_from_json(row["metadata"]),
    )


def exact_text(text: str) -> str:
    """A circuit or a receipt, which must come back as it is.

    Raises:
        Bug: it holds lone surrogates or NULs.
    """
    if NUL in text:
        raise Bug("text with a NUL cannot be stored")
    return _encodable(text)


def _encodable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Bug("text with lone surrogates cannot be stored") from error
    return text


def checked_nonce(nonce: Nonce) -> Nonce:
    """The nonce, when a database can hold it.

    Raises:
        Bug: its value needs more than 64 bits, or a name in it holds lone surrogates; the caller's checks let it pass.
    """
    _int64(nonce.value_ns)
    exact_text(nonce.hotkey)
    exact_text(nonce.scope)
    return nonce


def _exact(text: str | None) -> str | None:
    return text if text is None or _is_plain(text) else exact_text(text)


def _readable(text: str | None) -> str | None:
    return text if text is None or _is_plain(text) else text.encode(errors="replace").decode().replace(NUL, "?")


def _is_plain(text: str) -> bool:
    return text.isascii() and NUL not in text


def _int64(value: int) -> int:
    if value not in _INT64:
        raise Bug(f"a number of {value.bit_length()} bits cannot be stored")
    return value


def _to_json(value: Mapping[str, Any]) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        pass
    try:
        # Takes what orjson refuses and vendors do send: integers beyond 64 bits, lone surrogates (as escapes).
        return json.dumps(value)
    except (TypeError, ValueError) as error:
        raise Bug("a value that is not JSON cannot be stored") from error


def _from_json(text: str) -> Any:  # noqa: ANN401 - the columns hold mappings of anything
    try:
        return orjson.loads(text)
    except ValueError:
        return json.loads(text)


def _time(time: datetime | None) -> int | None:
    return None if time is None else micros(time)


def _from_time(value: int | None) -> datetime | None:
    return None if value is None else from_micros(value)


def _amount(money: Money | None) -> str | None:
    return None if money is None else str(money.amount)


def _currency(money: Money | None) -> str | None:
    return None if money is None else money.currency


def _money(amount: str | None, currency: str | None) -> Money | None:
    return None if amount is None or currency is None else Money(Decimal(amount), currency)
