"""``qcompute doctor``: whether this machine, wallet, subnet, platform and accounts will do, one page.

Nothing is changed and nothing is spent: the axon's port is bound for a moment when it is free, the token service is
asked for one token, and the accounts for what their devices say of themselves.
"""

from __future__ import annotations

import asyncio

from qcompute.console.doctor import accounts, machine, platform, subnet
from qcompute.console.doctor.findings import Finding
from qcompute.miner.settings import Settings

__all__ = ["examine"]


async def examine(settings: Settings) -> list[Finding]:
    """All findings, in the order of a start. What takes time is asked at once."""
    found, signer = subnet.wallet(settings)
    # Before anything else runs: it opens SDKs on this thread.
    asked_accounts = asyncio.create_task(accounts.accounts(settings))
    (server, ahead), token, of_chain, port, of_accounts = await asyncio.gather(
        platform.job_server(settings.jobserver),
        platform.token_service(settings.jobserver, signer),
        subnet.chain(settings, signer),
        machine.port(settings.axon),
        asked_accounts,
    )
    # The port is bound in both.
    outside = await machine.outside(settings.axon)
    return [
        machine.python(),
        machine.disk(settings.neuron.directory),
        machine.ledger(settings.ledger),
        platform.clock(ahead),
        found,
        *of_chain,
        port,
        outside,
        server,
        token,
        *of_accounts,
    ]
