"""An axon of ours on a port of its own, in front of the real intake on the in-memory ledger."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from qcompute.axon.endpoint import CircuitEndpoint
from qcompute.axon.gate import Gate
from qcompute.axon.server import HttpServer, axon_app, axon_server
from qcompute.axon.settings import AxonSettings, BlacklistSettings
from qcompute.chain.contract import Metagraph, Neuron, Signer
from qcompute.chain.keys import signer_from_uri
from qcompute.ledger.memory import MemoryLedger
from qcompute.miner.budget import Budget, Budgets
from qcompute.miner.intake import JobIntake
from qcompute.miner.job import State
from qcompute.miner.limits import BudgetSettings, MinerSettings
from qcompute.testing.ledger_records import brought_to
from qcompute.units import ExecutionId, Hotkey, ProviderKey, utc_now

DATA = Path(__file__).parent / "data"


@dataclass
class Requests:
    """Hears what telemetry would."""

    seen: list[str] = field(default_factory=list[str])

    def received(self, execution_id: str) -> None:
        self.seen.append(execution_id)


@dataclass
class Axon:
    """A running axon; ``now_ns`` may be set back to when a request was captured."""

    signer: Signer
    ledger: MemoryLedger
    server: HttpServer
    requests: Requests
    neurons: dict[Hotkey, Neuron]
    known: bool = True
    now_ns: int | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    def metagraph(self) -> Metagraph | None:
        return Metagraph(48, 1, utc_now() - timedelta(seconds=1), self.neurons) if self.known else None

    async def has(self, execution_id: str) -> bool:
        return await self.ledger.get(ExecutionId(execution_id)) is not None


@asynccontextmanager
async def running_axon(
    signer: Signer | None = None,
    *,
    our_hotkey: Hotkey | None = None,
    settings: dict[str, Any] | None = None,
    blacklist: dict[str, Any] | None = None,
    miner: dict[str, Any] | None = None,
) -> AsyncGenerator[Axon, None]:
    """An axon with one permitted validator, ``//wire-validator``; ``our_hotkey`` stands in for the signer's."""
    signer = signer or signer_from_uri("//wire-miner")
    validator = signer_from_uri("//wire-validator").hotkey
    ledger, requests = MemoryLedger(), Requests()
    limits = AxonSettings.model_validate({"ip": "127.0.0.1", "port": 0} | (settings or {}))
    rules = BlacklistSettings.model_validate(blacklist or {})
    budgets = Budgets([Budget(ProviderKey("mock"), BudgetSettings(), clock=utc_now)])
    intake = JobIntake(ledger, requests, MinerSettings.model_validate(miner or {}), budgets=budgets, clock=utc_now)
    neurons = {validator: Neuron(7, validator, validator_permit=True, stake=5000.0)}
    box: list[Axon] = []
    endpoint = CircuitEndpoint(
        limits,
        Gate(limits, rules, lambda: box[0].metagraph()),  # noqa: PLW0108 - the box is still empty
        intake,
        our_hotkey or signer.hotkey,
        now_ns=lambda: box[0].now_ns or int(utc_now().timestamp() * 1e9),
    )

    async def details() -> dict[str, Any]:
        return {"accepting_jobs": True}

    server = axon_server(limits, axon_app(endpoint, details))
    axon = Axon(signer, ledger, server, requests, neurons)
    box.append(axon)
    await server.start()
    try:
        yield axon
    finally:
        await server.stop()
        await ledger.close()


def captured() -> list[dict[str, Any]]:
    """Requests of real dendrites 9.9.0 and 10.5.0, as they were on the wire."""
    return json.loads((DATA / "captured.json").read_text())["requests"]


async def closed_job(axon: Axon, execution_id: str) -> None:
    """Put a finished job into the ledger."""
    await brought_to(axon.ledger, ExecutionId(execution_id), State.CLOSED)
