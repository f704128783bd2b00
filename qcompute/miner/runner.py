"""Stage 4b: poll until the vendor says how it ended, then store result and receipt.

Waiting costs no tasks: when a row is polled next stands in the row. Rows that are due go to the vendor together, as
few calls as the adapter allows. Only a word the contract calls terminal ends a job; an unknown word never does.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Final, assert_never

from typing_extensions import override

from qcompute.errors import BadReply, Bug, CannotRun, StaleRow, StoreError, VendorError
from qcompute.ledger.contract import Postponed
from qcompute.miner.account import Account
from qcompute.miner.circuit_cache import CircuitCache
from qcompute.miner.ends import EndedRows
from qcompute.miner.job import Job, State, Verdict
from qcompute.miner.providers.base import BaseExecutionStatus, JobHandle, JobReceipt, ProviderStatus, Verb
from qcompute.miner.resting import FIRST_REST, REST, Asked, Resting, asked_from, handles_of
from qcompute.miner.result import ended, failure_text, succeeded
from qcompute.miner.road import Road, asked_pause_seconds
from qcompute.miner.stage import Stage
from qcompute.units import ExecutionId

_log = logging.getLogger(__name__)

LONGEST_POLL_SECONDS: Final = 60.0
"""Even a job that waits for days is looked at once a minute."""

POLL_GROWTH: Final = 0.05
"""The pause between polls is this part of the job's age: a late answer is noticed within 5 % of its wait."""

LONGEST_BATCH_POLL_SECONDS: Final = 20.0
BATCH_POLL_GROWTH: Final = 0.02
"""The same where one call asks for many jobs: the number of calls does not grow with theirs."""

CANCEL_GRACE: Final = timedelta(minutes=10)
"""After its deadline a job is cancelled and polled for so long; then it ends without the vendor's last word."""

BAD_REPLY_TRIES: Final = 5
"""A receipt we do not understand is fetched so often; then the job is held with the vendor's job intact."""

BATCH: Final = 1000
MAX_WORDS: Final = 300
"""Of what a vendor says of an unknown status, so many characters are kept with the job."""

POLLS_AT_ONCE: Final = 4000
"""Rows that are asked for in one go, with as many calls as that takes; the news they bring are acted on in between."""

ROUNDS_AT_ONCE: Final = 25
"""So often in a row that is done before rows that need more than a poll are looked for."""

OTHERS_AHEAD: Final = 100
"""While more are to be asked for, so many rows are looked for beside those with news."""

