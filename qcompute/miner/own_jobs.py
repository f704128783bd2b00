"""Jobs of the operator's own (``qcompute run``): another way onto the same road, under the same limits (ADR 0018).

They come through the operator's socket and not from a validator. From then on they are jobs like all others: the
circuit goes with the row, is screened, parsed, routed, paid for from the account's budget and kept with a receipt.
The platform never hears of them, and no validator collects them.
"""

from __future__ import annotations

import asyncio
import uuid
from datetime import timedelta
from functools import partial
from typing import Any, Final, assert_never

from qcompute.circuits.program import CompiledCircuit, JobOptions
from qcompute.circuits.screen import screen
from qcompute.errors import CannotRun
from qcompute.ledger.contract import Ledger
from qcompute.miner.circuit_cache import CircuitCache
from qcompute.miner.commands import AboutOwn, CommandRefused, Estimate, Look, Run
from qcompute.miner.fetch import own_url
from qcompute.miner.intake import JobIntake
from qcompute.miner.job import Job, NewJob
from qcompute.miner.operator import job_document
from qcompute.miner.placement import Placement
from qcompute.miner.router import placed
from qcompute.miner.routing import Wish
from qcompute.miner.settings import Settings
from qcompute.miner.survey import Survey
from qcompute.protocol import OWN_PREFIX
from qcompute.units import ExecutionId, Hotkey, Money, utc_now

_REJECTIONS_TOLD: Final = 5


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
        return {"execution_id": job.execution_id}

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
            "message": None if outcome is None else outcome.message,
        }

    def _job(self, words: Estimate | Run) -> Job:
        if not 1 <= words.shots <= self._settings.miner.max_shots:
            raise CannotRun(f"shots must be between 1 and {self._settings.miner.max_shots}", reason="shots")
        now = utc_now()
        return Job(
            execution_id=ExecutionId(f"{OWN_PREFIX}{uuid.uuid4()}"),
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


def _money(money: Money) -> dict[str, str]:
    return {"amount": str(money.amount), "currency": money.currency}
