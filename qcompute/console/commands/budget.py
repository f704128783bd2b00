"""``qcompute budget``: what was spent, what is reserved and what is left, of each account."""

from __future__ import annotations

import asyncio
from datetime import datetime
from decimal import Decimal
from typing import Any

import typer

from qcompute.cluster.accounts import connected_slots
from qcompute.console.app import Json, command
from qcompute.console.arguments import invocation_of, output_for
from qcompute.console.exit_codes import ExitCode
from qcompute.console.output import Output, Style
from qcompute.console.rows import Rows
from qcompute.console.sources import told
from qcompute.miner.budget import Budget, Period
from qcompute.miner.commands import Ask
from qcompute.miner.job import Charge, DayCharges
from qcompute.miner.limits import BudgetSettings
from qcompute.miner.opening import CLUSTER
from qcompute.miner.settings import Settings
from qcompute.units import ExecutionId, ProviderKey, utc_now


def add_to(app: typer.Typer, name: str, summary: str) -> None:
    """Add the command."""
    del summary  # the function's own docstring says it
    command(app, name, budget)


def budget(ctx: typer.Context, *, json: Json = False) -> int:
    """Show what was spent, is reserved and is left, for each account, of the day and of the month in UTC.

    A job's expected cost is reserved before its submit and replaced by its cost at the end. The running daemon says it;
    with none running it is read from the ledger.
    """
    settings = invocation_of(ctx).settings()
    answer = told(settings, Ask(about="budgets"))
    found: list[dict[str, Any]] = asyncio.run(_from_ledger(settings)) if answer is None else answer["answer"]
    accounts = [_with_left(one) for one in found]
    output = output_for(as_json=json)
    if json:
        output.document({"accounts": accounts, "from": "ledger" if answer is None else "daemon"})
    else:
        _show(accounts, output)
    return ExitCode.DONE


class _Charges:
    """The charges of a ledger that is only read."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def charged_by_day(self, account: ProviderKey, since: datetime) -> list[DayCharges]:
        return self._rows.spent(account, since.date())

    async def open_charges(self, account: ProviderKey) -> dict[ExecutionId, Charge]:
        return self._rows.reserved(account)


async def _from_ledger(settings: Settings) -> list[dict[str, Any]]:
    rows = Rows(settings)
    limits = _limits(settings)
    documents: list[dict[str, Any]] = []
    # Charges of accounts that are not in the settings any more were paid all the same.
    for account in [*limits, *(name for name in rows.accounts_charged() if name not in limits)]:
        one = Budget(account, limits.get(account, BudgetSettings()), clock=utc_now)
        await one.load(_Charges(rows))
        documents.append(one.document())
    return documents


def _limits(settings: Settings) -> dict[ProviderKey, BudgetSettings]:
    if settings.provider != CLUSTER:
        return {settings.provider: settings.budget}
    return {slot.name: slot.budget for slot in connected_slots(settings.cluster, settings.neuron.directory)}


def _with_left(document: dict[str, Any]) -> dict[str, Any]:
    periods = {
        name: {
            **period,
            "left": None if period["limit"] is None else str(Decimal(period["limit"]) - Decimal(period["committed"])),
        }
        for name, period in document["periods"].items()
    }
    return {**document, "periods": periods}


def _show(accounts: list[dict[str, Any]], output: Output) -> None:
    rows = [
        (
            account["account"],
            period,
            account["periods"][period]["committed"],
            account["periods"][period]["limit"] or "no limit",
            account["periods"][period]["left"],
            account["currency"],
        )
        for account in accounts
        for period in Period
    ]
    output.table(("ACCOUNT", "PERIOD", "SPENT OR RESERVED", "BUDGET", "LEFT", "IN"), rows, empty="no accounts")
    for account in accounts:
        cap = f", at most {account['per_job']} for one job" if account["per_job"] else ""
        output.line(f"{account['account']}: {account['reserved']} {account['currency']} reserved for open jobs{cap}")
        if account["closed_because"]:
            output.line(f"{account['account']}: {account['closed_because']}", Style.WARNING)
