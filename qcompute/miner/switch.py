"""The accounts that are open, and which of them new jobs go to; changed while the daemon runs, without a restart.

Accounts are opened in groups: those of the settings are one, each connection is one. New jobs go to one group; another
stays open while rows of its accounts are submitted or wait, and is closed some seconds after the last has gone. Rows of
a connection that is not open, after a restart for example, open it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Protocol

from qcompute.errors import ConfigError, QComputeError, StaleRow, StoreError
from qcompute.ledger.claims import Tenure
from qcompute.miner.account import Account, ProviderThreads
from qcompute.miner.budget import Budget
from qcompute.miner.duty import Duty, Shift, must_run
from qcompute.miner.fleet import Fleet
from qcompute.miner.job import NOBODYS_LANE, SPLIT_LANE, Job, State
from qcompute.miner.providers.base import ProviderAdapter
from qcompute.miner.road import Road
from qcompute.units import ProviderKey

_log = logging.getLogger(__name__)

TEND_SECONDS: Final = 2.0
"""How often it is looked which accounts have rows."""

LINGER_SECONDS: Final = 10.0
"""An account that new jobs do not go to any more is closed so long after its last row: one may just be on its way."""

RETRY_SECONDS: Final = 60.0
"""Between two tries to open an account that could not be opened."""

OPEN_SECONDS: Final = 60.0
"""How long opening and looking at a connection may take before it counts as one that cannot be opened."""

CLOSE_SECONDS: Final = 30.0

REOPEN_SECONDS: Final = 100.0
"""How long an account's new adapters may take to be opened and tried, all together and with waiting for their turn.

