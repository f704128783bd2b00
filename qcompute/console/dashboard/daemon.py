"""The dashboard's facts, from the parts of the running daemon."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from decimal import Decimal

from typing_extensions import override

from qcompute import __version__
from qcompute.axon.visitors import Visitors, Visits
from qcompute.circuits.draw import CircuitDrawer
from qcompute.console.dashboard.facts import AccountState, Choice, Facts, Health, JobFacts, ReceiptCheck, Spending
from qcompute.errors import CannotRun, ConfigError, QComputeError
from qcompute.ledger.listing import ClosedJobs, JobLine, Wish
from qcompute.miner.account import Account, caught
from qcompute.miner.commands import AboutJob, OperatorCommands
from qcompute.miner.heartbeat import AT_WORK
from qcompute.miner.job import Job, Outcome, State
from qcompute.miner.parts import Parts
from qcompute.miner.providers.base import Verb
from qcompute.miner.settings import Settings
from qcompute.receipts.document import FalseReceipt, UnusableReceipt, counts_sha256, verify_receipt
from qcompute.units import ExecutionId, Hotkey, ProviderKey

_log = logging.getLogger(__name__)


class DaemonFacts(Facts):
    """See `Facts`. Made before the daemon serves; `close` ends what it started."""

    def __init__(self, settings: Settings, parts: Parts) -> None:
        self._settings = settings
        self._parts = parts
        self._ledger = parts.ledger
        self._visitors: Visitors = parts.visitors
        self._commands: OperatorCommands = parts.commands.commands
        self._drawer = CircuitDrawer()
        self._drawing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="draw")
        self._started = time.monotonic()

    async def close(self) -> None:
        """End the child that draws."""
        await asyncio.to_thread(self._drawer.close)
        self._drawing.shutdown(wait=False, cancel_futures=True)

    @property
    @override
    def is_stopping(self) -> bool:
        return self._parts.intake.is_closed

    @override
    async def counts(self) -> dict[State, int]:
        return await self._ledger.count_by_state()

    @override
    async def closed_between(self, times: Sequence[datetime]) -> list[int]:
        return await self._ledger.closed_between(times)

    @override
    async def open_jobs(
        self, wish: Wish, limit: int, *, before: tuple[datetime, ExecutionId] | None = None
    ) -> list[JobLine]:
        return await self._ledger.open_jobs(wish, limit, before=before)

    @override
    async def closed_jobs(self, wish: Wish, limit: int, *, below: int | None, look: int) -> ClosedJobs:
        return await self._ledger.closed_jobs(wish, limit, below=below, look=look)

    @override
    async def has_job(self, execution_id: ExecutionId) -> bool:
        return await self._ledger.get(execution_id) is not None

    @override
    async def job(self, execution_id: ExecutionId) -> JobFacts | None:
        job = await self._ledger.get(execution_id)
        if job is None:
            return None
        outcome = await self._ledger.outcome(execution_id)
        document = await self._ledger.receipt(execution_id)
        receipt = None if document is None else ReceiptCheck(document, self._wrong_with(document, job, outcome))
        parts = await self._ledger.parts(execution_id)
        return JobFacts(job, outcome, receipt, parts, has_circuit=job.circuit_sha256 is not None)

    def _wrong_with(self, document: str, job: Job, outcome: Outcome | None) -> str | None:
        try:
            receipt = verify_receipt(document)
        except (FalseReceipt, UnusableReceipt) as error:
            return error.message
        if receipt.miner_hotkey != self._parts.signer.hotkey:
            return f"it is signed by {receipt.miner_hotkey}, not by this miner"
        if receipt.execution_id != job.execution_id:
            return f"it is that of job {receipt.execution_id}"
        counts = None if outcome is None else outcome.counts
        if receipt.counts_sha256 != (None if counts is None else counts_sha256(counts)):
            return "the stored counts are not those it was signed for"
        return None

    @override
    async def drawing(self, execution_id: ExecutionId) -> str:
        source = await self._ledger.circuit(execution_id)
        if source is None:
            raise CannotRun("the circuit is not here (yet)", reason="no_circuit")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._drawing, self._drawer.draw, source)

    @override
    async def health(self) -> Health:
        parts, miner = self._parts, self._settings.miner
        counts = await self._ledger.count_by_state()
        told = parts.heartbeat.told
        because = parts.fleet.budgets.closed_because()
        if parts.watch.current is None:
            because = "the metagraph is not known yet"
        elif sum(counts[state] for state in AT_WORK) >= miner.max_inflight:
            because = f"{miner.max_inflight} jobs are in flight (miner.max_inflight)"
        elif parts.intake.is_closed:
            because = "the daemon is stopping"
        return Health(
            version=__version__,
            hotkey=parts.signer.hotkey,
            uptime_seconds=time.monotonic() - self._started,
            accepting=because is None,
            not_accepting_because=because,
            chain_age_seconds=parts.watch.age_seconds,
            chain_failing=parts.watch.is_failing,
            job_server_status=None if told is None else told.status.value,
            job_server_unheard=parts.heartbeat.is_unheard,
            has_road=parts.duties[0].is_ours,
            dry_run=miner.dry_run,
        )

    @override
    def spending(self) -> list[Spending]:
        return [
            Spending(
                account=str(document["account"]),
                currency=str(document["currency"]),
                period=period,
                committed=figures["committed"],
                limit=figures["limit"],
                share=_share(figures["committed"], figures["limit"]),
            )
            for document in self._parts.fleet.budgets.documents()
            for period, figures in document["periods"].items()
        ]

    @override
    def accounts(self) -> list[AccountState]:
        heartbeat = self._parts.heartbeat
        trouble = heartbeat.trouble
        ours = {duty.lane for duty in self._parts.duties if duty.is_ours}
        return [
            AccountState(
                name=account.key,
                vendor=account.vendor,
                is_ours=account.key in ours,
                trouble=account.offline_because or trouble.get(account.key),
                devices=heartbeat.devices_of(account.key),
            )
            for account in self._parts.fleet.accounts
        ]

    @override
    async def choice(self) -> Choice:
        switch = self._parts.switch
        try:
            found = await switch.choices()
        except ConfigError as error:
            return Choice(switch.in_use, [], error.message)
        return Choice(switch.in_use, [name for name in found if name != switch.in_use])

    @override
    async def use(self, name: str) -> None:
        _log.warning("operator (dashboard): use %s", name, extra={"action": "operator"})
        await self._parts.switch.use(name, unchecked=False)

    @override
    async def test_account(self, name: str) -> str | None:
        account = self._parts.fleet.get(ProviderKey(name))
        if account is None:
            raise LookupError(name)
        return await _tested(account)

    @override
    def visitors(self) -> list[Visits]:
        return self._visitors.listed()

    @override
    def strangers(self) -> dict[str, int]:
        return dict(self._visitors.strangers)

    @override
    async def open_by_validator(self) -> dict[Hotkey, int]:
        return await self._ledger.open_by_validator()

    @override
    async def decide(self, command: AboutJob) -> Job:
        return await self._commands.run(command, uid=os.getuid())


async def _tested(account: Account) -> str | None:
    """Its health check, then its list of devices: the calls every vendor answers for nothing."""
    await account.look()
    if account.offline_because is not None:
        return account.offline_because
    answer = await caught(account.ask(Verb.DESCRIBE, account.devices))
    if isinstance(answer, QComputeError):
        return answer.message
    if isinstance(answer, Exception):
        return type(answer).__name__
    return None if answer else "it answers, and has no device that jobs may go to"


def _share(committed: str, limit: str | None) -> float | None:
    if limit is None:
        return None
    most = Decimal(limit)
    return float(Decimal(committed) / most) if most else 1.0
