"""``GET /metrics``: the daemon's figures for Prometheus, read when it asks.

A scrape costs a few milliseconds of the event loop and one look at the open jobs in a reader's thread. Both are done
at most once a second, however many ask: what the axon answers must not wait for who watches it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from qcompute import meters
from qcompute.ledger.contract import OpenWork
from qcompute.meters import Reading, Step
from qcompute.miner.budget import Budgets
from qcompute.miner.heartbeat import can_take_jobs
from qcompute.miner.job import Job, State
from qcompute.miner.parts import Parts
from qcompute.units import utc_now

KEPT_SECONDS: Final = 1.0
"""Scrapes within this time get the same answer."""

LAG_SECONDS: Final = 0.5
"""How often the event loop is asked how late it is."""


class DaemonMetrics:
    """Reads the gauges, hears the moves of jobs, and watches the event loop as a side task of the daemon."""

    name = "metrics"

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._asking = asyncio.Lock()
        self._answers: dict[str, tuple[float, bytes, str]] = {}
        self._stopped = asyncio.Event()

    @property
    def facts(self) -> dict[str, str | int]:
        """Nothing for the ready file."""
        return {}

    async def start(self) -> None:
        """Hear of every job that moves from now on."""
        self._parts.road.on_move.append(count_move)

    async def run(self) -> None:
        """Measure how late the event loop is, until `stop`."""
        loop = asyncio.get_running_loop()
        while not self._stopped.is_set():
            asked = loop.time()
            await asyncio.sleep(LAG_SECONDS)
            meters.event_loop_lag(max(loop.time() - asked - LAG_SECONDS, 0.0))

    async def stop(self) -> None:
        """End at the next look."""
        self._stopped.set()

    async def serve(self, request: Request) -> Response:
        """Answer one scrape, in the format it asks for."""
        body, content_type = await self.text(request.headers.get("accept", ""))
        return Response(body, headers={"Content-Type": content_type})

    async def text(self, accept: str) -> tuple[bytes, str]:
        """All metrics as text, at most `KEPT_SECONDS` old, and the content type.

        Raises:
            StoreError: the database failed.
        """
        wanted = "openmetrics" if "application/openmetrics-text" in accept else "text"
        async with self._asking:
            made_at, body, content_type = self._answers.get(wanted, (float("-inf"), b"", ""))
            if time.monotonic() - made_at >= KEPT_SECONDS:
                readings = await read_all(self._parts)
                body, content_type = meters.exposition(accept, readings)
                self._answers[wanted] = (time.monotonic(), body, content_type)
            return body, content_type


def count_move(before: Job, after: Job) -> None:
    """Count what a stored move ended: a step of the road, a job. Parts of a job are no jobs of their own."""
    if before.state is after.state or after.parent_id is not None:
        return
    if after.state is State.WAITING and before.state is State.SUBMITTING and after.submitted_at is not None:
        meters.job_step(Step.PREPARE, (after.submitted_at - after.received_at).total_seconds())
    elif after.state is State.SETTLED and after.verdict is not None:
        meters.job_ended(after.verdict)
        if after.submitted_at is not None and after.settled_at is not None:
            meters.job_step(Step.VENDOR, (after.settled_at - after.submitted_at).total_seconds())
    elif after.state is State.CLOSED and after.closed_at is not None and after.settled_at is not None:
        meters.job_step(Step.DELIVER, (after.closed_at - after.settled_at).total_seconds())


async def read_all(parts: Parts) -> list[Reading]:
    """Every gauge's values now."""
    counts = await parts.ledger.count_by_state()
    work = await parts.ledger.open_work()
    return [
        *(meters.JOBS.read(count, state.value) for state, count in counts.items()),
        *_of_work(work),
        *_of_accounts(parts),
        *_of_budgets(parts.fleet.budgets),
        *_of_chain(parts),
        meters.ACCEPTING.read(parts.intake.is_open),
        *(meters.WORKING.read(duty.is_ours, duty.lane) for duty in parts.duties),
    ]


def _of_work(work: Sequence[OpenWork]) -> Iterator[Reading]:
    now = utc_now()
    for state in State:
        if state is State.CLOSED:
            continue
        ages = [(now - one.oldest_received_at).total_seconds() for one in work if one.state is state]
        yield meters.OLDEST_JOB_AGE.read(max([0.0, *ages]), state.value)
    for one in work:
        if one.account is not None and one.state in {State.SUBMITTING, State.WAITING}:
            yield meters.OPEN_JOBS.read(one.jobs, one.account, one.device_id or "", one.state.value)
    held: dict[str, int] = {}
    for one in work:
        if one.state is State.HELD:
            held[one.account or ""] = held.get(one.account or "", 0) + one.jobs
    yield from (meters.HELD_JOBS.read(jobs, account) for account, jobs in held.items())
    settled = [one for one in work if one.state is State.SETTLED]
    yield meters.DELIVERIES_WAITING.read(sum(one.jobs for one in settled))
    ages = [(now - one.oldest_settled_at).total_seconds() for one in settled if one.oldest_settled_at is not None]
    yield meters.OLDEST_DELIVERY_AGE.read(max([0.0, *ages]))


def _of_accounts(parts: Parts) -> Iterator[Reading]:
    trouble = parts.heartbeat.trouble
    for account in parts.fleet.accounts:
        is_up = account.offline_because is None and account.key not in trouble
        yield meters.ACCOUNT_UP.read(is_up, account.key, account.vendor)
        for report in parts.heartbeat.devices_of(account.key):
            device = report.device.device_id
            yield meters.DEVICE_AVAILABLE.read(can_take_jobs(report), account.key, device)
            pending = report.availability.pending_jobs if report.availability is not None else None
            if pending is not None:
                yield meters.DEVICE_PENDING.read(pending, account.key, device)


def _of_budgets(budgets: Budgets) -> Iterator[Reading]:
    for document in budgets.documents():
        account, currency = document["account"], document["currency"]
        yield meters.BUDGET_RESERVED.read(_float(document["reserved"]), account, currency)
        if document["per_job"] is not None:
            yield meters.BUDGET_LIMIT.read(_float(document["per_job"]), account, currency, "job")
        for period, figures in document["periods"].items():
            yield meters.BUDGET_COMMITTED.read(_float(figures["committed"]), account, currency, period)
            if figures["limit"] is not None:
                yield meters.BUDGET_LIMIT.read(_float(figures["limit"]), account, currency, period)


def _of_chain(parts: Parts) -> Iterator[Reading]:
    watch = parts.watch
    yield meters.CHAIN_FAILING.read(watch.is_failing)
    if watch.current is not None and watch.age_seconds is not None:
        yield meters.CHAIN_AGE.read(watch.age_seconds)
        yield meters.REGISTERED.read(parts.signer.hotkey in watch.current.neurons)


def _float(amount: Any) -> float:  # noqa: ANN401 - decimal text of a document
    """Prometheus has floats only; what is counted stays exact in the ledger."""
    return float(Decimal(amount))
