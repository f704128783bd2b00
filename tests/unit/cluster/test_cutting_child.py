"""What the sandbox's side of circuit cutting does itself, because the library does it wrong or not at all."""

# qiskit and qiskit-addon-cutting ship no types
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportMissingTypeStubs=false, reportPrivateImportUsage=false

from __future__ import annotations

from qiskit import QuantumCircuit
from qiskit.quantum_info import Pauli, Statevector
from qiskit_addon_cutting import cut_wires
from qiskit_addon_cutting.instructions import CutWire

from qcompute.cluster.cutting_child import _placed, _with_moves


def cut_three_times() -> QuantumCircuit:
    """Wire 0 is cut, then wire 1, then wire 0 again."""
    circuit = QuantumCircuit(3)
    circuit.ry(0.4, 0)
    circuit.cx(0, 1)
    circuit.append(CutWire(), [0])
    circuit.ry(0.5, 0)
    circuit.cx(0, 2)
    circuit.append(CutWire(), [1])
    circuit.ry(0.6, 1)
    circuit.cx(1, 2)
    circuit.append(CutWire(), [0])
    circuit.ry(0.7, 0)
    circuit.cx(0, 1)
    return circuit


def test_each_wire_cut_has_a_qubit_of_its_own() -> None:
    """The library's cut_wires gave this circuit 5 qubits instead of 6, and its second move of wire 0 a qubit of wire 1.

    The value put together from that was wrong and nothing said so. Here the moves are done and not cut: the circuit
    must still be the one that was to be cut.
    """
    circuit = cut_three_times()
    assert cut_wires(circuit).num_qubits == 5, "the library counts right now: see whether _with_moves can go"
    moved, places = _with_moves(circuit)
    assert (moved.num_qubits, sorted(set(places))) == (6, sorted(places))
    whole = QuantumCircuit(moved.num_qubits)
    plain = QuantumCircuit(circuit.num_qubits)
    for instruction in moved.data:
        qubits = [moved.find_bit(qubit).index for qubit in instruction.qubits]
        if instruction.operation.name == "qpd_2q":
            whole.swap(*qubits)  # a move onto a qubit that is still |0>
        else:
            whole.append(instruction.operation, qubits)
    for instruction in circuit.data:
        if instruction.operation.name != "cut_wire":
            plain.append(instruction.operation, [circuit.find_bit(qubit).index for qubit in instruction.qubits])
    for label in ("ZII", "IZI", "IIZ", "XYZ", "ZZX"):
        want = Statevector(plain).expectation_value(Pauli(label))
        got = Statevector(whole).expectation_value(Pauli(_placed(label, places, 6)))
        assert abs(want - got) < 1e-12
