"""Drawing a circuit as text, in a sandboxed child: the program is a stranger's.

qiskit is imported in the child only. Only small circuits are drawn: a drawing is for people.
"""

# qiskit ships no types
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from typing import Any, Final

from qcompute.circuits.sandbox import SandboxLimits, SandboxPool
from qcompute.errors import CannotRun

MAX_SOURCE_CHARACTERS: Final = 200_000
MAX_QUBITS: Final = 64
MAX_OPERATIONS: Final = 1000
MAX_DRAWING_CHARACTERS: Final = 400_000
LINE_CHARACTERS: Final = 110

MEMORY_BYTES: Final = 2 << 30
CPU_SECONDS: Final = 10.0
WALL_SECONDS: Final = 20.0
IDLE_SECONDS: Final = 60.0


def handle(request: dict[str, Any]) -> dict[str, Any]:
    """Sandbox entry: ``{"source"}`` in, ``{"drawing"}`` out."""
    return {"drawing": drawing_of(request["source"])}


def drawing_of(source: str) -> str:
    """The circuit in Unicode lines, folded at `LINE_CHARACTERS`.

    Raises:
        CannotRun: it does not parse, or is too large to be looked at.
    """
    from qcompute.circuits.parse import load_program  # noqa: PLC0415 - brings qiskit, in the child only

    circuit = load_program(source)
    if circuit.num_qubits > MAX_QUBITS or len(circuit.data) > MAX_OPERATIONS:
        raise _too_large(f"{circuit.num_qubits} qubits and {len(circuit.data)} operations")
    drawing = str(circuit.draw(output="text", fold=LINE_CHARACTERS, idle_wires=True))
    if len(drawing) > MAX_DRAWING_CHARACTERS:
        raise _too_large(f"{len(drawing)} characters")
    return drawing


def _too_large(what: str) -> CannotRun:
    return CannotRun(
        f"too large to draw: {what}; at most {MAX_QUBITS} qubits, {MAX_OPERATIONS} operations and "
        f"{MAX_DRAWING_CHARACTERS} characters are drawn",
        reason="too_large_to_draw",
    )


class CircuitDrawer:
    """Draws in one sandboxed child, which is started when first needed. Thread-safe; blocks."""

    def __init__(self) -> None:
        self._pool = SandboxPool(
            "qcompute.circuits.draw:handle",
            limits=SandboxLimits(
                memory_bytes=MEMORY_BYTES,
                cpu_seconds=CPU_SECONDS,
                wall_seconds=WALL_SECONDS,
                max_reply_bytes=8 * MAX_DRAWING_CHARACTERS,
            ),
            size=1,
            idle_seconds=IDLE_SECONDS,
            name="draw",
        )

    def draw(self, source: str) -> str:
        """See `drawing_of`.

        Raises:
            CannotRun: it cannot be drawn; the message says why.
            SandboxUnavailable: no child could be started.
        """
        if len(source) > MAX_SOURCE_CHARACTERS:
            raise _too_large(f"{len(source)} characters of program")
        return str(self._pool.call({"source": source})["drawing"])

    def close(self) -> None:
        """End the child; a call under way raises."""
        self._pool.close()
