"""The dashboard over a long ledger: how soon pages come, what it keeps in memory, what it takes from validators."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Final

import aiohttp

from qcompute.chain.keys import signer_from_uri
from qcompute.units import utc_now
from tests.bench.filling import fill
from tests.bench.loading import OPEN_WIDE, hanging_host, load
from tests.bench.report import Figure
from tests.scene import VALIDATOR_URI, Scene, running_scene

JOBS: Final = 100_000
VIEWS: Final = 300
BROWSERS: Final = 8
ROUNDS: Final = 4
REQUESTS: Final = 60
"""A connection and round."""

CONNECTIONS: Final = 16

COME_AGAIN_SECONDS: Final = 0.5
"""After which a browser that found no place asks again."""

LIVE: Final = ("/dashboard/", "/dashboard/jobs")
SEARCH: Final = "/dashboard/jobs?q=nowhere&verdict=failed"
PAGES: Final = (*LIVE, SEARCH, "/dashboard/validators")
FIRST_VIEW_MS: Final = 300.0
_PART: Final = {"HX-Request": "true"}


async def dashboard() -> list[Figure]:
    """100,000 jobs in the ledger: first views, memory over many, and the axon beside eight live browsers."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        hotkey = signer_from_uri(VALIDATOR_URI).hotkey
        file = folder / "data" / "ledger.sqlite3"
        await asyncio.to_thread(fill, file, validator=hotkey, account="mock", closed=JOBS)
        async with running_scene(folder, environment=OPEN_WIDE) as scene, aiohttp.ClientSession() as session:
            first = {page: await _view_ms(scene, session, page) for page in PAGES}
            grown = await _grown_mib(scene, session)
            slower = await _slower(scene)
    return [
        Figure(
            "first view, slowest page", max(first.values()), "ms", "the limit", FIRST_VIEW_MS, higher_is_better=False
        ),
        Figure(f"memory after {VIEWS} more views", grown, "MiB", "of the daemon", 8.0, higher_is_better=False),
        Figure("axon beside 8 live browsers", slower[1], "requests/s", "alone, this run", slower[0]),
    ]


async def _view_ms(scene: Scene, session: aiohttp.ClientSession, page: str) -> float:
    began = time.perf_counter()
    async with session.get(f"{scene.miner.operator_url}{page}") as response:
        await response.read()
        assert response.status == 200, (page, response.status)
    return (time.perf_counter() - began) * 1000


async def _grown_mib(scene: Scene, session: aiohttp.ClientSession) -> float:
    """How much larger the daemon is after the second half of the views, with browsers coming and going."""
    async with browsers(scene, BROWSERS):
        for number in range(VIEWS):
            await _view_ms(scene, session, PAGES[number % len(PAGES)])
    half = rss_mib(scene)
    async with browsers(scene, BROWSERS):
        for number in range(VIEWS):
            await _view_ms(scene, session, PAGES[number % len(PAGES)])
    return max(rss_mib(scene) - half, 0.0)


async def _slower(scene: Scene) -> tuple[float, float]:
    """Requests a second without and with browsers, in turns, so that a busy machine is as busy for both."""
    url = hanging_host(scene)
    alone: list[float] = []
    beside: list[float] = []
    for _ in range(ROUNDS):
        alone.append(await _rate(scene, url))
        async with browsers(scene, BROWSERS):
            beside.append(await _rate(scene, url))
    return statistics.median(alone), statistics.median(beside)


async def _rate(scene: Scene, url: str) -> float:
    axon, now = scene.miner.axon_port, f"{utc_now():%Y-%m-%d %H:%M:%S}"  # a validator who has collected what there was
    seen = await load(
        axon, scene.miner.signer.hotkey, connections=CONNECTIONS, requests=REQUESTS, urls=[url], last_circuit=now
    )
    return float(seen["per_second"])


def rss_mib(scene: Scene) -> float:
    """What the daemon's process holds in memory."""
    process = scene.miner.process
    assert process is not None
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


@asynccontextmanager
async def browsers(scene: Scene, count: int) -> AsyncGenerator[None]:
    """So many live pages: each hears the stream, and asks for its part again whenever something moved."""
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        pages = [group.create_task(_live(scene, session, LIVE[number % len(LIVE)])) for number in range(count)]
        yield
        for page in pages:
            page.cancel()


async def _live(scene: Scene, session: aiohttp.ClientSession, page: str) -> None:
    base = scene.miner.operator_url
    while True:
        async with session.get(f"{base}/dashboard/events", timeout=aiohttp.ClientTimeout(total=None)) as stream:
            if stream.status == HTTPStatus.SERVICE_UNAVAILABLE:  # pages just closed keep their places for a look
                await asyncio.sleep(COME_AGAIN_SECONDS)
                continue
            assert stream.status == HTTPStatus.OK
            async for line in stream.content:
                if line == b"event: moved\n":
                    async with session.get(f"{base}{page}", headers=_PART) as response:
                        await response.read()
