"""The whole road: signed requests in; results at the job server, signed receipts in the ledger and closed rows out.

Everything is real but the device: the unmodified daemon, its sandboxed parser, its ledger with full syncs, the
platform's job server and object store in a process of their own, a load generator in another. The peers of the same
run are limits: what of the road can be had without a miner.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from qcompute.chain.keys import signer_from_uri
from qcompute.circuits.download import GuardedDownloader
from qcompute.circuits.settings import DownloadSettings
from qcompute.jobserver import open_job_server
from qcompute.jobserver.settings import JobServerSettings
from qcompute.local.dendrite import Dendrite
from qcompute.local.miner_process import MinerProcess
from qcompute.protocol import COLLECT_ONLY, FIRST_CURSOR
from tests.bench import instant
from tests.bench.loading import CONNECTIONS, OPEN_WIDE, load
from tests.bench.process import children, cpu_seconds
from tests.bench.report import Figure
from tests.bench.site import Site, running_site
from tests.ledger.postgres_server import PostgresServer
from tests.scene import VALIDATOR_URI

JOBS: Final = 6400
"""A multiple of the connections."""

ROUNDS: Final = 3
"""One process and two on Postgres, in turns: on two cores they differ by less than two runs of the same do."""

REFERENCE_RATE: Final = 19.0
"""Jobs a second of the reference miner, at its best (12 to 19)."""

LONGEST_SECONDS: Final = 300.0
LOOK_SECONDS: Final = 0.1
ROOT: Final = str(Path(__file__).resolve().parents[2])


@dataclass(frozen=True, slots=True)
class Run:
    """What one run of the road took; times are CPU milliseconds a job."""

    rate: float
    daemon_ms: float
    parser_ms: float
    platform_ms: float


async def road() -> list[Figure]:
    """The whole road with a device that answers at once: embedded ledger, and Postgres."""
    async with running_site() as site:
        calls = await http_calls_alone(site, JOBS // 4)
        in_file = await measured(site, {})
    server = PostgresServer()
    server.start()
    try:
        rounds = [[await on_server(server, processes=count) for count in (1, 2)] for _ in range(ROUNDS)]
    finally:
        server.remove()
    commits = commits_alone(JOBS // 4)
    rate = in_file.rate
    by_one, by_two = (statistics.median(run.rate for run in runs) for runs in zip(*rounds, strict=True))
    return [
        Figure("whole road", rate, "jobs/s", "reference miner", REFERENCE_RATE),
        Figure("whole road", rate, "jobs/s", "its three HTTP calls alone", calls),
        Figure("whole road", rate, "jobs/s", "three commits a job alone", commits),
        Figure("whole road on Postgres", by_one, "jobs/s", "SQLite, this run", rate),
        Figure("by two processes on Postgres", by_two, "jobs/s", "one process, this run", by_one),
        Figure("daemon's CPU", in_file.daemon_ms, "ms/job", "one core, 1,000 jobs/s", 1.0, higher_is_better=False),
        Figure("parser's CPU", in_file.parser_ms, "ms/job", "one core, 1,000 jobs/s", 1.0, higher_is_better=False),
        Figure("platform's CPU", in_file.platform_ms, "ms/job", "the daemon's", in_file.daemon_ms),
    ]


async def on_server(server: PostgresServer, *, processes: int) -> Run:
    """The same on a database of its own, with a platform of its own."""
    async with running_site() as site:
        url = server.url(server.create())
        return await measured(site, {"QCOMPUTE_LEDGER__URL": url}, jobs=JOBS // 2, processes=processes)


async def measured(site: Site, environment: Mapping[str, str], *, jobs: int = JOBS, processes: int = 1) -> Run:
    """So many daemons on one ledger, ``jobs`` jobs; fails when one of them is not delivered exactly once."""
    with tempfile.TemporaryDirectory() as folder:
        async with running_miners(Path(folder), site, environment, processes) as miners:
            # The first job starts the parser, fills caches and gets the token: a daemon does that once in its life.
            collector = Collector(miners[-1])
            await brought(miners, collector, await site.circuits(CONNECTIONS))
            before, results = cpu(miners), (await site.seen()).results
            used_before = (await site.seen()).cpu_seconds
            seconds = await brought(miners, collector, await site.circuits(jobs))
            after, seen = cpu(miners), await site.seen()
            if (came := seen.results - results) != jobs or seen.different != seen.results:
                raise RuntimeError(f"{came} results of {jobs} jobs came")
            if len(set(collector.collected)) != len(collector.collected):
                raise RuntimeError("a finished job was collected twice")
            return Run(
                rate=jobs / seconds,
                daemon_ms=(after[0] - before[0]) / jobs * 1000,
                parser_ms=(after[1] - before[1]) / jobs * 1000,
                platform_ms=(seen.cpu_seconds - used_before) / jobs * 1000,
            )


class Collector:
    """The validator's other half: fetches what is finished, page by page, and moves its cursor."""

    def __init__(self, miner: MinerProcess) -> None:
        self._dendrite = Dendrite(signer_from_uri(VALIDATOR_URI))
        self._miner = miner
        self._cursor = FIRST_CURSOR
        self.collected: list[str] = []
        """Ids of finished jobs, repeats included."""

    async def until(self, count: int) -> None:
        """Visit until so many are collected."""
        deadline = time.monotonic() + LONGEST_SECONDS
        while len(self.collected) < count:
            fields: dict[str, Any] = {"execution_id": COLLECT_ONLY, "input_data_url": "", "shots": 0}
            fields |= {"configuration_data": {}, "last_circuit": self._cursor}
            answer = await self._dendrite.query("127.0.0.1", self._miner.axon_port, self._miner.signer.hotkey, fields)
            if not answer.success or time.monotonic() > deadline:
                raise RuntimeError(f"{len(self.collected)} collected, then {answer}\n{self._miner.last_lines(10)}")
            self._cursor = answer.last_circuit or self._cursor
            self.collected += [row.execution_id for row in answer.finished]
            if not answer.finished:
                await asyncio.sleep(LOOK_SECONDS)

    @property
    def ahead(self) -> str:
        """A cursor of the same ledger behind which nothing will ever lie: visits with it bring jobs and take none."""
        return (
            f"9999-12-31 23:59:59.000000|{self._cursor.split('|')[1]}|{10**17}" if "|" in self._cursor else FIRST_CURSOR
        )


