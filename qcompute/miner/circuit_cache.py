"""Parsed and translated circuits of jobs on the road, so that router and runner compile each only once.

Only a cache: after a restart the circuit is compiled again from the stored text.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol

from qcompute.circuits.program import CompiledCircuit
from qcompute.circuits.target import Target
from qcompute.errors import Bug
from qcompute.ledger.contract import Ledger
from qcompute.miner.job import Job

_Key = tuple[str, Target | None, int | None]
"""Hash of the text; for a translation also the target and the level."""

_MAX_ENTRIES: Final = 256
_MAX_BYTES: Final = 16 << 20
"""Of circuit text kept; jobs are small, hostile ones are not."""


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
        self._kept: OrderedDict[_Key, CompiledCircuit] = OrderedDict()
        self._kept_bytes = 0

    async def compiled(self, job: Job) -> CompiledCircuit:
        """The parsed circuit of a job whose text is stored.

        Raises:
            CannotRun: it does not parse or is too large.
            Bug: the job has no circuit.
        """
        key = (job.circuit_sha256 or "", None, None)
        if (kept := self._kept.get(key)) is not None:
            self._kept.move_to_end(key)
            return kept
        text = await self._ledger.circuit(job.execution_id)
        if text is None:
            raise Bug(f"the job is {job.state} but has no circuit")
        loop = asyncio.get_running_loop()
        circuit = await loop.run_in_executor(self._threads, self._compiler.compile, text)
        self._keep(key, circuit)
        return circuit

    async def translated(self, circuit: CompiledCircuit, target: Target, level: int | None) -> CompiledCircuit:
        """``circuit`` compiled for one device.

        Raises:
            CannotRun: the device cannot run it.
        """
        key = (circuit.sha256, target, level)
        if (kept := self._kept.get(key)) is not None:
            self._kept.move_to_end(key)
            return kept
        loop = asyncio.get_running_loop()
        translated = await loop.run_in_executor(self._threads, self._compiler.translate, circuit, target, level)
        self._keep(key, translated)
        return translated

    def _keep(self, key: _Key, circuit: CompiledCircuit) -> None:
        if key in self._kept or len(circuit.text) > _MAX_BYTES:
            return
        self._kept[key] = circuit
        self._kept_bytes += len(circuit.text)
        while len(self._kept) > _MAX_ENTRIES or self._kept_bytes > _MAX_BYTES:
            _, dropped = self._kept.popitem(last=False)
            self._kept_bytes -= len(dropped.text)

    async def close(self) -> None:
        """End the sandbox and its threads."""
        await asyncio.to_thread(self._compiler.close)
        self._threads.shutdown(wait=False, cancel_futures=True)
