"""The embedded platform in a process of its own, so that the miner's work is not done in the load's time.

``python -m tests.bench.site`` prints one JSON line with the miner's environment and the URLs of its servers, then
answers each line it reads (`Order`) with one line, until its input ends.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any

import uvloop

from qcompute.local.demo_jobs import BELL
from qcompute.local.platform import LocalPlatform

LONGEST_LINE = 64 << 20


@dataclass(frozen=True, slots=True)
class Order:
    """``circuits``: lay out so many, each another text; answered with their URLs. 0: answered with `Seen`."""

    circuits: int = 0


@dataclass(frozen=True, slots=True)
class Seen:
    """What the platform has seen so far, and the CPU time it used."""

    results: int
    different: int
    """Results under different upload ids: fewer than ``results`` when one came twice."""
    cpu_seconds: float


async def serve() -> None:
    """Serve until the input ends."""
    platform = LocalPlatform()
    await platform.start()
    _say({"environment": platform.miner_environment(), "jobs": platform.jobs.url, "tokens": platform.tokens.url})
    orders = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    laid_out = 0
    while line := await orders.readline():
        order = Order(**json.loads(line))
        if order.circuits:
            first, laid_out = laid_out, laid_out + order.circuits
            _say([platform.circuits.add(f"c{number}", f"{BELL}// {number}\n") for number in range(first, laid_out)])
        else:
            used = resource.getrusage(resource.RUSAGE_SELF)
            seen = Seen(len(platform.store.puts), len(platform.store.objects), used.ru_utime + used.ru_stime)
            _say(asdict(seen))
    await platform.stop()


def _say(document: object) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


class Site:
    """The platform's process, seen from the benchmark."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.environment: dict[str, str] = {}
        self.jobs_url = ""

    async def opened(self) -> None:
        """Wait until it serves."""
        facts = await self._answer()
        self.environment, self.jobs_url = facts["environment"], facts["jobs"]

    async def circuits(self, count: int) -> list[str]:
        """URLs of so many circuits, no two alike."""
        return await self._ask(Order(count))

    async def seen(self) -> Seen:
        """What it has seen so far."""
        return Seen(**await self._ask(Order()))

    async def _ask(self, order: Order) -> Any:
        if self._process.stdin is None:
            raise RuntimeError("the platform has no input")
        self._process.stdin.write(json.dumps(asdict(order)).encode() + b"\n")
        return await self._answer()

    async def _answer(self) -> Any:
        if self._process.stdout is None:
            raise RuntimeError("the platform has no output")
        return json.loads(await self._process.stdout.readline())


@asynccontextmanager
async def running_site() -> AsyncGenerator[Site]:
    """The platform, until the block ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.bench.site",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LONGEST_LINE,
    )
    try:
        site = Site(process)
        await site.opened()
        yield site
    finally:
        if process.stdin is not None:
            process.stdin.close()
        await process.wait()


if __name__ == "__main__":
    uvloop.run(serve())
