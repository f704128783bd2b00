"""Hostile circuits the whole road: a real daemon takes each from a validator, downloads it, and ends it in time.

Meanwhile the same daemon is asked by a validator that only collects, and given honest circuits; its memory is watched.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
from aiohttp import web

from qcompute.chain.keys import signer_from_uri
from qcompute.local.demo_jobs import BELL
from qcompute.local.dendrite import Dendrite
from qcompute.local.service import LocalService
from qcompute.protocol import COLLECT_ONLY, FIRST_CURSOR
from qcompute.units import ExecutionId
from tests.hostile.corpus import RUNS, Case
from tests.reliability import Record, Seen
from tests.scene import VALIDATOR_URI, Scene, running_scene

MEMORY_GROWTH_MIB: Final = 96
"""How much the daemon's resident memory may grow over a whole run: a few of the largest texts and their answers."""
SLOWEST_COLLECT_SECONDS: Final = 2.0
"""The longest a validator that only collects may wait; it gives up after 10 s."""
PATIENCE_SECONDS: Final = 400.0
"""For one circuit: two calls of the sandbox with 120 s each, on a machine that does other things too."""
HONEST_EVERY: Final = 10

_TELLS: Final = re.compile(r"Traceback|File \"|site-packages")

Unclear = Callable[[Case, str, str], str | None]


class RawHost(LocalService):
    """Serves bytes as they are, whatever they are; stands in for the platform's host of texts."""

    def __init__(self) -> None:
        super().__init__()
        self._payloads: dict[str, bytes] = {}

    def routes(self) -> list[web.RouteDef]:
        """One route."""
        return [web.get("/circuits/{name}", self._get)]

    def add(self, name: str, text: str) -> str:
        """As of the platform's own host: where `text` is now."""
        return self.add_bytes(name, text.encode())

    def add_bytes(self, name: str, payload: bytes) -> str:
        """Where ``payload`` is now."""
        self._payloads[name] = payload
        return f"{self.url}/circuits/{name}"

    async def _get(self, request: web.Request) -> web.Response:
        return web.Response(body=self._payloads[request.match_info["name"]])


@dataclass
class Meanwhile:
    """What a validator that only collects saw."""

    seconds: list[float] = field(default_factory=list[float])
    refused: list[str] = field(default_factory=list[str])

    async def collect_for_ever(self, scene: Scene) -> None:
        """Ask, and ask again."""
        dendrite = Dendrite(signer_from_uri(VALIDATOR_URI))
        fields: dict[str, Any] = {"execution_id": COLLECT_ONLY, "input_data_url": "", "shots": 0}
        fields |= {"configuration_data": {}, "last_circuit": FIRST_CURSOR}
        while True:
            miner = scene.miner
            answer = await dendrite.query("127.0.0.1", miner.axon_port, miner.signer.hotkey, fields)
            self.seconds.append(answer.seconds)
            if not answer.success:
                self.refused.append(f"{answer.status} {answer.message}")
            await asyncio.sleep(0.05)


