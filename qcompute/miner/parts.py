"""The daemon's parts, made from the settings and wired together; none of them runs yet."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from qcompute import __version__
from qcompute.axon.endpoint import CircuitEndpoint
from qcompute.axon.gate import Gate
from qcompute.axon.server import HttpServer, axon_app, axon_server
from qcompute.chain import open_chain
from qcompute.chain.contract import AxonEndpoint, Chain, Signer
from qcompute.chain.keys import load_signer
from qcompute.chain.watch import AxonPublisher, MetagraphWatch
from qcompute.circuits.compiler import CircuitCompiler
from qcompute.circuits.download import GuardedDownloader
from qcompute.circuits.screen import screen
from qcompute.cluster.accounts import AccountPlan, open_cluster
from qcompute.errors import ConfigError
from qcompute.jobserver import open_job_server
from qcompute.jobserver.client import HttpJobServer
from qcompute.jobserver.telemetry import Telemetry
from qcompute.ledger import open_ledger
from qcompute.ledger.claims import Tenure
from qcompute.ledger.contract import Ledger
from qcompute.miner.account import Account
from qcompute.miner.budget import Budget, Budgets
from qcompute.miner.circuit_cache import CircuitCache
from qcompute.miner.clock import ForwardClock
from qcompute.miner.commands import CommandSocket, OperatorCommands, socket_file
from qcompute.miner.duty import ROAD_LANE, Duty, Shift
from qcompute.miner.fetch import FetchStage
from qcompute.miner.fleet import Fleet
from qcompute.miner.heartbeat import Heartbeat
from qcompute.miner.intake import JobIntake
from qcompute.miner.job import SPLIT_LANE
from qcompute.miner.limits import BudgetSettings
from qcompute.miner.operator import operator_app
from qcompute.miner.outbox import OutboxStage
from qcompute.miner.providers.registry import open_adapter
from qcompute.miner.purge import Purge
from qcompute.miner.road import Road
from qcompute.miner.router import RouterStage
from qcompute.miner.runner import HeldStage, WaitStage
from qcompute.miner.settings import Settings
from qcompute.miner.shared_rates import SharedRates
from qcompute.miner.split import SplitStage
from qcompute.miner.strays import Strays
from qcompute.miner.submit import SubmitStage
from qcompute.miner.telemetry import RoadTelemetry
from qcompute.units import ProviderKey, utc_now

_log = logging.getLogger(__name__)

CLOSE_SECONDS: Final = 3.0
"""How long a provider's adapter may take to close; what it leaves behind is found again at the next start."""

SUBMITS_AT_ONCE: Final = 256
"""Rows that may be submitted or wait for the account's turn; the calls themselves are bounded by its threads."""

CLUSTER: Final = "cluster"
"""The provider that is no adapter: all accounts of ``[cluster]``."""

ROUTES_AT_ONCE: Final = 16
"""Rows routed at once; parsing is bounded by the sandbox, look-ups by the account's threads."""


@dataclass(slots=True)
class Parts:
    """Everything the daemon runs, in the order of the road."""

    signer: Signer
    ledger: Ledger
    chain: Chain
    watch: MetagraphWatch
    fleet: Fleet
    circuits: CircuitCache
    downloader: GuardedDownloader
    job_server: HttpJobServer
    telemetry: Telemetry
    intake: JobIntake
    axon: HttpServer
    rates: SharedRates
    operator: HttpServer
    commands: CommandSocket
    duties: list[Duty]
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
    fleet = _fleet(settings)
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
        fleet.accounts,
        job_server,
        ledger,
        settings.miner,
        may_serve=lambda: watch.current is not None and intake.is_open,
    )
    gate = Gate(settings.axon, settings.blacklist, lambda: watch.current)
    publisher = AxonPublisher(chain, watch, signer.hotkey, published_endpoint(settings))
    shifts = Shifts(settings, road, fleet, circuits, downloader, job_server)
    duties = [
        Duty(ledger.claims, ROAD_LANE, partial(shifts.road, heartbeat=heartbeat, publisher=publisher)),
        *(Duty(ledger.claims, account.key, partial(shifts.account, account)) for account in fleet.accounts),
    ]
    return Parts(
        signer=signer,
        ledger=ledger,
        chain=chain,
        watch=watch,
        fleet=fleet,
        circuits=circuits,
        downloader=downloader,
        job_server=job_server,
        telemetry=telemetry,
        intake=intake,
        axon=_axon(settings, gate, watch, intake, signer),
        rates=SharedRates(gate, ledger),
        operator=_operator(settings, ledger, watch, heartbeat, fleet, duties),
        commands=CommandSocket(socket_file(settings.ledger.file), OperatorCommands(road, fleet.accounts[0].key)),
        duties=duties,
        heartbeat=heartbeat,
    )


