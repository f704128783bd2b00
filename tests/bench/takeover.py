"""How long nobody works after the owner of the accounts was killed, and what that costs: 50 kills, or ``KILLS``.

Two real miners on one Postgres. Jobs are brought to both all the time; again and again the one that works is killed in
the middle of its paid calls, and started again once the other has taken over.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

from tests.bench.report import Figure
from tests.ledger.postgres_server import empty_database, shared_server
from tests.machines import Machines, machines_on

KILLS: Final = 50
JOBS_BEFORE_A_KILL: Final = 8
_LIMIT_SECONDS: Final = 5.0
_DBOS_SECONDS: Final = 40.0

_VENDOR: Final = {
    "QCOMPUTE_PROVIDERS__MOCK__LATENCY_SECONDS": "0.1",
    "QCOMPUTE_PROVIDERS__MOCK__RUN_SECONDS": "0.5",
}


async def takeover() -> list[Figure]:
    """The owner is killed again and again: seconds until the other works, double submits, jobs lost."""
    kills = int(os.environ.get("KILLS", KILLS))
    with TemporaryDirectory(prefix="takeover-") as folder, empty_database() as database:
        async with machines_on(Path(folder), shared_server(), database, **_VENDOR) as machines:
            return await _measured(machines, kills)


async def _measured(machines: Machines, kills: int) -> list[Figure]:
    owner, standby = "one", "two"
    await machines.add(owner)
    await machines.until_owner(owner)
    await machines.add(standby)
    seconds: list[float] = []
    ids = machines.add_jobs(0)
    for number in range(kills):
        ids += machines.add_jobs(JOBS_BEFORE_A_KILL)
        before = len(machines.submits())
        await machines.hand_over(JOBS_BEFORE_A_KILL, owner, standby)
        await machines.until_submits(before + JOBS_BEFORE_A_KILL // 2)
        killed_at = time.time()
        await machines.miners[owner].kill()
        seconds.append(await machines.takeover(standby, killed_at))
        sys.stdout.write(f"kill {number + 1}: {seconds[-1]:.2f} s\n")
        sys.stdout.flush()
        await machines.miners[owner].start()
        owner, standby = standby, owner
    await machines.collected(ids, owner)
    await asyncio.gather(*(miner.stop() for miner in machines.miners.values()))
    submits, delivered = machines.submits(), {row.execution_id for row in machines.validator.delivered}
    return [
        _figure("takeover, longest", max(seconds), "s", "the limit", _LIMIT_SECONDS),
        _figure("takeover, median", median(seconds), "s", "DBOS: none after 40 s", _DBOS_SECONDS),
        _figure("double submits", len(submits) - len(set(submits)), f"of {len(submits)}", "none", 0),
        _figure("jobs lost", len(set(ids) - delivered), f"of {len(ids)}", "none", 0),
    ]


def _figure(name: str, value: float, unit: str, peer: str, peer_value: float) -> Figure:
    return Figure(name, value, unit, peer, peer_value, higher_is_better=False)
