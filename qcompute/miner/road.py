"""What all stages share: saving a row with its log line and telemetry, trying again later, and settling.

A stage changes a row only through `Road`, so no move goes unlogged and every ended job has its receipt before anyone
is told.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final, Protocol, assert_never

from qcompute.chain.contract import Signer
from qcompute.errors import Unavailable
from qcompute.ledger.claims import Tenure
from qcompute.ledger.contract import Ledger, Postponed
from qcompute.miner.budget import Budgets
from qcompute.miner.job import Charge, CostKind, Job, Outcome, State, Verdict
from qcompute.protocol import ExecutionStatus, is_own
from qcompute.receipts import ReceiptPart, build_receipt

_log = logging.getLogger(__name__)

LONGEST_ASKED_SECONDS: Final = 300.0
"""A ``Retry-After``, of a vendor or of the job server, is honoured up to this."""


class StatusSink(Protocol):
    """Where changes of a job's public status are told, for telemetry."""

    def status_changed(self, job: Job, old: ExecutionStatus, new: ExecutionStatus) -> None:
        """A job's public status went from ``old`` to ``new``; must not block or raise."""
        ...


def public_status(state: State, verdict: Verdict | None) -> ExecutionStatus:
    """The job server's word for a job's place on the road; nothing else in the daemon uses these words.

    A settled job is still Running to the outside: it is finished only when its result can be collected.
    """
    match state:
        case State.ACCEPTED | State.READY:
            return ExecutionStatus.PENDING
        case State.SUBMITTING | State.HELD:
            return ExecutionStatus.QUEUED
        case State.WAITING | State.SETTLED:
            return ExecutionStatus.RUNNING
        case State.CLOSED:
            return ExecutionStatus.COMPLETED if verdict is Verdict.SUCCEEDED else ExecutionStatus.FAILED
        case _:
            assert_never(state)


def backoff_seconds(attempts: int, *, first: float, longest: float) -> float:
    """Exponential pause before try ``attempts + 1``, with jitter down to half, so that many jobs spread out."""
    pause = min(first * 2 ** min(attempts, 30), longest)
    return pause * random.uniform(0.5, 1.0)  # noqa: S311 - spreading load, not a secret


def asked_pause_seconds(error: Exception, *, otherwise: float = 0.0) -> float:
    """The pause a vendor asked for, bounded: a result must not wait for a day because of one header."""
    asked = error.retry_after_seconds if isinstance(error, Unavailable) else None
    return min(otherwise if asked is None else asked, LONGEST_ASKED_SECONDS)


