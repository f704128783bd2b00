"""The daemon's parts, made from the settings and wired together; none of them runs yet."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from qcompute.axon.endpoint import CircuitEndpoint
from qcompute.axon.gate import Gate
from qcompute.axon.server import HttpServer, axon_app, axon_server
from qcompute.axon.visitors import Visitors
from qcompute.chain import open_chain
from qcompute.chain.contract import AxonEndpoint, Chain, Signer
from qcompute.chain.keys import load_signer
from qcompute.chain.watch import AxonPublisher, MetagraphWatch
from qcompute.circuits.compiler import CircuitCompiler
from qcompute.circuits.download import GuardedDownloader
from qcompute.circuits.screen import screen
from qcompute.errors import ConfigError
from qcompute.jobserver import open_job_server
from qcompute.jobserver.client import HttpJobServer
from qcompute.jobserver.telemetry import Telemetry
from qcompute.ledger import open_ledger
from qcompute.ledger.claims import Tenure
from qcompute.ledger.contract import Ledger
from qcompute.miner.account import Account
from qcompute.miner.answers import answers_of
from qcompute.miner.circuit_cache import CircuitCache
from qcompute.miner.clock import ForwardClock
from qcompute.miner.commands import CommandSocket, OperatorCommands, socket_file
from qcompute.miner.duty import ROAD_LANE, Duty, Shift
from qcompute.miner.fetch import FetchStage
from qcompute.miner.fleet import Fleet
from qcompute.miner.heartbeat import Heartbeat
from qcompute.miner.intake import JobIntake
from qcompute.miner.opening import SHARED, open_accounts
from qcompute.miner.outbox import OutboxStage
from qcompute.miner.own_jobs import OwnJobs
from qcompute.miner.purge import Purge
from qcompute.miner.road import Road
from qcompute.miner.router import RouterStage
from qcompute.miner.runner import HeldStage, WaitStage
from qcompute.miner.settings import Settings
from qcompute.miner.shared_rates import SharedRates
from qcompute.miner.split import SplitStage
from qcompute.miner.strays import Strays
from qcompute.miner.submit import SubmitStage
from qcompute.miner.survey import Survey
from qcompute.miner.switch import Switch
from qcompute.miner.telemetry import RoadTelemetry
from qcompute.units import utc_now

_log = logging.getLogger(__name__)

CLOSE_SECONDS: Final = 3.0
"""How long a provider's adapter may take to close; what it leaves behind is found again at the next start."""

SUBMITS_AT_ONCE: Final = 256
"""Rows that may be submitted or wait for the account's turn; the calls themselves are bounded by its threads."""

ROUTES_AT_ONCE: Final = 128
"""Rows routed at once; parsing is bounded by the sandbox, look-ups by the account's threads. Each holds its text."""


@dataclass(slots=True)
class Parts:
    """Everything the daemon runs, in the order of the road."""

    signer: Signer
    ledger: Ledger
    chain: Chain
    watch: MetagraphWatch
    fleet: Fleet
    road: Road
    circuits: CircuitCache
    downloader: GuardedDownloader
    job_server: HttpJobServer
    telemetry: Telemetry
    intake: JobIntake
    axon: HttpServer
    visitors: Visitors
    rates: SharedRates
    commands: CommandSocket
    duties: list[Duty]
    """The road's first, then those of the accounts that are open at the time."""
    switch: Switch
    heartbeat: Heartbeat

    async def close(self) -> None:
        """Close all parts, those that others use last."""
        await self.fleet.close(limit_seconds=CLOSE_SECONDS)
        await self.circuits.close()
        await self.downloader.close()
        await self.job_server.close()
        await self.chain.close()
        await self.ledger.close()


async def build(settings: Settings) -> Parts:
    """Make the parts. Opens the wallet, the ledger and the adapter; reaches for no network.

    Raises:
        ConfigError: a setting cannot work; the text names it.
    """
    signer = load_signer(settings.wallet)
    opener, first, fleet = open_accounts(settings)
    if first == opener.home:
        try:
            fleet.check_fallback(settings.routing.fallback)
        except ConfigError:
            await fleet.close(limit_seconds=CLOSE_SECONDS)
            raise
    settings.neuron.directory.mkdir(parents=True, exist_ok=True)
    ledger = open_ledger(settings.ledger, shared=True)
    chain = open_chain(settings.netuid, settings.subtensor, settings.wallet, settings.chain)
    watch = MetagraphWatch(
        chain,
        refresh_seconds=settings.chain.refresh_seconds,
        cache_file=settings.chain.cache_file or settings.ledger.file.with_name("metagraph.json"),
    )
    job_server = open_job_server(settings.jobserver, signer)
    telemetry = Telemetry(
        settings.jobserver,
        job_server.tokens,
        network=settings.subtensor.network,
        miner_hotkey=signer.hotkey,
        miner_uid=partial(_uid, watch, signer),
    )
    points = RoadTelemetry(telemetry)
    await fleet.budgets.load(ledger)
    intake = JobIntake(ledger, points, settings.miner, budgets=fleet.budgets, clock=utc_now)
    circuits = CircuitCache(
        ledger,
        CircuitCompiler(settings.circuits, processes=settings.miner.compile_processes),
        processes=settings.miner.compile_processes,
    )
    downloader = GuardedDownloader(settings.download, max_bytes=settings.circuits.max_source_bytes)
    road = Road(ledger, signer, points, budgets=fleet.budgets, clock=ForwardClock())
    heartbeat = Heartbeat(
        fleet.offered,
        job_server,
        ledger,
        settings.miner,
        may_serve=lambda: watch.current is not None and intake.is_open,
    )
    gate = Gate(settings.axon, settings.blacklist, lambda: watch.current)
    endpoint = CircuitEndpoint(settings.axon, gate, intake, signer.hotkey)
    publisher = AxonPublisher(chain, watch, signer.hotkey, published_endpoint(settings))
    shifts = Shifts(
        settings, road, fleet, circuits, downloader, job_server, partial(asyncio.to_thread, opener.accounts)
    )
    duties: list[Duty] = []
    switch = Switch(
        road,
        fleet,
        opener,
        duties,
        first=first,
        begin=shifts.account,
        on_change=heartbeat.look_now,
        refusal=None if settings.ledger.url is None else SHARED,
    )
    whole = partial(shifts.road, heartbeat=heartbeat, publisher=publisher, known=switch.known)
    duties.insert(0, Duty(ledger.claims, ROAD_LANE, whole))
    return Parts(
        signer=signer,
        ledger=ledger,
        chain=chain,
        watch=watch,
        fleet=fleet,
        road=road,
        circuits=circuits,
        downloader=downloader,
        job_server=job_server,
        telemetry=telemetry,
        intake=intake,
        axon=_axon(settings, endpoint, watch, intake),
        visitors=endpoint.visitors,
        rates=SharedRates(gate, ledger),
        commands=CommandSocket(
            socket_file(settings.ledger.file),
            OperatorCommands(road, fleet.accounts[0].key),
            answers_of(fleet),
            OwnJobs(settings, signer.hotkey, intake, ledger, Survey(fleet, circuits), circuits),
            switch=switch,
        ),
        duties=duties,
        switch=switch,
        heartbeat=heartbeat,
    )


