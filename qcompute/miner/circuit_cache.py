"""Parsed, translated and prepared circuits of jobs on the road, so that router and runner do that only once.

Only a cache: after a restart the circuit is compiled again from the stored text.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Protocol

from qcompute.circuits.program import CompiledCircuit
from qcompute.circuits.target import Target
from qcompute.errors import Bug
from qcompute.ledger.contract import Ledger
from qcompute.miner.job import Job
from qcompute.miner.kept import Kept
from qcompute.miner.providers.base import Prepared
from qcompute.units import ExecutionId, Money

_Key = tuple[str, Target | None, int | None]
"""Hash of the text; for a translation also the target and the level."""

_MAX_ENTRIES: Final = 256
_MAX_READY: Final = 1024
_MAX_BYTES: Final = 16 << 20
"""Of circuit text kept; jobs are small, hostile ones are not."""


READY_SECONDS: Final = 15.0
"""How long what was made ready for a device may be submitted without asking whether it still takes it."""


@dataclass(frozen=True, slots=True)
class Ready:
    """What `submit` is given, and what that is expected to cost."""

    prepared: Prepared
    estimate: Money | None


class Compiler(Protocol):
    """Parses a circuit in a sandbox: `qcompute.circuits.compiler.CircuitCompiler`."""

    def compile(self, source: str) -> CompiledCircuit:
        """Blocks; raises `CannotRun`."""
        ...

    def translate(self, circuit: CompiledCircuit, target: Target, level: int | None) -> CompiledCircuit:
        """The circuit with its translation. Blocks; raises `CannotRun`."""
        ...

    def close(self) -> None:
        """End the sandbox's processes."""
        ...


class CircuitCache:
    """Compiled circuits by the hash of their text, least recently used out first."""

    def __init__(self, ledger: Ledger, compiler: Compiler, *, processes: int) -> None:
        self._ledger = ledger
        self._compiler = compiler
        self._threads = ThreadPoolExecutor(max_workers=processes, thread_name_prefix="compile")
        self._kept: Kept[_Key, CompiledCircuit] = Kept(entries=_MAX_ENTRIES, size=_MAX_BYTES)
        self._ready: Kept[tuple[ExecutionId, str, str], tuple[Ready, float]] = Kept(entries=_MAX_READY, size=_MAX_BYTES)

    async def compiled(self, job: Job) -> CompiledCircuit:
        """The parsed circuit of a job whose text is stored.

        Raises:
            CannotRun: it does not parse or is too large.
            Bug: the job has no circuit.
        """
        key = (job.circuit_sha256 or "", None, None)
        if (kept := self._kept.get(key)) is not None:
            return kept
        text = await self._ledger.circuit(job.execution_id)
        if text is None:
            raise Bug(f"the job is {job.state} but has no circuit")
        circuit = await self.parsed(text)
        self._kept.put(key, circuit, len(circuit.text))
        return circuit

    async def parsed(self, text: str) -> CompiledCircuit:
        """A circuit that belongs to no job yet, parsed and not kept.

        Raises:
            CannotRun: it does not parse or is too large.
        """
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._compiler.compile, text)

    async def translated(self, circuit: CompiledCircuit, target: Target, level: int | None) -> CompiledCircuit:
        """``circuit`` compiled for one device.

        Raises:
            CannotRun: the device cannot run it.
        """
        key = (circuit.sha256, target, level)
        if (kept := self._kept.get(key)) is not None:
            return kept
        loop = asyncio.get_running_loop()
        translated = await loop.run_in_executor(self._threads, self._compiler.translate, circuit, target, level)
        self._kept.put(key, translated, len(translated.text))
        return translated

    def keep_ready(self, job: Job, account: str, device_id: str, ready: Ready, now: float) -> None:
        """Keep what a job is submitted with there. ``now`` is a monotonic clock's."""
        size = len(ready.prepared.payload) + len(ready.prepared.compiled.text)
        self._ready.put((job.execution_id, account, device_id), (ready, now), size)

    def ready(self, job: Job, account: str, device_id: str, now: float) -> Ready | None:
        """What was made ready for the job, not longer than `READY_SECONDS` ago; else None."""
        kept = self._ready.get((job.execution_id, account, device_id))
        return None if kept is None or now - kept[1] > READY_SECONDS else kept[0]

    async def close(self) -> None:
        """End the sandbox and its threads."""
        await asyncio.to_thread(self._compiler.close)
        self._threads.shutdown(wait=False, cancel_futures=True)
