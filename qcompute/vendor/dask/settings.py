"""Settings of the adapter ``dask``: which cluster, how it is reached, what one simulation may use."""

from __future__ import annotations

import ipaddress
import re
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, assert_never
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from qcompute.errors import ConfigError

_WALLTIME: Final = re.compile(r"(?:(\d+)-)?(\d{1,2}):(\d{2}):(\d{2})")
_TLS_SETTINGS: Final = ("tls_ca_file", "tls_cert_file", "tls_key_file")
_WORKERS_OWN_BYTES: Final = 1 << 30
"""Asked for of SLURM beside what simulations may use: the worker itself and its libraries."""


class ClusterMode(StrEnum):
    """Where the workers come from."""

    LOCAL = "local"
    """Processes of this machine."""
    SCHEDULER = "scheduler"
    """A Dask scheduler that somebody else runs."""
    SSH = "ssh"
    """One worker on each of a list of hosts, started through ssh."""
    SLURM = "slurm"
    """One worker in each allocation of a SLURM cluster, asked for when there is work."""


class Profile(StrEnum):
    """A well-known cluster: fills the settings that the operator left out."""

    LUMI = "lumi"
    """LUMI-G of CSC: 7 cores, one GPU die and 56 GiB of a shared node in partition ``small-g``."""


class DaskConfig(BaseModel):
    """Which cluster simulates, and what one simulation may use."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: ClusterMode = ClusterMode.LOCAL
    """Where the workers come from: ``local`` processes, a running ``scheduler``, ``ssh`` hosts, or ``slurm``."""
    profile: Profile | None = None
    """A known SLURM cluster whose figures are taken where a setting is left out: ``lumi``."""
    workers: int = Field(default=1, ge=1)
    """``local``: worker processes; each simulates one circuit at a time."""
    cores: int = Field(default=1, ge=1)
    """``ssh`` and ``slurm``: circuits that one worker simulates at once, a core each."""
    worker_memory_bytes: int = Field(default=4 << 30, ge=1 << 30)
    """Memory of one worker for its simulations together; a circuit waits until its need is free. With ``scheduler``
    each worker says its own: ``dask worker --resources MEMORY=…``."""
    memory_bytes: int = Field(default=4 << 30, ge=1 << 30)
    """Address space of one simulation: 4 GiB hold a statevector of 27 qubits."""
    wall_seconds: float = Field(default=600.0, gt=0)
    """The longest one simulation may take; longer ones fail and say so."""
    cpu_seconds: float = Field(default=600.0, gt=0)
    """CPU time of one simulation."""
    worker_losses: int = Field(default=5, ge=1)
    """A circuit whose worker died this many times fails. With ``scheduler`` that scheduler's own limit counts."""
    connect_seconds: float = Field(default=30.0, gt=0)
    """How long a job waits for the cluster to answer before it is put off."""
    scheduler: str | None = None
    """``scheduler``: its address, ``tls://host:port``; ``tcp://`` on this machine's loopback only."""
    tls_ca_file: Path | None = None
    """Certificate of the authority that signed those of scheduler, workers and this miner. Who holds a certificate of
    it can run any program on the cluster and in this miner's driver."""
    tls_cert_file: Path | None = None
    """This miner's certificate; ``ssh`` and ``slurm`` workers use the same file, under the same path."""
    tls_key_file: Path | None = None
    """The key of ``tls_cert_file``; read by the miner's driver and the workers alone."""
    listen_host: str = "127.0.0.1"
    """``ssh`` and ``slurm``: address of this machine at which its scheduler listens for workers."""
    listen_port: int = Field(default=0, ge=0, le=65535)
    """``ssh`` and ``slurm``: the port for it; 0 takes a free one."""
    contact_address: str | None = None
    """``ssh`` and ``slurm``: how workers reach the scheduler when that is not where it listens: ``tls://host:port``."""
    python: str = "python3"
    """``ssh`` and ``slurm``: the Python of the workers, with the same versions of ``qcompute[dask]``."""
    hosts: tuple[str, ...] = ()
    """``ssh``: a worker is started on each; names of the ssh client's own configuration."""
    ssh_config: Path | None = None
    """Configuration file of the ssh client, instead of the user's."""
    submit_host: str | None = None
    """``slurm``: the host where ``sbatch`` is, by its name in the ssh client's configuration; none: this machine."""
    partition: str | None = None
    """``slurm``: the partition."""
    account: str | None = None
    """``slurm``: the project that pays."""
    walltime: str = "01:00:00"
    """``slurm``: how long an allocation lasts, ``[days-]hours:minutes:seconds``; what runs at its end runs again."""
    gpus_per_node: int = Field(default=0, ge=0)
    """``slurm``: GPUs to ask for."""
    container: str | None = None
    """``slurm``: image in which ``python`` runs, through ``singularity exec``."""
    prologue: tuple[str, ...] = ()
    """``slurm``: lines of shell before the worker starts: ``module load …``."""
    job_extra: tuple[str, ...] = ()
    """``slurm``: further options of ``sbatch``, one each: ``--constraint=…``."""
    jobs_min: int = Field(default=0, ge=0)
    """``slurm``: allocations kept also without work."""
    jobs_max: int = Field(default=1, ge=1)
    """``slurm``: allocations at most."""
    idle_seconds: float = Field(default=300.0, gt=0)
    """``slurm``: without work for so long, all but ``jobs_min`` allocations are given back."""
    environment: dict[str, str] = Field(default_factory=dict[str, str])
    """Variables of the driver, which has none of the miner's own: ``PATH``, ``SSH_AUTH_SOCK``, ``SLURM_CONF`` …"""
    spool: Path = Path("~/.qcompute/dask")
    """Where jobs and results lie, and the driver's log. The daemon sets it to ``dask``
    in the miner's own folder unless told otherwise; two miners must not share one."""
    keep_days: float = Field(default=3.0, gt=0)
    """Days a result is kept after it was fetched, for looking at it by hand; one that was not is kept for 90."""
    price_per_task: float = Field(default=0.0, ge=0)
    """USD charged per job."""
    price_per_shot: float = Field(default=0.0, ge=0)
    """USD charged per shot."""

    @property
    def tls_files(self) -> tuple[str, str, str] | None:
        """Authority, certificate and key; None unless all three are set."""
        if self.tls_ca_file is None or self.tls_cert_file is None or self.tls_key_file is None:
            return None
        ca, cert, key = (file.expanduser() for file in (self.tls_ca_file, self.tls_cert_file, self.tls_key_file))
        return str(ca), str(cert), str(key)

    @property
    def walltime_seconds(self) -> float:
        """The length of an allocation. Raises `ConfigError` when it is not one."""
        match = _WALLTIME.fullmatch(self.walltime)
        if match is None:
            raise ConfigError(f"providers.dask.walltime: {self.walltime!r} is not [days-]hours:minutes:seconds")
        days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
        return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)

    @property
    def allocation_bytes(self) -> int:
        """What is asked of SLURM: for the simulations and for the worker itself."""
        return self.worker_memory_bytes + _WORKERS_OWN_BYTES

    @property
    def capacity(self) -> int | None:
        """Circuits at once when all workers are there; None when only the scheduler can tell."""
        match self.mode:
            case ClusterMode.LOCAL:
                return self.workers
            case ClusterMode.SCHEDULER:
                return None
            case ClusterMode.SSH:
                return self.cores * len(self.hosts)
            case ClusterMode.SLURM:
                return self.cores * self.jobs_max
            case _:
                assert_never(self.mode)


