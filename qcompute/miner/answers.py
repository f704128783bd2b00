"""What the operator's command may ask a daemon about: devices as their vendors describe them now, and money."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from qcompute.errors import QComputeError
from qcompute.miner.account import Account, caught
from qcompute.miner.commands import Answers
from qcompute.miner.fleet import Fleet
from qcompute.miner.heartbeat import ask_vendor, described
from qcompute.miner.providers.base import Verb

ASK_SECONDS: Final = 8.0
"""Less than an operator's command waits for its answer."""


def answers_of(fleet: Fleet) -> Answers:
    """What each question is answered by."""

    async def devices() -> list[dict[str, Any]]:
        return await devices_of(fleet)

    async def budgets() -> list[dict[str, Any]]:
        return fleet.budgets.documents()

    return {"devices": devices, "budgets": budgets}


async def devices_of(fleet: Fleet) -> list[dict[str, Any]]:
    """Every account with its devices; one that does not answer in time says so in ``problem``. Spends nothing."""
    return list(await asyncio.gather(*(_of_account(account) for account in fleet.accounts)))


async def _of_account(account: Account) -> dict[str, Any]:
    told = await caught(asyncio.wait_for(account.ask(Verb.DESCRIBE, ask_vendor, account), ASK_SECONDS))
    problem = _words(told) if isinstance(told, Exception) else None
    return {
        "account": account.key,
        "vendor": account.vendor,
        "offline_because": account.offline_because,
        "problem": problem,
        "devices": [] if isinstance(told, Exception) else [described(report) for report in told],
    }


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"its vendor did not answer within {ASK_SECONDS:.0f} s"
    return error.message if isinstance(error, QComputeError) else f"the adapter raised {type(error).__name__}"
