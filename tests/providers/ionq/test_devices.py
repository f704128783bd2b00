"""IonQ: devices, their calibration and their limits."""

from __future__ import annotations

import json
from typing import Any

import pytest

from qcompute.circuits.program import JobOptions
from qcompute.circuits.target import Dialect
from qcompute.errors import (
    CannotRun,
)
from qcompute.local.service import FaultKind
from qcompute.miner.providers import ionq
from qcompute.miner.providers.base import (
    NOT_APPLICABLE,
    Device,
)
from qcompute.miner.providers.ionq import IonqAdapter
from qcompute.testing.provider_contract import ASYMMETRIC
from tests.doubles.ionq import IonqDouble
from tests.providers.ionq.scene import (
    QPU,
    Adapters,
    device_of,
)


def test_quantum_computers_come_first_and_retired_ones_not_at_all(adapter: IonqAdapter) -> None:
    assert [(one.device_id, one.device_type) for one in adapter.list_devices()] == [
        (QPU, "QPU"),
        ("simulator", "SIMULATOR"),
    ]
    assert adapter.get_availability("qpu.aria-1") is None
    assert adapter.get_capability("qpu.aria-1") is None


def test_the_operators_own_list_says_which_and_in_which_order(adapters: Adapters) -> None:
    adapter = adapters(backends=("simulator", QPU, "qpu.gone"))
    assert [one.device_id for one in adapter.list_devices()] == ["simulator", QPU]
    assert [one.device_id for one in adapters(backends=("simulator",)).list_devices()] == ["simulator"]


