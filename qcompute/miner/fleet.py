"""The accounts of one miner, in the operator's order."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from qcompute.miner.account import Account
from qcompute.miner.budget import Budgets
from qcompute.units import ProviderKey

HEALTH_SECONDS: Final = 15.0
"""How often accounts are looked at: one that is offline comes back by itself."""


class Fleet:
    """One account, or as many as the operator's cluster has; each with a name of its own."""

    def __init__(self, accounts: Iterable[Account], budgets: Budgets) -> None:
        self._accounts = {account.key: account for account in accounts}
        self.budgets = budgets

    @property
    def accounts(self) -> list[Account]:
        """All of them, in order."""
        return list(self._accounts.values())

    @property
    def names(self) -> frozenset[ProviderKey]:
        """The names of the accounts, which are their lanes."""
        return frozenset(self._accounts)

    def get(self, name: ProviderKey | None) -> Account | None:
        """The account of that name."""
        return None if name is None else self._accounts.get(name)

    async def watch(self) -> None:
        """Look again and again which accounts can be used, until cancelled."""
        while True:
            await asyncio.gather(*(account.look() for account in self._accounts.values()))
            await asyncio.sleep(HEALTH_SECONDS)

    async def close(self, *, limit_seconds: float) -> None:
        """Close all adapters at once, giving up after the limit."""
        await asyncio.gather(*(account.close(limit_seconds=limit_seconds) for account in self._accounts.values()))
