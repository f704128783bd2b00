"""What the dashboard may ask of the daemon, and the one it is told by: the parts of the running daemon.

The pages know this protocol only. Nothing here reaches out to a vendor but `Facts.test_account`, which is free.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from qcompute.axon.visitors import Visits
from qcompute.ledger.listing import ClosedJobs, JobLine, Wish
from qcompute.miner.commands import AboutJob
from qcompute.miner.heartbeat import DeviceReport
from qcompute.miner.job import Job, Outcome, State
from qcompute.units import ExecutionId, Hotkey


@dataclass(frozen=True, slots=True)
class ReceiptCheck:
    """The stored receipt, and what is wrong with it; ``problem`` is None when everything in it holds."""

    document: str
    problem: str | None


@dataclass(frozen=True, slots=True)
class JobFacts:
    """One job with everything stored of it. ``parts`` are those of a job whose shots ran in several places."""

    job: Job
    outcome: Outcome | None = field(repr=False)
    receipt: ReceiptCheck | None = field(repr=False)
    parts: Sequence[Job]
    has_circuit: bool


@dataclass(frozen=True, slots=True)
class AccountState:
    """One account: ``trouble`` says why it cannot be asked or used, None while it can."""

    name: str
    vendor: str
    is_ours: bool
    trouble: str | None
    devices: Sequence[DeviceReport]


@dataclass(frozen=True, slots=True)
class Choice:
    """Where new jobs go, and where else they could: the provider of the settings, and each connection."""

    in_use: str
    others: Sequence[str]
    trouble: str | None = None
    """Why the others cannot be told, None while they can."""


@dataclass(frozen=True, slots=True)
class Spending:
    """A budget of one period, as decimal texts; ``limit`` is None where there is none."""

    account: str
    currency: str
    period: str
    committed: str
    limit: str | None
    share: float | None
    """Committed of the limit, 0 to 1 and above; None without a limit."""


@dataclass(frozen=True, slots=True)
class Health:
    """The daemon's surroundings. Ages are in seconds; what is None is not known (yet)."""

    version: str
    hotkey: Hotkey
    uptime_seconds: float
    accepting: bool
    not_accepting_because: str | None
    chain_age_seconds: float | None
    chain_failing: bool
    job_server_status: str | None
    job_server_unheard: bool
    has_road: bool
    dry_run: bool


class Facts(Protocol):
    """The daemon as its dashboard sees it; whatever reads the ledger raises `StoreError` when that fails."""

    @property
    def is_stopping(self) -> bool:
        """Whether the daemon is on its way out: live connections end then."""
        ...

    async def counts(self) -> dict[State, int]:
        """Jobs by state; from memory, at no cost."""
        ...

    async def closed_between(self, times: Sequence[datetime]) -> list[int]:
        """See `qcompute.ledger.contract.Ledger.closed_between`."""
        ...

    async def open_jobs(
        self, wish: Wish, limit: int, *, before: tuple[datetime, ExecutionId] | None = None
    ) -> list[JobLine]:
        """See `qcompute.ledger.contract.Ledger.open_jobs`."""
        ...

    async def closed_jobs(self, wish: Wish, limit: int, *, below: int | None, look: int) -> ClosedJobs:
        """See `qcompute.ledger.contract.Ledger.closed_jobs`."""
        ...

    async def has_job(self, execution_id: ExecutionId) -> bool:
        """Whether there is such a job."""
        ...

    async def job(self, execution_id: ExecutionId) -> JobFacts | None:
        """Everything about one job; None when there is no such job."""
        ...

    async def drawing(self, execution_id: ExecutionId) -> str:
        """The circuit of a job, drawn as text.

        Raises:
            CannotRun: it cannot be drawn; the message says why.
            SandboxUnavailable: no child process could be started.
        """
        ...

    async def health(self) -> Health:
        """How the daemon's surroundings are."""
        ...

    def spending(self) -> list[Spending]:
        """Every account's budgets, by period."""
        ...

    def accounts(self) -> list[AccountState]:
        """The accounts in the operator's order, with what their devices said last."""
        ...

    async def test_account(self, name: str) -> str | None:
        """Ask an account now whether it can be used: why not, None when it can.

        Raises:
            LookupError: there is no such account.
        """
        ...

    async def choice(self) -> Choice:
        """Where new jobs go now."""
        ...

    async def use(self, name: str) -> None:
        """Let new jobs go there, as ``qcompute connections use`` does; jobs that were submitted stay.

        Raises:
            SwitchRefused, ConfigError: it cannot be used; nothing was changed.
        """
        ...

    def visitors(self) -> list[Visits]:
        """Who asked the axon, who came last first."""
        ...

    def strangers(self) -> dict[str, int]:
        """Refusals of requests that nobody proved to have sent, by reason."""
        ...

    async def open_by_validator(self) -> dict[Hotkey, int]:
        """How many open jobs each validator has here."""
        ...

    async def decide(self, command: AboutJob) -> Job:
        """Do what the operator says of a job, as the unix socket does (ADR 0014).

        Raises:
            CommandRefused: it cannot be done now; the message says what can be.
        """
        ...


Details = dict[str, Any]
