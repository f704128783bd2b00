"""What is counted when a job moves, and what a scrape reads of the ledger."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from qcompute import meters
from qcompute.console.metrics import DaemonMetrics, count_move
from qcompute.ledger.memory import MemoryLedger
from qcompute.miner.budget import Budgets
from qcompute.miner.job import Job, State, Verdict
from qcompute.testing.ledger_records import accepted, brought_to
from qcompute.units import DeviceId, ExecutionId, Hotkey, ProviderKey, utc_now

START = datetime(2026, 11, 21, tzinfo=UTC)


def value(name: str, **labels: str) -> float:
    return meters.REGISTRY.get_sample_value(name, labels) or 0.0


def steps() -> dict[str, tuple[float, float]]:
    name = "qcompute_job_step_seconds"
    return {step: (value(f"{name}_count", step=step), value(f"{name}_sum", step=step)) for step in meters.Step}


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


WHOLE = Job(ExecutionId("a"), Hotkey("5V"), 10, {}, START, at(99), START)


def road(job: Job) -> list[Job]:
    """The job in each of its states."""
    waiting = replace(job, state=State.WAITING, submit_started_at=at(1), submitted_at=at(2))
    settled = replace(waiting, state=State.SETTLED, verdict=Verdict.CANCELLED, settled_at=at(5))
    return [
        job,
        replace(job, state=State.READY),
        replace(job, state=State.SUBMITTING),
        waiting,
        settled,
        replace(settled, state=State.CLOSED, closed_at=at(9)),
    ]


def go(states: list[Job]) -> None:
    for before, after in pairwise(states):
        count_move(before, after)


def test_each_step_is_counted_with_the_row_s_own_times() -> None:
    before, ended = steps(), value("qcompute_jobs_ended_total", verdict="cancelled")
    go(road(WHOLE))
    after = steps()
    counted = {step: (after[step][0] - before[step][0], round(after[step][1] - before[step][1], 6)) for step in after}
    assert counted == {"prepare": (1, 2), "vendor": (1, 3), "deliver": (1, 4)}
    assert value("qcompute_jobs_ended_total", verdict="cancelled") == ended + 1


def test_what_a_job_did_not_do_is_not_counted() -> None:
    before = steps()
    go(road(replace(WHOLE, parent_id=ExecutionId("whole"))))
    held = replace(road(WHOLE)[3], state=State.HELD)
    count_move(held, replace(held, state=State.WAITING))
    count_move(WHOLE, replace(WHOLE, attempts=1))
    refused = replace(WHOLE, state=State.SETTLED, verdict=Verdict.REFUSED, settled_at=at(1))
    count_move(WHOLE, refused)
    assert steps() == before


def test_a_clock_that_was_set_back_makes_no_negative_time() -> None:
    before = steps()["deliver"]
    settled = road(WHOLE)[4]
    count_move(settled, replace(settled, state=State.CLOSED, closed_at=at(-50)))
    assert steps()["deliver"] == (before[0] + 1, before[1])


def parts(ledger: MemoryLedger) -> Any:
    return SimpleNamespace(
        ledger=ledger,
        heartbeat=SimpleNamespace(trouble={}),
        fleet=SimpleNamespace(accounts=[], budgets=Budgets([])),
        watch=SimpleNamespace(current=None, age_seconds=None, is_failing=True),
        intake=SimpleNamespace(is_open=False),
        duties=[],
        road=SimpleNamespace(on_move=[]),
    )


async def readings(metrics: DaemonMetrics) -> dict[tuple[str, ...], float]:
    text, _ = await metrics.text("")
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


async def test_a_scrape_reads_the_ledger_at_most_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = MemoryLedger()
    metrics = DaemonMetrics(parts(ledger))
    old = utc_now() - timedelta(seconds=100)
    held = await brought_to(ledger, "h", State.HELD, received_at=old)
    await ledger.save(held, replace(held, error="why"))
    seen = await readings(metrics)
    assert seen["qcompute_jobs", "held"] == 1
    assert seen["qcompute_held_jobs", ""] == 1
    assert 100 <= seen["qcompute_oldest_job_age_seconds", "held"] < 160
    assert seen["qcompute_oldest_job_age_seconds", "accepted"] == 0
    assert seen["qcompute_deliveries_waiting",] == 0
    assert seen["qcompute_accepting_jobs",] == 0
    assert seen["qcompute_chain_failing",] == 1
    assert ("qcompute_chain_age_seconds",) not in seen
    assert ("qcompute_registered",) not in seen
    await accepted(ledger, "new")
    ready = await brought_to(ledger, "s", State.READY)
    placed = replace(ready, state=State.SUBMITTING, provider=ProviderKey("x"), device_id=DeviceId("d"))
    await ledger.save(ready, placed)
    assert await readings(metrics) == seen, "the same answer"
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 1.0)
    again = await readings(metrics)
    assert again["qcompute_jobs", "accepted"] == 1
    assert again["qcompute_account_jobs", "x", "d", "submitting"] == 1


def test_an_answer_nobody_foresaw_is_counted_too() -> None:
    before = value("qcompute_axon_request_seconds_count", outcome="other")
    meters.axon_request(418, 0.1)
    assert value("qcompute_axon_request_seconds_count", outcome="other") == before + 1