def published_endpoint(settings: Settings) -> AxonEndpoint | None:
    """What goes on the chain; None when there is no chain to tell or no address that could be told."""
    axon = settings.axon
    if settings.chain.metagraph_file is not None:
        return None
    if axon.external_ip is None and axon.ip in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        _log.warning(
            "this miner's address is not published: set --axon.external_ip to the address validators reach it at",
            extra={"action": "publish"},
        )
        return None
    return AxonEndpoint(axon.external_ip or axon.ip, axon.external_port or axon.port)


def _uid(watch: MetagraphWatch, signer: Signer) -> int | None:
    neuron = watch.current.neurons.get(signer.hotkey) if watch.current is not None else None
    return None if neuron is None else neuron.uid


class Shifts:
    """Makes the parts of each tenure: new ones every time, so nothing is remembered of rows another process had."""

    def __init__(  # noqa: PLR0917 - every part a stage uses, once
        self,
        settings: Settings,
        road: Road,
        fleet: Fleet,
        circuits: CircuitCache,
        downloader: GuardedDownloader,
        job_server: HttpJobServer,
        accounts: Callable[[], Awaitable[AbstractSet[str]]],
    ) -> None:
        self._accounts = accounts
        self._settings = settings
        self._road = road
        self._fleet = fleet
        self._circuits = circuits
        self._downloader = downloader
        self._job_server = job_server

    async def road(
        self,
        tenure: Tenure,
        *,
        heartbeat: Heartbeat,
        publisher: AxonPublisher,
        known: Callable[[], Awaitable[AbstractSet[str]]],
    ) -> Shift:
        """What belongs to no account."""
        miner = self._settings.miner
        road = self._road.under(tenure)
        stages = [
            FetchStage(
                road,
                self._downloader,
                partial(screen, settings=self._settings.circuits),
                concurrency=miner.fetch_concurrency,
                deadline_seconds=miner.fetch_deadline_seconds,
            ),
            RouterStage(road, self._fleet, self._circuits, self._settings.routing, concurrency=ROUTES_AT_ONCE),
            HeldStage(road),
            SplitStage(road, concurrency=ROUTES_AT_ONCE),
            OutboxStage(
                road,
                self._job_server,
                concurrency=miner.delivery_concurrency,
                longest_pause_seconds=miner.delivery_backoff_max_seconds,
            ),
        ]
        strays = Strays(road, known, held_seconds=miner.held_deadline_seconds)
        purge = Purge(road.ledger, retention_days=miner.retention_days, clock=utc_now)
        return Shift(
            stages,
            [
                ("strays", strays.run),
                ("purge", purge.run),
                ("heartbeat", heartbeat.run),
                ("axon publisher", publisher.run),
            ],
        )

    async def account(self, account: Account, tenure: Tenure) -> Shift:
        """What one account's jobs need, from the paid call to the result."""
        miner = self._settings.miner
        road = self._road.under(tenure)
        # Another process may have spent of it since.
        await self._fleet.budgets.of(account.key).load(road.ledger)
        return Shift(
            [
                SubmitStage(
                    road,
                    account,
                    self._circuits,
                    concurrency=SUBMITS_AT_ONCE,
                    held_seconds=miner.held_deadline_seconds,
                    second_look_seconds=miner.second_look_seconds,
                    max_unavailable_seconds=self._settings.routing.max_unavailable_seconds,
                    others=self._accounts,
                    split_from=self._settings.routing.split_shots_from,
                    dry_run=miner.dry_run,
                ),
                WaitStage(
                    road,
                    account,
                    self._circuits,
                    held_seconds=miner.held_deadline_seconds,
                    unknown_seconds=miner.unknown_status_deadline_seconds,
                ),
            ]
        )


def _axon(settings: Settings, endpoint: CircuitEndpoint, watch: MetagraphWatch, intake: JobIntake) -> HttpServer:
    async def details() -> dict[str, Any]:
        return {"accepting_jobs": intake.is_open, "metagraph_known": watch.current is not None}

    return axon_server(settings.axon, axon_app(endpoint, details))
