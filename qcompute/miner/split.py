"""Jobs whose shots run in several places: a whole that waits, and parts that go the ordinary road.

A part is a row like any other, with its own execution id, token, estimate, budget and receipt; only validators and the
job server never hear of it. It is made in the transaction that lets the whole wait, so a crash finds both or neither.
When a part has ended it is closed without a delivery and the whole looks at all its parts again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final, TypeVar

from typing_extensions import override

from qcompute.cluster.splitting import merge_counts, split_shots
from qcompute.errors import BadReply, Bug, StaleRow
from qcompute.miner.job import SPLIT_LANE, CostKind, CountsSource, Job, Outcome, State, Verdict
from qcompute.miner.road import Road
from qcompute.miner.stage import Stage
from qcompute.protocol import PART_MARK
from qcompute.receipts import ReceiptPart
from qcompute.units import DeviceId, ExecutionId, Money, ProviderKey, Shots

LOOK_SECONDS: Final = 30.0
"""A whole is woken by its parts; this often it looks by itself, should the waking have been lost with a crash."""

CALL_OFF_SECONDS: Final = 2.0
"""How soon parts that are no longer wanted are looked at again: one in the middle of a paid call is left alone."""

_ENDED: Final = frozenset({State.SETTLED, State.CLOSED})
_WEAKER: Final = (CostKind.ACTUAL, CostKind.VENDOR_ESTIMATE, CostKind.OUR_ESTIMATE, CostKind.UNKNOWN)
_SEED_BITS: Final = 31

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a part is to run."""

    account: ProviderKey
    device: DeviceId


def part_id(whole: ExecutionId, number: int) -> ExecutionId:
    """The execution id of a part, from 0: another than any request can carry, and one that fits into a URL."""
    return ExecutionId(f"{whole}{PART_MARK}{number:02d}")


def part_options(configuration_data: dict[str, Any], number: int, device: DeviceId) -> dict[str, Any]:
    """``configuration_data`` of a part: on its device, and with a seed of its own.

    Simulators that are alike give the same shots for the same seed: the merged counts would be one part's, times the
    number of parts.
    """
    options = {name: value for name, value in configuration_data.items() if name != "split"} | {"device": device}
    if (seed := options.get("seed")) is not None:
        digest = hashlib.sha256(f"{seed}/{number}".encode()).digest()
        options["seed"] = int.from_bytes(digest[:4]) % 2**_SEED_BITS
    return options


def parts_of(job: Job, places: Sequence[Place], parts: int) -> list[Job]:
    """The parts of a job that is ready, over ``places`` in turn; without token, placement and estimate.

    Raises:
        CannotRun: the job has fewer shots than it would have parts.
    """
    if not places:
        raise Bug(f"there is no place for the parts of {job.execution_id}")
    made: list[Job] = []
    for number, shots in enumerate(split_shots(job.shots, parts)):
        place = places[number % len(places)]
        made.append(
            replace(
                job,
                execution_id=part_id(job.execution_id, number),
                parent_id=job.execution_id,
                version=0,
                state=State.SUBMITTING,
                shots=Shots(shots),
                configuration_data=part_options(job.configuration_data, number, place.device),
                provider=place.account,
                device_id=place.device,
                placement=None,
                attempts=0,
                error_code=None,
                error=None,
            )
        )
    return made


def whole_of(job: Job) -> Job:
    """The job as it waits for its parts."""
    return replace(job, state=State.WAITING, provider=ProviderKey(SPLIT_LANE), error_code=None, error=None)


