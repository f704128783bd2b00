"""Benchmarks against a vendor over HTTP: how many calls a job costs over its life, and how fast a backlog drains."""

from __future__ import annotations

import asyncio
import re
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from qcompute.local.demo_jobs import BELL
from qcompute.miner.job import State
from qcompute.miner.providers.base import Verb
from tests.bench.loading import OPEN_WIDE
from tests.bench.report import Figure
from tests.doubles.kits import Kit, kit
from tests.doubles.vendor import VendorDouble, VendorJob
from tests.doubles.worker import shared
from tests.scene import Scene, running_scene, until_true

AER_WORKER: Final = "tests.doubles.aer_worker"
JOBS: Final = 1000
CALL_SECONDS: Final = 0.05
IN_FLIGHT_SECONDS: Final = 60.0


async def inflight() -> list[Figure]:
    """1,000 jobs at a vendor whose calls take 50 ms (IonQ's double): calls per job, and how fast all end together."""
    kit_ = kit("ionq")
    with kit_.double() as double, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _compute_once(double)
        environment = kit_.variables(double) | {
            "QCOMPUTE_CONFIG": str(kit_.settings_file(double, folder, poll_seconds=1.0))
        }
        async with running_scene(folder, provider="ionq", environment=OPEN_WIDE | environment) as scene:
            return await _measured(kit_, double, scene)


async def _measured(kit_: Kit, double: VendorDouble, scene: Scene) -> list[Figure]:
    device = {} if kit_.device is None else {"device": kit_.device}
    with double.hold():
        for _ in range(JOBS):
            scene.platform.jobs.add_job(BELL, 50, device)
        await scene.hand_over(JOBS)
        await until_true(lambda: double.created == JOBS, what="all jobs submitted", seconds=300)
        await scene.until_in(State.WAITING, JOBS, seconds=120)
        double.latency_seconds = CALL_SECONDS
        before, began = len(double.asked), time.perf_counter()
        await asyncio.sleep(IN_FLIGHT_SECONDS)
        waited = time.perf_counter() - began
        polls = _asked(kit_, double, Verb.POLL, before) / JOBS
    began = time.perf_counter()
    await scene.until_in(State.CLOSED, JOBS, seconds=120)
    drained = time.perf_counter() - began
    total = len(double.asked) / JOBS
    once_a_second = "one poll per job and second"
    return [
        Figure("polls per job, 60 s in flight", polls, "calls/job", once_a_second, waited, higher_is_better=False),
        Figure(
            "calls per job, its whole life",
            total,
            "calls/job",
            once_a_second,
            waited + drained,
            higher_is_better=False,
        ),
        Figure("1,000 HTTP jobs ending together", drained, "s", "aim", 10.0, higher_is_better=False),
    ]


def _compute_once(double: VendorDouble) -> None:
    """The double gives every job the result of the first: what is measured is not the simulator."""
    real = double.execute
    results: dict[str, Any] = {}
    lock = asyncio.Lock()

    shared(AER_WORKER).ask({"language": "openqasm2", "text": BELL, "shots": 1})  # it takes seconds to start

    async def execute(job: VendorJob) -> Any:
        async with lock:
            if "result" not in results:
                results["result"] = await real(job)
        return results["result"]

    double.execute = execute


def _asked(kit_: Kit, double: VendorDouble, verb: Verb, since: int) -> int:
    pattern = re.compile(kit_.calls[verb])
    return sum(bool(pattern.search(f"{one.method} {one.path}")) for one in list(double.asked)[since:])