class Road:
    """The ledger as stages see it."""

    def __init__(
        self, ledger: Ledger, signer: Signer, sink: StatusSink, *, budgets: Budgets, clock: Callable[[], datetime]
    ) -> None:
        self.ledger = ledger
        self.budgets = budgets
        self.clock = clock
        self.tenure: Tenure | None = None
        self._signer = signer
        self._sink = sink
        self.on_move: list[Callable[[Job, Job], None]] = []
        """Called with a job before and after each stored move; must not block or raise."""

    def under(self, tenure: Tenure) -> Road:
        """The same road for those who work in the name of ``tenure``: what they write is refused once it is over."""
        ours = copy(self)
        ours.tenure = tenure
        return ours

    async def store(
        self,
        before: Job,
        after: Job,
        *,
        circuit: str | None = None,
        outcome: Outcome | None = None,
        receipt: str | None = None,
        charge: Charge | None = None,
    ) -> Job:
        """Store ``after`` in place of ``before`` and say nothing of it; see `qcompute.ledger.contract.Ledger.save`."""
        return await self.ledger.save(
            before, after, circuit=circuit, outcome=outcome, receipt=receipt, charge=charge, tenure=self.tenure
        )

    async def postpone(self, polls: Sequence[Postponed]) -> None:
        """Let jobs wait on; see `qcompute.ledger.contract.Ledger.postpone`."""
        await self.ledger.postpone(polls, tenure=self.tenure)

    async def save(self, before: Job, after: Job, *, circuit: str | None = None, charge: Charge | None = None) -> Job:
        """Store ``after`` in place of ``before`` and tell of it. A move resets ``attempts`` and the last problem.

        Raises:
            StaleRow: somebody else changed the row; whatever was meant for it is void.
        """
        if after.state is not before.state:
            after = after.but(attempts=0)
        stored = await self.store(before, after, circuit=circuit, charge=charge)
        self._tell(before, stored)
        return stored

    async def again(
        self,
        job: Job,
        *,
        code: str,
        message: str,
        first_seconds: float,
        longest_seconds: float,
        at_least: float = 0,
        unsubmitted: bool = False,
    ) -> Job:
        """Leave the row where it is and look at it again after a growing pause; never past its deadline.

        ``unsubmitted`` takes the mark of a paid call in flight away: provably nothing was created.
        """
        pause = max(backoff_seconds(job.attempts, first=first_seconds, longest=longest_seconds), at_least)
        due_at = self.clock() + timedelta(seconds=pause)
        if self.clock() < job.deadline_at < due_at:
            due_at = job.deadline_at
        if job.error_code != code:
            _log.warning(
                "%s: %s",
                job.state,
                message,
                extra={"action": "again", "execution_id": job.execution_id, "code": code},
            )
        after = replace(job, attempts=job.attempts + 1, due_at=due_at, error_code=code, error=message)
        return await self.store(job, replace(after, submit_started_at=None) if unsubmitted else after)

    async def split(self, job: Job, whole: Job, parts: Sequence[Job]) -> Job:
        """Store ``whole`` in place of ``job``, and its parts; see `qcompute.ledger.contract.Ledger.split`."""
        stored = await self.ledger.split(job, replace(whole, attempts=0), parts, tenure=self.tenure)
        self._tell(job, stored)
        return stored

    async def settle(
        self,
        job: Job,
        verdict: Verdict,
        outcome: Outcome,
        *,
        code: str | None = None,
        unsubmitted: bool = False,
        parts: Sequence[ReceiptPart] | None = None,
    ) -> Job:
        """Store how the job ended, its signed receipt and what it is charged, in one transaction.

        The outbox takes it from there. ``unsubmitted`` says that the job provably never reached the vendor; ``parts``
        that it was split, so that its parts were charged and not itself.
        """
        now = self.clock()
        after = job.but(
            state=State.SETTLED,
            verdict=verdict,
            attempts=0,
            due_at=now,
            settled_at=now,
            error_code=code,
            error=outcome.message,
        )
        receipt = build_receipt(after, outcome, self._signer, parts=parts)
        may_be_paid = job.submit_started_at is not None and not unsubmitted
        budget = self.budgets.of(job.provider)
        if job.provider is not None and job.provider not in self.budgets and not parts:
            await budget.load(self.ledger)  # of an account that this miner does not have any more
        charge = None if parts else budget.final_charge(job, outcome.cost, may_be_paid=may_be_paid)
        stored = await self.store(job, after, outcome=outcome, receipt=receipt, charge=charge)
        budget.settle(job.execution_id, charge)
        self._tell(job, stored)
        return stored

    async def end_without_result(
        self,
        job: Job,
        verdict: Verdict,
        *,
        code: str,
        message: str,
        unsubmitted: bool = False,
        facts: Mapping[str, Any] | None = None,
    ) -> Job:
        """Settle a job that has no counts, for a reason the user is told; ``unsubmitted`` says it cost nothing.

        ``facts`` are kept with the outcome, for the operator.
        """
        maybe_paid = job.submit_started_at is not None and not unsubmitted
        outcome = Outcome(
            counts=None,
            counts_source=None,
            shots_returned=None,
            cost=job.estimate if maybe_paid else None,
            cost_kind=CostKind.OUR_ESTIMATE if maybe_paid and job.estimate else CostKind.UNKNOWN,
            message=message,
            timestamps={},
            metadata={"code": code, **(facts or {})},
        )
        return await self.settle(job, verdict, outcome, code=code, unsubmitted=unsubmitted)

    def _tell(self, before: Job, after: Job) -> None:
        if before.state is after.state:
            return
        extra = {
            "action": "move",
            "execution_id": after.execution_id,
            "verdict": after.verdict,
            "code": after.error_code,
        }
        if after.state is State.HELD:
            _log.error("a job is held and needs an operator: %s", after.error, extra=extra)
        elif after.state is State.SETTLED and after.verdict is not Verdict.SUCCEEDED:
            _log.warning("%s -> %s: %s (%s)", before.state, after.state, after.verdict, after.error, extra=extra)
        else:
            _log.info("%s -> %s", before.state, after.state, extra=extra)
        for hear in self.on_move:
            hear(before, after)
        old, new = public_status(before.state, before.verdict), public_status(after.state, after.verdict)
        # Of parts nobody hears, and of the operator's own jobs the platform does not.
        if old is not new and after.parent_id is None and not is_own(after.execution_id):
            self._sink.status_changed(after, old, new)