_NO_NEWS: Final = frozenset({ProviderStatus.QUEUED.value, ProviderStatus.RUNNING.value})
_MICROSECOND: Final = timedelta(microseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class WaitStage(Stage):
    """Polls and settles."""

    state: ClassVar[State] = State.WAITING

    def __init__(
        self,
        road: Road,
        account: Account,
        circuits: CircuitCache,
        *,
        held_seconds: float,
        unknown_seconds: float,
    ) -> None:
        super().__init__(road, concurrency=BATCH, lane=account.key)
        self._account = account
        self._circuits = circuits
        self._held = timedelta(seconds=held_seconds)
        self._unknown = timedelta(seconds=unknown_seconds)
        self._unknown_since: dict[ExecutionId, datetime] = {}
        self._cancelling_since: dict[ExecutionId, datetime] = {}
        self._answers: dict[ExecutionId, tuple[int, BaseExecutionStatus | Exception]] = {}
        """What the vendor said of rows that are still to be taken, and of which version."""
        self._is_asking_on = False
        self._ends = EndedRows()
        self._resting = Resting()
        self._finds_resting = True
        self._began_at: datetime | None = None

    @override
    async def run(self) -> None:
        """See `Stage.run`. A row whose job the adapter says has ended is taken at once."""
        with self._account.hearing_ends(self._hear_ends):
            await super().run()

    async def handle(self, job: Job) -> None:
        """Poll one job, together with all others taken in the same moment; see `Stage.handle`."""
        if job.handle is None:
            await self._hold(job, "no_handle", "it was submitted, and what to ask its vendor for is not known")
            return
        self._ends.forget(job)
        self._resting.forget(job.execution_id)
        now = self.road.clock()
        if now >= job.deadline_at or job.cancel_requested_at is not None:
            job = await self._call_off(job, now)
            if job.state is not State.WAITING:
                return
        version, answer = self._answers.pop(job.execution_id, (-1, None))
        if answer is None or version != job.version:
            answer = await self._account.poll(_handle(job))
        if isinstance(answer, Exception):
            await self._poll_failed(job, answer)
        else:
            await self._act_on(job, answer)

    def _hear_ends(self, provider_job_ids: Sequence[str]) -> None:
        self._ends.heard(provider_job_ids)
        self._poke.set()

    @override
    def _hear(self, jobs: Sequence[Job] | None) -> None:
        super()._hear(jobs)
        for job in jobs or ():
            self._resting.forget(job.execution_id)
            if self._account.tells_ends:
                self._ends.waits(job)

    @override
    def _start_rows(self) -> None:
        for job in self._ends.take(self._taken):
            self._backlog[job.execution_id] = job
            self._answers.pop(job.execution_id, None)  # from before its end
        super()._start_rows()

    @override
    async def _fetch_rows(self) -> None:
        """Ask for those that are due, where many can be asked for at once; those with no news are not taken at all."""
        self._is_asking_on = self._account.polls_in_batches
        for _ in range(ROUNDS_AT_ONCE):
            # News before more questions.
            if not self._is_asking_on or len(self._answers) >= BATCH:
                break
            self._is_asking_on = await self._ask_for_many()
            self._start_rows()
        await super()._fetch_rows()
        if not self._is_behind:  # whoever is not here now moved on without us
            self._answers = {name: kept for name, kept in self._answers.items() if name in self._backlog}
        if self._is_asking_on:
            self._look_at = 0.0

    @override
    async def _pause_seconds(self) -> float:
        pause = await super()._pause_seconds()
        if (due_at := self._resting.next_due_at) is None:
            return pause
        return min(pause, max((due_at - self.road.clock()).total_seconds(), 0.0))

    @override
    def _most_fetched(self) -> int:
        # Rows that are still to be asked for stand behind those with news, and would all be taken one by one.
        most = super()._most_fetched()
        return min(len(self._answers) + OTHERS_AHEAD, most) if self._is_asking_on else most

    async def _ask_for_many(self) -> bool:
        """Let those with no news wait on, and keep the answers of the others; whether more may be due."""
        now, most = self.road.clock(), min(POLLS_AT_ONCE, 4 * max(self._account.limits.max_poll_batch, 1))
        jobs = self._resting.take(now, most)
        try:
            if len(jobs) < most:
                jobs += await self._due_in_table(now, most - len(jobs))
            if not jobs:
                return False
            answers = await self._account.poll_all(handles_of(jobs))
            self._keep_asking(jobs, answers, written := [])
            if written:
                with suppress(StaleRow):  # another process has the account: whoever runs this stage hears of it
                    await self.road.postpone(written)
        except StoreError:
            self._ask_again(jobs, now)
            raise
        return len(jobs) == most

    def _ask_again(self, jobs: Sequence[Asked], now: datetime) -> None:
        """As if they had not been asked for: what the table was to know of them it does not."""
        for job in jobs:
            self._answers.pop(job.execution_id, None)
            self._resting.forget(job.execution_id)
            if job.rests_until is not None:
                self._resting.keep(job, now)

    async def _due_in_table(self, now: datetime, most: int) -> list[Asked]:
        """Rows that are due, and at first those that rest too: whoever let them rest has ended."""
        skip = {*self._taken, *self._answers}
        if not self._finds_resting:
            return asked_from(await self.road.ledger.polls_due(now, most, lane=self.lane, skip=skip), now)
        # Not those that we let rest, from the first moment on: they would be asked for over and over.
        self._began_at = self._began_at or now
        within = self._began_at + FIRST_REST - now - _MICROSECOND
        polls = await self.road.ledger.polls_due(now, most, lane=self.lane, skip=skip, within=within)
        self._finds_resting = len(polls) == most and not self._resting.is_full
        return asked_from(polls, now, rested_until=now)

    def _keep_asking(
        self, jobs: Sequence[Asked], answers: Sequence[BaseExecutionStatus | Exception], written: list[Postponed]
    ) -> None:
        """When each is asked for next; to ``written`` goes what the table must know of it."""
        now = self.road.clock()
        due_after: dict[float, datetime] = {}  # thousands of one age and pace share a moment
        rests_until = now + (FIRST_REST if self._finds_resting else REST)
        for job, answer in zip(jobs, answers, strict=True):
            if isinstance(answer, Exception) or answer.status not in _NO_NEWS or answer.status != job.vendor_status:
                self._answers[job.execution_id] = job.version, answer
                if job.rests_until is not None:
                    written.append(Postponed(job.execution_id, job.version, now))
                continue
            seconds = self._poll_pause_seconds((now - job.submitted_at).total_seconds(), answer)
            if (due_at := due_after.get(seconds)) is None:
                due_at = due_after[seconds] = self._on_grid(now, seconds)
            if job.rests_until is None or due_at >= job.rests_until:
                if due_at >= rests_until or self._resting.is_full:
                    written.append(Postponed(job.execution_id, job.version, due_at))
                    continue
                written.append(Postponed(job.execution_id, job.version, rests_until))
                self._resting.keep(job._replace(rests_until=rests_until), due_at)
            else:
                self._resting.keep(job, due_at)

    async def _act_on(self, job: Job, answer: BaseExecutionStatus) -> None:
        status = ProviderStatus.of(answer.status)
        if status is not ProviderStatus.UNKNOWN:
            self._unknown_since.pop(job.execution_id, None)
        match status:
            case ProviderStatus.QUEUED | ProviderStatus.RUNNING:
                await self._poll_later(job, answer)
            case ProviderStatus.UNKNOWN if answer.is_lost:
                await self._lost(job, answer)
            case ProviderStatus.UNKNOWN:
                await self._unknown_word(job, answer)
            case ProviderStatus.COMPLETED:
                await self._completed(job)
            case ProviderStatus.FAILED:
                await self._ended(job, Verdict.FAILED, answer)
            case ProviderStatus.CANCELLED:
                await self._ended(job, Verdict.CANCELLED, answer)
            case _:
                assert_never(status)

    async def _poll_later(self, job: Job, answer: BaseExecutionStatus) -> None:
        now = self.road.clock()
        seconds = self._poll_pause_seconds((now - (job.submitted_at or now)).total_seconds(), answer)
        due_at = self._on_grid(now, seconds)
        if now < job.deadline_at < due_at:
            due_at = job.deadline_at
        if job.vendor_status != answer.status:
            extra = {"action": "vendor_status", "execution_id": job.execution_id}
            _log.info("%s says %s", self._account.key, answer.status, extra=extra)
        stored = await self.road.store(
            job,
            job.but(due_at=due_at, vendor_status=answer.status, attempts=0, error_code=None, error=None),
        )
        if self._account.tells_ends:
            self._ends.waits(stored)

    async def _lost(self, job: Job, answer: BaseExecutionStatus) -> None:
        """Back to the submit: it is not there any more, and running it again costs nothing."""
        text = answer.message or "its provider does not have it any more"
        extra = {"action": "lost_job", "execution_id": job.execution_id}
        _log.warning("%s lost a job, which is submitted again: %s", self._account.key, text, extra=extra)
        again = replace(
            job,
            state=State.SUBMITTING,
            due_at=self.road.clock(),
            submit_started_at=None,
            submitted_at=None,
            provider_job_id=None,
            handle=None,
            prepared=None,
            vendor_status=None,
            error_code="lost_job",
            error=text,
        )
        await self.road.save(job, again)

    def _poll_pause_seconds(self, age_seconds: float, answer: BaseExecutionStatus) -> float:
        return poll_pause_seconds(
            age_seconds=age_seconds,
            interval_seconds=self._account.poll_interval_seconds,
            eta_seconds=answer.eta_seconds,
            in_batches=self._account.polls_in_batches,
        )

    def _on_grid(self, now: datetime, seconds: float) -> datetime:
        return on_grid(now + timedelta(seconds=seconds), self._account.poll_interval_seconds)

    async def _unknown_word(self, job: Job, answer: BaseExecutionStatus) -> None:
        now = self.road.clock()
        since = self._unknown_since.setdefault(job.execution_id, now)
        if since == now:
            extra = {"action": "unknown_status", "execution_id": job.execution_id}
            _log.error("%s answered a status we do not know: %.64r", self._account.key, answer.status, extra=extra)
        if now - since >= self._unknown:
            del self._unknown_since[job.execution_id]
            text = f"the vendor's status has been unknown for {self._unknown}: {_words(answer)}"
            await self._hold(job, "unknown_status", text)
            return
        pause = timedelta(seconds=max(self._account.limits.poll_interval_seconds, 5.0))
        await self.road.store(
            job,
            replace(
                job,
                due_at=now + pause,
                vendor_status=answer.status[:64],
                error_code="unknown_status",
                error=f"the vendor's status is not one we know: {_words(answer)}",
            ),
        )

    async def _poll_failed(self, job: Job, error: Exception) -> None:
        if isinstance(error, StoreError):
            raise error
        message = error.message if isinstance(error, VendorError) else f"the adapter raised {type(error).__name__}"
        code = error.code if isinstance(error, VendorError) else "poll_failed"
        await self.road.again(
            job,
            code=code,
            message=message,
            first_seconds=self._account.limits.poll_interval_seconds,
            longest_seconds=LONGEST_POLL_SECONDS,
            at_least=asked_pause_seconds(error),
        )

    async def _completed(self, job: Job) -> None:
        try:
            handle = _handle(job)
            receipt = await self._receipt(handle)
            outcome = succeeded(job, receipt, num_clbits=await self._num_clbits(job, handle))
        except BadReply as error:
            await self._bad_receipt(job, error)
        except VendorError as error:
            await self._poll_failed(job, error)
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - an adapter may raise anything; the vendor still has the result
            await self._poll_failed(job, error)
        else:
            await self.road.settle(job, Verdict.SUCCEEDED, outcome)

    async def _bad_receipt(self, job: Job, error: BadReply) -> None:
        if job.attempts + 1 >= BAD_REPLY_TRIES:
            await self._hold(job, error.code, error.message)
        else:
            await self.road.again(
                job, code=error.code, message=error.message, first_seconds=2.0, longest_seconds=LONGEST_POLL_SECONDS
            )

    async def _ended(self, job: Job, verdict: Verdict, answer: BaseExecutionStatus) -> None:
        receipt: JobReceipt | None = None
        try:
            receipt = await self._receipt(_handle(job))
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - how it ended is known; only details are missing
            _log.warning(
                "no receipt for a job that ended: %s",
                type(error).__name__,
                extra={"action": "no_receipt", "execution_id": job.execution_id},
            )
        text = failure_text(receipt, answer.message)
        if verdict is Verdict.CANCELLED and job.cancel_requested_at is not None:
            text = f"cancelled: {_why_called_off(job)}"
        await self.road.settle(job, verdict, ended(job, receipt, message=text), code=f"vendor_{verdict}")

    async def _call_off(self, job: Job, now: datetime) -> Job:
        """Ask the vendor to cancel, at every poll; after the grace, end the job. Returns the row as it is now.

        A request to cancel is not a cancel, and not every request is heard.
        """
        try:
            await self._account.call(Verb.CANCEL, self._account.adapter.cancel, _handle(job))
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - it may have ended meanwhile; polling will tell
            extra = {"action": "cancel", "execution_id": job.execution_id}
            _log.warning("could not be cancelled: %s", type(error).__name__, extra=extra)
        else:
            if job.cancel_requested_at is None:
                job = await self.road.store(job, replace(job, cancel_requested_at=now))
        # A daemon that was down past a deadline still gives the job its grace, and so does a vendor that does not hear.
        since = job.cancel_requested_at or self._cancelling_since.setdefault(job.execution_id, now)
        if now - since < CANCEL_GRACE:
            return job
        self._cancelling_since.pop(job.execution_id, None)
        message = f"{_why_called_off(job)}, and the vendor did not confirm that it was cancelled"
        code = "operator" if _is_operators_cancel(job) else "deadline"
        return await self.road.end_without_result(job, Verdict.FAILED, code=code, message=message)

    async def _receipt(self, handle: JobHandle) -> JobReceipt:
        return await self._account.ask(Verb.RECEIPT, self._account.adapter.get_job_receipt, handle)

    async def _num_clbits(self, job: Job, handle: JobHandle) -> int | None:
        if handle.measurement is not None:
            return handle.measurement.num_clbits
        try:
            return (await self._circuits.compiled(job)).num_clbits
        except (CannotRun, Bug) as error:
            _log.warning(
                "the circuit cannot be parsed again (%s); its width stays unchecked",
                error.code,
                extra={"action": "unchecked_width", "execution_id": job.execution_id},
            )
            return None

    async def _hold(self, job: Job, code: str, message: str) -> None:
        due_at = self.road.clock() + self._held
        await self.road.save(job, replace(job, state=State.HELD, due_at=due_at, error_code=code, error=message))


class HeldStage(Stage):
    """Ends held jobs whose deadline has passed, so that no validator waits for ever."""

    state: ClassVar[State] = State.HELD

    def __init__(self, road: Road) -> None:
        super().__init__(road, concurrency=8)

    async def handle(self, job: Job) -> None:
        """End a job nobody released in time; see `Stage.handle`."""
        message = f"held for an operator who did not come: {job.error}"
        await self.road.end_without_result(job, Verdict.FAILED, code="submit_unknown", message=message)


def poll_pause_seconds(
    *, age_seconds: float, interval_seconds: float, eta_seconds: int | None, in_batches: bool = False
) -> float:
    """When to ask again: soon for a young job, rarely for an old one, not before half of what the vendor foretells."""
    growth = BATCH_POLL_GROWTH if in_batches else POLL_GROWTH
    longest = LONGEST_BATCH_POLL_SECONDS if in_batches else LONGEST_POLL_SECONDS
    by_age = max(interval_seconds, growth * age_seconds)
    by_eta = eta_seconds / 2 if eta_seconds is not None and eta_seconds > 0 else 0.0
    return max(min(max(by_age, by_eta), longest), interval_seconds)


def on_grid(moment: datetime, interval_seconds: float) -> datetime:
    """The nearest whole multiple of the poll interval: rows that wait then fall due together and share a call.

    Not the next one: a poll that ran a moment after its time would then skip the one after.
    """
    micros = round(interval_seconds * 1_000_000)
    since = (moment - _EPOCH) // timedelta(microseconds=1)
    return _EPOCH + timedelta(microseconds=(since + micros // 2) // micros * micros)


def _is_operators_cancel(job: Job) -> bool:
    """Before the deadline nobody else asks for it."""
    return job.cancel_requested_at is not None and job.cancel_requested_at < job.deadline_at


def _why_called_off(job: Job) -> str:
    if _is_operators_cancel(job):
        return "this miner's operator called the job off"
    return "the job did not end before its deadline"


def _handle(job: Job) -> JobHandle:
    return JobHandle.model_validate(job.handle)


def _words(answer: BaseExecutionStatus) -> str:
    """The vendor's word, and what it says of it: an operator who looks at a held job has nothing else to go by."""
    said = f": {answer.message[:MAX_WORDS]}" if answer.message else ""
    return f"{answer.status[:64]!r}{said}"
