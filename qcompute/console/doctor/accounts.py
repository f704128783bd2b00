"""The accounts: the provider's extra and credentials, and what its devices say of themselves. Nothing is spent."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from qcompute.connections.checks import looked_at
from qcompute.connections.definitions import FILE, Definitions
from qcompute.connections.findings import Finding as Seen
from qcompute.connections.findings import Grade
from qcompute.console.doctor.findings import Finding, failed, ok, warning
from qcompute.console.sources import told
from qcompute.errors import ConfigError
from qcompute.miner.account import Account
from qcompute.miner.commands import THINK_SECONDS, Ask
from qcompute.miner.opening import CLOSE_SECONDS, open_fleet
from qcompute.miner.settings import Settings

LIMIT_SECONDS: Final = 60.0
"""For all an account is asked: a vendor that takes longer keeps no operator waiting."""

_SETUP: Final = "see `qcompute providers`, and docs/how-to for this provider's set-up"


async def accounts(settings: Settings) -> list[Finding]:
    """What is found at each account.

    A daemon that runs is asked: it has the accounts open. Otherwise they are opened here, on the calling thread as some
    SDKs need, and closed again.
    """
    try:
        answer = await asyncio.to_thread(told, settings, Ask(about="devices"), within_seconds=THINK_SECONDS)
        if answer is not None:
            return [_of_daemon(one) for one in answer["answer"]]
        fleet = open_fleet(settings)
    except ConfigError as error:
        return [failed(f"provider {settings.provider}", str(error), _SETUP)]
    try:
        found = await asyncio.gather(*(_asked(account, _table(settings, account)) for account in fleet.accounts))
    finally:
        await fleet.close(limit_seconds=CLOSE_SECONDS)
    return [finding for each in found for finding in each]


def _of_daemon(account: dict[str, Any]) -> Finding:
    subject = f"account {account['account']}"
    if (trouble := account["offline_because"] or account["problem"]) is not None:
        return failed(subject, f"the running miner cannot use it: {trouble}", _SETUP)
    names = [device["device_id"] for device in account["devices"]]
    return ok(subject, f"the running miner uses {', '.join(names) or 'no device yet'}")


def _table(settings: Settings, account: Account) -> dict[str, Any]:
    """The provider's table of an account; nothing for one of a cluster, whose nodes name their devices."""
    if account.key == settings.provider:
        return settings.provider_table
    found = Definitions(settings.neuron.directory / FILE).all().get(account.key)
    return {} if found is None else found.settings


async def _asked(account: Account, table: dict[str, Any]) -> list[Finding]:
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            await account.look()
            if account.offline_because is not None:
                return [failed(f"account {account.key}", account.offline_because, _SETUP)]
            seen = await asyncio.to_thread(looked_at, account.adapter, table)
    except TimeoutError:
        fix = "check this machine's network and the vendor's status page, then try again"
        return [failed(f"account {account.key}", f"no answer within {LIMIT_SECONDS:.0f} s", fix)]
    return [_of(account, one) for one in seen]


def _of(account: Account, seen: Seen) -> Finding:
    subject = f"account {account.key}: {seen.subject}"
    if seen.grade is Grade.FAILED:
        return failed(subject, seen.text, seen.fix or _SETUP)
    if seen.grade is Grade.NOTICE and seen.fix:
        return warning(subject, seen.text, seen.fix)
    return ok(subject, seen.text)
