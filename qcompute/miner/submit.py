"""Stage 4a: the paid call, made at most once.

That a call may be in flight is on disk before it is made (``submit_started_at``). Whoever finds that mark, after a
crash or after an answer that did not come, *looks* with `find` before anything else. What cannot be looked up is held
for the operator; it is never submitted again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any, ClassVar, Final, ParamSpec, TypeVar, assert_never

from qcompute.errors import (
    AuthFailed,
    BudgetSpent,
    CannotRun,
    QComputeError,
    QuotaSpent,
    Refused,
    SandboxUnavailable,
    StaleRow,
    StoreError,
    SubmitUnknown,
    Unavailable,
    VendorError,
)
from qcompute.miner.account import Account
from qcompute.miner.circuit_cache import CircuitCache
from qcompute.miner.job import Job, State, Verdict
from qcompute.miner.onward import Cause, has_another, onward, staying
from qcompute.miner.pack import Left, Member, Packer
from qcompute.miner.placement import Placement
from qcompute.miner.prepare import prepare_again
from qcompute.miner.providers.base import Absent, CannotTell, Found, Idempotency, JobHandle, Prepared, Verb
from qcompute.miner.result import complete_handle
from qcompute.miner.road import Road, asked_pause_seconds
from qcompute.miner.router import NO_ROOM, token_of_pack, wait_for_room
from qcompute.miner.stage import STORE_PAUSE_SECONDS, Stage
from qcompute.units import DeviceId, ExecutionId, Money, ProviderJobId, ProviderKey

_log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

LOOKS_BEFORE_RESUBMIT: Final = {
    Idempotency.TOKEN: 1,
    Idempotency.CLIENT_ID: 1,
    Idempotency.TAG: 2,
    Idempotency.SCAN: 2,
    Idempotency.NONE: 1,
}
"""How often a job must be found absent before it is submitted again. Lists may lag behind creation, so where nothing
but a list protects from a second payment it is read twice, ``miner.second_look_seconds`` apart."""

KEEP_TRIES: Final = 120
"""How often storing a vendor's answer is tried, a pause apart, before it is left to be looked for."""

SECOND_LOOK_PART: Final = 0.9
"""Two clocks measure the time between two looks, and never quite agree."""

FIRST_LOOK_SECONDS: Final = 5.0

CLOCK_SKEW: Final = timedelta(minutes=10)
"""A vendor's clock may be behind ours by this much; `find` looks back further."""

ACCOUNT_PAUSE_SECONDS: Final = 300.0
"""An account that refuses us or is spent needs its operator; asking more often helps nobody."""


