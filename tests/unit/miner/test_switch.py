"""Accounts come and go while the daemon runs: which one gets new jobs, and when another may be closed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from functools import partial

import pytest
from typing_extensions import override

from qcompute.connections.operations import PATIENCE_SECONDS
from qcompute.errors import AuthFailed, ConfigError
from qcompute.ledger.claims import Tenure
from qcompute.miner import switch as switching
from qcompute.miner.account import Account
from qcompute.miner.budget import Budget
from qcompute.miner.commands import ANSWER_SECONDS
from qcompute.miner.duty import Duty, Shift
from qcompute.miner.job import State, Verdict
from qcompute.miner.limits import BudgetSettings
from qcompute.miner.providers.base import ProviderAdapter
from qcompute.miner.switch import Opened, Renewed, Switch, SwitchRefused
from qcompute.units import ExecutionId, Money, ProviderKey
from tests.scene import until_true
from tests.unit.miner.scripted import Scene, Vendor

DEADLINE_SECONDS = 20.0


class Openable:
    """Opens what the test has written down; remembers what was chosen and closed."""

    home = "scripted"

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self.written = {"lab": Vendor()}
        self.troubles: list[str] = []
        self.refused: set[str] = set()
        self.failure: ConfigError | None = None
        self.chosen: list[str] = []
        self.opened: list[str] = []
        self.health: Callable[[], None] | None = None

    def group_of(self, lane: str) -> str | None:
        return lane if lane in self.known() else None

    def known(self) -> AbstractSet[str]:
        return {self.home, *self.written}

    def choices(self) -> list[str]:
        return [self.home, *self.written]

    def refuse(self, name: str) -> None:
        if name in self.refused:
            raise ConfigError(f"{name} is a node")

    def accounts_of(self, connection: str) -> list[ProviderKey]:
        return [ProviderKey(connection)]

    def renewed(self, account: ProviderKey) -> Renewed:
        return Renewed(self._adapter(account), self.health)

    def _adapter(self, name: str) -> ProviderAdapter:
        if self.failure is not None:
            raise self.failure
        self.opened.append(name)
        return self.written[name]

    def open(self, name: str) -> list[tuple[ProviderAdapter, Callable[[], Opened]]]:
        adapter = self._scene.vendor if name == self.home else self._adapter(name)
        return [(adapter, partial(self._made, name, adapter))]

    def _made(self, name: str, adapter: ProviderAdapter) -> Opened:
        key = ProviderKey(name)
        account = Account(key, adapter, threads=1, health=self.health)
        return Opened(account, Budget(key, BudgetSettings(), clock=self._scene.clock))

    def trouble(self, adapter: ProviderAdapter) -> str | None:
        del adapter
        return self.troubles[0] if self.troubles else None

    def choose(self, name: str) -> None:
        self.chosen.append(name)


class Closed(Vendor):
    """Remembers that it was closed."""

    is_closed = False

    def close(self) -> None:
        self.is_closed = True


def _wait(event: threading.Event, *_: object) -> None:
    event.wait(30)


class SwitchScene(Scene):
    def __init__(self) -> None:
        super().__init__()
        self.opener = Openable(self)
        self.duties: list[Duty] = []
        self.changes = 0
        self.looks = 0
        self._count_looks()
        self.switch = self.made()
        self._task: asyncio.Task[None] | None = None

    def _count_looks(self) -> None:
        lanes = self.ledger.lanes

        async def counted(state: State) -> set[str]:
            self.looks += 1
            return await lanes(state)

        self.ledger.lanes = counted

    def made(self, refusal: str | None = None) -> Switch:
        async def begin(account: Account, tenure: Tenure) -> Shift:
            del account, tenure
            return Shift([])

        def changed() -> None:
            self.changes += 1

        self.duties.clear()
        return Switch(
            self.road,
            self.fleet,
            self.opener,
            self.duties,
            first="scripted",
            begin=begin,
            on_change=changed,
            refusal=refusal,
        )

    def start(self) -> None:
        self._task = asyncio.create_task(self.switch.run())

    async def until_open(self, *names: str) -> None:
        await until_true(
            lambda: sorted(self.fleet.names) == sorted(names), what=f"accounts {names}", seconds=DEADLINE_SECONDS
        )

    async def until_tended(self, times: int) -> None:
        """Until it was looked so often which accounts have rows."""
        first = self.looks
        await until_true(lambda: self.looks >= first + 2 * times, what="looks at the lanes", seconds=DEADLINE_SECONDS)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        for account in self.fleet.accounts:
            if account is not self.account:
                await account.close(limit_seconds=1)
        await super().close()


@pytest.fixture
async def scene(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SwitchScene]:
    monkeypatch.setattr(switching, "TEND_SECONDS", 0.02)
    monkeypatch.setattr(switching, "LINGER_SECONDS", 0.05)
    made = SwitchScene()
    yield made
    await made.close()


async def test_new_jobs_go_to_the_connection_and_an_idle_account_is_closed(scene: SwitchScene) -> None:
    scene.start()
    assert await scene.switch.use("lab", unchecked=False) == ["lab"]
    assert [account.key for account in scene.fleet.offered] == ["lab"]
    assert (scene.switch.in_use, scene.opener.chosen, scene.changes) == ("lab", ["lab"], 1)
    await scene.until_open("lab")
    assert [duty.lane for duty in scene.duties] == ["lab"]


async def test_an_account_with_jobs_stays_open_until_they_are_done(scene: SwitchScene) -> None:
    job = await scene.waiting()
    scene.start()
    await scene.switch.use("lab", unchecked=False)
    assert [account.key for account in scene.fleet.offered] == ["lab"]
    await scene.until_tended(8)
    assert scene.fleet.names == {"scripted", "lab"}
    await scene.road.end_without_result(job, Verdict.FAILED, code="x", message="ended by the test")
    await scene.until_open("lab")


async def test_what_was_never_submitted_is_routed_again(scene: SwitchScene) -> None:
    """A job routed to an account that will not take it would wait there until its deadline."""
    await scene.submitting("never")
    await scene.submitting("tried", submit_started_at=scene.clock(), submit_attempts=1)
    await scene.switch.use("lab", unchecked=False)
    never, tried = await scene.row("never"), await scene.row("tried")
    assert (never.state, never.provider, never.token) == (State.READY, None, None)
    assert (tried.state, tried.provider) == (State.SUBMITTING, "scripted")


async def test_rows_of_a_connection_open_it_after_a_restart(scene: SwitchScene) -> None:
    await scene.waiting(provider=ProviderKey("lab"))
    scene.start()
    await scene.until_open("scripted", "lab")
    assert [account.key for account in scene.fleet.offered] == ["scripted"]


async def test_what_keeps_such_a_connection_closed_is_told(
    scene: SwitchScene, caplog: pytest.LogCaptureFixture
) -> None:
    scene.opener.failure = ConfigError("the secret 'lab_token' is not set")
    await scene.waiting(provider=ProviderKey("lab"))
    scene.start()
    await scene.until_tended(2)
    await scene.until_tended(2)
    assert caplog.text.count("jobs wait at lab: the secret 'lab_token' is not set") == 1
    assert "lab" in await scene.switch.known()


async def test_a_connection_that_cannot_be_used_changes_nothing(scene: SwitchScene) -> None:
    scene.opener.troubles = ["the key is not accepted"]
    with pytest.raises(SwitchRefused, match="lab cannot be used: the key is not accepted"):
        await scene.switch.use("lab", unchecked=False)
    scene.opener.failure = ConfigError("connections.lab: bad")
    with pytest.raises(ConfigError, match="bad"):
        await scene.switch.use("lab", unchecked=True)
    assert (scene.fleet.names, scene.opener.chosen, scene.switch.in_use) == ({"scripted"}, [], "scripted")
    scene.opener.failure = None
    assert await scene.switch.use("lab", unchecked=True) == ["lab"]


async def test_a_new_key_is_tried_before_it_is_used(scene: SwitchScene) -> None:
    assert not await scene.switch.reopen("lab")
    await scene.switch.use("lab", unchecked=False)
    old, new = scene.opener.written["lab"], Vendor()
    scene.opener.written["lab"] = new
    scene.opener.troubles = ["expired"]
    with pytest.raises(SwitchRefused, match="expired"):
        await scene.switch.reopen("lab")
    assert scene.fleet.offered[0].adapter is old
    scene.opener.troubles = []
    assert await scene.switch.reopen("lab")
    assert scene.fleet.offered[0].adapter is new


@dataclass
class Keeper(Vendor):
    """Has jobs of its own, of which two adapters must not both have charge."""

    in_place: bool = True
    trouble: ConfigError | None = None
    begun: int = 0
    closed: int = 0

    @override
    def begin(self) -> None:
        self.begun += 1
        if self.trouble is not None:
            raise self.trouble

    @override
    def renewed_by(self, fresh: ProviderAdapter) -> ProviderAdapter:
        if not self.in_place:
            raise ConfigError("stop the miner first")
        return self

    @override
    def close(self) -> None:
        self.closed += 1


async def test_an_adapter_that_has_jobs_is_not_replaced_by_one_with_a_new_key(scene: SwitchScene) -> None:
    """The new one had the same spool: for a moment both ran its jobs, and closing the old one killed what ran there."""
    old, fresh = Keeper(), Keeper()
    scene.opener.written["lab"] = old
    await scene.switch.use("lab", unchecked=False)
    scene.opener.written["lab"] = fresh
    assert await scene.switch.reopen("lab")
    assert scene.fleet.offered[0].adapter is old
    old.in_place = False
    with pytest.raises(ConfigError, match="stop the miner first"):
        await scene.switch.reopen("lab")
    assert scene.fleet.offered[0].adapter is old
    assert [(one.begun, one.closed) for one in (old, fresh)] == [(1, 0), (0, 2)]


async def test_a_connection_whose_jobs_another_process_has_is_not_opened(scene: SwitchScene) -> None:
    scene.opener.written["lab"] = taken = Keeper(trouble=ConfigError("another process has it"))
    with pytest.raises(ConfigError, match="another process has it"):
        await scene.switch.use("lab", unchecked=True)
    assert (taken.closed, scene.switch.in_use) == (1, "scripted")


async def test_a_start_names_the_account_whose_jobs_another_process_has(scene: SwitchScene) -> None:
    scene.fleet.accounts[0].adapter = Keeper(trouble=ConfigError("another process has it"))
    with pytest.raises(ConfigError, match="account scripted: another process has it"):
        scene.fleet.begin()


async def test_an_account_that_was_offline_for_its_old_key_is_back_with_the_new_one(scene: SwitchScene) -> None:
    """It was left offline until the next look, up to 15 s after `rotate` had said that the daemon has the new key."""
    answers: list[Exception | None] = [AuthFailed("the key has expired"), None]

    def health() -> None:
        if (answer := answers.pop(0)) is not None:
            raise answer

    scene.opener.health = health
    scene.start()
    await scene.switch.use("lab", unchecked=False)
    [account] = scene.fleet.offered
    await account.look()
    assert account.offline_because == "the key has expired"
    assert await scene.switch.reopen("lab")
    await until_true(lambda: account.offline_because is None, what="the account is back", seconds=DEADLINE_SECONDS)


async def test_a_new_key_is_told_as_taken_up_before_the_account_has_been_looked_at(scene: SwitchScene) -> None:
    """The look came first: with all that may take its time before it, `rotate` gave up waiting.

    It then put the old value back and said that the daemon goes on with it, which had the new one already.
    """
    looked = threading.Event()
    scene.opener.health = lambda: _wait(looked)
    scene.start()
    await scene.switch.use("lab", unchecked=False)
    try:
        async with asyncio.timeout(5):
            assert await scene.switch.reopen("lab")
            assert await scene.switch.use("scripted", unchecked=False) == ["scripted"]
    finally:
        looked.set()


async def test_a_new_key_is_not_taken_up_after_whoever_gave_it_stopped_waiting(
    scene: SwitchScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step had a limit and their sum had none: a minute for each of a connection's accounts, and for its turn."""
    assert switching.REOPEN_SECONDS + switching.CLOSE_SECONDS + ANSWER_SECONDS <= PATIENCE_SECONDS
    await scene.switch.use("lab", unchecked=False)
    [account] = scene.fleet.offered
    old, new = scene.opener.written["lab"], Closed()
    scene.opener.written["lab"] = new
    tried = threading.Event()
    monkeypatch.setattr(switching, "REOPEN_SECONDS", 0.1)
    monkeypatch.setattr(scene.opener, "trouble", partial(_wait, tried))
    try:
        with pytest.raises(SwitchRefused, match="lab could not be opened anew within 0 s"):
            await scene.switch.reopen("lab")
    finally:
        tried.set()
    assert (account.adapter, new.is_closed) == (old, True)


