"""Opens the accounts of this miner: those of its settings, and each connection by its name."""

from __future__ import annotations

import logging
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Final

from qcompute import cluster
from qcompute.cluster.accounts import words_of_nodes
from qcompute.connections.checks import looked_at, open_connection
from qcompute.connections.definitions import CHOICE, FILE, Choice, Definition, Definitions
from qcompute.connections.findings import Grade
from qcompute.connections.store import CredentialStore
from qcompute.errors import ConfigError
from qcompute.miner.account import Account
from qcompute.miner.budget import Budget, Budgets
from qcompute.miner.fleet import Fleet
from qcompute.miner.limits import BudgetSettings
from qcompute.miner.providers.base import ProviderAdapter
from qcompute.miner.providers.registry import keys, open_adapter
from qcompute.miner.settings import Settings
from qcompute.miner.switch import Opened, Renewed
from qcompute.units import ProviderKey, utc_now

_log = logging.getLogger(__name__)

CLUSTER: Final = "cluster"
"""The provider that is no adapter: all accounts of ``[cluster]``."""

CLOSE_SECONDS: Final = 3.0
"""For closing accounts that were opened to be looked at; see `open_fleet`."""

SHARED: Final = (
    "with ledger.url several daemons may share the work, each with its own connections and credentials: have this "
    "connection on every machine (`qcompute connections add`), set PROVIDER to its name in the settings of each, and "
    "restart them one after the other (docs/how-to/two-machines.md)"
)
"""Why there is no switching on Postgres."""

Made = tuple[ProviderAdapter, Callable[[], Opened]]


