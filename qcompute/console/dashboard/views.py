"""What each page shows: the facts, in the words and figures of its template."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from qcompute.console.dashboard import shown
from qcompute.console.dashboard.actions import actions_for
from qcompute.console.dashboard.facts import Details, Facts, JobFacts
from qcompute.miner.heartbeat import DeviceReport
from qcompute.miner.job import State
from qcompute.miner.placement import Placement
from qcompute.units import utc_now

CHART_MINUTES: Final = 60
CHART_STEP_MINUTES: Final = 2

MAX_BARS: Final = 32
MAX_ROWS: Final = 256
"""Of a histogram, and of its table."""

ON_THE_ROAD: Final = (State.ACCEPTED, State.READY, State.SUBMITTING, State.WAITING, State.SETTLED)


async def overview(facts: Facts) -> Details:
    """The figures of the first page."""
    counts = await facts.counts()
    now = utc_now().replace(second=0, microsecond=0) + timedelta(minutes=1)
    steps = CHART_MINUTES // CHART_STEP_MINUTES
    times = [now - timedelta(minutes=CHART_STEP_MINUTES * back) for back in range(steps, -1, -1)]
    closed = await facts.closed_between(times)
    return {
        "counts": counts,
        "on_the_road": sum(counts[state] for state in ON_THE_ROAD),
        "states": ON_THE_ROAD,
        "held": counts[State.HELD],
        "closed_hour": sum(closed),
        "throughput": list(zip(times[:-1], closed, strict=True)),
        "step_minutes": CHART_STEP_MINUTES,
        "chart": json.dumps(
            {
                "kind": "line",
                "x": [int(time.timestamp()) for time in times[:-1]],
                "y": [count / CHART_STEP_MINUTES for count in closed],
                "label": "jobs a minute",
            }
        ),
        "health": await facts.health(),
        "spending": [one for one in facts.spending() if one.period == "day"],
        "accounts": facts.accounts(),
    }


def job(found: JobFacts) -> Details:
    """Everything about one job."""
    row, outcome = found.job, found.outcome
    steps = shown.road(row, utc_now())
    counts = {} if outcome is None or outcome.counts is None else outcome.counts
    total = sum(counts.values())
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    bars = sorted(ranked[:MAX_BARS])
    return {
        "job": row,
        "outcome": outcome,
        "steps": steps,
        "took": sum(step.seconds for step in steps),
        "counts_rows": [(key, count, count / total) for key, count in ranked[:MAX_ROWS]],
        "counts_left_out": max(len(ranked) - MAX_ROWS, 0),
        "counts_not_drawn": max(len(ranked) - MAX_BARS, 0),
        "chart": json.dumps(
            {
                "kind": "bars",
                "labels": [key for key, _ in bars],
                "y": [count for _, count in bars],
                "label": "shots",
            }
        ),
        "receipt": found.receipt,
        "receipt_text": "" if found.receipt is None else _indented(found.receipt.document),
        "placement": Placement.of(row.placement) if row.placement is not None else None,
        "parts": found.parts,
        "has_circuit": found.has_circuit,
        "advice": shown.advice(row),
        "actions": actions_for(row),
        "is_done": row.state is State.CLOSED,
    }


def _indented(document: str) -> str:
    return shown.words(json.dumps(json.loads(document), indent=2, ensure_ascii=False), shown.MAX_DOCUMENT)


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """One device in the words of the page."""

    account: str
    device_id: str
    device_type: str
    state: str
    is_available: bool | None
    message: str
    next_available: str
    queue: str
    qubits: str
    gates: str
    price: str
    calibration: list[tuple[str, str]]


_CALIBRATION: Final = (
    ("calibrated_at", "calibrated"),
    ("one_qubit_error", "one-qubit error"),
    ("two_qubit_error", "two-qubit error"),
    ("readout_error", "readout error"),
    ("one_qubit_seconds", "one-qubit gate"),
    ("two_qubit_seconds", "two-qubit gate"),
    ("max_shots", "shots at most"),
)
_PRICES: Final = (("perTask", "a task"), ("perShot", "a shot"), ("perMinute", "a minute"))
_MAX_WORD: Final = 200


def devices(facts: Facts) -> Details:
    """All devices of all accounts."""
    accounts = facts.accounts()
    rows = [device_row(account.name, report) for account in accounts for report in account.devices]
    return {"devices": rows, "silent": [account for account in accounts if not account.devices]}


def device_row(account: str, report: DeviceReport) -> DeviceRow:
    """One device; what its vendor says may be anything."""
    told, capability = report.availability, report.capability
    extras: dict[str, Any] = (capability.extras if capability else None) or {}
    queue = [] if told is None or told.pending_jobs is None else [f"{told.pending_jobs} jobs"]
    if told is not None and told.queue_seconds is not None:
        queue.append(f"about {shown.duration(told.queue_seconds)}")
    return DeviceRow(
        account=account,
        device_id=_word(report.device.device_id),
        device_type=_word(report.device.device_type),
        state=_word(told.availability if told else None) or "not known",
        is_available=told.is_available if told else None,
        message=_word(told.status_msg if told else None),
        next_available=_word(told.next_available if told else None),
        queue=", ".join(queue) or shown.NOTHING,
        qubits=shown.NOTHING if capability is None or capability.num_qubits is None else str(capability.num_qubits),
        gates=_word(", ".join(map(str, (capability.basis_gates if capability else None) or []))) or shown.NOTHING,
        price=_price(report),
        calibration=[(label, _figure(key, extras[key])) for key, label in _CALIBRATION if extras.get(key) is not None],
    )


def _price(report: DeviceReport) -> str:
    prices = report.pricing or {}
    told = [f"{prices[key]:g} {report.currency} {label}" for key, label in _PRICES if prices.get(key)]
    return ", ".join(told) or ("free" if report.pricing else "not known")


def _figure(key: str, value: object) -> str:
    if isinstance(value, float | int) and not isinstance(value, bool):
        if key.endswith("_seconds"):
            return f"{value * 1e9:.3g} ns"
        return f"{value:.3g}" if isinstance(value, float) else str(value)
    return _word(str(value))


def _word(text: str | None) -> str:
    return shown.words(text, _MAX_WORD)


async def validators(facts: Facts) -> Details:
    """Who asked."""
    visits = facts.visitors()
    open_jobs = await facts.open_by_validator()
    known = {one.hotkey for one in visits}
    return {
        "visits": [
            {
                "hotkey": one.hotkey,
                "asked": one.asked,
                "refused": one.refused,
                "reasons": one.reasons.most_common(),
                "last": datetime.fromtimestamp(one.last_at, UTC) if one.last_at else None,
                "open": open_jobs.get(one.hotkey, 0),
            }
            for one in visits
        ],
        "unseen": sorted((hotkey, count) for hotkey, count in open_jobs.items() if hotkey not in known),
        "strangers": sorted(facts.strangers().items(), key=lambda item: -item[1]),
    }
