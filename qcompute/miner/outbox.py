"""Stage 5: a settled job is told to the job server; then, and only then, validators may collect it.

Delivery is at least once and never gives up: a job server that is down for a day costs nothing but time. A failed
upload is never a failed job, and ``Failed`` is said only of jobs that have really ended without a result.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import ClassVar, Final

from qcompute.errors import Bug, DeliveryError, UploadRefused
from qcompute.jobserver.contract import JobServer, UploadSlot
from qcompute.miner.job import Job, State, Verdict
from qcompute.miner.road import LONGEST_ASKED_SECONDS, Road
from qcompute.miner.split import wake_whole
from qcompute.miner.stage import Stage
from qcompute.protocol import is_own
from qcompute.units import Counts, ExecutionId

_log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS: Final = 1.0


class OutboxStage(Stage):
    """Uploads results and reports failures."""

    state: ClassVar[State] = State.SETTLED

    def __init__(self, road: Road, server: JobServer, *, concurrency: int, longest_pause_seconds: float) -> None:
        super().__init__(road, concurrency=concurrency)
        self._server = server
        self._longest = longest_pause_seconds
        self._slots: dict[ExecutionId, UploadSlot] = {}
        """Upload URLs asked for and not yet refused: a try that failed is repeated on the same URL, so a result that
        did arrive is overwritten by itself. In memory only; after a restart a new URL is asked for."""

    async def handle(self, job: Job) -> None:
        """Deliver one job, and close a part of one; see `Stage.handle`."""
        if job.parent_id is not None:
            closed = await self.road.save(job, replace(job, state=State.CLOSED))
            await wake_whole(self.road, closed)
            return
        if is_own(job.execution_id):
            # The platform never heard of it: the result is in the ledger, where its operator looks.
            await self.road.save(job, replace(job, state=State.CLOSED))
            return
        try:
            upload_id = await self._deliver(job)
        except DeliveryError as error:
            await self.road.again(
                job,
                code=error.code,
                message=error.message,
                first_seconds=FIRST_PAUSE_SECONDS,
                longest_seconds=self._longest,
                at_least=min(error.retry_after_seconds or 0.0, LONGEST_ASKED_SECONDS),
            )
            return
        # What went wrong on the way out is over; why the job itself failed stays.
        code, text = (None, None) if job.verdict is Verdict.SUCCEEDED else await self._failure(job)
        closed = job.but(state=State.CLOSED, upload_id=upload_id, error_code=code, error=text)
        await self.road.save(job, closed)
        self._slots.pop(job.execution_id, None)

    async def _deliver(self, job: Job) -> str | None:
        if job.verdict is not Verdict.SUCCEEDED:
            _, text = await self._failure(job)
            await self._server.report_failed(job.execution_id, text)
            return None
        outcome = await self.road.ledger.outcome(job.execution_id)
        if outcome is None or outcome.counts is None:
            raise Bug("a succeeded job has no counts")
        return await self._upload(job, outcome.counts)

    async def _upload(self, job: Job, counts: Counts) -> str:
        slot = self._slots.get(job.execution_id)
        if slot is None:
            slot = self._slots[job.execution_id] = await self._server.upload_slot()
        try:
            await self._server.put_counts(slot, counts)
        except UploadRefused:
            _log.info("the upload URL was refused; asking for a new one", extra=_extra(job))
            slot = self._slots[job.execution_id] = await self._server.upload_slot()
            try:
                await self._server.put_counts(slot, counts)
            except UploadRefused:
                del self._slots[job.execution_id]
                raise
        return slot.upload_id

    async def _failure(self, job: Job) -> tuple[str, str]:
        """Code and text of why a job ended without a result, as stored with its outcome."""
        outcome = await self.road.ledger.outcome(job.execution_id)
        text = outcome.message if outcome and outcome.message else f"the job was {job.verdict}"
        code = outcome.metadata.get("code") if outcome else None
        return (code if isinstance(code, str) else f"vendor_{job.verdict}"), text


def _extra(job: Job) -> dict[str, str]:
    return {"action": "deliver", "execution_id": job.execution_id}
