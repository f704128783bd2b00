"""Stage 1: a verified request becomes a row, and gets the finished jobs behind its cursor.

Everything here is one ledger write and, when there is something to collect, one read: a validator's visit is answered
in about a millisecond whatever else the daemon does. ``success`` is said only when the job is durably ours.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Protocol, assert_never

from qcompute import meters
from qcompute.axon.contract import Reply, VerifiedRequest
from qcompute.circuits.program import JobOptions
from qcompute.errors import CannotRun, NotAllowed
from qcompute.ledger.contract import Intake, Ledger, Page
from qcompute.meters import Refusal
from qcompute.miner.budget import Budgets
from qcompute.miner.job import FinishedJob, NewJob, Nonce, Verdict
from qcompute.miner.limits import MinerSettings
from qcompute.protocol import (
    COLLECT_ONLY,
    OWN_PREFIX,
    CircuitSynapse,
    ExecutionData,
    ExecutionStatus,
    is_execution_id,
    is_own,
)
from qcompute.units import ExecutionId, Hotkey

_log = logging.getLogger(__name__)

REPLAYED: Final = "Not Verified with error: Nonce is too old, a newer one was last processed"
"""The reference axon's words for a nonce that was used before."""

LOAD_SECONDS: Final = 1.0
"""How old the count of open jobs may be; what was accepted since is added to it."""


class ReceivedSink(Protocol):
    """Where received requests are told, for telemetry."""

    def received(self, execution_id: str) -> None:
        """A request came in; must not block or raise."""
        ...


@dataclass(slots=True)
class _Load:
    """Open jobs, counted in the ledger at most once a second, plus what was accepted since."""

    total: int = 0
    by_validator: Counter[Hotkey] | None = None
    counted_at: float = float("-inf")

    async def refresh(self, ledger: Ledger) -> None:
        now = time.monotonic()
        if now - self.counted_at < LOAD_SECONDS:
            return
        self.counted_at = now  # before the await: concurrent requests must not all count
        counts = await ledger.open_by_validator()
        self.by_validator, self.total = Counter(counts), sum(counts.values())

    def add(self, validator: Hotkey) -> None:
        self.total += 1
        if self.by_validator is not None:
            self.by_validator[validator] += 1

    def of(self, validator: Hotkey) -> int:
        return self.by_validator[validator] if self.by_validator else 0


