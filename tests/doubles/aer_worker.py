"""Computes circuits with Aer for the doubles: ``{"language", "text", "shots", "seed"}`` -> shots by register.

``language`` is ``openqasm2``, ``openqasm3`` or ``ionq_json`` (all qubits measured into register ``q``). The answer is
``{"qubits", "registers": [[name, size], ...], "memory": [...]}``; a shot is Qiskit's own string, registers by spaces,
the last declared leftmost.
"""

# qiskit ships no types
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import qiskit_qasm3_import
from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister, qasm2, transpile
from qiskit_aer import AerSimulator

from tests.doubles.worker import serve


def compute(request: dict[str, Any]) -> dict[str, Any]:
    return _computed(request["language"], request["text"], request["shots"], request.get("seed", 5))


@lru_cache(maxsize=1000)
def _computed(language: str, text: str, shots: int, seed: int) -> dict[str, Any]:
    """The seed settles the shots, so what was computed once need not be again: 0.2 s for each of a vendor's jobs."""
    circuit = _registered(_circuit(language, text))
    simulator = AerSimulator(seed_simulator=seed)
    done = simulator.run(transpile(circuit, simulator, optimization_level=0), shots=shots, memory=True).result()
    if not done.success:
        raise RuntimeError(done.status)
    return {
        "qubits": circuit.num_qubits,
        "registers": [[register.name, register.size] for register in circuit.cregs],
        "memory": done.get_memory(),
    }


def _circuit(language: str, text: str) -> QuantumCircuit:
    if language == "openqasm2":
        return qasm2.loads(text, include_path=(), custom_instructions=qasm2.LEGACY_CUSTOM_INSTRUCTIONS)
    if language == "openqasm3":
        return qiskit_qasm3_import.parse(text)
    if language == "ionq_json":
        return _from_ionq(json.loads(text))
    raise ValueError(f"no language {language}")


def _registered(circuit: QuantumCircuit) -> QuantumCircuit:
    """Bits declared outside a register get one each: Qiskit leaves them out of its strings."""
    if circuit.num_clbits == sum(register.size for register in circuit.cregs):
        return circuit
    groups: list[ClassicalRegister] = []
    for index, bit in enumerate(circuit.clbits):
        owners = circuit.find_bit(bit).registers
        if not owners:
            groups.append(ClassicalRegister(1, f"bit{index}"))
        elif owners[0][1] == 0:
            groups.append(owners[0][0])
    whole = QuantumCircuit(circuit.num_qubits)
    for group in groups:
        whole.add_register(ClassicalRegister(group.size, group.name))
    whole.compose(circuit, qubits=whole.qubits, clbits=whole.clbits, inplace=True)
    return whole


def _from_ionq(program: dict[str, Any]) -> QuantumCircuit:
    qubits = QuantumRegister(program["qubits"], "q")
    circuit = QuantumCircuit(qubits, ClassicalRegister(program["qubits"], "c"))
    for step in program["circuit"]:
        targets = step.get("targets") or [step["target"]]
        controls = step.get("controls") or ([step["control"]] if "control" in step else [])
        _apply(circuit, step["gate"], controls, targets, step.get("rotation"))
    circuit.measure(qubits, circuit.clbits)
    return circuit


def _apply(circuit: QuantumCircuit, gate: str, controls: list[int], targets: list[int], rotation: float | None) -> None:
    name = {"not": "x", "cnot": "cx", "si": "sdg", "ti": "tdg", "v": "sx", "vi": "sxdg", "zz": "rzz"}.get(gate, gate)
    if controls and not name.startswith("c"):
        name = "c" * len(controls) + name
    angles = [] if rotation is None else [rotation]
    getattr(circuit, name)(*angles, *controls, *targets)


if __name__ == "__main__":
    serve(compute)
