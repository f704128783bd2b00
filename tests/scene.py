"""The whole subnet in small: platform, validator, and the unmodified miner as a process that may be killed."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from qcompute.chain.keys import signer_from_uri
from qcompute.local.demo_jobs import BELL
from qcompute.local.miner_process import MinerProcess
from qcompute.local.platform import LocalPlatform
from qcompute.local.validator import Validator
from qcompute.miner.job import State
from qcompute.units import ExecutionId

VALIDATOR_URI = "//scene-validator"


@dataclass
class Scene:
    """Everything that runs, and the mock vendor's own table."""

    platform: LocalPlatform
    miner: MinerProcess
    validator: Validator
    vendor_file: Path

    def add_jobs(self, count: int, shots: int = 50) -> list[ExecutionId]:
        """Queue Bell pairs at the job server; each differs by a comment, so that no two are the same circuit."""
        return [self.platform.jobs.add_job(f"{BELL}// {number}\n", shots) for number in range(count)]

    async def hand_over(self, count: int) -> None:
        """Let the validator bring so many jobs to the miner."""
        for _ in range(count):
            answer = await self.validator.visit()
            assert answer.success, answer

    async def jobs_in(self) -> dict[State, int]:
        """The miner's own count of jobs by state."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.miner.operator_url}/health") as response:
            document = await response.json()
            return {State(name): count for name, count in document["jobs"].items()}

    async def until_in(self, state: State, count: int, *, seconds: float = 60.0) -> None:
        """Wait until so many jobs are in ``state``."""

        async def there() -> bool:
            return (await self.jobs_in())[state] >= count

        await until(there, seconds=seconds, what=f"{count} jobs {state}", facts=self.facts)

    async def until_tried(self, execution_id: ExecutionId, attempts: int, *, seconds: float = 60.0) -> None:
        """Wait until the current stage of a job has failed so often."""

        async def often_enough() -> bool:
            url = f"{self.miner.operator_url}/jobs/{execution_id}"
            async with aiohttp.ClientSession() as session, session.get(url) as response:
                return (await response.json())["attempts"] >= attempts

        await until(often_enough, seconds=seconds, what=f"{attempts} tries", facts=self.facts)

    async def collected(self, count: int, *, seconds: float = 90.0) -> None:
        """Let the validator collect until it has so many different finished jobs."""

        async def all_there() -> bool:
            await self.validator.visit()
            return len({row.execution_id for row in self.validator.delivered}) >= count

        await until(all_there, seconds=seconds, what=f"{count} jobs collected", facts=self.facts)

    def vendor_submits(self) -> list[tuple[str | None, str]]:
        """Every submit that reached the vendor, as (token, vendor job id)."""
        with sqlite3.connect(self.vendor_file) as cloud:
            return cloud.execute("SELECT token, job_id FROM submits ORDER BY number").fetchall()

    async def restart(self, **environment: str) -> None:
        """Start the miner again, and point the validator at its new port."""
        await self.miner.start(**environment)
        self.validator.miner_port = self.miner.axon_port

    async def facts(self) -> str:
        """What to show when a wait was in vain."""
        try:
            jobs = str(await self.jobs_in())
        except aiohttp.ClientError as error:
            jobs = type(error).__name__
        return f"jobs {jobs}; the miner's last lines:\n{self.miner.last_lines(25)}"


@asynccontextmanager
async def running_scene(
    folder: Path,
    *,
    provider: str = "mock",
    environment: Mapping[str, str] | None = None,
    miner_process: type[MinerProcess] = MinerProcess,
) -> AsyncGenerator[Scene, None]:
    """A scene with its own folder; the mock vendor's cloud is a file beside the miner's, not in it.

    ``miner_process`` starts the same miner another way: under a clock, on a disk that fills up.
    """
    platform = LocalPlatform()
    await platform.start()
    signer = signer_from_uri(VALIDATOR_URI)
    vendor_file = folder / "vendor.sqlite3"
    settings = {
        "QCOMPUTE_AXON__REQUESTS_PER_SECOND": "100000",
        "QCOMPUTE_AXON__REQUEST_BURST": "100000",
        "QCOMPUTE_MINER__HEARTBEAT_SECONDS": "2",
        "QCOMPUTE_MINER__SECOND_LOOK_SECONDS": "2",
        "QCOMPUTE_MINER__DELIVERY_BACKOFF_MAX_SECONDS": "2",
    }
    if provider == "mock":
        settings["QCOMPUTE_PROVIDERS__MOCK__STATE_PATH"] = str(vendor_file)
    miner = miner_process(
        folder,
        validators=[signer.hotkey],
        provider=provider,
        environment=platform.miner_environment() | settings | dict(environment or {}),
    )
    platform.jobs.miner_hotkey = miner.signer.hotkey
    validator = Validator(
        signer,
        job_server_url=platform.jobs.url,
        tensorauth_url=platform.tokens.url,
        miner_hotkey=miner.signer.hotkey,
        miner_port=0,
    )
    scene = Scene(platform, miner, validator, vendor_file)
    try:
        await scene.restart()
        yield scene
    finally:
        await miner.stop()
        await validator.close()
        await platform.stop()


async def until_true(condition: Callable[[], bool], *, what: str, seconds: float = 60.0) -> None:
    """Ask again and again until ``condition`` holds."""

    async def asked() -> bool:
        return condition()

    async def nothing() -> str:
        return "nothing more is known"

    await until(asked, seconds=seconds, what=what, facts=nothing)


async def until(
    condition: Callable[[], Awaitable[bool]],
    *,
    seconds: float,
    what: str,
    facts: Callable[[], Awaitable[str]],
) -> None:
    """Ask again and again until ``condition`` holds; fails with the facts after the deadline."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not await condition():
        if loop.time() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain for {what}: {await facts()}")
        await asyncio.sleep(0.05)
