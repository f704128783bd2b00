"""Parsed, translated and prepared circuits of jobs on the road, so that router and runner do that only once.

Only a cache: after a restart the circuit is compiled again from the stored text.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Protocol

from qcompute.circuits.program import CompiledCircuit
from qcompute.circuits.target import Target
from qcompute.errors import Bug, CannotRun
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


TOGETHER: Final = 32
TOGETHER_CHARACTERS: Final = 1 << 16
"""So many texts that wait for a parser go to it at once, one at least. Each exchange with its process means waiting for
the interpreter twice, some milliseconds on a busy daemon; most circuits are parsed in one."""

READY_SECONDS: Final = 15.0
"""How long what was made ready for a device may be submitted without asking whether it still takes it."""


@dataclass(frozen=True, slots=True)
class Ready:
    """What `submit` is given, and what that is expected to cost."""

    prepared: Prepared
    estimate: Money | None


@dataclass(slots=True)
class _Unparsed:
    """A text that waits for a parser; ``alone`` since one of those it went with broke one."""

    text: str
    answer: asyncio.Future[CompiledCircuit]
    alone: bool = False


class Compiler(Protocol):
    """Parses a circuit in a sandbox: `qcompute.circuits.compiler.CircuitCompiler`."""

    def compile_many(self, sources: Sequence[str]) -> list[CompiledCircuit | CannotRun]:
        """The first of them, each parsed or why it cannot be run; of one alone always that.

        None when one of several broke the parser. Blocks; raises `SandboxUnavailable`.
        """
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
        self._processes = processes
        self._unparsed: deque[_Unparsed] = deque()
        self._parsers = 0
        self._parsing: set[asyncio.Task[None]] = set()
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
        answer: asyncio.Future[CompiledCircuit] = asyncio.get_running_loop().create_future()
        self._unparsed.append(_Unparsed(text, answer))
        self._start_parser()
        return await answer

    def _start_parser(self) -> None:
        if self._parsers < self._processes:
            self._parsers += 1
            task = asyncio.create_task(self._parse_waiting())
            self._parsing.add(task)
            task.add_done_callback(self._parsing.discard)

    async def _parse_waiting(self) -> None:
        """Parse until nothing waits, as many at a time as came while the parser was busy."""
        try:
            while batch := self._next_unparsed():
                await self._parse(batch)
        finally:
            self._parsers -= 1  # here: a text that comes before this task is seen to have ended needs another

    async def _parse(self, batch: list[_Unparsed]) -> None:
        answers = await self._answers([one.text for one in batch])
        for one, answer in zip(batch, answers, strict=False):
            if one.answer.done():
                continue
            if isinstance(answer, Exception):
                one.answer.set_exception(answer)
            else:
                one.answer.set_result(answer)
        left = batch[len(answers) :]
        if not answers:
            for one in left:
                one.alone = True  # so that one that eats its limits up holds up only those behind it
        self._unparsed.extendleft(reversed(left))
        if left:
            self._start_parser()

    async def _answers(self, texts: list[str]) -> Sequence[CompiledCircuit | Exception]:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._compiler.compile_many, texts)
        except Exception as error:  # noqa: BLE001 - it belongs to those who wait for these texts
            return [error] * len(texts)

    def _next_unparsed(self) -> list[_Unparsed]:
        """What one parser takes: its part of those that wait, so that the others have work too."""
        batch: list[_Unparsed] = []
        most = min(TOGETHER, math.ceil(len(self._unparsed) / self._processes))
        left = TOGETHER_CHARACTERS
        while self._unparsed and len(batch) < most:
            one = self._unparsed[0]
            if one.answer.done():
                self._unparsed.popleft()  # whoever asked has gone
                continue
            if batch and (len(one.text) > left or one.alone):
                break
            batch.append(self._unparsed.popleft())
            left -= len(one.text)
            if one.alone:
                break
        return batch

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