async def test_what_new_jobs_may_not_go_to_is_not_opened(scene: SwitchScene) -> None:
    """Rows that are at its account already open it all the same: they are finished where they are."""
    scene.opener.refused = {"lab"}
    with pytest.raises(ConfigError, match="lab is a node"):
        await scene.switch.use("lab", unchecked=True)
    assert (scene.opener.opened, scene.switch.in_use) == ([], "scripted")


async def test_on_a_shared_ledger_switching_is_refused(scene: SwitchScene) -> None:
    with pytest.raises(SwitchRefused, match="restart them"):
        await scene.made("restart them").use("lab", unchecked=False)


async def test_a_spent_account_that_gets_no_new_jobs_closes_nothing(scene: SwitchScene) -> None:
    """Budgets of all accounts say together whether new jobs are taken, and here only one of them gets any."""
    tight = Budget(ProviderKey("lab"), BudgetSettings(per_day=Decimal("0.01")), clock=scene.clock)
    await scene.switch.use("lab", unchecked=False)
    scene.fleet.budgets.add(tight)
    tight.reserve(ExecutionId("job-1"), Money(Decimal("0.01"), "USD"))
    assert "budget of the day" in (scene.fleet.budgets.closed_because() or "")
    await scene.switch.use("scripted", unchecked=False)
    assert scene.fleet.budgets.closed_because() is None
