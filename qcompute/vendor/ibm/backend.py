"""One of IBM's devices, read from its configuration and its last calibration."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

from qcompute.circuits.target import Dialect, Target
from qcompute.vendor.ibm import api

_FRACTIONAL: Final = frozenset({"rx", "rzz"})
_SECONDS: Final = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_FREE: Final = frozenset({"rz", "id", "reset", "measure"})
"""``rz`` is done in software and ``id`` does nothing; the other two are no gates."""


class Calibrated:
    """A device's configuration and last calibration."""

    def __init__(self, configuration: api.Configuration, properties: api.Properties) -> None:
        self.configuration = configuration
        self.properties = properties
        self.faulty = frozenset(
            [index for index, readings in enumerate(properties.qubits) if _value(readings, "operational") == 0]
            + [gate.qubits[0] for gate in properties.gates if len(gate.qubits) == 1 and _is_broken(gate)]
        )

    @classmethod
    def fetch(cls, http: api.IbmHttp, name: str) -> Calibrated:
        """Two requests. A device without calibration is taken as it is configured."""
        path = f"/backends/{quote(name, safe='')}"
        configuration = http.get(f"{path}/configuration").read(api.Configuration, what="a backend's configuration")
        reply = http.get(f"{path}/properties", accept=(HTTPStatus.NOT_FOUND,))
        if reply.status == HTTPStatus.NOT_FOUND:
            return cls(configuration, api.Properties())
        return cls(configuration, reply.read(api.Properties, what="a backend's properties"))

    @property
    def can_branch(self) -> bool:
        """Whether later gates may depend on measured bits."""
        return (
            "if_else" in self.configuration.supported_instructions
            or "dynamic_circuits" in self.configuration.supported_features
        )

    @property
    def can_measure_mid_circuit(self) -> bool:
        """Whether a circuit may go on after a measurement."""
        return self.configuration.multi_meas_enabled or self.can_branch

    @property
    def can_reset(self) -> bool:
        """Whether a circuit may reset qubits."""
        return "reset" in self.configuration.supported_instructions

    def target(self, *, fractional: bool) -> Target:
        """What circuits for it are compiled to."""
        couplings = self.couplings()
        return Target(
            dialect=Dialect.QPY,
            num_qubits=self.configuration.n_qubits,
            basis_gates=tuple(self.gates(fractional=fractional)),
            coupling_map=None if couplings is None else tuple(couplings),
            can_reset=self.can_reset,
            can_measure_mid_circuit=self.can_measure_mid_circuit,
            can_branch=self.can_branch,
            faulty_qubits=tuple(sorted(self.faulty)),
        )

    def gates(self, *, fractional: bool) -> list[str]:
        """The gates circuits are compiled to."""
        return [name for name in self.configuration.basis_gates if fractional or name not in _FRACTIONAL]

    def couplings(self) -> list[tuple[int, int]] | None:
        """The pairs that work; None when all qubits are coupled."""
        broken = {tuple(gate.qubits) for gate in self.properties.gates if len(gate.qubits) > 1 and _is_broken(gate)}
        pairs = self.configuration.coupling_map
        return None if pairs is None else [pair for pair in pairs if pair not in broken]

    def extras(self) -> dict[str, Any]:
        """`Capability.extras`."""
        properties = self.properties
        return {
            "coupling_map": self.couplings(),
            "t1_seconds": [_time(readings, "T1") for readings in properties.qubits] or None,
            "t2_seconds": [_time(readings, "T2") for readings in properties.qubits] or None,
            "readout_error": _median(_value(readings, "readout_error") for readings in properties.qubits),
            "one_qubit_error": _median(self._gate_errors(1)),
            "two_qubit_error": _median(self._gate_errors(2)),
            "one_qubit_seconds": _median(self._gate_seconds(1)),
            "two_qubit_seconds": _median(self._gate_seconds(2)),
            "max_shots": self.configuration.max_shots,
            "calibrated_at": properties.last_update_date,
            "can_measure_mid_circuit": self.can_measure_mid_circuit,
            "can_branch": self.can_branch,
            "can_reset": self.can_reset,
            "faulty_qubits": sorted(self.faulty),
            "processor_type": self.configuration.processor_type,
        }

    def _gate_errors(self, width: int) -> Iterator[float | None]:
        return (_value(gate.parameters, "gate_error") for gate in self._gates(width))

    def _gate_seconds(self, width: int) -> Iterator[float | None]:
        return (_time(gate.parameters, "gate_length") for gate in self._gates(width))

    def _gates(self, width: int) -> Iterator[api.GateReadings]:
        """Those with so many qubits that cost anything."""
        return (gate for gate in self.properties.gates if len(gate.qubits) == width and gate.gate not in _FREE)


def _value(readings: Iterable[api.Reading], name: str) -> float | None:
    return next((reading.value for reading in readings if reading.name == name), None)


def _time(readings: Iterable[api.Reading], name: str) -> float | None:
    reading = next((reading for reading in readings if reading.name == name), None)
    return reading.value * _SECONDS[reading.unit] if reading and reading.unit in _SECONDS else None


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _is_broken(gate: api.GateReadings) -> bool:
    """Switched off, or, between two qubits, wrong every time: how IBM marks a coupling it could not calibrate."""
    wrong = len(gate.qubits) > 1 and (_value(gate.parameters, "gate_error") or 0.0) >= 1.0
    return wrong or _value(gate.parameters, "operational") == 0