def test_all_devices_are_asked_for_at_once(
    double: IonqDouble, adapter: IonqAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    for device in adapter.list_devices() * 3:
        adapter.get_availability(device.device_id)
        adapter.target(device, JobOptions())
        adapter.check(ASYMMETRIC, device, 100)
    assert double.asked_for("GET /v0.4/backends") == 1
    monkeypatch.setattr(ionq, "_AVAILABLE_SECONDS", 0.0)
    adapter.get_availability()
    adapter.list_devices()
    assert double.asked_for("GET /v0.4/backends") == 2


@pytest.mark.parametrize(
    ("told", "word", "is_available"),
    [
        ({"status": "available", "degraded": False}, "ONLINE", True),
        ({"status": "available", "degraded": True}, "DEGRADED", True),
        ({"status": "unavailable", "degraded": False}, "OFFLINE", False),
        ({"status": "unavailable", "degraded": True}, "OFFLINE", False),
        ({"status": "calibrating", "degraded": False}, None, None),
    ],
)
def test_each_word_for_availability(
    double: IonqDouble, adapter: IonqAdapter, told: dict[str, Any], word: str | None, is_available: Any
) -> None:
    double.backends[1] |= told
    seen = adapter.get_availability(QPU)
    assert seen is not None
    assert (seen.availability, seen.is_available, seen.pending_jobs) == (word, is_available, None)
    assert told["status"] in (seen.status_msg or "")


def test_the_time_in_the_queue_is_told_where_it_is_known(
    double: IonqDouble, adapter: IonqAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ionq, "_AVAILABLE_SECONDS", 0.0)
    seen = adapter.get_availability(QPU)
    assert seen is not None
    assert seen.status_msg == "available, average time in the queue 0:19:41 (h:mm:ss)"
    assert seen.queue_seconds == pytest.approx(1181, abs=1)
    double.backends[1]["average_queue_time"] = None
    seen = adapter.get_availability(QPU)
    assert seen is not None
    assert (seen.status_msg, seen.queue_seconds) == ("available", None)


def test_a_calibration_is_read_once_an_hour(double: IonqDouble, adapter: IonqAdapter) -> None:
    capability = adapter.get_capability(QPU)
    assert capability is not None
    assert capability.num_qubits == 36
    extras = capability.extras or {}
    assert extras["native_gates"] == ["gpi", "gpi2", "zz"]
    assert extras["coupling_map"] == [[0, 1], [0, 2], [10, 9]]
    assert extras["t1_seconds"] == [100.0] * 36
    assert extras["t2_seconds"] == [1.0] * 36
    assert [extras[name] for name in ("readout_error", "one_qubit_error", "two_qubit_error")] == [
        0.0038,
        0.0002,
        0.006,
    ]
    assert extras["calibrated_at"] == "2026-06-16T00:00:00Z"
    assert extras["can_measure_mid_circuit"] is None
    assert extras["can_branch"] is False
    adapter.list_capabilities()
    assert double.asked_for("characterizations") == 1


def test_a_simulator_has_no_calibration_and_is_not_asked_for_one(double: IonqDouble, adapter: IonqAdapter) -> None:
    capability = adapter.get_capability("simulator")
    assert capability is not None
    assert capability.extras is not None
    assert capability.extras["t1_seconds"] == capability.extras["native_gates"] == NOT_APPLICABLE
    assert double.asked_for("characterizations") == 0


@pytest.mark.parametrize("how", ["null", "404", "503", "nonsense"])
def test_a_device_without_calibration_is_described_all_the_same(
    double: IonqDouble, adapter: IonqAdapter, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ionq, "_DEVICES_SECONDS", 0.0)
    if how == "null":
        double.characterized = False
    elif how == "nonsense":
        double.fault("characterizations", FaultKind.STATUS, status=200, body=b'{"characterizations": [7]}')
    else:
        double.fault("characterizations", FaultKind.STATUS, status=int(how))
    capability = adapter.get_capability(QPU)
    assert capability is not None
    assert capability.num_qubits == 36
    assert (capability.extras or {})["t1_seconds"] is None
    adapter.get_capability(QPU)
    asked_again = double.asked_for("characterizations") == 2
    assert asked_again == (how != "null"), "an answer is kept for an hour, a failure is not"


def test_a_calibration_may_have_holes(double: IonqDouble, adapter: IonqAdapter) -> None:
    body = json.dumps({"characterizations": [None, {"fidelity": {"spam": {"median": 0.99}, "2q": None}}]}).encode()
    double.fault("characterizations", FaultKind.STATUS, status=200, body=body)
    extras = (adapter.list_capabilities()[0]).extras or {}
    assert extras["readout_error"] == 0.01
    for name in ("one_qubit_error", "two_qubit_error", "t1_seconds", "coupling_map", "calibrated_at"):
        assert extras[name] is None


def test_mid_circuit_measurement_is_only_where_the_operator_knows_it(adapters: Adapters) -> None:
    adapter = adapters(mid_circuit_backends=(QPU,))
    able, other = (adapter.target(one, JobOptions()) for one in adapter.list_devices())
    assert able is not None
    assert other is not None
    assert (able.can_measure_mid_circuit, able.can_reset, able.can_branch) == (True, True, False)
    assert (other.can_measure_mid_circuit, other.can_reset, other.can_branch) == (False, False, False)
    assert able.dialect is Dialect.OPENQASM_3
    assert (able.num_qubits, other.num_qubits) == (36, 29)
    assert able.basis_gates is not None
    assert "ccx" not in able.basis_gates
    capability = adapter.get_capability(QPU)
    assert capability is not None
    assert (capability.extras or {})["can_measure_mid_circuit"] is True


def test_a_device_that_is_gone_has_no_width_to_check(adapter: IonqAdapter) -> None:
    gone = Device(device_id="qpu.gone", provider="ionq", device_type="QPU")
    adapter.check(ASYMMETRIC, gone, 100)
    target = adapter.target(gone, JobOptions())
    assert target is not None
    assert target.num_qubits is None


def test_too_many_shots_are_refused_with_the_limit(adapter: IonqAdapter) -> None:
    device = device_of(adapter, QPU)
    adapter.check(ASYMMETRIC, device, 1_000_000)
    with pytest.raises(CannotRun, match="1000000"):
        adapter.check(ASYMMETRIC, device, 1_000_001)
