"""The daemon's side of compiling: hands the text to the sandbox and gets facts back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from qcompute.circuits.program import CompiledCircuit
from qcompute.circuits.sandbox import SandboxLimits, SandboxPool
from qcompute.circuits.settings import CircuitSettings
from qcompute.circuits.target import Target, Translation
from qcompute.errors import CannotRun

MAX_REPLY_BYTES: Final = 32 << 20
"""A hundred thousand gates in a vendor's form are some 10 MB."""


class CircuitCompiler:
    """Parses and translates circuits in ``processes`` sandboxed children. Thread-safe; blocks."""

    def __init__(self, settings: CircuitSettings, *, processes: int = 1, idle_seconds: float = 120.0) -> None:
        self._settings = settings.model_dump(mode="json")
        self._pool = SandboxPool(
            "qcompute.circuits.parse:handle",
            limits=SandboxLimits(
                memory_bytes=settings.compile_memory_bytes,
                cpu_seconds=settings.compile_cpu_seconds,
                wall_seconds=settings.compile_wall_seconds,
                max_reply_bytes=MAX_REPLY_BYTES,
            ),
            size=processes,
            idle_seconds=idle_seconds,
            name="compile",
        )

    def compile(self, source: str) -> CompiledCircuit:
        """What is known about a circuit; the same answer at every call.

        Raises:
            CannotRun: it cannot be run anywhere; line and reason are named.
            SandboxUnavailable: no child could be started; nothing is known.
        """
        return _compiled(self._pool.call({"source": source, "settings": self._settings}), source)

    def compile_many(self, sources: Sequence[str]) -> list[CompiledCircuit | CannotRun]:
        """What `compile` returns or raises for the first of them, in order, at less cost where they are small.

        All are answered where nothing happens, none when one of several broke the parser, and one alone always.

        Raises:
            SandboxUnavailable: no child could be started; nothing is known of any.
        """
        answers = self._pool.call_many([{"source": source} for source in sources], shared={"settings": self._settings})
        return [
            facts if isinstance(facts, CannotRun) else _compiled(facts, source)
            for source, facts in zip(sources, answers, strict=False)
        ]

    def translate(self, circuit: CompiledCircuit, target: Target, level: int | None) -> CompiledCircuit:
        """``circuit`` with its translation for ``target``; the same text at every call.

        ``level`` is the transpiler's optimisation level; None leaves it to the target.

        Raises:
            CannotRun: this device cannot run it, or compiling it takes too long; the message names the limit.
            SandboxUnavailable: no child could be started; nothing is known.
        """
        request = {"source": circuit.source, "target": target.model_dump(mode="json"), "level": level}
        facts = self._pool.call(request | {"settings": self._settings})
        return circuit.model_copy(update={"translation": Translation.model_validate(facts)})

    def close(self) -> None:
        """End the children; calls under way raise."""
        self._pool.close()


def _compiled(facts: dict[str, Any], source: str) -> CompiledCircuit:
    return CompiledCircuit.model_validate(facts | {"source": source})
