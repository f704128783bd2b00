"""Qiskit's binary form, for devices whose client takes Qiskit circuits. Runs in the sandbox."""

# qiskit ships no types
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

from qcompute.circuits.measurement import MeasurementMap

if TYPE_CHECKING:
    from qiskit import QuantumCircuit


def write(circuit: QuantumCircuit, measurement: MeasurementMap) -> str:
    """Base64 of the QPY file of this one circuit."""
    from qiskit import qpy  # noqa: PLC0415 - only in the sandbox

    del measurement
    file = io.BytesIO()
    qpy.dump(circuit, file)
    return base64.b64encode(file.getvalue()).decode()