def _fleet(settings: Settings) -> Fleet:
    # Adapters are made on the main thread: some SDKs crash when another one imports them first.
    threads = settings.miner.provider_threads
    if settings.provider != CLUSTER:
        name = ProviderKey(settings.provider)
        adapter = open_adapter(name, settings.provider_table, directory=settings.neuron.directory)
        budgets = Budgets([Budget(name, settings.budget, clock=utc_now)])
        return Fleet([Account(name, adapter, threads=threads)], budgets)
    if own := ", ".join(f"budget.{name}" for name in _changed(settings.budget)):
        raise ConfigError(f"{own}: with PROVIDER=cluster each account has its own budget: write [cluster.nodes.budget]")
    plans = open_cluster(settings.cluster, settings.neuron.directory)
    accounts = [
        Account(
            plan.name,
            plan.adapter,
            threads=threads,
            tags=_tags(plan),
            health=plan.health_check,
            vendor=plan.vendor,
        )
        for plan in plans
    ]
    return Fleet(accounts, Budgets(Budget(plan.name, plan.budget, clock=utc_now) for plan in plans))


def _changed(budget: BudgetSettings) -> list[str]:
    defaults = BudgetSettings()
    return [name for name in BudgetSettings.model_fields if getattr(budget, name) != getattr(defaults, name)]


def _tags(plan: AccountPlan) -> dict[str, set[str]] | None:
    """What the operator calls each device: its nodes' names and tags; None when the vendor says which devices are."""
    words: dict[str, set[str]] = {}
    for node in plan.nodes:
        words.setdefault(node.device_id, set()).update((node.node_id, *node.tags))
    return words or None


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
    ) -> None:
        self._settings = settings
        self._road = road
        self._fleet = fleet
        self._circuits = circuits
        self._downloader = downloader
        self._job_server = job_server

    async def road(self, tenure: Tenure, *, heartbeat: Heartbeat, publisher: AxonPublisher) -> Shift:
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
        strays = Strays(road, self._fleet.names | {SPLIT_LANE}, held_seconds=miner.held_deadline_seconds)
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
                    others=self._fleet.names - {account.key},
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


def _axon(settings: Settings, gate: Gate, watch: MetagraphWatch, intake: JobIntake, signer: Signer) -> HttpServer:
    endpoint = CircuitEndpoint(settings.axon, gate, intake, signer.hotkey)

    async def details() -> dict[str, Any]:
        return {"accepting_jobs": intake.is_open, "metagraph_known": watch.current is not None}

    return axon_server(settings.axon, axon_app(endpoint, details))


def _account_document(account: Account) -> dict[str, Any]:
    return {
        "name": account.key,
        "vendor": account.vendor,
        "offline_because": account.offline_because,
        "devices": list(account.device_names),
    }


def _operator(  # noqa: PLR0917 - everything the page tells of
    settings: Settings,
    ledger: Ledger,
    watch: MetagraphWatch,
    heartbeat: Heartbeat,
    fleet: Fleet,
    duties: list[Duty],
) -> HttpServer:
    started = time.monotonic()

    async def health() -> dict[str, Any]:
        counts = await ledger.count_by_state()
        return {
            "status": "ok",
            "version": __version__,
            "uptime_seconds": int(time.monotonic() - started),
            "jobs": {state.value: count for state, count in counts.items()},
            "metagraph_age_seconds": watch.age_seconds,
            "chain_failing": watch.is_failing,
            "provider": settings.provider,
            "works_on": {duty.lane: duty.is_ours for duty in duties},
            "dry_run": settings.miner.dry_run,
            "accounts": [_account_document(account) for account in fleet.accounts],
            "budgets": fleet.budgets.documents(),
            "devices": [report.device.device_id for report in heartbeat.devices],
        }

    return HttpServer(
        "operator port",
        operator_app(ledger, health),
        host=settings.operator.host,
        port=settings.operator.port,
        setting="--operator.host and --operator.port",
    )
