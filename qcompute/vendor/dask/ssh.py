"""A worker on a host reached by ssh: the system's own client, so the operator's aliases, keys and jumps are used.

Runs in the driver only.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
from collections.abc import Sequence
from typing import Final

from typing_extensions import override

from qcompute.vendor.dask.pilots import Demand, Pilot, Pilots, PilotTroubles, last_line
from qcompute.vendor.dask.settings import DaskConfig

LOOK_SECONDS: Final = 1.0
DEATH_SECONDS: Final = 60
_KEPT_BYTES: Final = 4096


class SshPilot(Pilot):
    """A worker that a host runs for as long as it has a scheduler."""

    def __init__(self, name: str, command: Sequence[str]) -> None:
        super().__init__(name)
        self._command = command
        self._process: asyncio.subprocess.Process | None = None
        self._said = b""
        self._listener: asyncio.Task[None] | None = None

    @override
    async def start(self) -> None:
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            raise PilotTroubles(f"ssh cannot be run: {error.strerror}") from None
        self._listener = asyncio.create_task(self._listen(self._process))

    @override
    async def why_ended(self) -> str | None:
        if self._process is None or self._process.returncode is None:
            return None
        return last_line(self._said) or f"ssh ended with code {self._process.returncode}"

    @override
    async def close(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        if self._listener is not None:
            await self._listener

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        while process.stderr is not None and (chunk := await process.stderr.read(_KEPT_BYTES)):
            self._said = (self._said + chunk)[-_KEPT_BYTES:]


def ssh_command(config: DaskConfig, host: str, command: Sequence[str]) -> list[str]:
    """``command`` on ``host``; never asks for a password, and notices a host that is gone."""
    own = ["-F", str(config.ssh_config.expanduser())] if config.ssh_config is not None else []
    return ["ssh", *own, "-o", "BatchMode=yes", "-o", "ServerAliveInterval=15", "--", host, shlex.join(command)]


def ssh_pilots(config: DaskConfig, scheduler: str) -> Pilots:
    """One worker on each host, always."""

    def make(label: str, name: str) -> Pilot:
        return SshPilot(name, ssh_command(config, label, _worker(config, name, scheduler)))

    count = len(config.hosts)
    demand = Demand(least=count, most=count, cores=config.cores, idle_seconds=config.idle_seconds)
    return Pilots(config.hosts, demand, make, look_seconds=LOOK_SECONDS)


def _worker(config: DaskConfig, name: str, scheduler: str) -> list[str]:
    ca, cert, key = config.tls_files or ("", "", "")
    facts = {
        "--name": name,
        "--nthreads": str(config.cores),
        "--memory-limit": "0",
        "--resources": f"MEMORY={config.worker_memory_bytes}",
        "--death-timeout": str(DEATH_SECONDS),
        "--dashboard-address": "127.0.0.1:0",
        "--preload": "qcompute.vendor.dask.ending",
        "--tls-ca-file": ca,
        "--tls-cert": cert,
        "--tls-key": key,
    }
    options = [word for pair in facts.items() for word in pair]
    return [*shlex.split(config.python), "-m", "distributed.cli.dask_worker", scheduler, "--no-nanny", *options]
