"""Each benchmark against the unmodified daemon in a process of its own, the load generator in another.

Peers are the reference miner's figures, measured on one 2-core machine (docs/adr), and the bare signed endpoint of
`tests.bench.bare`, measured in the same run. Two cores are shared by daemon and load, so absolute numbers say little.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

from qcompute.ledger import open_ledger
from qcompute.ledger.settings import LedgerSettings
from qcompute.miner.job import State
from qcompute.testing.ledger_records import brought_to
from tests.bench.dashboard import dashboard
from tests.bench.loading import OPEN_WIDE, bare_endpoint, hanging_host, load, scene
from tests.bench.report import Figure
from tests.bench.road import road
from tests.bench.scraped import scraped
from tests.bench.simulate import simulate
from tests.bench.split import split
from tests.bench.split_dask import dask
from tests.bench.vendors import inflight
from tests.bench.waiting import resume, waiting
from tests.ledger.postgres_server import PostgresServer
from tests.scene import running_scene

REFERENCE: Final = "reference miner"
BARE: Final = "bare signed endpoint, this run"


async def collect() -> list[Figure]:
    """Collect-only requests a second, the validator up to date."""
    async with scene() as running:
        ours = await load(running.miner.axon_port, running.miner.signer.hotkey, requests=300)
    bare = await bare_endpoint()
    rate = ours["per_second"]
    return [
        Figure("collect, up to date", rate, "requests/s", REFERENCE, 23.0),
        Figure("collect, up to date", rate, "requests/s", BARE, bare["per_second"]),
    ]


async def accept() -> list[Figure]:
    """New jobs a second, each durable before its answer; the circuits' host hangs, so that only intake is measured."""
    async with scene() as running:
        url = hanging_host(running)
        ours = await load(running.miner.axon_port, running.miner.signer.hotkey, requests=150, urls=[url])
    return [Figure("jobs accepted, durable", ours["per_second"], "jobs/s", REFERENCE, 20.0)]


async def postgres() -> list[Figure]:
    """As `accept`, with the ledger on a Postgres of this machine that syncs every commit, beside the one in a file."""
    server = PostgresServer()
    server.start()
    try:
        rates: list[float] = []
        for environment in ({}, {"QCOMPUTE_LEDGER__URL": server.url(server.create())}):
            async with scene(environment) as running:
                url = hanging_host(running)
                ours = await load(running.miner.axon_port, running.miner.signer.hotkey, requests=150, urls=[url])
            rates.append(ours["per_second"])
    finally:
        server.remove()
    in_file, on_postgres = rates
    return [
        Figure("jobs accepted on Postgres", on_postgres, "jobs/s", "SQLite, this run", in_file),
        Figure("jobs accepted on Postgres", on_postgres, "jobs/s", REFERENCE, 20.0),
    ]


async def latency() -> list[Figure]:
    """Answers while the host of the circuits takes 2 s; four validators' worth of connections, one job each time."""
    async with scene() as running:
        url = hanging_host(running, seconds=2.0)
        ours = await load(running.miner.axon_port, running.miner.signer.hotkey, connections=4, requests=100, urls=[url])
    return [
        Figure("answer p50, job host takes 2 s", ours["p50_ms"], "ms", REFERENCE, 4060.0, higher_is_better=False),
        Figure("answer p99, job host takes 2 s", ours["p99_ms"], "ms", REFERENCE, 4060.0, higher_is_better=False),
    ]


async def history() -> list[Figure]:
    """Collecting with 20,000 finished jobs: up to date, and from the very beginning (a bounded page)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cursor = await fill(folder / "data" / "ledger.sqlite3", 20_000)
        async with running_scene(folder, environment=OPEN_WIDE) as running:
            port, hotkey = running.miner.axon_port, running.miner.signer.hotkey
            current = await load(port, hotkey, connections=1, requests=200, last_circuit=cursor)
            behind = await load(port, hotkey, connections=1, requests=200)
    return [
        Figure("collect, 20,000 rows behind us", current["p50_ms"], "ms", REFERENCE, 46.0, higher_is_better=False),
        Figure("collect, 20,000 rows to go", behind["p50_ms"], "ms", REFERENCE, 666.0, higher_is_better=False),
    ]


async def finish() -> list[Figure]:
    """1,000 jobs found finished at once, every vendor call taking 50 ms: until all are delivered."""
    jobs = 1000
    mock = "QCOMPUTE_PROVIDERS__MOCK__"
    async with scene({f"{mock}RUN_SECONDS": "36000", f"{mock}FORETELL": "false"}) as running:
        running.add_jobs(jobs)
        await running.hand_over(jobs)
        await running.until_in(State.WAITING, jobs, seconds=120)
        await running.miner.stop()
        began = time.perf_counter()
        await running.restart(**{f"{mock}RUN_SECONDS": "0", f"{mock}LATENCY_SECONDS": "0.05"})
        started = time.perf_counter() - began
        await running.until_in(State.CLOSED, jobs, seconds=200)
        seconds = time.perf_counter() - began - started
    return [Figure("1,000 jobs finishing together", seconds, "s", REFERENCE, 209.0, higher_is_better=False)]


BENCHES: Final[dict[str, Callable[[], Coroutine[Any, Any, list[Figure]]]]] = {
    "collect": collect,
    "scraped": scraped,
    "accept": accept,
    "latency": latency,
    "history": history,
    "finish": finish,
    "inflight": inflight,
    "postgres": postgres,
    "dashboard": dashboard,
    "split": split,
    "road": road,
    "simulate": simulate,
    "dask": dask,
    "waiting": waiting,
    "resume": resume,
}


async def fill(file: Path, count: int) -> str:
    """A ledger with so many closed jobs; returns the cursor behind the last."""
    file.parent.mkdir(parents=True)
    ledger = open_ledger(LedgerSettings(path=file))
    for first in range(0, count, 500):
        await asyncio.gather(*(brought_to(ledger, f"old-{n}", State.CLOSED) for n in range(first, first + 500)))
    cursor = ""
    while (page := await ledger.finished_after(cursor, 1000)).jobs:
        cursor = page.cursor
    await ledger.close()
    return cursor
