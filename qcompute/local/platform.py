"""The whole platform a miner and a validator need, on loopback: for ``make demo``, tests and trials."""

from __future__ import annotations

from qcompute.local.circuit_host import CircuitHost
from qcompute.local.job_server import JobServer
from qcompute.local.object_store import ObjectStore
from qcompute.local.service import LocalService
from qcompute.local.telemetry_sink import TelemetrySink
from qcompute.local.token_service import TokenService


class LocalPlatform:
    """Token service, job server, object store, telemetry sink and circuit host, each a server of its own."""

    def __init__(self) -> None:
        self.tokens = TokenService()
        self.store = ObjectStore()
        self.circuits = CircuitHost()
        self.jobs = JobServer(self.tokens, self.store, self.circuits)
        self.telemetry = TelemetrySink(self.tokens)

    @property
    def services(self) -> list[LocalService]:
        """All servers."""
        return [self.tokens, self.store, self.circuits, self.jobs, self.telemetry]

    async def start(self) -> None:
        """Start all servers on free ports."""
        for service in self.services:
            await service.start()

    async def stop(self) -> None:
        """Stop all servers."""
        for service in self.services:
            await service.stop()

    def miner_environment(self) -> dict[str, str]:
        """The reference's variables, and the one host a miner may fetch from without TLS."""
        return {
            "JOB_SERVER_URL": self.jobs.url,
            "TENSORAUTH_URL": self.tokens.url,
            "API_VERSION": "1",
            "METRICS_API_URL": self.telemetry.url,
            "QCOMPUTE_DOWNLOAD__ALLOWED_HOSTS": f'["{self.circuits.url.removeprefix("http://")}"]',
        }
