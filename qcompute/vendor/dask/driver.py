"""The driver: holds the Dask client, and where it is ours the scheduler, in a process of its own.

Lines of JSON in and out; `qcompute.vendor.dask.link` says which. It ends when its pipe is closed and when its cluster
is lost, and hands back what it had asked for; the daemon then starts another.
"""

# distributed ships no complete types
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
from typing import Any, Final, cast

import dask.config
from distributed import Client, Future, KilledWorker

from qcompute.vendor.dask import simulation
from qcompute.vendor.dask.clusters import MEMORY, Cluster, cluster_of, workers_of
from qcompute.vendor.dask.link import CLOSE_SECONDS, ClusterReport, Message
from qcompute.vendor.dask.pilots import PilotTroubles
from qcompute.vendor.dask.settings import DaskConfig

_log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 0.5
_SPEAK_SECONDS: Final = 5.0
_STOP_SECONDS: Final = 10.0
_OTHER_WORKER_TRIES: Final = 3
_LONGEST_LINE: Final = 256 << 20


class Driver:
    """One life with one cluster."""

    def __init__(self, config: DaskConfig, replies: int) -> None:
        self._config = config
        self._replies = replies
        self._cluster: Cluster = cluster_of(config)
        self._client: Client | None = None
        self._orders: dict[str, Message] = {}
        self._futures: dict[str, Future[Any]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._cancelled: set[str] = set()
        self._broken = False
        self._said: ClusterReport | None = None
        self._said_at = 0.0

    def say(self, message: Message) -> None:
        """Tell the daemon; it reads at once, so this does not wait long."""
        line = memoryview(json.dumps(message, separators=(",", ":")).encode() + b"\n")
        while line:
            line = line[os.write(self._replies, line) :]

    async def take_orders(self, orders: asyncio.StreamReader) -> None:
        """Until the daemon hangs up."""
        while line := await orders.readline():
            order = json.loads(line)
            match order["do"]:
                case "run" if order["job_id"] not in self._orders:
                    self._orders[order["job_id"]] = order
                    self._begin(order["job_id"])
                case "cancel":
                    self._spawn(self._cancel(order["job_id"]))
                case _:
                    pass

    async def work(self) -> None:
        """Open the cluster and look after it until it is lost."""
        try:
            self._client = await self._cluster.open()
            self._client.subscribe_topic(simulation.TOPIC, self._hear_started)
            for job_id in list(self._orders):
                self._begin(job_id)
            while self._client.status == "running" and not self._broken:
                workers = await workers_of(self._client)
                self._tell(await self._cluster.look(len(self._orders), workers))
                await asyncio.sleep(LOOK_SECONDS)
            self._tell(ClusterReport(up=False, note="the connection to the scheduler was lost"))
        except (OSError, RuntimeError, PilotTroubles) as error:
            _log.exception("the cluster is lost")
            self._tell(ClusterReport(up=False, note=f"the cluster cannot be used: {str(error)[:300]}"))

    async def close(self) -> None:
        """End all that was started here."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._cluster.close()

    def _tell(self, report: ClusterReport) -> None:
        now = asyncio.get_running_loop().time()
        if report != self._said or now - self._said_at > _SPEAK_SECONDS:
            self.say({"is": "cluster", "report": report.model_dump(mode="json")})
            self._said, self._said_at = report, now

    def _spawn(self, work: Any) -> None:  # noqa: ANN401 - a coroutine
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("a task of the driver failed", exc_info=task.exception())
            self._broken = True  # another driver does better than one that has lost a job

    def _begin(self, job_id: str) -> None:
        if self._client is not None:
            self._spawn(self._follow(self._client, self._orders[job_id]))

    async def _follow(self, client: Client, order: Message) -> None:
        """Give it to Dask until there is an answer, and pass that on."""
        job_id, answer = order["job_id"], None
        while answer is None:
            future = client.submit(
                simulation.simulate,
                job_id,
                order["request"],
                order["limits"],
                key=f"qcompute-{job_id}",  # the same job from two drivers is one task of the scheduler
                pure=False,
                resources={MEMORY: order["memory_bytes"]},
                retries=_OTHER_WORKER_TRIES,
            )
            self._futures[job_id] = future
            answer = await self._answer(job_id, future)
            if answer is None:
                await asyncio.sleep(LOOK_SECONDS)
        self._futures.pop(job_id, None)
        self._orders.pop(job_id, None)
        self._cancelled.discard(job_id)
        self.say({"is": "ended", "job_id": job_id, "answer": answer})

    async def _answer(self, job_id: str, future: Future[Any]) -> Message | None:
        """How it ended; None when Dask forgot it without our having cancelled it."""
        error = cast("BaseException | None", await future.exception())
        if future.status in ("cancelled", "lost"):  # which `exception` calls no error
            return {"cancelled": True} if job_id in self._cancelled else None
        if error is None:
            return await future.result()
        if isinstance(error, KilledWorker):
            return {"refusal": "every worker that simulated it died; providers.dask.worker_losses bounds how many"}
        _log.error("a worker could not run a circuit: %r", error)
        return {"refusal": f"the worker could not run it ({type(error).__name__}); the driver's log says more"}

    async def _cancel(self, job_id: str) -> None:
        future = self._futures.get(job_id)
        self._cancelled.add(job_id)
        if future is None or self._client is None:
            if self._orders.pop(job_id, None) is not None:
                self.say({"is": "ended", "job_id": job_id, "answer": {"cancelled": True}})
            return
        await self._client.cancel([future], force=True)
        # Dask cannot stop a function that runs, so the worker is told; one that cannot be reached is no use anyway.
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(_STOP_SECONDS):
                await self._client.run(simulation.stop, job_id, on_error="ignore")

    def _hear_started(self, event: tuple[float, Any]) -> None:
        job_id = event[1]["job_id"]
        if job_id in self._orders:
            self.say({"is": "started", "job_id": job_id, "worker": event[1]["worker"]})


async def _live(replies: int) -> None:
    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader(limit=_LONGEST_LINE)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    first = await orders.readline()
    if not first:
        return
    config = DaskConfig.model_validate(json.loads(first)["settings"])
    dask.config.set(_dask_settings(config))
    driver = Driver(config, replies)
    tasks = [asyncio.create_task(driver.work()), asyncio.create_task(driver.take_orders(orders))]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(driver.close(), CLOSE_SECONDS - 2)


def _dask_settings(config: DaskConfig) -> dict[str, Any]:
    return {
        "distributed.scheduler.allowed-failures": config.worker_losses - 1,
        "distributed.scheduler.worker-ttl": "60s",
        "distributed.comm.timeouts.connect": f"{config.connect_seconds}s",
        "distributed.scheduler.http.routes": ["distributed.http.health"],
        "distributed.worker.http.routes": ["distributed.http.health"],
    }


def main() -> None:
    """Entry of the process."""
    replies = os.dup(1)
    os.dup2(2, 1)  # what libraries print must not mix with replies
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(_live(replies))
    os._exit(0)  # Dask's threads may not hold the process
