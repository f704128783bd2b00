"""What a device takes, and what a circuit became for it: plain data on both sides of the sandbox."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from qcompute.circuits.measurement import MeasurementMap

DEFAULT_OPTIMIZATION_LEVEL: Final = 1
"""Of Qiskit's transpiler, where neither the job nor the operator says one: what IBM's own default is."""


class Dialect(StrEnum):
    """The forms vendors take circuits in; the word is what a `Translation` says of its text."""

    OPENQASM_2 = "openqasm2"
    """OpenQASM 2 with ``qelib1.inc``, registers as declared (Quantinuum through Azure)."""
    OPENQASM_3 = "openqasm3"
    """OpenQASM 3 with ``stdgates.inc``, registers as declared (IonQ, most REST services)."""
    BRAKET = "braket"
    """OpenQASM 3 in Braket's gate names, without include, measuring into the one register ``b``: its bit k is the
    k-th written classical bit in ascending order."""
    IONQ_JSON = "ionq_json"
    """``{"qubits", "circuit": [{"gate", "target"|"targets", "control"|"controls", "rotation"}]}``, nothing measured:
    the vendor reports all qubits (IonQ through Azure)."""
    QPY = "qpy"
    """Base64 of Qiskit's binary form, of a circuit in the device's own gates and couplings (IBM)."""
    QIR = "qir"
    """QIR base profile as LLVM text (targets of Azure that take nothing else)."""


class Target(BaseModel):
    """One device, as far as compiling for it goes.

    ``basis_gates`` are in Qiskit's names; None allows every gate the dialect can write. ``coupling_map`` lists directed
    pairs of qubits; None couples all. ``can_reset``, ``can_measure_mid_circuit`` and ``can_branch`` say what else may
    be in a circuit; what is not allowed is refused by name, never dropped. ``optimization_level`` is used where the
    job does not say one.
    """

    model_config = ConfigDict(frozen=True)

    dialect: Dialect
    num_qubits: int | None = None
    basis_gates: tuple[str, ...] | None = None
    coupling_map: tuple[tuple[int, int], ...] | None = None
    can_reset: bool = False
    can_measure_mid_circuit: bool = False
    can_branch: bool = False
    faulty_qubits: tuple[int, ...] = ()
    optimization_level: int = DEFAULT_OPTIMIZATION_LEVEL


class Translation(BaseModel):
    """A circuit in a vendor's form. The same circuit, target and level always give the same text.

    ``measurement`` says how to read the result; ``layout[k]`` is the physical qubit that starts as the circuit's qubit
    k, None where the vendor maps qubits itself. ``gate_counts`` and ``depth`` are of the translated circuit;
    ``one_qubit_gates`` and ``two_qubit_gates`` leave measurements, resets and barriers out.
    """

    model_config = ConfigDict(frozen=True)

    text: str = Field(repr=False)
    dialect: Dialect
    sha256: str
    measurement: MeasurementMap
    layout: tuple[int, ...] | None = None
    num_qubits: int
    gate_counts: dict[str, int]
    one_qubit_gates: int
    two_qubit_gates: int
    depth: int
    optimization_level: int

    def facts(self) -> dict[str, object]:
        """What is kept of it beside the job: everything but the text, ready for JSON."""
        return self.model_dump(mode="json", exclude={"text", "measurement"})
