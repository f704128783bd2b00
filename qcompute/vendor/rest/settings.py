"""Settings of ``PROVIDER=rest``: the endpoints, what they can do, and how they are talked to."""

from __future__ import annotations

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from qcompute.circuits.target import DEFAULT_OPTIMIZATION_LEVEL
from qcompute.connections.credentials import Secret
from qcompute.vendor.prices import Prices


def _urls(given: object) -> object:
    return [url.strip() for url in given.split(",")] if isinstance(given, str) else given


def _base_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise ValueError("a base URL is http(s)://host[:port][/path]") from None
    if not usable or parts.query or parts.fragment:
        raise ValueError("a base URL is http(s)://host[:port][/path]")
    if "@" in parts.netloc:
        raise ValueError("a base URL holds no password: use `token`")
    return url.rstrip("/")


Url = Annotated[str, AfterValidator(_base_url)]
Pairs = tuple[tuple[int, int], ...]


class RestNode(BaseModel):
    """One endpoint with a name. What is not said here holds as said for all."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Url
    """Its base URL."""
    token: Secret | None = None
    """Name of its own bearer token."""
    num_qubits: int | None = Field(default=None, ge=1)
    """The widest circuit it takes."""
    device_type: Literal["QPU", "SIMULATOR"] | None = None
    """What it is."""
    basis_gates: tuple[str, ...] | None = None
    """Its gates."""
    coupling_map: Pairs | None = None
    """Its couplings."""
    prices: Prices | None = None
    """Its prices, in the currency of all the others."""


class RestConfig(BaseModel):
    """The endpoints, and how to talk to them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_urls: Annotated[tuple[Url, ...], BeforeValidator(_urls)] = ()
    """One device each, ``rest_1``, ``rest_2`` … in this order. Names that stay when one is taken out need ``nodes``."""
    nodes: dict[Annotated[str, Field(pattern="^[a-z][a-z0-9_-]{0,63}$")], RestNode] = Field(
        default_factory=dict[str, RestNode]
    )
    """Endpoints by device id, where they differ from one another."""
    token: Secret | None = None
    """Name of the secret that is sent as ``Authorization: Bearer``; nothing is sent without. Over ``http://`` everybody
    on the way can read it."""
    num_qubits: int = Field(default=30, ge=1)
    """The widest circuit an endpoint takes; wider ones are refused before anything is sent."""
    device_type: Literal["QPU", "SIMULATOR"] = "SIMULATOR"
    """``QPU`` only where a quantum computer runs every circuit: validators are told this word."""
    basis_gates: tuple[str, ...] | None = None
    """Gates circuits are compiled to, in Qiskit's names. All that the dialect can write when not set."""
    coupling_map: Pairs | None = None
    """Directed pairs of qubits that two-qubit gates may use. All when not set."""
    can_reset: bool = False
    """Whether circuits may reset qubits; refused otherwise."""
    can_measure_mid_circuit: bool = False
    """Whether circuits may go on after a measurement; refused otherwise."""
    can_branch: bool = False
    """Whether circuits may have conditions; refused otherwise."""
    max_shots: int | None = Field(default=None, ge=1)
    """More shots than this are refused before anything is sent."""
    dialect: Literal["openqasm2", "openqasm3"] = "openqasm3"
    """What circuits are sent as."""
    optimization_level: int = Field(default=DEFAULT_OPTIMIZATION_LEVEL, ge=0, le=3)
    """Of Qiskit's transpiler, for jobs that do not say one."""
    bit_order: Literal["little", "big"] = "little"
    """``little``: bit 0 is rightmost in a key and the register declared last leftmost, as in Qiskit. ``big``: the whole
    key is the other way round. The wrong one gives wrong results without an error: try it with one bit set."""
    prices: Prices | None = None
    """What a job costs where an endpoint's answer does not say it. Unknown when not set."""
    idempotency: Literal["token", "none"] = "none"
    """``token`` only if the endpoints honour ``Idempotency-Key``: a second POST with the same one must never run, and
    must be answered like the first. A false promise here pays twice."""
    keeps_jobs: bool = False
    """Whether ``GET /jobs/{id}`` gives results later, so that none has to fit into ``max_result_bytes``."""
    run_path: str = Field(default="/run-circuit", pattern="^/")
    """Where circuits are posted, below the base URL."""
    jobs_path: str = Field(default="/jobs", pattern="^/")
    """Where jobs are looked up."""
    health_path: str = Field(default="/health", pattern="^(/.*)?$")
    """Asked with GET whether an endpoint is up; any 2xx says so. Empty: never asked, and taken to be up."""
    health_seconds: float = Field(default=5.0, ge=0)
    """For so long an answer about health holds."""
    circuit_field: str = Field(default="qasm", min_length=1)
    """Field of the request that holds the circuit's text."""
    shots_field: str = Field(default="shots", min_length=1)
    """Field of the request that holds the number of shots."""
    seed_field: str | None = None
    """Field for the job's seed, where an endpoint takes one."""
    body: dict[str, str | int | float | bool] = Field(default_factory=dict[str, str | int | float | bool])
    """Further fields sent with every circuit."""
    counts_field: str = Field(default="counts", min_length=1)
    """Where the answer has its counts, at the top or below ``result``; dots lead further down."""
    connect_seconds: float = Field(default=10.0, gt=0)
    """The longest wait for a connection."""
    read_seconds: float = Field(default=30.0, gt=0)
    """The longest wait for an answer to a free call."""
    submit_seconds: float = Field(default=600.0, gt=0)
    """The longest wait for the answer to a circuit. Longer than the longest run: whoever gives up earlier does not know
    whether it was run, and the job is held. Each waiting circuit takes one of ``miner.provider_threads``."""
    max_result_bytes: int = Field(default=8 << 20, ge=1 << 10)
    """What one result may take in the ledger. Jobs whose result might be larger are refused before anything is sent,
    unless ``keeps_jobs``."""
    max_running_jobs: int | None = Field(default=None, ge=1)
    """Jobs that run here at once, where you know it: a job whose shots are split gets at most so many parts. It keeps
    nothing back: a vendor that has enough says so, and jobs wait."""
    poll_interval_seconds: float = Field(default=2.0, gt=0)
    """How often a young job is asked for."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        nodes = self.all_nodes()
        if not nodes:
            raise ValueError("name at least one endpoint, in base_urls or in nodes.<name>.url")
        if len(nodes) < len(self.base_urls) + len(self.nodes):
            raise ValueError("a node is named like one of base_urls (rest_1, rest_2 …)")
        if len({node.url for node in nodes.values()}) < len(nodes):
            raise ValueError("an endpoint is named twice")
        if len({node.prices.currency for node in nodes.values() if node.prices}) > 1:
            raise ValueError("all prices must be in one currency")
        return self

    def all_nodes(self) -> dict[str, RestNode]:
        """Every endpoint by its device id, each with what holds for it."""
        named = {f"rest_{number}": RestNode(url=url) for number, url in enumerate(self.base_urls, 1)} | self.nodes
        common = {name: getattr(self, name) for name in RestNode.model_fields if name != "url"}
        return {
            name: node.model_copy(update={key: value for key, value in common.items() if getattr(node, key) is None})
            for name, node in named.items()
        }
