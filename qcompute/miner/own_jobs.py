"""Jobs of the operator's own (``qcompute run`` and ``expect``): another way onto the same road, with the same limits.

They come through the operator's socket (ADR 0018) and not from a validator. From then on they are jobs like all
others: the circuit goes with the row, is screened, parsed, routed, paid for from the account's budget and kept with a
receipt. The platform never hears of them, and no validator collects them.
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, assert_never

from pydantic import ValidationError

from qcompute.circuits.program import CompiledCircuit, JobOptions
from qcompute.circuits.screen import screen
from qcompute.errors import CannotRun
from qcompute.faults import first_fault
from qcompute.ledger.contract import Ledger
from qcompute.miner.circuit_cache import CircuitCache
from qcompute.miner.commands import AboutOwn, CommandRefused, Estimate, Look, Parts, Run
from qcompute.miner.fetch import own_circuit, own_url
from qcompute.miner.intake import JobIntake
from qcompute.miner.job import Job, NewJob, Verdict
from qcompute.miner.operator import job_document
from qcompute.miner.own_requests import MAX_TRIES, PartOf, made_at
from qcompute.miner.placement import Placement
from qcompute.miner.router import placed
from qcompute.miner.routing import Wish
from qcompute.miner.settings import Settings
from qcompute.miner.survey import Survey
from qcompute.protocol import OWN_PREFIX
from qcompute.units import ExecutionId, Hotkey, Money, utc_now

_REJECTIONS_TOLD: Final = 5

_CLOCK_SLACK: Final = timedelta(minutes=5)
"""The command runs on this machine, whose clock may have been set back meanwhile."""


class OwnJobs:
    """Estimates, takes and shows them. ``hotkey`` is the miner's own, in whose name they run."""

    def __init__(  # noqa: PLR0917 - every part of the road it leads onto
        self,
        settings: Settings,
        hotkey: Hotkey,
        intake: JobIntake,
        ledger: Ledger,
        survey: Survey,
        circuits: CircuitCache,
    ) -> None:
        self._settings = settings
        self._hotkey = hotkey
        self._intake = intake
        self._ledger = ledger
        self._survey = survey
        self._circuits = circuits

    async def __call__(self, words: AboutOwn) -> dict[str, Any]:
        """Answer one of the operator's commands.

        Raises:
            CommandRefused: there is no such job, or the miner takes none now.
            CannotRun: the circuit, its shots or its options will not do; says where and why.
            VendorError, SandboxUnavailable: that cannot be told now.
            StoreError: the database failed.
        """
        match words:
            case Estimate():
                return await self._estimate(words)
            case Run():
                return await self._run(words)
            case Look():
                return await self._look(words)
            case Parts():
                return await self._parts(words)
            case _:
                assert_never(words)

    async def _estimate(self, words: Estimate) -> dict[str, Any]:
        """Where it would go now and what that would cost; the job itself is routed anew. Nothing is stored or paid."""
        circuit = await self._parsed(words.circuit)
        job = self._job(words)
        wish = Wish.of(JobOptions.of(words.options))
        answer = await placed(
            job, circuit, wish, survey=self._survey, settings=self._settings.routing, now=job.received_at
        )
        if not isinstance(answer, Placement):
            others = "; ".join(f"{one.name}: {one.reason}" for one in answer.rejections[:_REJECTIONS_TOLD])
            raise CommandRefused(f"{answer.refusal.message}{f' ({others})' if others else ''}")
        there = answer.current
        return {
            "account": there.account,
            "device_id": there.device_id,
            "device_type": there.device_type,
            "reason": there.reason,
            "estimate": None if there.estimate is None else _money(there.estimate.money),
            "shots": words.shots,
            "num_qubits": circuit.num_qubits,
            "depth": circuit.depth,
            "num_ops": circuit.num_ops,
        }

    async def _run(self, words: Run) -> dict[str, Any]:
        await self._screened(words.circuit)
        job = self._job(words)
        if words.part is not None:
            if (known := await self._ledger.get(job.execution_id)) is not None:
                return _known(known, words)
            await self._require_may_begin(words.part, job.received_at)
        new = NewJob(
            execution_id=job.execution_id,
            validator_hotkey=job.validator_hotkey,
            input_data_url=own_url(words.circuit),
            shots=job.shots,
            configuration_data=job.configuration_data,
            received_at=job.received_at,
            deadline_at=job.deadline_at,
        )
        if (refusal := await self._intake.take_own(new)) is not None:
            raise CommandRefused(refusal)
        if words.part is not None and (stored := await self._ledger.get(job.execution_id)) is not None:
            return _known(stored, words)  # another command may have been first, with another circuit
        return {"execution_id": job.execution_id}

    async def _require_may_begin(self, part: PartOf, now: datetime) -> None:
        """A part that is not here was never here: what was removed as too old would be paid for again."""
        kept = timedelta(days=self._settings.miner.retention_days)
        made = made_at(part.request)
        if made is None or not now - kept < made <= now + _CLOCK_SLACK:
            raise CommandRefused(
                f"{part.request} is not the id of a request of the last {kept.days} days: jobs older than "
                "miner.retention_days are not kept, so nobody can tell whether it was run; begin a new one"
            )
        if part.attempt > 0:
            before = part.model_copy(update={"attempt": part.attempt - 1}).execution_id
            job = await self._ledger.get(before)
            if job is None or job.verdict in (None, Verdict.SUCCEEDED):
                raise CommandRefused(f"{before} has not failed: there is nothing to try again")

    async def _parts(self, words: Parts) -> dict[str, Any]:
        """The last try of each part that is here."""
        found: list[dict[str, Any]] = []
        for number in words.numbers:
            last: tuple[int, Job] | None = None
            for attempt in range(MAX_TRIES):
                job = await self._ledger.get(_part(words.request, number, attempt).execution_id)
                if job is None:
                    break
                last = attempt, job
                if job.verdict in (None, Verdict.SUCCEEDED):
                    break  # only what was lost is tried again
            if last is not None:
                found.append({"number": number, "attempt": last[0], **_short(last[1])})
        return {"parts": found}

    async def _look(self, words: Look) -> dict[str, Any]:
        execution_id = ExecutionId(words.execution_id)
        job = await self._ledger.get(execution_id)
        if job is None:
            raise CommandRefused(f"there is no job {words.execution_id} here")
        outcome = await self._ledger.outcome(execution_id) if job.verdict is not None else None
        cost = None if outcome is None or outcome.cost is None else _money(outcome.cost)
        return {
            "job": job_document(job),
            "counts": None if outcome is None else outcome.counts,
            "cost": cost,
            "cost_kind": None if outcome is None else outcome.cost_kind,
            "message": None if outcome is None else outcome.message,
        }

    def _job(self, words: Estimate | Run) -> Job:
        if not 1 <= words.shots <= self._settings.miner.max_shots:
            raise CannotRun(f"shots must be between 1 and {self._settings.miner.max_shots}", reason="shots")
        now = utc_now()
        part = words.part if isinstance(words, Run) else None
        return Job(
            execution_id=ExecutionId(f"{OWN_PREFIX}{uuid.uuid4()}") if part is None else part.execution_id,
            validator_hotkey=self._hotkey,
            shots=words.shots,
            configuration_data=words.options,
            received_at=now,
            deadline_at=now + timedelta(seconds=self._settings.miner.job_deadline_seconds),
            due_at=now,
        )

    async def _parsed(self, text: str) -> CompiledCircuit:
        await self._screened(text)
        return await self._circuits.parsed(text)

    async def _screened(self, text: str) -> None:
        await asyncio.to_thread(partial(screen, text, self._settings.circuits))