Whoever asked gives up after `qcompute.connections.operations.PATIENCE_SECONDS` and puts the old credential back, so
nothing may be taken up after that: this and `CLOSE_SECONDS` together are less.
"""

_WHENEVER: Final = datetime(9000, 1, 1, tzinfo=UTC)
_BATCH: Final = 200
_LANES: Final = (State.SUBMITTING, State.WAITING)


class SwitchRefused(QComputeError):
    """The connection cannot be used; nothing was changed."""

    code = "switch_refused"


@dataclass(frozen=True, slots=True)
class Opened:
    """An account that was opened, with its budget."""

    account: Account
    budget: Budget


@dataclass(frozen=True, slots=True)
class Renewed:
    """An adapter with which an open account goes on, and what asks it how the account is."""

    adapter: ProviderAdapter
    health: Callable[[], None] | None = None


class Opener(Protocol):
    """Opens groups of accounts by name. Blocking, except `known`."""

    @property
    def home(self) -> str:
        """The group of the settings."""
        ...

    def group_of(self, lane: str) -> str | None:
        """The group that has the account of this name; None for an account nobody has written down."""
        ...

    def known(self) -> AbstractSet[str]:
        """All accounts that could be opened."""
        ...

    def choices(self) -> list[str]:
        """The groups that may be used: that of the settings first, then each connection; raises `ConfigError`."""
        ...

    def refuse(self, name: str) -> None:
        """Raise `ConfigError` when new jobs cannot all go to this group, whatever its account says."""
        ...

    def accounts_of(self, connection: str) -> list[ProviderKey]:
        """The accounts that have their credentials from this connection; raises `ConfigError`."""
        ...

    def renewed(self, account: ProviderKey) -> Renewed:
        """A new adapter of an account; raises `ConfigError`."""
        ...

    def open(self, name: str) -> list[tuple[ProviderAdapter, Callable[[], Opened]]]:
        """The adapters of a group, and what makes an account of each, on the event loop; raises `ConfigError`."""
        ...

    def trouble(self, adapter: ProviderAdapter) -> str | None:
        """What is wrong at an account; None when it can be used."""
        ...

    def choose(self, name: str) -> None:
        """Keep the choice over restarts; raises `ConfigError`."""
        ...


@dataclass(slots=True)
class _Group:
    name: str
    accounts: list[Account]
    duties: dict[ProviderKey, tuple[Duty, asyncio.Task[None] | None]] = field(
        default_factory=dict[ProviderKey, tuple[Duty, "asyncio.Task[None] | None"]]
    )
    idle_since: float | None = None


class Switch:
    """See the module's text. ``duties`` is the daemon's list of duties; those of accounts come and go in it."""

    def __init__(
        self,
        road: Road,
        fleet: Fleet,
        opener: Opener,
        duties: list[Duty],
        *,
        first: str,
        begin: Callable[[Account, Tenure], Awaitable[Shift]],
        on_change: Callable[[], None],
        refusal: str | None = None,
    ) -> None:
        self._road = road
        self._fleet = fleet
        self._opener = opener
        self._duties = duties
        self._begin = begin
        self._on_change = on_change
        self._refusal = refusal
        self.in_use = first
        self._groups = {first: _Group(first, fleet.accounts)}
        self._failed: dict[str, tuple[float, str]] = {}
        self._changing = asyncio.Lock()
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None
        for account in fleet.accounts:
            self._add_duty(self._groups[first], account)

    async def run(self) -> None:
        """Work on all accounts, open those with rows, close those without, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            for group in self._groups.values():
                self._start(group)
            while True:
                try:
                    await self._tend()
                except StoreError as error:  # the stages decide how long a failing ledger is borne
                    _log.warning("accounts were not looked after: %s", error, extra={"action": "connections"})
                with suppress(TimeoutError):
                    async with asyncio.timeout(TEND_SECONDS):
                        await self._wake.wait()
                self._wake.clear()

    def stop(self) -> None:
        """Open and close nothing more; the duties are stopped by whoever stops all."""
        self._stopping.set()

    async def known(self) -> AbstractSet[str]:
        """The accounts whose rows are worked on, or will be once they can be opened."""
        return self._fleet.names | {SPLIT_LANE} | await asyncio.to_thread(self._opener.known)

    async def use(self, name: str, *, unchecked: bool) -> list[str]:
        """Let new jobs go to this connection, or to the accounts of the settings; the names of the accounts.

        Jobs that were submitted stay where they are; those that only wait to be are routed again.

        Raises:
            SwitchRefused, ConfigError: it cannot be used; nothing was changed.
            StoreError: the database failed.
        """
        if self._refusal is not None:
            raise SwitchRefused(self._refusal)
        await asyncio.to_thread(self._opener.refuse, name)
        async with self._changing:
            if (group := self._groups.get(name)) is None:
                group = await self._open(name, check=not unchecked)
            await asyncio.to_thread(self._opener.choose, name)
            left = [account for account in self._fleet.offered if account not in group.accounts]
            self.in_use = name
            self._fleet.offer(group.accounts)
            self._on_change()
            _log.info(
                "new jobs go to %s now",
                name,
                extra={"action": "connections", "accounts": [a.key for a in group.accounts]},
            )
        for account in left:
            await self._route_again(account.key)
        self._wake.set()
        return [account.key for account in group.accounts]

    async def choices(self) -> list[str]:
        """What `use` takes: the provider of the settings first, then each connection; nothing where it refuses all.

        Raises:
            ConfigError: the connections cannot be read.
        """
        return [] if self._refusal is not None else await asyncio.to_thread(self._opener.choices)

    async def reopen(self, name: str) -> bool:
        """Let open accounts of a connection take up its credentials anew, without a pause; False when none is open.

        Raises:
            SwitchRefused, ConfigError: one does not work with them; all go on with the old ones.
        """
        fresh: list[tuple[Account, Renewed]] = []
        try:
            async with asyncio.timeout(REOPEN_SECONDS) as limit, self._changing:
                await self._renew(name, fresh)
                going_on = [account.adapter.renewed_by(one.adapter) for account, one in fresh]
                limit.reschedule(None)
                await asyncio.gather(*(_take_up(*one, adapter) for one, adapter in zip(fresh, going_on, strict=True)))
        except (ConfigError, SwitchRefused, TimeoutError) as error:
            for _, one in fresh:
                await self._in_thread(name, one.adapter.close)
            if isinstance(error, TimeoutError):
                raise SwitchRefused(f"{name} could not be opened anew within {REOPEN_SECONDS:.0f} s") from None
            raise
        if self._tasks is not None and not self._stopping.is_set():
            for account, _ in fresh:  # for its old key it may be offline, and nobody is to wait for a slow answer
                self._tasks.create_task(account.look(), name=f"look at {account.key}")
        return bool(fresh)

    async def _renew(self, name: str, fresh: list[tuple[Account, Renewed]]) -> None:
        """Open and try new adapters of a connection's accounts, each put into ``fresh`` as soon as it is open."""
        for key in await asyncio.to_thread(self._opener.accounts_of, name):
            if (account := self._fleet.get(key)) is not None:
                one = await self._in_thread(name, partial(self._opener.renewed, key))
                fresh.append((account, one))
                await self._check(name, one.adapter)

    async def _tend(self) -> None:
        lanes = await self._lanes()
        now = asyncio.get_running_loop().time()
        async with self._changing:
            if self._stopping.is_set():
                return
            for lane in lanes - self._fleet.names:
                await self._open_for(lane, now)
            for group in list(self._groups.values()):
                has_rows = any(account.key in lanes for account in group.accounts)
                if has_rows or group.name == self.in_use:
                    group.idle_since = None
                elif group.idle_since is None:
                    group.idle_since = now
                elif now - group.idle_since > LINGER_SECONDS:
                    await self._close(group)

    async def _open_for(self, lane: str, now: float) -> None:
        """Open the account of rows that were found; what keeps it from being opened is said once."""
        name = await asyncio.to_thread(self._opener.group_of, lane)
        tried_at, why = self._failed.get(name or "", (float("-inf"), ""))
        if name is None or now - tried_at < RETRY_SECONDS:
            return
        try:
            await self._open(name, check=False)
        except (ConfigError, SwitchRefused) as error:
            if error.message != why:
                _log.error("jobs wait at %s: %s", name, error, extra={"action": "connections"})
            self._failed[name] = (now, error.message)

    async def _lanes(self) -> set[str]:
        found: set[str] = set()
        for state in _LANES:
            found |= await self._road.ledger.lanes(state)
        return found - {NOBODYS_LANE, SPLIT_LANE}

    async def _open(self, name: str, *, check: bool) -> _Group:
        made = await self._in_thread(name, partial(self._opener.open, name))
        try:
            if check:
                for adapter, _ in made:
                    await self._check(name, adapter)
            opened = [make() for _, make in made]
            self._refuse_twins({one.account.key for one in opened})
            for adapter, _ in made:
                await self._in_thread(name, adapter.begin)
        except (ConfigError, SwitchRefused):
            for adapter, _ in made:
                await self._in_thread(name, adapter.close)
            raise
        for one in opened:
            await one.budget.load(self._road.ledger)
        for one in opened:
            self._fleet.add(one.account, one.budget)
        group = self._groups[name] = _Group(name, [one.account for one in opened])
        self._failed.pop(name, None)
        for account in group.accounts:
            self._add_duty(group, account)
        self._start(group)
        _log.info("%s is open", name, extra={"action": "connections"})
        return group

    def _refuse_twins(self, names: AbstractSet[ProviderKey]) -> None:
        if twice := names & self._fleet.names:
            raise SwitchRefused(f"there is an account {min(twice)} open already, of other settings")

    async def _check(self, name: str, adapter: ProviderAdapter) -> None:
        """Look at an account that was just opened.

        Raises:
            SwitchRefused: it cannot be used; says why.
        """
        try:
            trouble = await self._in_thread(name, partial(self._opener.trouble, adapter))
        except SwitchRefused as error:
            trouble = error.message
        if trouble is not None:
            raise SwitchRefused(f"{name} cannot be used: {trouble}")

    async def _in_thread(self, name: str, work: Callable[[], Any]) -> Any:  # noqa: ANN401 - whatever it returns
        """Run what blocks in a thread of its own: one that never returns must not hold up the next."""
        threads = ProviderThreads(f"open-{name}", 1)
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                return await threads.submit(work)
        except TimeoutError:
            raise SwitchRefused(f"{name} has not answered for {OPEN_SECONDS:.0f} s") from None
        finally:
            threads.close()

    def _add_duty(self, group: _Group, account: Account) -> None:
        duty = Duty(self._road.ledger.claims, account.key, partial(self._begin, account))
        group.duties[account.key] = (duty, None)
        self._duties.append(duty)

    def _start(self, group: _Group) -> None:
        if self._tasks is None:
            return  # `run` starts them
        for key, (duty, task) in group.duties.items():
            if task is None:
                name = f"work on {key}"
                started = self._tasks.create_task(must_run(name, duty.run, duty.stopping), name=name)
                group.duties[key] = (duty, started)

    async def _close(self, group: _Group) -> None:
        for key, (duty, task) in group.duties.items():
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await duty.stop()
            await duty.let_go()
            self._duties.remove(duty)
            if task is not None:
                task.cancel()
            self._fleet.remove(key)
        del self._groups[group.name]
        for account in group.accounts:
            await account.close(limit_seconds=CLOSE_SECONDS)
        _log.info("%s is closed: its jobs are done", group.name, extra={"action": "connections"})

    async def _route_again(self, lane: ProviderKey) -> None:
        """Send rows that were never submitted back to be routed: they may wait for an account that is no good."""
        skip: set[Any] = set()
        while True:
            rows = await self._road.ledger.due(State.SUBMITTING, _WHENEVER, _BATCH, lane=lane, skip=frozenset(skip))
            if not rows:
                return
            skip |= {job.execution_id for job in rows}
            await asyncio.gather(*(self._send_back(job) for job in rows))

    async def _send_back(self, job: Job) -> None:
        if job.submit_started_at is not None or job.submit_attempts or job.parent_id is not None:
            return
        back = replace(
            job,
            state=State.READY,
            due_at=self._road.clock(),
            provider=None,
            device_id=None,
            placement=None,
            estimate=None,
            token=None,
            error_code=None,
            error=None,
        )
        with suppress(StaleRow):  # it was submitted, or ended, meanwhile
            await self._road.save(job, back)


async def _take_up(account: Account, one: Renewed, adapter: ProviderAdapter) -> None:
    if adapter is account.adapter:  # it keeps its jobs, and has the new credentials for those to come
        await asyncio.to_thread(one.adapter.close)
    else:
        await account.replace_adapter(adapter, limit_seconds=CLOSE_SECONDS, health=one.health)
    _log.info("%s has its new credentials", account.key, extra={"action": "connections"})
