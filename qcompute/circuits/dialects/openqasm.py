"""OpenQASM 2 and 3 as vendors take them: standard gates only, no definitions of our own. Runs in the sandbox."""

# qiskit ships no types
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from qcompute.circuits.measurement import MeasurementMap
from qcompute.errors import CannotRun

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

GATES_2: Final = frozenset(
    "x y z h s sdg t tdg rx ry rz u1 u2 u3 id cx cy cz ch ccx crz cu1 cu3".split()  # noqa: SIM905 - read as one line
)
"""The gates of ``qelib1.inc`` as published with OpenQASM 2; what Qiskit added to its own copy is left out."""

GATES_3: Final = frozenset(
    "x y z h s sdg t tdg sx rx ry rz p cx cy cz ch cp crx cry crz swap ccx cswap".split()  # noqa: SIM905 - as above
)
"""The gates of ``stdgates.inc`` of the OpenQASM 3 specification, without those kept for OpenQASM 2's sake."""


def write_2(circuit: QuantumCircuit, measurement: MeasurementMap) -> str:
    """OpenQASM 2 text; registers as they are in ``circuit``.

    Raises:
        CannotRun: OpenQASM 2 has no words for something in it.
    """
    from qiskit import qasm2  # noqa: PLC0415 - only in the sandbox

    del measurement
    try:
        return qasm2.dumps(circuit)
    except qasm2.QASM2ExportError:
        raise CannotRun("the device takes OpenQASM 2, which cannot say this circuit", reason="unsupported") from None


def write_3(circuit: QuantumCircuit, measurement: MeasurementMap) -> str:
    """OpenQASM 3 text; registers as they are in ``circuit``.

    Raises:
        CannotRun: Qiskit cannot write something in it.
    """
    from qiskit import qasm3  # noqa: PLC0415 - only in the sandbox

    del measurement
    try:
        return qasm3.dumps(circuit)
    except qasm3.QASM3ExporterError:
        raise CannotRun("the circuit cannot be written as OpenQASM 3", reason="unsupported") from None
