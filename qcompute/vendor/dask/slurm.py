"""A worker in an allocation of SLURM. The script and its options are dask-jobqueue's; see `pilots` for the rest.

SLURM schedules about one small job a second, so an allocation is kept and fed circuits. Runs in the driver only.
"""

# dask_jobqueue ships no types
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportUntypedBaseClass=false

from __future__ import annotations

import contextlib
import re
import shlex
from functools import partial
from pathlib import Path
from typing import Any, Final

from dask_jobqueue.slurm import SLURMJob
from distributed.security import Security
from typing_extensions import override

from qcompute.vendor.dask.pilots import Demand, Pilot, Pilots, PilotTroubles, call
from qcompute.vendor.dask.settings import DaskConfig, Profile
from qcompute.vendor.dask.ssh import ssh_command

DEATH_SECONDS: Final = 60
"""A worker that cannot reach its scheduler for so long ends, and with it its allocation."""
LOOK_SECONDS: Final = 5.0
_LAST_SECONDS: Final = 60
"""So long before the end of an allocation its worker hands back what it has not begun."""
_JOB_NUMBER: Final = re.compile(r"Submitted batch job (\d+)")
_OVER: Final = frozenset(
    {"BOOT_FAIL", "CANCELLED", "COMPLETED", "COMPLETING", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT"}
)


class SlurmPilot(Pilot):
    """An allocation with one worker in it."""

    def __init__(self, config: DaskConfig, name: str, script: str) -> None:
        super().__init__(name)
        self._config = config
        self._script = script
        self._job_number: str | None = None

    @override
    async def start(self) -> None:
        printed = await self._slurm("sbatch", text=self._script)
        match = _JOB_NUMBER.search(printed)
        if match is None:
            raise PilotTroubles("sbatch said nothing of a batch job it submitted")
        self._job_number = match[1]

    @override
    async def why_ended(self) -> str | None:
        listed = await self._slurm("squeue", "--me", "--noheader", "--format=%i %T")
        states = dict(line.split(maxsplit=1) for line in listed.splitlines() if line.strip())
        state = states.get(self._job_number or "", "COMPLETED").strip()
        if state not in _OVER:
            return None
        return f"allocation {self._job_number} ended ({state.lower()}) before its worker had called; see its output"

    @override
    async def close(self) -> None:
        if self._job_number is not None:
            with contextlib.suppress(PilotTroubles):  # it is over, or ends when its worker misses the scheduler
                await self._slurm("scancel", self._job_number)

    async def _slurm(self, *command: str, text: str = "") -> str:
        host = self._config.submit_host
        return await call(ssh_command(self._config, host, command) if host else command, text)


def slurm_pilots(config: DaskConfig, scheduler: str, security: Security | None) -> Pilots:
    """Allocations, asked for when there is work."""

    def make(label: str, name: str) -> Pilot:
        del label
        return SlurmPilot(config, name, script_of(config, name, scheduler, security))

    demand = Demand(config.jobs_min, config.jobs_max, config.cores, config.idle_seconds)
    return Pilots([f"slurm-{n}" for n in range(config.jobs_max)], demand, make, look_seconds=LOOK_SECONDS)


def script_of(config: DaskConfig, name: str, scheduler: str, security: Security | None) -> str:
    """The batch script of one pilot."""
    job: Any = partial(SLURMJob, scheduler, name=name, config_name="slurm")(
        cores=config.cores,
        memory=f"{config.allocation_bytes}B",
        processes=1,
        nanny=False,  # it would start a new worker where the allocation should end
        security=security,
        death_timeout=DEATH_SECONDS,
        python=_python(config),
        queue=config.partition,
        account=config.account,
        walltime=config.walltime,
        job_name="qcompute",
        worker_extra_args=_worker_arguments(config),
        job_extra_directives=_directives(config),
        job_script_prologue=list(config.prologue),
    )
    return job.job_script()


def _worker_arguments(config: DaskConfig) -> list[str]:
    lifetime = config.walltime_seconds - _LAST_SECONDS
    return [
        "--resources",
        f"MEMORY={config.worker_memory_bytes}",
        "--dashboard-address",
        "127.0.0.1:0",
        "--preload",
        "qcompute.vendor.dask.ending",
        *(["--lifetime", f"{lifetime:.0f}s"] if lifetime > _LAST_SECONDS else []),
    ]


def _directives(config: DaskConfig) -> list[str]:
    output = Path.cwd() / "slurm.log" if config.submit_host is None else "qcompute-slurm.log"  # there: the home folder
    directives = ["--no-requeue", "--open-mode=append", f"--output={output}"]
    if config.gpus_per_node:
        directives.append(f"--gpus-per-node={config.gpus_per_node}")
    return [*directives, *config.job_extra]


def _python(config: DaskConfig) -> str:
    if config.container is None:
        return config.python
    gpus = ("--rocm " if config.profile is Profile.LUMI else "--nv ") if config.gpus_per_node else ""
    return f"singularity exec {gpus}{shlex.quote(config.container)} {config.python}"
