"""What it costs the axon that Prometheus asks for everything once a second, with a thousand jobs in flight."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from statistics import median
from typing import Final

import aiohttp

from tests.bench.loading import hanging_host, load, scene
from tests.bench.report import Figure

ROUNDS: Final = 4
"""Each with and without, one after the other: whatever else the machine does befalls both."""

_OK: Final = 200


@asynccontextmanager
async def _scraping(url: str) -> AsyncGenerator[list[int]]:
    """Ask once a second within the block; gives the sizes of the answers."""
    sizes: list[int] = []

    async def scrape() -> None:
        async with aiohttp.ClientSession() as session:
            while True:
                async with session.get(url) as answer:
                    sizes.append(len(await answer.read()) if answer.status == _OK else 0)
                await asyncio.sleep(1.0)

    task = asyncio.create_task(scrape())
    try:
        yield sizes
    finally:
        task.cancel()
        await asyncio.wait([task])


async def scraped() -> list[Figure]:
    """Collect-only requests a second while Prometheus asks once a second, 1,000 jobs in flight."""
    rates: dict[bool, list[float]] = {True: [], False: []}
    async with scene() as running:
        port, hotkey = running.miner.axon_port, running.miner.signer.hotkey
        await load(port, hotkey, requests=16, urls=[hanging_host(running)])
        for _ in range(ROUNDS):
            rates[False].append((await load(port, hotkey, requests=200))["per_second"])
            async with _scraping(f"{running.miner.operator_url}/metrics") as sizes:
                rates[True].append((await load(port, hotkey, requests=200))["per_second"])
            if not sizes or not all(sizes):
                raise RuntimeError(f"the scrapes were not answered: {sizes}")
    return [
        Figure(
            "collect, scraped every second",
            median(rates[True]),
            "requests/s",
            "not scraped, this run",
            median(rates[False]),
        )
    ]
