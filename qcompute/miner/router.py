"""Stage 3: a row with a circuit gets its candidates, its device and its idempotency token.

The circuit is parsed in the sandbox first, so whatever cannot run anywhere ends here, before anything is paid.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from typing import Any, ClassVar, Final

from qcompute.circuits.program import CompiledCircuit, JobOptions
from qcompute.errors import BudgetSpent, CannotRun, SandboxUnavailable, VendorError
from qcompute.miner.circuit_cache import CircuitCache
from qcompute.miner.fleet import Fleet
from qcompute.miner.job import Job, State, Verdict
from qcompute.miner.placement import Placement, Policy, not_chosen
from qcompute.miner.road import Road
from qcompute.miner.routing import Question, Refusal, RoutingSettings, Unplaced, Wish, ranked
from qcompute.miner.shares import Shares, asked_split
from qcompute.miner.split import whole_of
from qcompute.miner.stage import Stage
from qcompute.miner.survey import Survey
from qcompute.units import DeviceId, IdempotencyToken, ProviderKey

_TOKENS: Final = uuid.UUID("6f0c5c2e-3f0a-5b7e-9a43-0e5d3a6a7f48")
"""Namespace of idempotency tokens: the same job has the same token for ever, whatever happens to the row."""

NO_ROOM: Final = "this miner's budget had no room for the job"
"""What the user of a job is told that waited for it until its deadline."""

ROOM_SECONDS: Final = 60.0
"""How often a job that waits for the budget looks for room."""

COMPARED: Final = frozenset({Policy.CHEAPEST, Policy.BEST_FIDELITY})
"""Policies for which a circuit is made ready for every device that could run it."""


def token_of(job: Job) -> IdempotencyToken:
    """The job's idempotency token: 36 characters, made of the execution id alone."""
    return token_of_pack([job])


def token_of_pack(jobs: Sequence[Job]) -> IdempotencyToken:
    """The token of jobs that are submitted together: of one job its own, of several one made of all their ids."""
    return _token("\n".join(sorted(job.execution_id for job in jobs)))


@lru_cache(maxsize=4096)  # a job's is made when it is routed and again when it is submitted
def _token(ids: str) -> IdempotencyToken:
    return IdempotencyToken(str(uuid.uuid5(_TOKENS, ids)))


class RouterStage(Stage):
    """Chooses where a job is to run, over all accounts of the fleet."""

    state: ClassVar[State] = State.READY

    def __init__(
        self, road: Road, fleet: Fleet, circuits: CircuitCache, settings: RoutingSettings, *, concurrency: int
    ) -> None:
        super().__init__(road, concurrency=concurrency)
        self._circuits = circuits
        self._settings = settings
        self._survey = Survey(fleet, circuits)
        self._shares = Shares(fleet, circuits, split_from=settings.split_shots_from)

    async def handle(self, job: Job) -> None:
        """Parse, choose, estimate; see `Stage.handle`."""
        if self.road.clock() >= job.deadline_at:
            fault = NO_ROOM if job.error_code == BudgetSpent.code else "no device could be chosen"
            await self._end(job, Verdict.FAILED, "deadline", f"{fault} before the job's deadline")
            return
        try:
            wish = Wish.of(JobOptions.of(job.configuration_data))
            asked_split(job.configuration_data)
            circuit = await self._circuits.compiled(job)
            answer = await placed(
                job, circuit, wish, survey=self._survey, settings=self._settings, now=self.road.clock()
            )
            parts = await self._shares.parts(job, circuit, answer) if isinstance(answer, Placement) else []
        except CannotRun as refusal:
            await self._end(job, Verdict.REFUSED, refusal.reason, refusal.message)
        except (SandboxUnavailable, VendorError) as error:
            await self._later(job, Refusal(error.code, error.message, is_for_now=True))
        else:
            if isinstance(answer, Placement):
                await self._on_to_submit(job, answer, parts)
            elif answer.refusal.is_for_now:
                await self._later(job, answer.refusal)
            else:
                refusal = answer.refusal
                await self._end(
                    job, Verdict.REFUSED, refusal.code, refusal.message, facts=not_chosen(answer.rejections)
                )

    async def _on_to_submit(self, job: Job, placement: Placement, parts: Sequence[Job]) -> None:
        if parts:
            for part in parts:
                self._survey.chosen(part.provider or "", part.device_id or "")
            whole = replace(whole_of(job), placement=placement.document(), due_at=self.road.clock())
            due = [replace(part, token=token_of(part), due_at=whole.due_at) for part in parts]
            await self.road.split(job, whole, due)
            return
        there = placement.current
        self._survey.chosen(there.account, there.device_id)
        routed = job.but(
            state=State.SUBMITTING,
            due_at=self.road.clock(),
            provider=ProviderKey(there.account),
            device_id=DeviceId(there.device_id),
            placement=placement.document(),
            estimate=None if there.estimate is None else there.estimate.money,
            token=token_of(job),
            error_code=None,
            error=None,
        )
        await self.road.save(job, routed)

    async def _later(self, job: Job, refusal: Refusal) -> None:
        if refusal.until is not None:
            await wait_for_room(self.road, job, BudgetSpent(refusal.message, until=refusal.until))
            return
        await self.road.again(job, code=refusal.code, message=refusal.message, first_seconds=2.0, longest_seconds=120.0)

    async def _end(
        self, job: Job, verdict: Verdict, code: str, message: str, *, facts: Mapping[str, Any] | None = None
    ) -> None:
        await self.road.end_without_result(job, verdict, code=code, message=message, facts=facts)


async def placed(
    job: Job, circuit: CompiledCircuit, wish: Wish, *, survey: Survey, settings: RoutingSettings, now: datetime
) -> Placement | Unplaced:
    """Where a job would go now, with its price there, or why nowhere.

    Raises:
        CannotRun: nothing here can run it.
        SandboxUnavailable, VendorError: that cannot be told now.
    """
    age_seconds = (now - job.received_at).total_seconds()
    question = Question(job.execution_id, now, waited_seconds=age_seconds, wish=wish)
    policy = wish.policy or settings.policy
    compare = policy in COMPARED
    findings = await survey.look(job, circuit, compare=compare)
    while True:
        options = findings.options
        answer = ranked(options, question, settings)
        if isinstance(answer, Unplaced):
            return answer
        option = next(one for one in options if one.name == answer.current.name)
        if option.is_prepared:
            return answer
        with survey.meaning(option):
            ready = await findings.made_ready(option.name)
        if ready.refusal is None and not compare:  # its price changes nothing of the order
            return answer.priced(ready.estimate)


async def wait_for_room(road: Road, job: Job, spent: BudgetSpent) -> None:
    """Look again from time to time, and not only when the period ends: jobs that cost less than expected make room."""
    pause = min(ROOM_SECONDS, max((spent.until - road.clock()).total_seconds(), 1.0))
    await road.again(job, code=spent.code, message=spent.message, first_seconds=pause, longest_seconds=pause)