_LUMI: Final[dict[str, Any]] = {
    "mode": ClusterMode.SLURM,
    "submit_host": "lumi",
    "partition": "small-g",
    "gpus_per_node": 1,
    "cores": 7,
    "worker_memory_bytes": 56 << 30,
    "walltime": "04:00:00",
}
"""LUMI-G in its users' guide: a node has 8 GPU dies, 56 cores and 480 GiB that jobs may use, an eighth of it is this.
``standard-g`` gives whole nodes; there set ``partition``, ``gpus_per_node = 8``, ``cores = 56`` and the memory."""


def settled(config: DaskConfig) -> DaskConfig:
    """``config`` with its profile filled in, checked.

    Raises:
        ConfigError: it cannot work, or it would be open to others; the setting to change is named.
    """
    if config.profile is Profile.LUMI:
        missing = {name: value for name, value in _LUMI.items() if name not in config.model_fields_set}
        config = config.model_copy(update=missing)
        _need(config, "account", "the LUMI project that pays, project_…")
    match config.mode:
        case ClusterMode.LOCAL:
            pass
        case ClusterMode.SCHEDULER:
            _check_scheduler(config)
        case ClusterMode.SSH:
            _need(config, "hosts", "hosts to start workers on")
            _check_tls(config)
        case ClusterMode.SLURM:
            _check_slurm(config)
        case _:
            assert_never(config.mode)
    return config


def _check_scheduler(config: DaskConfig) -> None:
    _need(config, "scheduler", "the address of a running scheduler, tls://host:port")
    address = urlsplit(config.scheduler or "")
    if address.scheme not in ("tls", "tcp") or not address.hostname or not address.netloc.partition(":")[2].isdecimal():
        raise ConfigError(f"providers.dask.scheduler: {config.scheduler!r} is not tls://host:port")
    if address.scheme == "tls":
        _check_tls(config)
    elif not _is_loopback(address.hostname):
        raise ConfigError(
            "providers.dask.scheduler: tcp:// leads to another machine unencrypted, and who can listen could run "
            f"programs here; use tls:// and set {', '.join(f'providers.dask.{name}' for name in _TLS_SETTINGS)}"
        )


def _check_slurm(config: DaskConfig) -> None:
    _check_tls(config)
    if config.jobs_min > config.jobs_max:
        raise ConfigError("providers.dask.jobs_min is above providers.dask.jobs_max")
    if config.wall_seconds >= config.walltime_seconds:
        raise ConfigError(
            f"providers.dask.wall_seconds: a simulation of {config.wall_seconds:g} s would outlive every allocation; "
            f"make it less than providers.dask.walltime ({config.walltime})"
        )


def _check_tls(config: DaskConfig) -> None:
    for name in _TLS_SETTINGS:
        file: Path | None = getattr(config, name)
        if file is None:
            raise ConfigError(f"providers.dask.{name} is not set: workers and scheduler speak TLS only")
        if not file.expanduser().is_file():
            raise ConfigError(f"providers.dask.{name}: there is no file {file}")


def _need(config: DaskConfig, name: str, what: str) -> None:
    if not getattr(config, name):
        raise ConfigError(f"providers.dask.{name} is not set: {what}")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
