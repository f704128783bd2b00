"""The accounts of one miner, in the operator's order: those new jobs go to, and those whose jobs are not done yet."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from qcompute.miner.account import Account
from qcompute.miner.budget import Budget, Budgets
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

    async def watch(self) -> None:
        """Look again and again which accounts can be used, until cancelled."""
        while True:
            await asyncio.gather(*(account.look() for account in self.accounts))
            await asyncio.sleep(HEALTH_SECONDS)

    async def close(self, *, limit_seconds: float) -> None:
        """Close all adapters at once, giving up after the limit."""
        await asyncio.gather(*(account.close(limit_seconds=limit_seconds) for account in self._accounts.values()))