@dataclass
class Road:
    """A daemon under fire."""

    scene: Scene
    host: RawHost
    meanwhile: Meanwhile
    honest: list[ExecutionId] = field(default_factory=list[ExecutionId])

    async def send(self, case: Case) -> Seen:
        """One circuit from the validator's hands to its end; raises AssertionError when it comes to none."""
        jobs = self.scene.platform.jobs
        execution_id = jobs.add_job(BELL, 10)
        self.host.add_bytes(execution_id, case.payload())
        began = time.perf_counter()
        await self.scene.hand_over(1)
        document = await self._ended(execution_id)
        seconds = round(time.perf_counter() - began, 3)
        code, message = document["error_code"] or RUNS, document["error"] or ""
        return Seen("", f"daemon: {case.name}", code, ok=True, facts={"seconds": seconds, "refusal": message})

    async def send_honest(self) -> None:
        """A Bell pair, which must come to its end among the others."""
        self.honest.append(self.scene.platform.jobs.add_job(BELL, 10))
        await self.scene.hand_over(1)

    async def honest_are_done(self) -> bool:
        """Whether every honest circuit ran."""
        ended = [await self._ended(one) for one in self.honest]
        return all(document["verdict"] == "succeeded" for document in ended)

    def memory_mib(self) -> float:
        """Resident memory of the daemon's own process."""
        process = self.scene.miner.process
        assert process is not None
        status = (Path("/proc") / str(process.pid) / "status").read_text()
        found = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
        assert found is not None
        return int(found[1]) / 1024

    async def _ended(self, execution_id: ExecutionId) -> dict[str, Any]:
        """The operator's view of a job once it has a verdict."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE_SECONDS
        url = f"{self.scene.miner.operator_url}/jobs/{execution_id}"
        async with aiohttp.ClientSession() as session:
            while True:
                async with session.get(url) as response:
                    document = await response.json()
                if document.get("verdict"):
                    return document
                assert loop.time() < deadline, f"no end after {PATIENCE_SECONDS:g} s: {document}"
                await asyncio.sleep(0.05)


@asynccontextmanager
async def running_road(folder: Path) -> AsyncGenerator[Road, None]:
    """A daemon that simulates with Aer, warm: it has compiled and run one honest circuit."""
    environment = {
        "QCOMPUTE_DOWNLOAD__ALLOWED_HOSTS": '["127.0.0.1"]',
        "QCOMPUTE_PROVIDERS__AER__CPU_SECONDS": "20",
        "QCOMPUTE_PROVIDERS__AER__WALL_SECONDS": "60",
    }
    host = RawHost()
    await host.start()
    try:
        async with running_scene(folder, provider="aer", environment=environment) as scene:
            scene.platform.jobs._circuits = host  # pyright: ignore[reportAttributeAccessIssue] - it needs but `add`
            road = Road(scene, host, Meanwhile())
            await road.send_honest()
            assert await road.honest_are_done()
            pulse = asyncio.create_task(road.meanwhile.collect_for_ever(scene))
            try:
                yield road
            finally:
                pulse.cancel()
    finally:
        await host.stop()


async def through_a_daemon(folder: Path, cases: Iterable[Case], unclear: Unclear) -> list[Seen]:
    """Each case through one daemon, and in the end what became of the daemon itself."""
    seen: list[Seen] = []
    async with running_road(folder) as road:
        before = road.memory_mib()
        for number, case in enumerate(cases):
            if number % HONEST_EVERY == 0:
                await road.send_honest()
            seen.append(_judged(case, await road.send(case), unclear))
        honest = await road.honest_are_done()
        grown = road.memory_mib() - before
        log = road.scene.miner.log.read_text(errors="replace")
        seen.append(_the_daemon(road, grown, honest=honest, log=log))
    return seen


def _judged(case: Case, seen: Seen, unclear: Unclear) -> Seen:
    """A circuit that passes here may still be more than this device runs, or than its simulator may use."""
    wrong = None
    if seen.outcome == RUNS:
        wrong = None if case.runs else "it ran"
    else:
        wrong = unclear(case, seen.outcome, seen.facts["refusal"])
    return Seen(seen.suite, seen.case, wrong or seen.outcome, wrong is None, seen.facts)


def _the_daemon(road: Road, grown: float, *, honest: bool, log: str) -> Seen:
    slowest = max(road.meanwhile.seconds)
    promises = {
        "an honest circuit did not run": honest,
        f"its memory grew by {grown:.0f} MiB": grown <= MEMORY_GROWTH_MIB,
        f"a validator waited {slowest:.2f} s": slowest <= SLOWEST_COLLECT_SECONDS,
        f"a validator was refused: {road.meanwhile.refused[:1]}": not road.meanwhile.refused,
        "its log has a traceback": _TELLS.search(log) is None,
    }
    broken = [what for what, held in promises.items() if not held]
    facts = {
        "memory_growth_mib": round(grown, 1),
        "served_meanwhile": len(road.meanwhile.seconds),
        "slowest_answer_seconds": round(slowest, 3),
        "honest_meanwhile": len(road.honest),
    }
    return Seen("", "the daemon over all of them", "; ".join(broken) or "flat, and served", not broken, facts)


async def the_whole_road(record: Record, cases: Iterable[Case], unclear: Unclear) -> list[Seen]:
    """Every case through one daemon, kept in ``record``."""
    with tempfile.TemporaryDirectory() as folder:
        seen = await through_a_daemon(Path(folder), cases, unclear)
    return [record.add(one.case, one.outcome, ok=one.ok, **one.facts) for one in seen]
