"""Facts for pages without a daemon: a ledger in memory, and whatever a test lets them say."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from qcompute.axon.visitors import Visitors, Visits
from qcompute.console.dashboard.facts import AccountState, Choice, Facts, Health, JobFacts, Spending
from qcompute.errors import CannotRun
from qcompute.ledger.listing import ClosedJobs, JobLine, Wish
from qcompute.ledger.memory import MemoryLedger
from qcompute.miner.commands import AboutJob, CommandRefused
from qcompute.miner.job import Job, State
from qcompute.miner.switch import SwitchRefused
from qcompute.testing.ledger_records import ALICE
from qcompute.units import ExecutionId, Hotkey


class ToldFacts(Facts):
    """See the module's text."""

    def __init__(self) -> None:
        self.ledger = MemoryLedger()
        self.told_accounts: list[AccountState] = []
        self.visits = Visitors()
        self.decided: list[AboutJob] = []
        self.used: list[str] = []
        self.refusal: str | None = None
        self.stopping = False
        self.looks = 0

    @property
    def is_stopping(self) -> bool:
        return self.stopping

    async def counts(self) -> dict[State, int]:
        self.looks += 1
        return await self.ledger.count_by_state()

    async def closed_between(self, times: Sequence[datetime]) -> list[int]:
        return await self.ledger.closed_between(times)

    async def open_jobs(
        self, wish: Wish, limit: int, *, before: tuple[datetime, ExecutionId] | None = None
    ) -> list[JobLine]:
        return await self.ledger.open_jobs(wish, limit, before=before)

    async def closed_jobs(self, wish: Wish, limit: int, *, below: int | None, look: int) -> ClosedJobs:
        return await self.ledger.closed_jobs(wish, limit, below=below, look=look)

    async def has_job(self, execution_id: ExecutionId) -> bool:
        return await self.ledger.get(execution_id) is not None

    async def job(self, execution_id: ExecutionId) -> JobFacts | None:
        job = await self.ledger.get(execution_id)
        if job is None:
            return None
        return JobFacts(job, await self.ledger.outcome(execution_id), None, [], has_circuit=True)

    async def drawing(self, execution_id: ExecutionId) -> str:
        raise CannotRun(f"too large to draw: <b>{execution_id}</b>")

    async def health(self) -> Health:
        return Health("1", ALICE, 1.0, False, "a reason", None, True, None, True, True, True)

    def spending(self) -> list[Spending]:
        return [Spending("mock", "USD", "day", "1.5", "2", 0.75), Spending("mock", "USD", "month", "1.5", None, None)]

    def accounts(self) -> list[AccountState]:
        return self.told_accounts

    async def choice(self) -> Choice:
        return Choice("mock", ["lab", "<b>bold"])

    async def use(self, name: str) -> None:
        if name != "lab":
            raise SwitchRefused("it cannot be used: <i>away</i>")
        self.used.append(name)

    async def test_account(self, name: str) -> str | None:
        if name != "mock":
            raise LookupError(name)
        return "<i>the vendor is away</i>"

    def visitors(self) -> list[Visits]:
        return self.visits.listed()

    def strangers(self) -> dict[str, int]:
        return dict(self.visits.strangers)

    async def open_by_validator(self) -> dict[Hotkey, int]:
        return await self.ledger.open_by_validator()

    async def decide(self, command: AboutJob) -> Job:
        if self.refusal is not None:
            raise CommandRefused(self.refusal)
        self.decided.append(command)
        job = await self.ledger.get(ExecutionId(command.execution_id))
        assert job is not None
        return job