class SplitStage(Stage):
    """Waits for all parts, calls them off when one failed, and puts the result together."""

    state: ClassVar[State] = State.WAITING

    def __init__(self, road: Road, *, concurrency: int) -> None:
        super().__init__(road, concurrency=concurrency, lane=SPLIT_LANE)
        self._has_begun = False

    @override
    def due_until(self) -> datetime:
        """The first look takes all: the word that a part has ended may have been lost with the process before."""
        if self._has_begun:
            return super().due_until()
        self._has_begun = True
        return super().due_until() + timedelta(seconds=LOOK_SECONDS)

    async def handle(self, job: Job) -> None:
        """Look at a job's parts; see `Stage.handle`."""
        parts = await self.road.ledger.parts(job.execution_id)
        if not parts:
            raise Bug("a job that was split has no parts")
        under_way = [part for part in parts if part.state not in _ENDED]
        if not under_way:
            await self._settle(job, parts)
            return
        pause = LOOK_SECONDS
        if _first_failed(parts) is not None or job.cancel_requested_at is not None:
            pause = CALL_OFF_SECONDS
            for part in under_way:
                await self._call_off(part)
        await self.road.store(job, replace(job, due_at=self.road.clock() + timedelta(seconds=pause)))

    async def _call_off(self, part: Job) -> None:
        """Bring a part's deadline forward to now, so that its own stage ends it, at its vendor too.

        A part in the middle of a paid call is left alone: its stage must find the row as it was. So is one that an
        operator is to look at. Whoever changed the row meanwhile was quicker, and it is looked at again.
        """
        now = self.road.clock()
        in_a_call = part.state is State.SUBMITTING and part.submit_started_at is not None
        if part.deadline_at <= now or in_a_call or part.state is State.HELD:
            return
        try:
            await self.road.store(part, replace(part, deadline_at=now, due_at=now))
        except StaleRow:
            return

    async def _settle(self, job: Job, parts: Sequence[Job]) -> None:
        ledger = self.road.ledger
        outcomes: list[Outcome] = []
        receipts: list[ReceiptPart] = []
        for part in parts:
            outcome, receipt = await ledger.outcome(part.execution_id), await ledger.receipt(part.execution_id)
            if outcome is None or receipt is None:
                raise Bug(f"part {part.execution_id} has ended without outcome or receipt")
            outcomes.append(outcome)
            receipts.append(_named(part, receipt))
        ran = replace(
            job,
            provider=_only([part.provider for part in parts]),
            device_id=_only([part.device_id for part in parts]),
            submitted_at=min((part.submitted_at for part in parts if part.submitted_at), default=None),
        )
        verdict, code, outcome = together(parts, outcomes)
        await self.road.settle(ran, verdict, outcome, code=code, parts=receipts)


async def wake_whole(road: Road, part: Job) -> None:
    """Let the job a part belongs to look at its parts now. When that is lost, it looks by itself before long."""
    for _ in range(3):
        whole = None if part.parent_id is None else await road.ledger.get(part.parent_id)
        if whole is None or whole.lane != SPLIT_LANE or whole.due_at <= road.clock():
            return
        try:
            await road.store(whole, replace(whole, due_at=road.clock()))
        except StaleRow:
            continue
        return


def together(parts: Sequence[Job], outcomes: Sequence[Outcome]) -> tuple[Verdict, str | None, Outcome]:
    """How a job ended whose parts have all ended so: verdict, code, and outcome.

    All succeeded: the counts of all shots. Any did not: the verdict and the words of the first that failed, because
    what follows it was called off.
    """
    cost, kind = _total(parts, outcomes)
    failed = _first_failed(parts)
    counts, code, message, verdict = None, None, None, Verdict.SUCCEEDED
    if failed is not None:
        verdict, code = failed.verdict or Verdict.FAILED, failed.error_code
        message = outcomes[[part.execution_id for part in parts].index(failed.execution_id)].message
    else:
        try:
            counts = merge_counts(outcome.counts or {} for outcome in outcomes)
        except BadReply as error:
            verdict, code, message = Verdict.FAILED, error.code, error.message
    measured = all(outcome.counts_source is CountsSource.MEASURED for outcome in outcomes)
    source = CountsSource.MEASURED if measured else CountsSource.SAMPLED
    return (
        verdict,
        code,
        Outcome(
            counts=counts,
            counts_source=None if counts is None else source,
            shots_returned=None if counts is None else sum(counts.values()),
            cost=cost,
            cost_kind=kind,
            message=message,
            timestamps={},
            metadata={"split": "shots", "parts": len(parts)} | ({} if code is None else {"code": code}),
        ),
    )


def _first_failed(parts: Sequence[Job]) -> Job | None:
    failed = [part for part in parts if part.verdict not in (None, Verdict.SUCCEEDED)]
    return min(failed, key=lambda part: (part.settled_at or part.deadline_at, part.execution_id), default=None)


def _total(parts: Sequence[Job], outcomes: Sequence[Outcome]) -> tuple[Money | None, CostKind]:
    """The sum, as certain as the least certain of its terms; None when it cannot be told or has no one currency.

    A part that was never submitted cost nothing, whatever is known of its price.
    """
    paid = [one for part, one in zip(parts, outcomes, strict=True) if one.cost is not None or part.submitted_at]
    costs = [one.cost for one in paid if one.cost is not None]
    if not paid or len(costs) < len(paid) or len({cost.currency for cost in costs}) > 1:
        return None, CostKind.UNKNOWN
    total = costs[0]
    for cost in costs[1:]:
        total += cost
    return total, max((one.cost_kind for one in paid), key=_WEAKER.index)


def _named(part: Job, receipt: str) -> ReceiptPart:
    return ReceiptPart(
        execution_id=part.execution_id,
        provider=part.provider,
        device_id=part.device_id,
        shots=part.shots,
        verdict=part.verdict or Verdict.FAILED,
        receipt_sha256=hashlib.sha256(receipt.encode()).hexdigest(),
    )


def _only(values: Sequence[_T | None]) -> _T | None:
    """The value all of them have; None when they differ."""
    return values[0] if len(set(values)) == 1 else None