class JobIntake:
    """The daemon's side of the axon (`qcompute.axon.contract.Forward`)."""

    def __init__(
        self,
        ledger: Ledger,
        sink: ReceivedSink,
        settings: MinerSettings,
        *,
        budgets: Budgets,
        clock: Callable[[], datetime],
    ) -> None:
        self._ledger = ledger
        self._sink = sink
        self._settings = settings
        self._budgets = budgets
        self._max_shots = settings.max_shots
        self._clock = clock
        self._load = _Load()
        self._closed_because: str | None = None

    def close(self, reason: str) -> None:
        """Take no new jobs from now on; collecting goes on. ``reason`` is told to users."""
        self._closed_because = reason

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called: the daemon is stopping."""
        return self._closed_because is not None

    @property
    def is_open(self) -> bool:
        """Whether new jobs are taken."""
        return self._closed_because is None and self._budgets.closed_because() is None

    async def __call__(self, request: VerifiedRequest) -> Reply:
        """Answer one request; see `qcompute.axon.contract.Forward`."""
        synapse = request.synapse
        self._sink.received(synapse.execution_id)
        if synapse.execution_id == COLLECT_ONLY:
            if not await self._ledger.use_nonce(request.nonce):
                raise NotAllowed(REPLAYED)
            return await self._reply(synapse)
        refusal = await self._refusal(request)
        if refusal is not None:
            if not await self._ledger.use_nonce(request.nonce):
                raise NotAllowed(REPLAYED)
            _log.info("refused at intake: %s", refusal, extra=_extra(synapse))
            return Reply(success=False, last_circuit=synapse.last_circuit, error_message=refusal)
        await self._accept(request)
        return await self._reply(synapse)

    async def _accept(self, request: VerifiedRequest) -> None:
        synapse, now = request.synapse, self._clock()
        job = NewJob(
            execution_id=ExecutionId(synapse.execution_id),
            validator_hotkey=request.caller.hotkey,
            input_data_url=synapse.input_data_url,
            shots=synapse.shots,
            configuration_data=synapse.configuration_data,
            received_at=now,
            deadline_at=now + timedelta(seconds=self._settings.job_deadline_seconds),
        )
        outcome = await self._ledger.accept(job, request.nonce)
        match outcome:
            case Intake.ACCEPTED:
                self._load.add(request.caller.hotkey)
                meters.job_accepted()
                _log.info("accepted", extra=_extra(synapse))
            case Intake.DUPLICATE:
                _log.info("this job is here already", extra=_extra(synapse))
            case Intake.REPLAYED:
                raise NotAllowed(REPLAYED)
            case _:
                assert_never(outcome)

    async def _refusal(self, request: VerifiedRequest) -> str | None:
        """Why this job is not taken, in words for its user; None when it is."""
        synapse = request.synapse
        if not is_execution_id(synapse.execution_id):
            return _refused(Refusal.EXECUTION_ID, "execution_id must be 1 to 128 characters of A-Z a-z 0-9 . _ : -")
        if is_own(synapse.execution_id):
            return _refused(Refusal.EXECUTION_ID, f"execution_id may not begin with {OWN_PREFIX}")
        if not synapse.input_data_url:
            return _refused(Refusal.NO_URL, "input_data_url is empty")
        return self._wrong(synapse.shots, synapse.configuration_data) or await self._full(
            request.caller.hotkey, ExecutionId(synapse.execution_id)
        )

    def _wrong(self, shots: int, configuration_data: dict[str, Any]) -> str | None:
        if not 1 <= shots <= self._max_shots:
            return _refused(Refusal.SHOTS, f"shots must be between 1 and {self._max_shots}")
        try:
            JobOptions.of(configuration_data)
        except CannotRun as error:
            return _refused(Refusal.OPTIONS, error.message)
        return None

    async def take_own(self, job: NewJob) -> str | None:
        """Take a job of the operator's own (`qcompute.miner.own_jobs`), under the limits all jobs have.

        None when it is durably here, else why it is not taken, in words.
        """
        refusal = self._wrong(job.shots, job.configuration_data) or await self._full(
            job.validator_hotkey, job.execution_id
        )
        if refusal is None:
            nonce = Nonce(job.validator_hotkey, job.execution_id, time.time_ns(), strictly_growing=False)
            await self._ledger.accept(job, nonce)
            self._load.add(job.validator_hotkey)
            _log.info("accepted, the operator's own", extra={"action": "intake", "execution_id": job.execution_id})
        return refusal

    async def _full(self, validator: Hotkey, execution_id: ExecutionId) -> str | None:
        await self._load.refresh(self._ledger)
        most = self._settings.max_inflight + self._settings.queue_slack
        share = max(int(most * self._settings.validator_share), 1)
        full: str | None = self._closed_because or self._budgets.closed_because()
        reason = Refusal.CLOSED if self._closed_because else Refusal.BUDGET
        if self._load.total >= most:
            reason = Refusal.FULL
            full = f"this miner is full ({self._load.total} jobs in flight); try another miner or later"
        elif self._load.of(validator) >= share:
            reason = Refusal.SHARE
            full = f"this validator fills its share of this miner ({share} jobs in flight); try another miner or later"
        if full is not None and await self._ledger.get(execution_id) is not None:
            return None  # ours already: a repeated request must not be told that the job was refused
        return full and _refused(reason, full)

    async def _reply(self, synapse: CircuitSynapse) -> Reply:
        page: Page = await self._ledger.finished_after(synapse.last_circuit, self._settings.page_size)
        return Reply(success=True, last_circuit=page.cursor, finished=_for_validators(page))


def _for_validators(page: Page) -> list[ExecutionData]:
    return [finished(job) for job in page.jobs if not is_own(job.execution_id)]


def finished(job: FinishedJob) -> ExecutionData:
    """A closed job as validators want it."""
    succeeded = job.verdict is Verdict.SUCCEEDED
    return ExecutionData(
        execution_id=job.execution_id,
        shots=job.shots,
        upload_data_id=job.upload_id if succeeded else None,
        execution_data={"provider_job_id": job.provider_job_id} if job.provider_job_id else None,
        status=ExecutionStatus.COMPLETED if succeeded else ExecutionStatus.FAILED,
        errorMessage=None if succeeded else (job.error or f"the job was {job.verdict}"),
    )


def _refused(reason: Refusal, message: str) -> str:
    meters.intake_refused(reason)
    return message


def _extra(synapse: CircuitSynapse) -> dict[str, str]:
    return {"action": "intake", "execution_id": synapse.execution_id[:128]}
