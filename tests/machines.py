"""Several real miners on one Postgres: one hotkey, one platform, one validator, one vendor."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from typing_extensions import override
from yarl import URL

from qcompute.chain.keys import signer_from_uri
from qcompute.local.demo_jobs import BELL
from qcompute.local.miner_process import MinerProcess
from qcompute.local.platform import LocalPlatform
from qcompute.local.validator import Validator
from qcompute.units import ExecutionId
from tests.ledger.postgres_server import PASSWORD, PostgresServer
from tests.network import Network
from tests.scene import VALIDATOR_URI, until

LANE = "mock"
_LANES = {LANE, "@road"}


class NetworkedMiner(MinerProcess):
    """A miner in a network of its own, when it has one. Nobody outside reaches its ports then."""

    network: Network | None = None

    @override
    def command(self) -> list[str]:
        command = super().command()
        return command if self.network is None else [*self.network.enter, *command]


@dataclass
class Machines:
    """The miners by name, and what they share."""

    folder: Path
    server: PostgresServer
    database: str
    platform: LocalPlatform
    validator: Validator
    settings: Mapping[str, str]
    miners: dict[str, MinerProcess] = field(default_factory=dict[str, MinerProcess])

    @property
    def vendor_file(self) -> Path:
        """The mock vendor's own table."""
        return self.folder / "vendor.sqlite3"

    @property
    def ports(self) -> list[int]:
        """What a machine must reach."""
        services = [service.url for service in self.platform.services]
        return [self.server.port, *(URL(url).port or 0 for url in services)]

    async def add(self, name: str, *, network: Network | None = None, **environment: str) -> MinerProcess:
        """Set up another machine, with the first one's wallet and key, and start its miner."""
        folder = self.folder / name
        folder.mkdir()
        if self.miners:
            shutil.copytree(next(iter(self.miners.values())).folder / "wallets", folder / "wallets")
        miner = NetworkedMiner(
            folder,
            validators=[self.validator.signer.hotkey],
            provider="mock",
            environment={**self.settings, **environment},
        )
        miner.network = network
        self.platform.jobs.miner_hotkey = self.validator._miner = miner.signer.hotkey
        self.miners[name] = miner
        await miner.start()
        return miner

    def visit_at(self, name: str) -> None:
        """Let the validator's next requests go to this machine, as a load balancer would."""
        self.validator.miner_port = self.miners[name].axon_port

    def add_jobs(self, count: int, shots: int = 50) -> list[ExecutionId]:
        """Queue Bell pairs at the job server; each differs by a comment."""
        return [self.platform.jobs.add_job(f"{BELL}// {number}\n", shots) for number in range(count)]

    async def hand_over(self, count: int, *names: str) -> None:
        """Bring so many jobs, to each of the machines in turn."""
        for number in range(count):
            self.visit_at(names[number % len(names)])
            answer = await self.validator.visit()
            assert answer.success, answer

    async def collected(self, ids: list[ExecutionId], name: str, *, seconds: float = 90.0) -> None:
        """Let the validator collect from one machine until it has all of these."""
        self.visit_at(name)

        async def all_there() -> bool:
            await self.validator.visit()
            return set(ids) <= {row.execution_id for row in self.validator.delivered}

        await until(all_there, seconds=seconds, what=f"{len(ids)} jobs collected", facts=self.facts)

    def submits(self) -> list[str]:
        """The token of every submit that reached the vendor."""
        with sqlite3.connect(self.vendor_file) as cloud:
            return [token for (token,) in cloud.execute("SELECT token FROM submits")]

    async def until_submits(self, count: int) -> None:
        """Wait until the vendor has heard so many."""

        async def enough() -> bool:
            return len(self.submits()) >= count

        await until(enough, seconds=60.0, what=f"{count} submits", facts=self.facts)

    def owners(self) -> dict[str, str]:
        """Each lane that is held, and the name of the machine that holds it."""
        rows = self.server.run_sql(self.database, "SELECT lane, holder FROM owners WHERE holder IS NOT NULL")
        pids = {miner.process.pid: name for name, miner in self.miners.items() if miner.process is not None}
        return {lane: pids.get(int(holder.split()[-2]), "?") for lane, holder in rows}

    async def until_owner(self, name: str, *, seconds: float = 60.0) -> float:
        """Wait until a machine has both lanes; the moment the later one was taken, by the machine's clock."""

        async def owns() -> bool:
            owners = self.owners()
            return all(owners.get(lane) == name for lane in _LANES)

        await until(owns, seconds=seconds, what=f"{name} owns all", facts=self.facts)
        ((micros,),) = self.server.run_sql(self.database, "SELECT max(taken_at) FROM owners")
        return micros / 1e6

    async def takeover(self, name: str, began: float) -> float:
        """Seconds from ``began``, by `time.time`, until a machine had both lanes."""
        return await self.until_owner(name, seconds=20.0 + began - time.time()) - began

    async def health(self, name: str) -> dict[str, Any]:
        """What a machine says of itself."""
        url = f"{self.miners[name].operator_url}/health"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            return await answer.json()

    async def facts(self) -> str:
        """What to show when a wait was in vain."""
        last = {name: miner.last_lines(8) for name, miner in self.miners.items()}
        rows = self.server.run_sql(self.database, "SELECT state, lane, count(*) FROM jobs GROUP BY state, lane")
        return f"owners {self.owners()}, {rows}, {len(self.submits())} submits; " + "\n".join(
            f"{name}:\n{lines}" for name, lines in last.items()
        )


@asynccontextmanager
async def machines_on(
    folder: Path, server: PostgresServer, database: str, **environment: str
) -> AsyncGenerator[Machines]:
    """Everything but the miners, which the test adds."""
    platform = LocalPlatform()
    await platform.start()
    signer = signer_from_uri(VALIDATOR_URI)
    validator = Validator(
        signer,
        job_server_url=platform.jobs.url,
        tensorauth_url=platform.tokens.url,
        miner_hotkey=signer.hotkey,  # until there is a miner
        miner_port=0,
    )
    settings = platform.miner_environment() | {
        "QCOMPUTE_LEDGER__URL": server.url_without_password(database),
        "QCOMPUTE_LEDGER__PASSWORD_SECRET": "ledger",
        "QCOMPUTE_SECRET_LEDGER": PASSWORD,
        "QCOMPUTE_LEDGER__KEY_FILE": str(folder / "ledger.key"),
        "QCOMPUTE_AXON__REQUESTS_PER_SECOND": "100000",
        "QCOMPUTE_AXON__REQUEST_BURST": "100000",
        "QCOMPUTE_MINER__HEARTBEAT_SECONDS": "2",
        "QCOMPUTE_MINER__SECOND_LOOK_SECONDS": "1",
        "QCOMPUTE_MINER__DELIVERY_BACKOFF_MAX_SECONDS": "2",
        "QCOMPUTE_PROVIDERS__MOCK__STATE_PATH": str(folder / "vendor.sqlite3"),
    }
    machines = Machines(folder, server, database, platform, validator, settings | environment)
    try:
        yield machines
    finally:
        await asyncio.gather(*(miner.kill() for miner in machines.miners.values()))
        await validator.close()
        await platform.stop()
