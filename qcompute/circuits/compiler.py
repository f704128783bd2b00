"""The daemon's side of compiling: hands the text to the sandbox and gets facts back."""

from __future__ import annotations

from qcompute.circuits.program import CompiledCircuit
from qcompute.circuits.sandbox import SandboxLimits, SandboxPool
from qcompute.circuits.settings import CircuitSettings


class CircuitCompiler:
    """Parses circuits in ``processes`` sandboxed children. Thread-safe; blocks."""

    def __init__(self, settings: CircuitSettings, *, processes: int = 1, idle_seconds: float = 120.0) -> None:
        self._settings = settings.model_dump(mode="json")
        self._pool = SandboxPool(
            "qcompute.circuits.parse:handle",
            limits=SandboxLimits(
                memory_bytes=settings.compile_memory_bytes,
                cpu_seconds=settings.compile_cpu_seconds,
                wall_seconds=settings.compile_wall_seconds,
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
        facts = self._pool.call({"source": source, "settings": self._settings})
        return CompiledCircuit.model_validate(facts | {"source": source})

    def close(self) -> None:
        """End the children; calls under way raise."""
        self._pool.close()
