"""All configuration of the daemon: one frozen object, read once by ``neurons/miner.py`` and passed down.

Each package declares the settings it needs beside its code; here they are put together. Nothing is read at import,
and no other module looks into the environment. `qcompute.miner.settings_load` fills the object from its sources.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from qcompute.axon.settings import AxonSettings, BlacklistSettings
from qcompute.chain.settings import ChainSettings, SubtensorSettings, WalletSettings
from qcompute.circuits.settings import CircuitSettings, DownloadSettings
from qcompute.cluster.settings import ClusterSettings
from qcompute.connections.settings import ConnectionSettings
from qcompute.jobserver.settings import JobServerSettings
from qcompute.ledger.settings import LedgerSettings
from qcompute.miner.limits import BudgetSettings, MinerSettings
from qcompute.miner.routing import RoutingSettings
from qcompute.miner.watching import AlertSettings, OperatorSettings, TracingSettings
from qcompute.units import ProviderKey

DATA_DIRECTORY: Final = Path("~/.qcompute")
LEDGER_FILE: Final = "ledger.sqlite3"


class LogLevel(StrEnum):
    """How much is logged."""

    TRACE = "trace"
    """Everything, the libraries' own debug lines too."""
    DEBUG = "debug"
    """Our debug lines; libraries from info on."""
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """How a log line looks."""

    TEXT = "text"
    """One line for people."""
    JSON = "json"
    """One JSON object a line."""


class LoggingSettings(BaseModel):
    """What goes to the log. It is written to standard error; pm2 or systemd keep it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    level: LogLevel = LogLevel.INFO
    """How much is logged; ``--logging.info``, ``--logging.debug`` and ``--logging.trace`` set it too. At ``info`` a
    job writes about one line for each state it passes."""

    format: LogFormat = LogFormat.TEXT
    """``text`` for people, ``json`` for log collectors: one object a line with the same fields."""


class NeuronSettings(BaseModel):
    """This miner among others on the same machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(default="", pattern=r"^[A-Za-z0-9._-]*$")
    """Folder of this miner's data below ``~/.qcompute``; empty for that folder itself. Two miners on one machine need
    two names. A miner started under another name does not know the jobs it had under the old one."""

    full_path: Path | None = None
    """Folder of this miner's data, when it is not to lie below ``~/.qcompute``. The ledger is in it."""

    ready_file: Path | None = None
    """A file to write once the daemon serves: process id, ports, hotkey, version, as JSON. For whatever starts it."""

    @property
    def directory(self) -> Path:
        """Where this miner's data lies, with ``~`` expanded."""
        return (self.full_path or DATA_DIRECTORY / self.name).expanduser()


class Settings(BaseModel):
    """Everything an operator can set; each section is documented where it is used."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    netuid: int = Field(default=48, ge=0, le=65535)
    """The subnet: 48 is quantum compute on finney."""

    provider: ProviderKey = Field(default=ProviderKey("aer"), pattern=r"^[A-Za-z_][A-Za-z0-9_.:-]*$")
    """Which adapter runs the jobs: a file name in ``qcompute/miner/providers``, the name of an installed entry point,
    or ``package.module:Class``. The default simulates on this machine, which costs nothing and needs no account.
    ``cluster`` opens all accounts of the ``[cluster]`` section. A name of none of these is a connection's
    (``qcompute connections list``). ``qcompute connections use`` goes before it."""

    providers: dict[str, dict[str, Any]] = Field(default_factory=dict[str, dict[str, Any]])
    """One table for each adapter, checked by the adapter itself, and only when it is the chosen one."""

    cluster: ClusterSettings = Field(default_factory=ClusterSettings)
    connections: ConnectionSettings = Field(default_factory=ConnectionSettings)
    wallet: WalletSettings = Field(default_factory=WalletSettings)
    subtensor: SubtensorSettings = Field(default_factory=SubtensorSettings)
    chain: ChainSettings = Field(default_factory=ChainSettings)
    axon: AxonSettings = Field(default_factory=AxonSettings)
    blacklist: BlacklistSettings = Field(default_factory=BlacklistSettings)
    logging: LoggingSettings = Field(default_factory=LoggingSettings)
    neuron: NeuronSettings = Field(default_factory=NeuronSettings)
    jobserver: JobServerSettings
    ledger: LedgerSettings = Field(default_factory=LedgerSettings)
    circuits: CircuitSettings = Field(default_factory=CircuitSettings)
    download: DownloadSettings = Field(default_factory=DownloadSettings)
    miner: MinerSettings = Field(default_factory=MinerSettings)
    budget: BudgetSettings = Field(default_factory=BudgetSettings)
    routing: RoutingSettings = Field(default_factory=RoutingSettings)
    operator: OperatorSettings = Field(default_factory=OperatorSettings)
    tracing: TracingSettings = Field(default_factory=TracingSettings)
    alerts: AlertSettings = Field(default_factory=AlertSettings)

    @property
    def provider_table(self) -> dict[str, Any]:
        """What the operator set for the chosen adapter."""
        return self.providers.get(self.provider, {})


REFERENCE_VARIABLES: Final = {
    "JOB_SERVER_URL": "jobserver.url",
    "TENSORAUTH_URL": "jobserver.tensorauth_url",
    "API_VERSION": "jobserver.api_version",
    "METRICS_API_URL": "jobserver.metrics_api_url",
    "PROVIDER": "provider",
    "MINER_MAX_INFLIGHT": "miner.max_inflight",
}
"""What the reference miner reads from its ``.env``, and the setting each is here."""

EMPTY_MEANS_OFF: Final = frozenset({"METRICS_API_URL"})
"""Variables of the reference whose empty value is a wish; any other empty one counts as not set."""
