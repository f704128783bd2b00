"""OpenTelemetry traces of jobs: one for each, made when it closes, from the times that stand in its row.

Nothing is measured twice and nothing is kept in memory while a job is on the road: a job that a restart interrupted has
the same trace as any other, under an id that follows from its own. Spans are sent by a thread of the library's; a
collector that is down costs what waits in its queue, and then the oldest jobs are left out. Nothing of a circuit, no
URL and no validator is told. Imported only where ``tracing.endpoint`` is set.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import threading
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode
from typing_extensions import override

from qcompute import __version__
from qcompute.connections.credentials import named
from qcompute.miner.job import Job, State, Verdict
from qcompute.miner.road import Road
from qcompute.miner.watching import TracingSettings
from qcompute.units import ExecutionId

_log = logging.getLogger(__name__)

QUEUE_SPANS: Final = 4096
SEND_SECONDS: Final = 1.0
"""How long spans wait for others to be sent with."""
ANSWER_SECONDS: Final = 5.0
LAST_SECONDS: Final = 1.0
"""What is left in the queue at the end gets so long."""

ROOT: Final = "job"


class Tracing:
    """Hears of closed jobs and sends their traces."""

    name = "traces"

    def __init__(self, settings: TracingSettings, road: Road) -> None:
        headers = {} if settings.token is None else {"Authorization": f"Bearer {named(settings.token).reveal()}"}
        self._resource = Resource({"service.name": settings.service_name, "service.version": __version__})
        for library in ("opentelemetry.exporter.otlp", "opentelemetry.sdk"):
            logging.getLogger(library).setLevel(logging.CRITICAL)  # `_Quiet` says it once
        exporter = OTLPSpanExporter(endpoint=str(settings.endpoint), headers=headers, timeout=ANSWER_SECONDS)
        self._processor = BatchSpanProcessor(
            _Quiet(exporter),
            max_queue_size=QUEUE_SPANS,
            schedule_delay_millis=SEND_SECONDS * 1000,
            max_export_batch_size=512,
        )
        self._road = road
        self._stopped = asyncio.Event()

    @property
    def facts(self) -> dict[str, str | int]:
        """Nothing for the ready file."""
        return {}

    async def start(self) -> None:
        """Hear of every job that closes from now on."""
        self._road.on_move.append(self._moved)

    async def run(self) -> None:
        """Wait until `stop`; a thread sends."""
        await self._stopped.wait()

    async def stop(self) -> None:
        """Send what is left, for a moment. A collector that does not answer does not keep the daemon."""
        self._stopped.set()
        # A thread that nobody waits for at the process's end.
        last = threading.Thread(target=self._processor.shutdown, name="last-traces", daemon=True)
        last.start()
        deadline = asyncio.get_running_loop().time() + LAST_SECONDS
        while last.is_alive() and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110 - of a thread
            await asyncio.sleep(0.02)

    def _moved(self, before: Job, after: Job) -> None:
        if after.state is State.CLOSED and before.state is not State.CLOSED and after.parent_id is None:
            for span in spans_of(after, self._resource):
                self._processor.on_end(span)


def trace_id_of(execution_id: ExecutionId) -> int:
    """The trace of a job: the first half of the SHA-256 of its id, as anybody can work out."""
    return int.from_bytes(hashlib.sha256(execution_id.encode()).digest()[:16], "big")


def spans_of(job: Job, resource: Resource) -> Iterator[ReadableSpan]:
    """The spans of a closed job: the job itself, and in it each step that it went."""
    if job.closed_at is None:
        return
    attributes: dict[str, str | int] = {
        "qcompute.execution_id": job.execution_id,
        "qcompute.verdict": job.verdict or "",
        "qcompute.provider": job.provider or "",
        "qcompute.device": job.device_id or "",
        "qcompute.shots": job.shots,
        "qcompute.submit_attempts": job.submit_attempts,
    }
    if job.error_code is not None:
        attributes["qcompute.error_code"] = job.error_code
    root = _context(job, ROOT)
    for name, began, ended in ((ROOT, job.received_at, job.closed_at), *_steps(job)):
        yield ReadableSpan(
            name=name,
            context=_context(job, name),
            parent=None if name == ROOT else root,
            resource=resource,
            attributes=attributes,
            kind=SpanKind.SERVER if name == ROOT else SpanKind.INTERNAL,
            status=Status(StatusCode.OK if job.verdict is Verdict.SUCCEEDED else StatusCode.ERROR),
            start_time=_nanoseconds(began),
            end_time=_nanoseconds(max(began, ended)),
        )


def _steps(job: Job) -> Iterator[tuple[str, datetime, datetime]]:
    """Each step that has both its times; one that never reached its vendor is prepared until it settled."""
    settled_at = job.settled_at or job.closed_at
    if settled_at is None or job.closed_at is None:
        return
    yield "prepare", job.received_at, job.submit_started_at or settled_at
    if job.submit_started_at is not None:
        yield "submit", job.submit_started_at, job.submitted_at or settled_at
    if job.submitted_at is not None:
        yield "wait", job.submitted_at, settled_at
    yield "deliver", settled_at, job.closed_at


def _context(job: Job, name: str) -> SpanContext:
    span = int.from_bytes(hashlib.sha256(f"{job.execution_id}/{name}".encode()).digest()[:8], "big") or 1
    return SpanContext(trace_id_of(job.execution_id) or 1, span, is_remote=False, trace_flags=TraceFlags(1))


def _nanoseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000) * 1000


class _Quiet(SpanExporter):
    """Says once that a collector does not take traces, and once that it does again."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._failing = False

    @override
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        failing = result is not SpanExportResult.SUCCESS
        if failing and not self._failing:
            _log.warning(
                "traces are not delivered: see tracing.endpoint; those that find no room in the queue are lost",
                extra={"action": "traces"},
            )
        elif self._failing and not failing:
            _log.info("traces are delivered again", extra={"action": "traces"})
        self._failing = failing
        return result

    @override
    def shutdown(self) -> None:
        self._exporter.shutdown()

    @override
    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)