def _known(job: Job, words: Run) -> dict[str, Any]:
    """The answer for a part that is here already.

    Raises:
        CommandRefused: it is another circuit, with other shots or options; nothing was changed.
    """
    given = hashlib.sha256(words.circuit.encode()).hexdigest()
    sha256 = job.circuit_sha256
    if sha256 is None and job.input_data_url is not None:
        sha256 = hashlib.sha256(own_circuit(job.input_data_url).encode()).hexdigest()
    # Of a job that ended before its circuit was stored only shots and options are known.
    if sha256 not in (None, given) or (job.shots, job.configuration_data) != (words.shots, words.options):
        raise CommandRefused(
            f"{job.execution_id} is here already, with another circuit, other shots or other options: repeat the "
            "request as it was, or begin a new one"
        )
    return {"execution_id": job.execution_id}


def _part(request: uuid.UUID, number: int, attempt: int) -> PartOf:
    try:
        return PartOf(request=request, number=number, attempt=attempt)
    except ValidationError as error:
        raise CommandRefused(first_fault(error)) from None


def _short(job: Job) -> dict[str, Any]:
    return {
        "execution_id": job.execution_id,
        "state": job.state,
        "verdict": job.verdict,
    }


def _money(money: Money) -> dict[str, str]:
    return {"amount": str(money.amount), "currency": money.currency}
