"""The daemon under attack, a process of its own: an honest validator's wait, the ledger's rows, its memory."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bittensor.sp_core import Keypair

from qcompute.chain.keys import HotkeySigner
from qcompute.local.dendrite import Answer as DendriteAnswer
from qcompute.local.dendrite import Dendrite
from qcompute.local.miner_process import MinerProcess
from qcompute.local.platform import LocalPlatform
from qcompute.protocol import COLLECT_ONLY, FIRST_CURSOR

COLLECT: Final[dict[str, Any]] = {
    "execution_id": COLLECT_ONLY,
    "shots": 0,
    "configuration_data": {},
    "input_data_url": "",
    "last_circuit": FIRST_CURSOR,
}
"""What a validator sends when it brings no job."""

JOB: Final[dict[str, Any]] = COLLECT | {
    "execution_id": "hostile-1",
    "shots": 10,
    "input_data_url": "https://192.0.2.1/1",
}
"""A job that is taken when everything about its request is right."""

HEAD_SECONDS: Final = 1.5
BODY_SECONDS: Final = 1.5
MAX_CONNECTIONS: Final = 1024

SETTINGS: Final = {
    "QCOMPUTE_AXON__REQUESTS_PER_SECOND": "100000",
    "QCOMPUTE_AXON__REQUEST_BURST": "100000",
    "QCOMPUTE_AXON__HEAD_TIMEOUT_SECONDS": str(HEAD_SECONDS),
    "QCOMPUTE_AXON__BODY_TIMEOUT_SECONDS": str(BODY_SECONDS),
    "QCOMPUTE_AXON__KEEP_ALIVE_SECONDS": "2",
    "QCOMPUTE_AXON__MAX_CONNECTIONS": str(MAX_CONNECTIONS),
}
"""Shorter times than the defaults, so that a suite of slow attacks ends; nothing else is eased."""

HONEST: Final = Keypair.create_from_uri("//hostile-honest")
PERMITTED: Final = Keypair.create_from_uri("//hostile-permitted")
"""A validator like any other, whose requests go wrong."""
SECOND: Final = Keypair.create_from_uri("//hostile-second")
NO_PERMIT: Final = Keypair.create_from_uri("//hostile-no-permit")
POOR: Final = Keypair.create_from_uri("//hostile-poor")
STRANGER: Final = Keypair.create_from_uri("//hostile-stranger")


@dataclass(slots=True)
class Victim:
    """One running daemon. ``slowest_seconds`` is the longest an honest request has waited since it was set to 0."""

    miner: MinerProcess
    honest: Dendrite = field(default_factory=lambda: Dendrite(HotkeySigner(HONEST)))
    served: int = 0
    slowest_seconds: float = 0.0

    @property
    def port(self) -> int:
        """The axon's port."""
        return self.miner.axon_port

    @property
    def hotkey(self) -> str:
        """The miner's own hotkey."""
        return self.miner.signer.hotkey

    async def serve_honest(self, cursor: str = FIRST_CURSOR) -> DendriteAnswer:
        """One honest request for what ended after ``cursor``; its wait is kept."""
        fields = COLLECT | {"last_circuit": cursor}
        answer = await self.honest.query("127.0.0.1", self.port, self.miner.signer.hotkey, fields)
        if answer.success:
            self.served += 1
        self.slowest_seconds = max(self.slowest_seconds, answer.seconds)
        return answer

    def jobs(self) -> int:
        """Rows of the table of jobs."""
        return self._count("SELECT count(*) FROM jobs")

    def nonces_of(self, *hotkeys: str) -> int:
        """Rows that remember nonces of these hotkeys."""
        marks = ",".join("?" * len(hotkeys))
        return self._count(f"SELECT count(*) FROM nonces WHERE hotkey IN ({marks})", *hotkeys)  # noqa: S608 - marks

    def rss_mib(self) -> float:
        """Resident memory of the daemon's process."""
        assert self.miner.process is not None
        status = Path(f"/proc/{self.miner.process.pid}/status").read_text(encoding="ascii")
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def is_alive(self) -> bool:
        """Whether the process that was started still runs."""
        return self.miner.process is not None and self.miner.process.returncode is None

    def _count(self, query: str, *values: str) -> int:
        with closing(sqlite3.connect(f"file:{self.miner.ledger_path}?mode=ro", uri=True)) as ledger:
            return int(ledger.execute(query, values).fetchone()[0])


@asynccontextmanager
async def running_victim(folder: Path, **settings: str) -> AsyncGenerator[Victim, None]:
    """A daemon of its own with a subnet of six neurons, and the platform it reports to."""
    platform = LocalPlatform()
    await platform.start()
    environment = platform.miner_environment() | SETTINGS | settings
    environment["QCOMPUTE_PROVIDERS__MOCK__STATE_PATH"] = str(folder / "vendor.sqlite3")
    miner = MinerProcess(folder, validators=[], provider="mock", environment=environment)
    _write_subnet(miner)
    try:
        await miner.start()
        yield Victim(miner)
    finally:
        await miner.stop()
        await platform.stop()


def _write_subnet(miner: MinerProcess) -> None:
    permitted = [(HONEST, True, 1e5), (PERMITTED, True, 1e5), (SECOND, True, 1e5)]
    neurons = [{"hotkey": miner.signer.hotkey, "uid": 0}] + [
        {"hotkey": key.ss58_address, "uid": uid, "validator_permit": permit, "stake": stake}
        for uid, (key, permit, stake) in enumerate([*permitted, (NO_PERMIT, False, 1e5), (POOR, True, 10.0)], 1)
    ]
    document = {"netuid": 48, "block": 1, "neurons": neurons}
    (miner.folder / "metagraph.json").write_text(json.dumps(document), encoding="utf-8")


async def keep_serving(victim: Victim, failures: list[str], *, pause_seconds: float = 0.05) -> None:
    """Honest requests, one after the other, until cancelled."""
    while True:
        answer = await victim.serve_honest()
        if not answer.success:
            failures.append(f"an honest request got {answer.status} {answer.message}")
        await asyncio.sleep(pause_seconds)
