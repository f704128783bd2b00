"""What ``GET /health`` on the operator port says of a running daemon."""

from __future__ import annotations

import time
from typing import Any

from qcompute import __version__
from qcompute.miner.account import Account
from qcompute.miner.fleet import Fleet
from qcompute.miner.operator import AskHealth
from qcompute.miner.parts import Parts
from qcompute.miner.settings import Settings


def health_of(settings: Settings, parts: Parts) -> AskHealth:
    """Tells how the daemon is; up for as long as this was made before."""
    started = time.monotonic()

    async def health() -> dict[str, Any]:
        counts = await parts.ledger.count_by_state()
        return {
            "status": "ok",
            "version": __version__,
            "uptime_seconds": int(time.monotonic() - started),
            "jobs": {state.value: count for state, count in counts.items()},
            "metagraph_age_seconds": parts.watch.age_seconds,
            "chain_failing": parts.watch.is_failing,
            "provider": settings.provider,
            "in_use": parts.switch.in_use,
            "works_on": {duty.lane: duty.is_ours for duty in parts.duties},
            "dry_run": settings.miner.dry_run,
            "accounts": [_account_document(account, parts.fleet) for account in parts.fleet.accounts],
            "budgets": parts.fleet.budgets.documents(),
            "devices": [report.device.device_id for report in parts.heartbeat.devices],
        }

    return health


def _account_document(account: Account, fleet: Fleet) -> dict[str, Any]:
    return {
        "takes_jobs": account in fleet.offered,
        "name": account.key,
        "vendor": account.vendor,
        "offline_because": account.offline_because,
        "devices": list(account.device_names),
    }
