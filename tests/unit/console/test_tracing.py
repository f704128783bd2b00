"""Traces of closed jobs, as a collector gets them."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_asyncio
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from pydantic import AnyHttpUrl

from qcompute.console.tracing import LAST_SECONDS, QUEUE_SPANS, Tracing, trace_id_of
from qcompute.miner.job import Job, State, Verdict
from qcompute.miner.watching import TracingSettings
from qcompute.units import DeviceId, ExecutionId, Hotkey, ProviderKey
from tests.receivers import Receiver, attributes_of
from tests.scene import until_true

START = datetime(2026, 11, 21, 12, 0, 0, 123456, tzinfo=UTC)
HIDDEN = "https://bucket.example/circuit?signature=hidden"


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


CLOSED = Job(
    ExecutionId("job-1"),
    Hotkey("5Validator"),
    100,
    {"note": "hidden"},
    START,
    at(1000),
    at(9),
    state=State.CLOSED,
    verdict=Verdict.SUCCEEDED,
    input_data_url=HIDDEN,
    provider=ProviderKey("ionq"),
    device_id=DeviceId("aria"),
    submit_attempts=2,
    submit_started_at=at(2),
    submitted_at=at(3),
    settled_at=at(7),
    closed_at=at(9),
    error="hidden",
)
REFUSED = replace(
    CLOSED,
    execution_id=ExecutionId("job-2"),
    verdict=Verdict.REFUSED,
    submit_started_at=None,
    submitted_at=None,
    error_code="shots",
)


STEPS = (("job", 0, 9), ("prepare", 0, 2), ("submit", 2, 3), ("wait", 3, 7), ("deliver", 7, 9))


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[Receiver]:
    service = Receiver()
    await service.start()
    yield service
    await service.stop()


def road() -> Any:
    return SimpleNamespace(on_move=[])


def close(on: Any, *jobs: Job) -> None:
    for job in jobs:
        for hear in on.on_move:
            hear(replace(job, state=State.SETTLED, closed_at=None), job)


async def test_a_trace_has_each_step_with_the_row_s_own_times(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QCOMPUTE_SECRET_COLLECTOR", "collector-token")
    on = road()
    endpoint = AnyHttpUrl(f"{receiver.url}/v1/traces")
    tracing = Tracing(TracingSettings(endpoint=endpoint, token="collector", service_name="mine"), on)
    await tracing.start()
    close(on, CLOSED, REFUSED, replace(CLOSED, parent_id=ExecutionId("whole")))
    await tracing.stop()
    spans = list(receiver.spans())
    assert {(one.path, one.headers["authorization"]) for one in receiver.received} == {
        ("/v1/traces", "Bearer collector-token")
    }
    assert all(resource["service.name"] == "mine" for resource, _ in spans)
    done = {span.name: span for _, span in spans if span.trace_id == trace_id_of(CLOSED.execution_id).to_bytes(16)}
    times = {name: (span.start_time_unix_nano // 1000, span.end_time_unix_nano // 1000) for name, span in done.items()}
    micros = round(START.timestamp() * 1_000_000)
    assert times == {
        name: (micros + began * 1_000_000, micros + ended * 1_000_000)
        for name, began, ended in (
            ("job", 0, 9),
            ("prepare", 0, 2),
            ("submit", 2, 3),
            ("wait", 3, 7),
            ("deliver", 7, 9),
        )
    }
    root = done["job"].span_id
    assert {span.parent_span_id for name, span in done.items() if name != "job"} == {root}
    assert done["job"].parent_span_id == b""
    assert attributes_of(done["job"]) == {
        "qcompute.execution_id": "job-1",
        "qcompute.verdict": "succeeded",
        "qcompute.provider": "ionq",
        "qcompute.device": "aria",
        "qcompute.shots": 100,
        "qcompute.submit_attempts": 2,
    }
    assert b"hidden" not in b"".join(one.body for one in receiver.received)
    others = {span.name: span for _, span in spans if span.span_id not in {one.span_id for one in done.values()}}
    assert set(others) == {"job", "prepare", "deliver"}, "what never reached a vendor"
    assert others["job"].status.code == Status.STATUS_CODE_ERROR
    assert attributes_of(others["job"])["qcompute.error_code"] == "shots"


async def test_a_job_is_the_same_trace_whoever_sends_it(receiver: Receiver) -> None:
    for _ in range(2):
        on = road()
        tracing = Tracing(TracingSettings(endpoint=AnyHttpUrl(receiver.url)), on)
        await tracing.start()
        close(on, CLOSED)
        await tracing.stop()
    ids = [(span.trace_id, span.span_id, span.name) for _, span in receiver.spans()]
    assert len(ids) == 10
    assert len(set(ids)) == 5


async def test_a_collector_that_is_dead_costs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """One line in the log, no wait for those who close jobs, none at the end, and a bounded queue."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    on = road()
    tracing = Tracing(TracingSettings(endpoint=AnyHttpUrl(f"http://127.0.0.1:{port}")), on)
    await tracing.start()
    began = time.thread_time()
    for _ in range(QUEUE_SPANS // 5 + 500):
        close(on, CLOSED)
    per_job = (time.thread_time() - began) / (QUEUE_SPANS // 5 + 500)
    assert per_job < 0.002
    loop = asyncio.get_running_loop()
    began = loop.time()
    await tracing.stop()
    assert loop.time() - began < LAST_SECONDS + 1
    await until_true(lambda: "traces are not delivered" in caplog.text, what="the line in the log", seconds=30)
    assert len([record for record in caplog.records if record.name.startswith("opentelemetry")]) == 0
