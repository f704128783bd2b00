"""``qcompute devices``: what the accounts of this miner can run on now."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import typer

from qcompute.console.app import Json, command
from qcompute.console.arguments import invocation_of, output_for
from qcompute.console.exit_codes import ExitCode
from qcompute.console.output import Output, Style
from qcompute.console.sources import told
from qcompute.miner.answers import devices_of
from qcompute.miner.commands import Ask
from qcompute.miner.opening import CLOSE_SECONDS, open_fleet
from qcompute.miner.settings import Settings

_GATES_SHOWN: Final = 8


def add_to(app: typer.Typer, name: str, summary: str) -> None:
    """Add the command."""
    del summary  # the function's own docstring says it
    command(app, name, devices)


def devices(ctx: typer.Context, *, json: Json = False) -> int:
    """List the devices of all accounts: qubits, gates, state, queue, price, next window.

    The running daemon asks its vendors, which costs nothing; with none running the accounts are opened here. Exit code
    1: an account could not be asked, or is offline.
    """
    settings = invocation_of(ctx).settings()
    answer = told(settings, Ask(about="devices"))
    accounts: list[dict[str, Any]] = asyncio.run(_opened(settings)) if answer is None else answer["answer"]
    output = output_for(as_json=json)
    if json:
        output.document({"accounts": accounts, "from": "settings" if answer is None else "daemon"})
    else:
        _show(accounts, output)
    is_well = all(account["problem"] is None and account["offline_because"] is None for account in accounts)
    return ExitCode.DONE if is_well else ExitCode.FAILED


async def _opened(settings: Settings) -> list[dict[str, Any]]:
    fleet = open_fleet(settings)
    try:
        await asyncio.gather(*(account.look() for account in fleet.accounts))
        return await devices_of(fleet)
    finally:
        await fleet.close(limit_seconds=CLOSE_SECONDS)


def _show(accounts: list[dict[str, Any]], output: Output) -> None:
    rows = [_row(account["account"], device) for account in accounts for device in account["devices"]]
    columns = ("ACCOUNT", "DEVICE", "QUBITS", "STATE", "QUEUE", "NEXT", "PRICE", "GATES")
    output.table(columns, rows, empty="no devices")
    for account in accounts:
        why = account["offline_because"] or account["problem"]
        if why is not None:
            output.line(f"{account['account']}: {why}", Style.BAD)


def _row(account: str, device: dict[str, Any]) -> tuple[object, ...]:
    gates: list[str] = device["capabilities"]["basis_gates"] or []
    more = f" and {len(gates) - _GATES_SHOWN} more" if len(gates) > _GATES_SHOWN else ""
    state = " ".join(word for word in (device["availability"] or "", device["status_msg"] or "") if word)
    return (
        account,
        device["device_id"],
        device["num_qubits"],
        state or None,
        device["pending"],
        device["next_available"],
        price_text(device["pricing"]),
        f"{' '.join(gates[:_GATES_SHOWN])}{more}",
    )


def price_text(pricing: dict[str, Any] | None) -> str:
    """``0.3 USD a task, 0.00145 USD a shot``."""
    if pricing is None:
        return "not said"
    units = {"perTask": "task", "perShot": "shot", "perMinute": "minute"}
    said = [f"{pricing[key]:g} {pricing['currency']} a {unit}" for key, unit in units.items() if pricing.get(key)]
    return ", ".join(said) or "free"