class AccountOpener:
    """See `qcompute.miner.switch.Opener`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = settings.neuron.directory
        self.definitions = Definitions(self._folder / FILE)
        self.choice = Choice(self._folder / CHOICE)
        self._written: frozenset[str] = frozenset()

    @property
    def home(self) -> str:
        """The group of the settings."""
        return self._settings.provider

    def first(self) -> str:
        """The group to start with.

        Raises:
            ConfigError: one was chosen and cannot be used with these settings.
        """
        chosen = self.choice.read()
        if chosen is not None and chosen != self.home and self._settings.ledger.url is not None:
            raise ConfigError(f"`qcompute connections use` chose {chosen!r}; {SHARED}; then delete {self.choice.path}")
        if chosen is not None and chosen != self.home:
            try:
                self.refuse(chosen)
            except ConfigError as error:
                raise ConfigError(f"{error.message}; go back with `qcompute connections use {self.home}`") from None
        return chosen or self.home

    def fleet(self, first: str) -> Fleet:
        """The fleet of that group. Call it on the main thread: some SDKs crash when another one imports them first.

        Raises:
            ConfigError: it cannot be opened; for one that was chosen, the message says how to go back.
        """
        try:
            opened = [make() for _, make in self.open(first)]
        except ConfigError as error:
            raise ConfigError(self.with_way_back(first, error.message)) from None
        return Fleet([one.account for one in opened], Budgets([one.budget for one in opened]))

    def with_way_back(self, first: str, problem: str) -> str:
        """What keeps the group to start with closed; of one that was chosen, with how to go back."""
        if first == self.home:
            return problem
        back = f"go back with `qcompute connections use {self.home}`"
        return f"{problem}; it was chosen with `qcompute connections use`: mend it, or {back}"

    def group_of(self, lane: str) -> str | None:
        """The group that has the account of this name."""
        if lane in self._home_accounts():
            return self.home
        return lane if lane in self._names() else None

    def known(self) -> AbstractSet[str]:
        """All accounts that could be opened."""
        return self._home_accounts() | self._names()

    def accounts(self) -> AbstractSet[str]:
        """All accounts a job may be at: as `known`, without connections that only give nodes of the cluster theirs."""
        return self._home_accounts() | (self._names() - nodes_by_connection(self._settings).keys())

    def choices(self) -> list[str]:
        """The groups that may be used. Raises `ConfigError` when the connections cannot be read."""
        taken = {self.home, *nodes_by_connection(self._settings)}
        return [self.home, *(name for name in self.definitions.all() if name not in taken)]

    def refuse(self, name: str) -> None:
        """Let nothing be used that is a node of the cluster already."""
        refuse_node(self._settings, name)

    def accounts_of(self, connection: str) -> list[ProviderKey]:
        """The accounts that have their credentials from this connection: its own, and nodes of the cluster.

        Of an account of the cluster that no connection gives: itself.
        """
        nodes = nodes_by_connection(self._settings).get(connection, [])
        own = ProviderKey(connection)
        return nodes or [own] if own in self._home_accounts() and self.home == CLUSTER else [*nodes, own]

    def renewed(self, account: ProviderKey) -> Renewed:
        """A new adapter of an account."""
        if self.home == CLUSTER:
            plan = cluster.open_account(self._settings.cluster, self._folder, account)
            if plan is not None:
                return Renewed(plan.adapter, plan.health_check)
        if account == self.home and not self._home_is_connection():
            return Renewed(open_adapter(account, self._settings.provider_table, directory=self._folder))
        return Renewed(open_connection(account, self.definitions.get(account), self._folder))

    def open(self, name: str) -> list[Made]:
        """The adapters of a group, and what makes an account of each.

        Raises:
            ConfigError: there is no such group, or it cannot be opened.
        """
        if name == self.home and name == CLUSTER:
            return self._cluster()
        if (definition := self.definition_of(name)) is None:
            adapter = open_adapter(name, self._settings.provider_table, directory=self._folder)
            return [(adapter, partial(self._account, ProviderKey(name), adapter, self._settings.budget, None))]
        budget = definition.own_budget(name) or self._settings.budget
        adapter = open_connection(name, definition, self._folder)
        return [(adapter, partial(self._account, ProviderKey(name), adapter, budget, ProviderKey(definition.provider)))]

    def definition_of(self, name: str) -> Definition | None:
        """The connection that a group is; None for the provider of the settings.

        Raises:
            ConfigError: there is no such group, or its name is a provider's.
        """
        if name == self.home and not self._home_is_connection():
            return None
        definition = self.definitions.get(name)
        refuse_provider_name(name)
        return definition

    def trouble(self, adapter: ProviderAdapter) -> str | None:
        """What is wrong at an account; None when it can be used."""
        found = [finding for finding in looked_at(adapter) if finding.grade is Grade.FAILED]
        return "; ".join(f"{one.text} ({one.fix})" if one.fix else one.text for one in found) or None

    def choose(self, name: str) -> None:
        """Keep the choice over restarts."""
        self.choice.write(None if name == self.home else name)

    def _account(
        self, name: ProviderKey, adapter: ProviderAdapter, budget: BudgetSettings, vendor: ProviderKey | None
    ) -> Opened:
        account = Account(name, adapter, threads=self._settings.miner.provider_threads, vendor=vendor)
        return Opened(account, Budget(name, budget, clock=utc_now))

    def _cluster(self) -> list[Made]:
        refuse_own_budget(self._settings)
        plans = cluster.open_cluster(self._settings.cluster, self._folder)
        return [(plan.adapter, partial(self._planned, plan)) for plan in plans]

    def _planned(self, plan: cluster.AccountPlan) -> Opened:
        account = Account(
            plan.name,
            plan.adapter,
            threads=self._settings.miner.provider_threads,
            tags=words_of_nodes(plan.nodes),
            health=plan.health_check,
            vendor=plan.vendor,
            widths=plan.widths,
        )
        return Opened(account, Budget(plan.name, plan.budget, clock=utc_now))

    def _home_is_connection(self) -> bool:
        """Whether PROVIDER is no provider's key, and so a connection's name where there is one."""
        return ":" not in self.home and self.home not in keys() and self.home in self.definitions.all()

    def _home_accounts(self) -> frozenset[str]:
        if self.home == CLUSTER:
            return frozenset(slot.name for slot in cluster.slots_of(self._settings.cluster))
        return frozenset({self.home})

    def _names(self) -> frozenset[str]:
        try:
            self._written = frozenset(self.definitions.all())
        except ConfigError as error:  # half edited, perhaps: what was there counts until it can be read again
            _log.warning("%s", error.message, extra={"action": "connections"})
        return self._written


def open_accounts(settings: Settings) -> tuple[AccountOpener, str, Fleet]:
    """The opener with the operator's credentials at hand, the group to start with and its fleet; on the main thread.

    Raises:
        ConfigError: an account cannot be opened.
    """
    CredentialStore(settings.connections, settings.neuron.directory).install()
    opener = AccountOpener(settings)
    first = opener.first()
    return opener, first, opener.fleet(first)


def open_fleet(settings: Settings) -> Fleet:
    """The same for who only looks at the accounts; raises as `open_accounts` does."""
    _, _, fleet = open_accounts(settings)
    return fleet


def refuse_provider_name(name: str) -> None:
    """Raise `ConfigError` when a connection of this name could not be told from a provider."""
    if name == CLUSTER or name in keys():
        raise ConfigError(f"a connection cannot be named {name!r}: that is a provider's name")


def nodes_by_connection(settings: Settings) -> dict[str, list[ProviderKey]]:
    """The accounts of the cluster that connections give, by connection; none where there is no cluster.

    Raises:
        ConfigError: the fleet cannot be read.
    """
    found: dict[str, list[ProviderKey]] = {}
    for slot in cluster.slots_of(settings.cluster) if settings.provider == CLUSTER else ():
        if slot.connection is not None:
            found.setdefault(slot.connection, []).append(slot.name)
    return found


def refuse_node(settings: Settings, name: str) -> None:
    """Raise `ConfigError` when the cluster has this connection's account: it would be open twice, with two budgets."""
    if nodes := nodes_by_connection(settings).get(name):
        raise ConfigError(
            f"{name} is in the cluster already, as the account {nodes[0]}: put its [[cluster.nodes]] table first and "
            f"set routing.policy to order, or let jobs name the device {nodes[0]}/…"
        )


def refuse_own_budget(settings: Settings) -> None:
    """Raise `ConfigError` when a budget is set that is no account's of the cluster."""
    if own := ", ".join(f"budget.{name}" for name in _changed(settings.budget)):
        raise ConfigError(f"{own}: with PROVIDER=cluster each account has its own budget: write [cluster.nodes.budget]")


def _changed(budget: BudgetSettings) -> list[str]:
    defaults = BudgetSettings()
    return [name for name in BudgetSettings.model_fields if getattr(budget, name) != getattr(defaults, name)]
