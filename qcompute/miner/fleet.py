"""The accounts of one miner, in the operator's order: those new jobs go to, and those whose jobs are not done yet."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Iterable, Mapping
from typing import Final

from qcompute.errors import ConfigError
from qcompute.miner.account import Account
from qcompute.miner.budget import Budget, Budgets
from qcompute.miner.routing import TAG_PREFIX
from qcompute.units import ProviderKey

HEALTH_SECONDS: Final = 15.0
"""How often accounts are looked at: one that is offline comes back by itself."""


class Fleet:
    """One account, or as many as the operator's cluster has; each with a name of its own."""

    def __init__(self, accounts: Iterable[Account], budgets: Budgets) -> None:
        self._accounts = {account.key: account for account in accounts}
        self.budgets = budgets
        self.offered: list[Account] = list(self._accounts.values())
        """Those new jobs go to; the same list for as long as the fleet lives."""

    @property
    def accounts(self) -> list[Account]:
        """All of them, in order."""
        return list(self._accounts.values())

    @property
    def names(self) -> frozenset[ProviderKey]:
        """The names of the accounts, which are their lanes."""
        return frozenset(self._accounts)

    def add(self, account: Account, budget: Budget) -> None:
        """Take in an account, to which no job goes before it is offered."""
        self._accounts[account.key] = account
        self.budgets.add(budget)

    def offer(self, accounts: Iterable[Account]) -> None:
        """Let new jobs go to these accounts and no others; budgets of others close nothing any more."""
        self.offered[:] = accounts
        self.budgets.offer(account.key for account in self.offered)

    def remove(self, name: ProviderKey) -> None:
        """Forget an account that nothing is at any more."""
        self._accounts.pop(name, None)

    def get(self, name: ProviderKey | None) -> Account | None:
        """The account of that name."""
        return None if name is None else self._accounts.get(name)

    def check_fallback(self, entries: Iterable[str]) -> None:
        """See that each entry of ``routing.fallback`` can mean something here; see the function."""
        check_fallback(entries, {account.key: account.named_devices for account in self.accounts})

    def begin(self) -> None:
        """Let all adapters take up the jobs they keep; see `ProviderAdapter.begin`. Blocks.

        Raises:
            ConfigError: another process has those of an account, which is named.
        """
        for account in self.accounts:
            try:
                account.adapter.begin()
            except ConfigError as error:
                raise ConfigError(f"account {account.key}: {error.message}") from None

    async def watch(self) -> None:
        """Look again and again which accounts can be used, until cancelled."""
        while True:
            await asyncio.gather(*(account.look() for account in self.accounts))
            await asyncio.sleep(HEALTH_SECONDS)

    async def close(self, *, limit_seconds: float) -> None:
        """Close all adapters at once, giving up after the limit."""
        await asyncio.gather(*(account.close(limit_seconds=limit_seconds) for account in self._accounts.values()))


def check_fallback(entries: Iterable[str], listed: Mapping[str, Mapping[str, frozenset[str]] | None]) -> None:
    """See that each entry of ``routing.fallback`` can mean something in a fleet; asks no vendor.

    ``listed`` are the devices of each account with their tags, None where only the vendor knows them.

    Raises:
        ConfigError: one names no account, device or tag. One that is misspelt would be found out by an outage.
    """
    written = {name: devices or {} for name, devices in listed.items()}
    tags = {f"{TAG_PREFIX}{word}" for devices in written.values() for words in devices.values() for word in words}
    known = {*written, *tags, *(device for devices in written.values() for device in devices)}
    known |= {f"{name}/{device}" for name, devices in written.items() for device in devices}
    asked_later = {name for name, devices in listed.items() if devices is None}
    for entry in entries:
        account, slash, device = entry.partition("/")
        if entry in known or (slash and device and account in asked_later):
            continue
        near = difflib.get_close_matches(entry, sorted(known), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"this miner has {', '.join(written)}"
        raise ConfigError(
            f"routing.fallback: {entry!r} is no account, tag or device; {hint} (a device that only its vendor knows"
            " is written account/device)"
        )