async def brought(miners: Sequence[MinerProcess], collector: Collector, urls: list[str]) -> float:
    """Bring a job for each URL; seconds from the first request until all are collected."""
    wanted = len(collector.collected) + len(urls)
    collecting = asyncio.create_task(collector.until(wanted))
    ports, hotkey = [miner.axon_port for miner in miners], miners[0].signer.hotkey
    requests = len(urls) // CONNECTIONS
    seen = await load(ports, hotkey, requests=requests, urls=urls, last_circuit=collector.ahead)
    await collecting
    return time.monotonic() - seen["began_at"]


def cpu(miners: Sequence[MinerProcess]) -> tuple[float, float]:
    """CPU seconds of the daemons and of their children so far."""
    daemons = [miner.process.pid for miner in miners if miner.process is not None]
    used = sum(map(cpu_seconds, daemons))
    return used, sum(cpu_seconds(child) for daemon in daemons for child in children(daemon))


@asynccontextmanager
async def running_miners(
    folder: Path, site: Site, environment: Mapping[str, str], count: int
) -> AsyncGenerator[list[MinerProcess]]:
    """Unmodified daemons of one hotkey with the instant device, open wide for one validator's load."""
    settings = OPEN_WIDE | {
        "PYTHONPATH": ROOT,
        "QCOMPUTE_AXON__REQUESTS_PER_SECOND": "100000",
        "QCOMPUTE_AXON__REQUEST_BURST": "100000",
        # The load is signed before the clock starts.
        "QCOMPUTE_AXON__FRESHNESS_SECONDS": "300",
    }
    key = {"QCOMPUTE_LEDGER__KEY_FILE": str(folder / "ledger.key")}
    validator = signer_from_uri(VALIDATOR_URI).hotkey
    miners: list[MinerProcess] = []
    try:
        for number in range(count):
            home = folder / str(number)
            home.mkdir()
            if miners:
                shutil.copytree(miners[0].folder / "wallets", home / "wallets")
            miner = MinerProcess(
                home,
                validators=[validator],
                provider=instant.PROVIDER,
                environment=site.environment | settings | dict(environment) | key,
            )
            await miner.start()
            miners.append(miner)
        yield miners
    finally:
        await asyncio.gather(*(miner.stop() for miner in miners))


async def http_calls_alone(site: Site, jobs: int) -> float:
    """Jobs a second when nothing is done but what the road asks of others: the circuit, an upload URL, the upload."""
    urls = await site.circuits(jobs)
    settings = JobServerSettings(
        url=site.environment["JOB_SERVER_URL"], tensorauth_url=site.environment["TENSORAUTH_URL"]
    )
    server = open_job_server(settings, signer_from_uri("//bench-calls"))
    host = site.environment["QCOMPUTE_DOWNLOAD__ALLOWED_HOSTS"].strip('[]"')
    downloader = GuardedDownloader(DownloadSettings(allowed_hosts=(host,)), max_bytes=1 << 20)
    waiting = list(reversed(urls))

    async def worker() -> None:
        while waiting:
            await downloader.fetch(waiting.pop())
            slot = await server.upload_slot()
            await server.put_counts(slot, {"00": 50, "11": 50})

    began = time.monotonic()
    await asyncio.gather(*(worker() for _ in range(32)))
    seconds = time.monotonic() - began
    await server.close()
    await downloader.close()
    return jobs / seconds


def commits_alone(jobs: int) -> float:
    """Jobs a second of a bare table in a file, fully synced: inserted, claimed and completed, each its own commit."""
    with tempfile.TemporaryDirectory() as folder:
        database = sqlite3.connect(Path(folder) / "bare.sqlite3", isolation_level=None)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.execute("CREATE TABLE jobs (id INTEGER PRIMARY KEY, state TEXT, payload BLOB)")
        began = time.monotonic()
        for number in range(jobs):
            database.execute("INSERT INTO jobs VALUES (?, 'new', ?)", (number, b"x" * 500))
            for state in ("claimed", "completed"):
                database.execute("UPDATE jobs SET state = ? WHERE id = ?", (state, number))
        seconds = time.monotonic() - began
        database.close()
        return jobs / seconds
