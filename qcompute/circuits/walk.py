"""Follows a circuit in order and into its branches. Runs in the sandbox."""

# qiskit ships no types
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from itertools import accumulate, chain
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from qiskit import QuantumCircuit
    from qiskit.circuit import Operation

_LOOPS: Final = frozenset({"for_loop", "while_loop"})
_CONTROLLED_ONCE: Final = frozenset(
    {"cx", "cy", "cz", "ch", "cp", "cu1", "crx", "cry", "crz", "cs", "csdg", "csx", "cu", "cu3", "rxx", "ryy", "rzz"}
    | {"rzx", "ecr"}
)
"""Gates on two qubits of Schmidt rank 2."""


class Walk:
    """What a circuit does with its measurements.

    ``measured`` is the qubit last measured into each written classical bit, by number; ``mid_circuit`` whether anything
    happens to a qubit after it was measured; ``control_flow`` whether there is a condition or a loop. ``busiest_cut``
    is how often gates can double the entanglement between the qubits up to some k and the rest, for the worst k; None
    where a loop repeats gates. ``depth`` is Qiskit's: barriers keep layers apart and are none.
    """

    def __init__(self, circuit: QuantumCircuit) -> None:
        self.measured: dict[int, int] = {}
        self.mid_circuit = False
        self.control_flow = False
        self._read: set[int] = set()
        self._looped = False
        self._crossing = [0] * (circuit.num_qubits + 1)
        self._layers = [0] * circuit.num_qubits, [0] * circuit.num_clbits
        self._through(circuit, list(range(circuit.num_qubits)), list(range(circuit.num_clbits)))
        # A condition keeps bits busy that are not among the instruction's own.
        self.depth = int(circuit.depth()) if self.control_flow else max(chain(*self._layers), default=0)

    @property
    def busiest_cut(self) -> int | None:
        """See the class."""
        return None if self._looped else max(accumulate(self._crossing), default=0)

    def _through(self, circuit: QuantumCircuit, qubits: list[int], clbits: list[int]) -> None:
        """``qubits[k]`` and ``clbits[k]`` are the outermost circuit's numbers of this circuit's k-th bits."""
        qubit_of = {bit: qubits[index] for index, bit in enumerate(circuit.qubits)}
        clbit_of = {bit: clbits[index] for index, bit in enumerate(circuit.clbits)}
        for instruction in circuit.data:
            on = [qubit_of[bit] for bit in instruction.qubits]
            into = [clbit_of[bit] for bit in instruction.clbits]
            operation = instruction.operation
            name = operation.name
            self._reach(on, into, counts=name != "barrier")
            if name != "barrier" and self._read.intersection(on):
                self.mid_circuit = True
            if len(on) > 1:
                self._cross(operation, on)
            for block in getattr(operation, "blocks", ()):
                self.control_flow = True
                self._through(block, on, into)
            if name == "measure":
                self.measured[into[0]] = on[0]
                self._read.add(on[0])

    def _reach(self, on: list[int], into: list[int], *, counts: bool) -> None:
        """Put an instruction into the first layer in which all its bits are free."""
        of_qubits, of_clbits = self._layers
        layer = max([of_qubits[bit] for bit in on] + [of_clbits[bit] for bit in into], default=0) + counts
        for bit in on:
            of_qubits[bit] = layer
        for bit in into:
            of_clbits[bit] = layer

    def _cross(self, operation: Operation, on: list[int]) -> None:
        if operation.name in _LOOPS:
            self._looped = True
        if operation.name == "barrier" or getattr(operation, "blocks", ()):
            return
        # One controlled on a qubit has Schmidt rank 2 across every cut; of k qubits none has more than 4 ** (k // 2).
        doubled = 1 if operation.name in _CONTROLLED_ONCE else 2 * (len(on) // 2)
        self._crossing[min(on)] += doubled
        self._crossing[max(on)] -= doubled
