"""Opens the cluster of each mode. Runs in the driver only, which is the one process that imports Dask."""

# distributed ships no complete types
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from contextlib import AsyncExitStack
from typing import Any, Final, assert_never

from distributed import Client, LocalCluster, Scheduler
from distributed.security import Security
from typing_extensions import override

from qcompute.vendor.dask.link import ClusterReport, WorkerReport
from qcompute.vendor.dask.pilots import Pilots, PilotTroubles
from qcompute.vendor.dask.settings import ClusterMode, DaskConfig
from qcompute.vendor.dask.slurm import slurm_pilots
from qcompute.vendor.dask.ssh import ssh_pilots

MEMORY: Final = "MEMORY"
"""The Dask resource that admits circuits to a worker: bytes for its simulations together."""

RESTART_SECONDS: Final = 10.0
"""A worker that died is started again by its nanny; only without any for so long is the cluster said to be down."""

PRIVATE: Final = "127.0.0.1:0"
"""Where Dask's HTTP pages are: by default they would be open to the network."""


class Cluster(ABC):
    """A scheduler with workers. `open` once, then `look` again and again, `close` once."""

    def __init__(self, config: DaskConfig) -> None:
        self.config = config
        self.stack = AsyncExitStack()
        self._had_workers = float("-inf")

    @abstractmethod
    async def open(self) -> Client:
        """Connect. Raises OSError or `PilotTroubles` when it cannot be had."""

    async def look(self, pending: int, workers: list[WorkerReport]) -> ClusterReport:
        """What can be said of it, with so many circuits to do; starts and ends workers where that is its part."""
        del pending
        now = time.monotonic()
        if workers:
            self._had_workers = now
        up = now - self._had_workers < RESTART_SECONDS
        return ClusterReport(
            up=up, note=f"{len(workers)} workers" if up else self.without_workers(), workers=tuple(workers)
        )

    def without_workers(self) -> str:
        """Why it has none."""
        return "no worker is alive"

    async def close(self) -> None:
        """End what was started here."""
        await self.stack.aclose()

    async def client_of(self, address: str | LocalCluster, security: Security | None) -> Client:
        """A client, closed with this cluster."""
        client = Client(
            address,
            asynchronous=True,
            security=security,
            timeout=self.config.connect_seconds,
            set_as_default=False,
            name="qcompute",
        )
        return await self.stack.enter_async_context(client)


class LocalProcesses(Cluster):
    """Processes of this machine behind certificates that exist in memory: nobody else here can join or ask."""

    @override
    async def open(self) -> Client:
        security = Security.temporary()
        cluster = LocalCluster(
            n_workers=self.config.workers,
            threads_per_worker=1,
            host="127.0.0.1",
            protocol="tls://",
            security=security,
            asynchronous=True,
            dashboard_address=PRIVATE,
            worker_dashboard_address=PRIVATE,
            memory_limit=0,  # the children are bounded; the worker itself holds one circuit and its counts
            resources={MEMORY: self.config.worker_memory_bytes},
            local_directory="scratch",
            silence_logs=logging.WARNING,
        )
        await self.stack.enter_async_context(cluster)
        return await self.client_of(cluster, security)


class RunningScheduler(Cluster):
    """A scheduler of the operator's; others may use it too."""

    @override
    async def open(self) -> Client:
        address = self.config.scheduler or ""
        return await self.client_of(address, security_of(self.config) if address.startswith("tls") else None)

    @override
    def without_workers(self) -> str:
        return (
            f"the scheduler {self.config.scheduler} has no worker that says its memory: start them with "
            f"`dask worker --resources {MEMORY}=<bytes>`"
        )


class PilotWorkers(Cluster):
    """A scheduler in this process, and workers that are started elsewhere and call it."""

    def __init__(self, config: DaskConfig) -> None:
        super().__init__(config)
        self._pilots: Pilots | None = None

    @override
    async def open(self) -> Client:
        security = security_of(self.config)
        scheduler = Scheduler(
            host=self.config.listen_host,
            port=self.config.listen_port,
            contact_address=self.config.contact_address,
            protocol="tls://",
            security=security,
            dashboard_address=PRIVATE,
        )
        await self.stack.enter_async_context(scheduler)
        contact = self.config.contact_address or scheduler.address
        if self.config.mode is ClusterMode.SSH:
            self._pilots = ssh_pilots(self.config, contact)
        else:
            self._pilots = slurm_pilots(self.config, contact, security)
        self.stack.push_async_callback(self._pilots.close)
        return await self.client_of(scheduler.address, security)

    @override
    async def look(self, pending: int, workers: list[WorkerReport]) -> ClusterReport:
        if self._pilots is None:
            raise PilotTroubles("it is not open")
        problem = await self._pilots.keep(pending, {worker.name for worker in workers})
        note = self._pilots.note(len(workers))
        if not workers and problem is not None:
            return ClusterReport(up=False, note=problem)
        return ClusterReport(up=bool(workers) or self._pilots.on_demand, note=note, workers=tuple(workers))


def cluster_of(config: DaskConfig) -> Cluster:
    """The cluster of the configured mode, not yet open."""
    match config.mode:
        case ClusterMode.LOCAL:
            return LocalProcesses(config)
        case ClusterMode.SCHEDULER:
            return RunningScheduler(config)
        case ClusterMode.SSH | ClusterMode.SLURM:
            return PilotWorkers(config)
        case _:
            assert_never(config.mode)


async def workers_of(client: Client) -> list[WorkerReport]:
    """The workers that may be given circuits: those that say how much memory they have for them."""
    scheduler: Any = client.scheduler
    identity: dict[str, Any] = await scheduler.identity(n_workers=-1)
    return [
        WorkerReport(name=str(worker["name"]), cores=worker["nthreads"], memory_bytes=int(worker["resources"][MEMORY]))
        for worker in identity["workers"].values()
        if worker["resources"].get(MEMORY)
    ]


def security_of(config: DaskConfig) -> Security | None:
    """The operator's certificates for all three roles; None where none are set."""
    if config.tls_files is None:
        return None
    ca, cert, key = config.tls_files
    pairs = {
        f"tls_{role}_{kind}": file
        for role in ("client", "scheduler", "worker")
        for kind, file in (("cert", cert), ("key", key))
    }
    return Security(tls_ca_file=ca, require_encryption=True, **pairs)
