"""Follows a circuit in order and into its branches. Runs in the sandbox."""

# qiskit ships no types
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qiskit import QuantumCircuit


class Walk:
    """What a circuit does with its measurements.

    ``measured`` is the qubit last measured into each written classical bit, by number; ``mid_circuit`` whether anything
    happens to a qubit after it was measured; ``control_flow`` whether there is a condition or a loop.
    """

    def __init__(self, circuit: QuantumCircuit) -> None:
        self.measured: dict[int, int] = {}
        self.mid_circuit = False
        self.control_flow = False
        self._read: set[int] = set()
        self._through(circuit, list(range(circuit.num_qubits)), list(range(circuit.num_clbits)))

    def _through(self, circuit: QuantumCircuit, qubits: list[int], clbits: list[int]) -> None:
        """``qubits[k]`` and ``clbits[k]`` are the outermost circuit's numbers of this circuit's k-th bits."""
        qubit_of = {bit: qubits[index] for index, bit in enumerate(circuit.qubits)}
        clbit_of = {bit: clbits[index] for index, bit in enumerate(circuit.clbits)}
        for instruction in circuit.data:
            on = [qubit_of[bit] for bit in instruction.qubits]
            into = [clbit_of[bit] for bit in instruction.clbits]
            name = instruction.operation.name
            if name != "barrier" and self._read.intersection(on):
                self.mid_circuit = True
            for block in getattr(instruction.operation, "blocks", ()):
                self.control_flow = True
                self._through(block, on, into)
            if name == "measure":
                self.measured[into[0]] = on[0]
                self._read.add(on[0])