class SubmitStage(Stage):
    """Submits, or finds what was submitted.

    ``others`` says which accounts a job may be at, this one or not; ``split_from`` is ``routing.split_shots_from``.
    """

    state: ClassVar[State] = State.SUBMITTING

    def __init__(
        self,
        road: Road,
        account: Account,
        circuits: CircuitCache,
        *,
        concurrency: int,
        held_seconds: float,
        second_look_seconds: float,
        max_unavailable_seconds: float = 600.0,
        others: Callable[[], Awaitable[AbstractSet[str]]] | None = None,
        split_from: int | None = None,
        dry_run: bool = False,
    ) -> None:
        super().__init__(road, concurrency=concurrency, lane=account.key)
        self._account = account
        self._budget = road.budgets.of(account.key)
        self._circuits = circuits
        self._held = timedelta(seconds=held_seconds)
        self._second_look = timedelta(seconds=second_look_seconds)
        self._patience = timedelta(seconds=max_unavailable_seconds)
        self._others = others
        self._split_from = split_from
        self._dry_run = dry_run
        self._absent_since: dict[ExecutionId, float] = {}
        self._packer = Packer(
            largest=account.limits.max_pack, turn=partial(account.turn, Verb.SUBMIT), submit=self._submit_pack
        )

    def abandon(self) -> None:
        """See `Stage.abandon`. A paid call in flight goes on, and what it created is found by whoever looks."""
        self._packer.close()
        super().abandon()

    async def handle(self, job: Job) -> None:
        """Submit a job that never was, look for one that may have been; see `Stage.handle`."""
        if job.submit_started_at is None:
            await self._first_submit(job)
        else:
            await self._look(job)

    async def stop(self) -> None:
        """Let go of jobs that only wait for their turn, which are as they were; see `Stage.stop`."""
        self._packer.close()
        await super().stop()

    async def _first_submit(self, job: Job) -> None:
        if self.road.clock() >= job.deadline_at:
            fault = NO_ROOM if job.error_code == BudgetSpent.code else "the job could not be submitted"
            message = f"{fault} before its deadline"
            await self.road.end_without_result(job, Verdict.FAILED, code="deadline", message=message)
            return
        try:
            if job.error_code == BudgetSpent.code:  # it waits for room: looking again must cost next to nothing
                self._budget.require_room(job.estimate, of=job.execution_id)
            if has_another(job):
                await self._require_available(job)
            ready = await prepare_again(self._account, self._circuits, job)
            job = _priced(job, ready.estimate)
            if self._dry_run:
                await self._refuse_dry(job)
                return
            if job.parent_id is not None and self._budget.limits_jobs:
                # It may have come from another account, where it was held to the limit beside other parts.
                self._budget.check_beside(job, await self.road.ledger.parts(job.parent_id))
            # Only here, where one process at a time works on an account, do reservations add up.
            charge = self._budget.reserve(job.execution_id, job.estimate)
            await self._packer.join(job, ready.prepared, charge)
        except Left:
            return
        except (BudgetSpent, CannotRun, SandboxUnavailable, VendorError) as error:
            await self._not_submitted(job, error)

    async def _require_available(self, job: Job) -> None:
        """Where a job could go elsewhere, it is not left in the queue of a device that is switched off."""
        why = await self._account.is_down(job.device_id or "")
        if why is not None:
            raise Unavailable(f"{job.device_id} is not available: {why}")

    async def _not_submitted(self, job: Job, error: QComputeError) -> None:
        """Provably nothing was created: on to the next candidate, or whatever the error means for the job here."""
        now, cause = self.road.clock(), _cause(error)
        if cause is not None:
            after = onward(job, cause, error.message, now, patience=self._patience)
            if after is not None:
                await self._give_over(job, after, error)
                return
            if cause is not Cause.REFUSED:
                job = staying(job, now)
        marked = job.submit_started_at is not None
        match error:
            case BudgetSpent():
                await wait_for_room(self.road, job, error)
            case CannotRun() | Refused():
                code = error.reason if isinstance(error, CannotRun) and not marked else error.code
                await self.road.end_without_result(
                    job, Verdict.REFUSED, code=code, message=error.message, unsubmitted=True
                )
            case AuthFailed() | QuotaSpent():
                _log.error("%s: %s", self._account.key, error, extra={"action": "account_refused"})
                await self._later(job, error, at_least=ACCOUNT_PAUSE_SECONDS)
            case _:
                await self._later(job, error, at_least=asked_pause_seconds(error))

    async def _give_over(self, job: Job, after: Job, error: QComputeError) -> None:
        """Put the job into the next candidate's lane, with nothing reserved for it here."""
        charge = self._budget.final_charge(job, None, may_be_paid=False)
        await self.road.store(job, after, charge=charge)
        self._budget.settle(job.execution_id, charge)
        _log.info(
            "%s/%s will not do (%s); on to %s/%s",
            job.provider,
            job.device_id,
            error.message,
            after.provider,
            after.device_id,
            extra={"action": "next_candidate", "execution_id": job.execution_id, "code": error.code},
        )

    async def _refuse_dry(self, job: Job) -> None:
        cost = "an unknown cost" if job.estimate is None else str(job.estimate)
        message = f"this miner is on a dry run: the job is ready for {job.device_id} at {cost}, and is not submitted"
        await self.road.end_without_result(job, Verdict.REFUSED, code="dry_run", message=message)

    async def _submit_pack(self, members: list[Member]) -> None:
        """Mark every job on disk, then make the one paid call for all of them."""
        marked = await self._marked(members)
        if not marked:
            return
        try:
            handles = await self._paid(marked)
        except Exception as error:  # noqa: BLE001 - an adapter of the reference may raise anything: it may be paid
            await self._unpaid([job for job, _ in marked], error)
        else:
            adopted = await asyncio.gather(
                *(self._keep(job, handle) for (job, _), handle in zip(marked, handles, strict=True)),
                return_exceptions=True,
            )
            if failure := next((one for one in adopted if one is not None), None):
                raise failure

    async def _keep(self, job: Job, handle: JobHandle) -> None:
        """Adopt what was just paid for, through a database that fails for a while.

        A handle that is lost must be found again, and not every vendor can look.
        """
        tries = 0
        while True:
            try:
                return await self._adopt(job, handle)
            except StaleRow:
                raise
            except StoreError as error:
                tries += 1
                if tries > KEEP_TRIES or self._stopping:
                    raise
                _log.warning(
                    "the vendor's job %s cannot be stored yet: %s",
                    handle.provider_job_id,
                    error,
                    extra={"action": "store_failed", "execution_id": job.execution_id},
                )
            await asyncio.sleep(STORE_PAUSE_SECONDS)

    async def _marked(self, members: list[Member]) -> list[tuple[Job, Prepared]]:
        now = self.road.clock()
        token = token_of_pack([member.job for member in members])
        marks = [
            member.job.but(
                submit_started_at=now,
                submit_attempts=member.job.submit_attempts + 1,
                attempts=0,  # from here on it counts looks, and there was none
                due_at=now,
                token=token,
                prepared=_written_down(member.prepared, index if len(members) > 1 else None),
            )
            for index, member in enumerate(members)
        ]
        saved = await asyncio.gather(
            *(
                self.road.store(member.job, mark, charge=member.charge)
                for member, mark in zip(members, marks, strict=True)
            ),
            return_exceptions=True,
        )
        ours = [(job, member.prepared) for job, member in zip(saved, members, strict=True) if isinstance(job, Job)]
        if failure := next((one for one in saved if isinstance(one, BaseException)), None):
            for member, one in zip(members, saved, strict=True):
                if isinstance(one, StaleRow):
                    self._budget.take_back(member.job.execution_id)
            if isinstance(failure, StaleRow):  # one left; the places written down for the others are not theirs now
                for job, _ in ours:
                    await self._unmarked(job)
            # Nothing was submitted: after a failure of the database those marked look, find nothing and come again.
            raise failure
        return ours

    async def _paid(self, marked: list[tuple[Job, Prepared]]) -> list[JobHandle]:
        first, prepared = marked[0]
        adapter = self._account.adapter
        if self._account.limits.max_pack > 1:
            circuits = [one for _, one in marked]
            token = first.token or token_of_pack([first])
            handles = await self._pay(adapter.submit_many, circuits, first.device_id or "", first.shots, token=token)
            if len(handles) != len(marked):
                raise SubmitUnknown(f"the adapter gave {len(handles)} handles for {len(marked)} circuits")
            return handles
        arguments: dict[str, Any] = {"token": first.token, "options": prepared.options}
        extra = {name: arguments[name] for name in self._account.submit_arguments}
        submit: Callable[..., JobHandle] = adapter.submit
        return [await self._pay(submit, prepared.payload, first.device_id, first.shots, **extra)]

    async def _pay(self, submit: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make the call in the account's threads, if the account is still ours in that very moment."""
        tenure = self.road.tenure
        if tenure is None:
            return await self._account.call(Verb.SUBMIT, submit, *args, **kwargs)
        claims = self.road.ledger.claims

        def ours() -> T:
            with claims.paid_call(tenure):
                return submit(*args, **kwargs)

        return await self._account.call(Verb.SUBMIT, ours)

    async def _unpaid(self, jobs: list[Job], error: Exception) -> None:
        """What a submit that gave no handle means for its jobs."""
        if isinstance(error, StoreError):
            raise error
        if isinstance(error, CannotRun | Refused) and len(jobs) > 1:
            self._packer.alone(jobs)
        for job in jobs:
            match error:
                case CannotRun() | Refused() if len(jobs) > 1:
                    await self._unmarked(job)
                case CannotRun() | Refused() | AuthFailed() | QuotaSpent() | Unavailable():
                    await self._not_submitted(job, error)
                case _:
                    await self._unknown(job, error)

    async def _unmarked(self, job: Job) -> None:
        """One of a pack that was refused as a whole: nothing was created, and it is submitted again by itself."""
        await self.road.store(job, replace(job, submit_started_at=None, due_at=self.road.clock()))

    async def _later(self, job: Job, error: QComputeError, *, at_least: float) -> None:
        """Submit again after a pause; the mark, if there is one, is taken away."""
        if job.submit_started_at is not None:
            job = replace(job, attempts=job.submit_attempts - 1)  # the mark began to count looks; the pause must grow
        longest = self._patience.total_seconds() if has_another(job) else ACCOUNT_PAUSE_SECONDS
        await self.road.again(
            job,
            code=error.code,
            message=error.message,
            first_seconds=2.0,
            longest_seconds=max(min(120.0, longest), 1.0),
            at_least=min(at_least, longest, ACCOUNT_PAUSE_SECONDS),
            unsubmitted=True,
        )

    async def _unknown(self, job: Job, error: Exception) -> None:
        message = error.message if isinstance(error, VendorError) else f"the adapter raised {type(error).__name__}"
        _log.warning(
            "no clear answer to a submit (%s); looking for the job before anything else",
            message,
            extra={"action": "submit_unknown", "execution_id": job.execution_id},
            exc_info=None if isinstance(error, VendorError) else error,
        )
        due_at = self.road.clock() + timedelta(seconds=FIRST_LOOK_SECONDS)
        await self.road.store(job, replace(job, due_at=due_at, attempts=0, error_code="submit_unknown", error=message))

    async def _look(self, job: Job) -> None:
        token = job.token
        if token is None or job.submit_started_at is None:
            await self._hold(job, "submit_unknown", "it may have been submitted, but it has no token to look for")
            return
        since = job.submit_started_at - CLOCK_SKEW
        try:
            answer = await self._account.ask(Verb.FIND, self._account.adapter.find, token, since)
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - an adapter may raise anything: it may have been submitted
            await self._look_failed(job, error)
            return
        match answer:
            case Found(handles=handles):
                self._absent_since.pop(job.execution_id, None)
                await self._cancel_extra(job, handles[1:])
                await self._found(job, handles[0])
            case Absent():
                await self._absent(job)
            case CannotTell(reason=reason):
                await self._hold(job, "submit_unknown", f"it may have been submitted, and {reason}")
            case _:
                assert_never(answer)

    async def _found(self, job: Job, handle: JobHandle) -> None:
        if not _is_restored(job) or "measurement" in (job.prepared or {}):
            await self._adopt(job, handle)
            return
        # Submitted after the copy was made from which the ledger was restored: how its result is read is not in it.
        where = replace(job, device_id=DeviceId(handle.device_id), prepared=_RESTORED)
        try:
            ready = await prepare_again(self._account, self._circuits, where)
        except CannotRun as error:
            text = f"the vendor has it as {handle.provider_job_id}, but how to read its result is lost: {error.message}"
            await self._hold(where, "restored", text)
        except (SandboxUnavailable, VendorError) as error:
            due_at = self.road.clock() + timedelta(seconds=FIRST_LOOK_SECONDS)
            await self.road.store(job, replace(job, due_at=due_at, error_code=error.code, error=error.message))
        else:
            estimate = ready.estimate if "routed_to" in _walk(job) else job.estimate
            await self._adopt(replace(where, prepared=_written_down(ready.prepared, None), estimate=estimate), handle)

    async def _look_failed(self, job: Job, error: Exception) -> None:
        message = error.message if isinstance(error, VendorError) else f"the adapter raised {type(error).__name__}"
        code = error.code if isinstance(error, VendorError) else "find_failed"
        if self.road.clock() >= job.deadline_at:
            await self._hold(job, "submit_unknown", f"it may have been submitted, and {message}")
            return
        # ``attempts`` counts completed looks here, so a look that failed must leave it alone.
        due_at = self.road.clock() + timedelta(seconds=FIRST_LOOK_SECONDS + asked_pause_seconds(error, otherwise=10.0))
        await self.road.store(job, replace(job, due_at=due_at, error_code=code, error=message))

    async def _absent(self, job: Job) -> None:
        if _is_restored(job) and self._account.limits.max_pack > 1:
            text = "since the copy was made it may have been submitted in a pack, which cannot be looked for"
            await self._hold(job, "restored", text)
            return
        looks, needed = job.attempts + 1, LOOKS_BEFORE_RESUBMIT[self._account.adapter.idempotency]
        # By a clock that cannot be set: with the machine's moved forward, the second look would follow at once.
        now = self._account.monotonic()
        absent_seconds = now - self._absent_since.setdefault(job.execution_id, now)
        if looks < needed or (needed > 1 and absent_seconds < SECOND_LOOK_PART * self._second_look.total_seconds()):
            due_at = self.road.clock() + self._second_look
            await self.road.store(job, replace(job, due_at=due_at, attempts=looks))
            return
        _log.info(
            "the vendor provably has no such job; it may be submitted",
            extra={"action": "absent", "execution_id": job.execution_id},
        )
        del self._absent_since[job.execution_id]
        if _is_restored(job):
            await self._absent_since_copy(job)
            return
        again = replace(job, submit_started_at=None, due_at=self.road.clock(), attempts=0)
        await self.road.store(job, again)

    async def _absent_since_copy(self, job: Job) -> None:
        """A job from a copy that is not here: since then it may have gone to any account, so each is asked in turn.

        Its token is made of its id alone, so it is the same everywhere. Whoever has the lane of an account looks there;
        only when every one has proved that it has no such job may it be submitted.
        """
        absent_at = {*_walk(job).get("absent_at", ()), self._account.key}
        known = set[str]() if self._others is None else set(await self._others())
        now = self.road.clock()
        left = sorted(known - absent_at)
        if not left and known and (gone := sorted(_named(job) - known - absent_at)):
            text = (
                f"it is not at {', '.join(sorted(absent_at))}, but since the copy was made it may have gone on to "
                f"{', '.join(gone)}, which this miner does not have any more: set it up again and release the job, or "
                "look there yourself"
            )
            await self._hold(_where_routed(job), "restored", text)
            return
        if not left:
            own = _where_routed(job)
            await self.road.store(job, replace(own, submit_started_at=None, prepared=None, due_at=now, attempts=0))
            return
        if self._may_have_been_split(job):
            text = (
                f"it is not at {self._account.key}, but since the copy was made it may have been split over several "
                f"accounts; look at {', '.join(left)}"
            )
            await self._hold(job, "restored", text)
            return
        routed_to = _walk(job).get("routed_to", self._account.key)
        after = replace(
            job,
            provider=ProviderKey(left[0]),
            prepared=_RESTORED | {"absent_at": sorted(absent_at), "routed_to": routed_to},
            attempts=0,
            due_at=now,
            error_code="restored",
            error=f"looking for it at {left[0]}: it is not at {', '.join(sorted(absent_at))}",
        )
        charge = self._budget.final_charge(job, None, may_be_paid=False)
        await self.road.store(job, after, charge=charge)
        self._budget.settle(job.execution_id, charge)

    def _may_have_been_split(self, job: Job) -> bool:
        """Whether parts of it, which have tokens of their own, may run instead of it, or the whole instead of it."""
        is_large = self._split_from is not None and job.shots >= self._split_from
        return is_large or job.parent_id is not None or job.configuration_data.get("split") is not None

    async def _cancel_extra(self, job: Job, extra: list[JobHandle]) -> None:
        for handle in extra:
            _log.error(
                "the vendor has one more job for this token; cancelling %s",
                handle.provider_job_id,
                extra={"action": "duplicate_submit", "execution_id": job.execution_id},
            )
            try:
                await self._account.call(Verb.CANCEL, self._account.adapter.cancel, handle)
            except VendorError as error:
                _log.error("it could not be cancelled: %s", error, extra={"action": "duplicate_submit"})

    async def _adopt(self, job: Job, handle: JobHandle) -> None:
        now = self.road.clock()
        handle = complete_handle(handle, job.prepared)
        first_poll = timedelta(seconds=self._account.first_poll_seconds)
        await self.road.save(
            job,
            job.but(
                state=State.WAITING,
                due_at=now + first_poll,
                provider_job_id=ProviderJobId(handle.provider_job_id),
                handle=handle.model_dump(mode="json"),
                submitted_at=now,
                error_code=None,
                error=None,
            ),
        )

    async def _hold(self, job: Job, code: str, message: str) -> None:
        due_at = self.road.clock() + self._held
        if "routed_to" in _walk(job):  # what it is held for was found on the way through the accounts
            message = f"at {self._account.key}: {message}"
        held = replace(_where_routed(job), state=State.HELD, due_at=due_at, error_code=code, error=message)
        await self.road.save(job, held)


def _cause(error: QComputeError) -> Cause | None:
    """What an error of a submit that did not happen says of the candidate; None: nothing."""
    match error:
        case CannotRun() | Refused():
            return Cause.REFUSED
        case AuthFailed() | QuotaSpent() | BudgetSpent():
            return Cause.ACCOUNT
        case Unavailable():
            return Cause.AWAY
        case _:
            return None


def _priced(job: Job, estimate: Money | None) -> Job:
    """With what it will cost here, where that was not known when it was routed."""
    placement = Placement.of(job.placement)
    if job.estimate is not None or estimate is None or placement is None:
        return job
    return replace(job, estimate=estimate, placement=placement.priced(estimate).document())


_RESTORED: Final[dict[str, Any]] = {"restored": True}


def _is_restored(job: Job) -> bool:
    """Whether the row comes from a copy, so that it may have been submitted since (`qcompute.ledger.restore`)."""
    return bool((job.prepared or {}).get("restored"))


def _walk(job: Job) -> dict[str, Any]:
    """What is known of a restored job that is looked for at one account after the other; empty for any other."""
    return (job.prepared or {}) if _is_restored(job) else {}


def _named(job: Job) -> set[str]:
    """The accounts its row names as candidates."""
    placement = Placement.of(job.placement)
    return set() if placement is None else {candidate.account for candidate in placement.candidates}


def _where_routed(job: Job) -> Job:
    """The job at the account that was chosen for it, whichever is asked for it now; it is looked for anew there."""
    routed_to = _walk(job).get("routed_to")
    return job if routed_to is None else replace(job, provider=ProviderKey(routed_to), prepared=_RESTORED)


def _written_down(prepared: Prepared, pack_index: int | None) -> dict[str, Any]:
    """What is stored with the mark: enough to read the result whatever the vendor sends back."""
    translation = prepared.compiled.translation
    return {
        "measurement": prepared.measurement.model_dump(mode="json"),
        "translation": None if translation is None else translation.facts(),
        "pack_index": pack_index,
    }
