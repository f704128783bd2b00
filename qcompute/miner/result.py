"""From a vendor's receipt to our outcome: counts in the one bit order, cost with its kind, the vendor's own words."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any, Final

from qcompute.circuits.counts import normalize_counts
from qcompute.circuits.measurement import MeasurementMap
from qcompute.errors import BadReply
from qcompute.miner.job import CostKind, CountsSource, Job, Outcome
from qcompute.miner.providers.base import JobHandle, JobReceipt
from qcompute.units import Counts, Money

MAX_MESSAGE: Final = 1000
"""Characters of a vendor's text that are kept and passed on."""


def complete_handle(handle: JobHandle, prepared: dict[str, Any] | None) -> JobHandle:
    """``handle`` with what was written down before the submit: how the result is read, the place in the pack."""
    if not prepared:
        return handle
    measurement = prepared.get("measurement")
    return handle.model_copy(
        update={
            "measurement": None if measurement is None else MeasurementMap.model_validate(measurement),
            "pack_index": prepared.get("pack_index"),
        }
    )


def succeeded(job: Job, receipt: JobReceipt, *, num_clbits: int | None) -> Outcome:
    """The outcome of a completed vendor job.

    ``num_clbits`` is the circuit's number of classical bits; None when it is not known, which leaves the keys' length
    unchecked.

    Raises:
        BadReply: the receipt has no counts, or counts that cannot be right; the message names what is wrong.
    """
    counts = _counts(receipt, shots=job.shots, num_clbits=num_clbits)
    cost, kind = _cost(job, receipt)
    return Outcome(
        counts=counts,
        counts_source=_source(receipt),
        shots_returned=sum(counts.values()),
        cost=cost,
        cost_kind=kind,
        message=None,
        timestamps=dict(receipt.timestamps or {}),
        metadata=dict(receipt.metadata or {}),
    )


def ended(job: Job, receipt: JobReceipt | None, *, message: str) -> Outcome:
    """The outcome of a vendor job that failed or was cancelled; ``message`` is the best text there is."""
    cost, kind = _cost(job, receipt) if receipt is not None else (None, CostKind.UNKNOWN)
    return Outcome(
        counts=None,
        counts_source=None,
        shots_returned=None,
        cost=cost,
        cost_kind=kind,
        message=message[:MAX_MESSAGE],
        timestamps=dict(receipt.timestamps or {}) if receipt else {},
        metadata=dict(receipt.metadata or {}) if receipt else {},
    )


def failure_text(receipt: JobReceipt | None, seen: str | None) -> str:
    """The vendor's own failure text: what was seen while polling, else what the receipt carries."""
    carried = (receipt.metadata or {}).get("message") if receipt else None
    text = seen or (carried if isinstance(carried, str) else None)
    return text or "the device reported a failure and gave no reason"


def _counts(receipt: JobReceipt, *, shots: int, num_clbits: int | None) -> Counts:
    raw = (receipt.results or {}).get("measurementCounts")
    if raw is None:
        raise BadReply("the vendor's result has no measurementCounts", field="results.measurementCounts")
    return normalize_counts(raw, shots=shots, num_clbits=num_clbits)


def _source(receipt: JobReceipt) -> CountsSource:
    word: Any = (receipt.metadata or {}).get("counts_source", CountsSource.MEASURED)
    return CountsSource.MEASURED if word == CountsSource.MEASURED else CountsSource.SAMPLED


def _cost(job: Job, receipt: JobReceipt) -> tuple[Money | None, CostKind]:
    metadata = receipt.metadata or {}
    if receipt.cost is not None and math.isfinite(receipt.cost):
        currency = metadata.get("currency", "USD")
        try:
            money = Money(Decimal(str(receipt.cost)), str(currency))
        except ValueError:
            return None, CostKind.UNKNOWN
        return money, _cost_kind(metadata.get("cost_kind"))
    if job.estimate is not None:
        return job.estimate, CostKind.OUR_ESTIMATE
    return None, CostKind.UNKNOWN


def _cost_kind(word: object) -> CostKind:
    if word is None:
        return CostKind.ACTUAL
    try:
        return CostKind(str(word))
    except ValueError:
        return CostKind.UNKNOWN
