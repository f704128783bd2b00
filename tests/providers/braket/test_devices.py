"""Amazon Braket: devices, their windows and their limits."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from qcompute.circuits.program import JobOptions
from qcompute.circuits.target import Dialect
from qcompute.errors import (
    CannotRun,
    Refused,
    Unavailable,
)
from qcompute.local.service import FaultKind
from qcompute.miner.providers.base import (
    NOT_APPLICABLE,
    Capability,
)
from qcompute.miner.providers.braket import BraketAdapter
from qcompute.testing.provider_contract import ASYMMETRIC, SHOTS
from tests.doubles.braket import (
    AQUILA,
    ARIA,
    FORTE,
    GARNET,
    IBEX,
    SV1,
    BraketDouble,
    devices,
    worker,
)
from tests.providers.braket.scene import Open


@pytest.mark.parametrize("arn", [arn for arn, device in devices().items() if device["schema"]])
def test_the_doubles_devices_are_such_as_amazons_own_schema_reads(arn: str) -> None:
    device = devices()[arn]
    text = json.dumps(device["capabilities"])
    assert worker().ask({"do": "check", "schema": device["schema"], "text": text}) is None


def test_gate_model_devices_are_offered_and_nothing_else(opened: Open) -> None:
    assert [device.device_id for device in opened(devices=[]).list_devices()] == [IBEX, GARNET, FORTE]
    every = opened(devices=[], include_simulators=True).list_devices()
    assert (every[0].device_id, every[0].device_type) == (SV1, "SIMULATOR")
    assert opened(devices=[], regions=["us-east-1"]).list_devices() == opened().list_devices()
    assert opened(devices=[AQUILA, ARIA, SV1]).list_devices() == []
    assert opened(devices=[SV1]).get_capability() is None


def test_devices_are_listed_page_by_page_and_described_once(opened: Open, double: BraketDouble) -> None:
    double.page_size = 1
    adapter = opened(devices=[])
    for _ in range(3):
        assert len(adapter.list_devices()) == len(adapter.list_capabilities()) == 3
    assert double.asked_for("GET /device/") == 4  # one takes no OpenQASM


def known(adapter: BraketAdapter, arn: str) -> Capability:
    capability = adapter.get_capability(arn)
    assert capability is not None
    return capability


def test_capabilities_of_each_kind_of_device(opened: Open) -> None:
    adapter = opened(devices=[], include_simulators=True)
    garnet, forte, ibex, sv1 = (known(adapter, arn) for arn in (GARNET, FORTE, IBEX, SV1))
    assert garnet.num_qubits == 20
    assert garnet.basis_gates is not None
    assert "cnot" in garnet.basis_gates
    assert garnet.extras == {
        "native_gates": ["cz", "prx"],
        "coupling_map": [(1, 2), (2, 1), (2, 3), (3, 2)],
        "min_shots": 1,
        "max_shots": 20_000,
        "calibrated_at": "2026-01-02T03:04:05+00:00",
        "can_measure_mid_circuit": False,
        "can_branch": False,
        "t1_seconds": {1: pytest.approx(42e-6), 2: pytest.approx(40e-6)},
        "t2_seconds": {1: pytest.approx(21e-6), 2: pytest.approx(20e-6)},
        "one_qubit_error": 0.002,
        "readout_error": 0.04,
        "two_qubit_error": 0.01,
    }
    assert forte.extras is not None
    assert [forte.extras[name] for name in ("t1_seconds", "one_qubit_error", "two_qubit_error", "readout_error")] == [
        None, 0.0002, 0.005, 0.006,
    ]  # fmt: skip
    assert forte.extras["coupling_map"] == NOT_APPLICABLE
    assert ibex.extras is not None
    assert [ibex.extras[name] for name in ("t1_seconds", "t2_seconds", "readout_error")] == [1.14, 0.443, 0.003]
    assert sv1.extras is not None
    assert {sv1.extras[name] for name in ("native_gates", "t1_seconds", "readout_error")} == {NOT_APPLICABLE}
    assert adapter.get_capability("no-such-device") is None


def test_a_device_that_says_little_is_offered(opened: Open, double: BraketDouble) -> None:
    document = double.documents[FORTE]["capabilities"]
    double.documents[FORTE]["capabilities"] = {
        "service": {"shotsRange": [1, 10]},
        "paradigm": {"qubitCount": 2},
        "action": {"braket.ir.openqasm.program": {"supportedOperations": ["h"]}},
        "provider": {"fidelity": "good"},
        "standardized": {"oneQubitProperties": {"0": {"T1": {"value": 1, "unit": "days"}}}},
    }
    assert document["paradigm"]["qubitCount"] == 36
    adapter = opened()
    capability = known(adapter, FORTE)
    assert capability.extras is not None
    assert capability.extras["t1_seconds"] == {0: None}
    assert {capability.extras[n] for n in ("one_qubit_error", "calibrated_at", "native_gates")} == {None}
    assert adapter.get_pricing(FORTE) is None
    availability = adapter.get_availability(FORTE)
    assert availability is not None
    assert availability.is_available


@pytest.mark.parametrize("document", ["<html>", "[]", "7", {"action": {"braket.ir.openqasm.program": {}}}])
def test_a_device_that_cannot_be_read_does_not_hide_the_others(
    opened: Open, double: BraketDouble, document: Any, caplog: pytest.LogCaptureFixture
) -> None:
    double.documents[FORTE]["capabilities"] = document
    assert [device.device_id for device in opened(devices=[]).list_devices()] == [IBEX, GARNET]
    assert FORTE in caplog.text


def test_old_descriptions_are_used_while_there_are_no_new_ones(
    adapter: BraketAdapter, double: BraketDouble, caplog: pytest.LogCaptureFixture
) -> None:
    before = adapter.list_devices()
    adapter._catalog._fresh_until = 0.0
    double.fault("POST /devices", FaultKind.STATUS, status=503, times=None)
    assert adapter.list_devices() == before
    assert "not described anew" in caplog.text
    asked = double.asked_for("POST /devices")
    adapter.list_devices()
    assert double.asked_for("POST /devices") == asked


def test_without_any_description_the_failure_is_told(adapter: BraketAdapter, double: BraketDouble) -> None:
    double.fault("POST /devices", FaultKind.STATUS, status=503)
    with pytest.raises(Unavailable):
        adapter.list_devices()
    assert adapter.list_devices()


@pytest.mark.parametrize(
    ("sizes", "waiting"), [(("2", "1"), 3), ((">4000", "0"), 4000), (("many", "none"), None), (("0", "0"), 0)]
)
def test_queue_sizes_are_texts(
    adapter: BraketAdapter, double: BraketDouble, sizes: tuple[str, str], waiting: int | None
) -> None:
    double.queue_sizes = sizes
    availability = adapter.get_availability(FORTE)
    assert availability is not None
    assert availability.pending_jobs == waiting


@pytest.mark.parametrize(("status", "word"), [("ONLINE", "ONLINE"), ("OFFLINE", "OFFLINE"), ("RETIRED", "OFFLINE")])
def test_availability_follows_the_devices_status(
    adapter: BraketAdapter, double: BraketDouble, status: str, word: str
) -> None:
    adapter.list_devices()
    double.status[FORTE] = status
    availability = adapter.get_availability()
    assert availability is not None
    assert availability.availability == word
    assert (availability.is_available, availability.next_available) == (word == "ONLINE", None)
    assert adapter.get_availability("no-such-device") is None


def test_outside_its_windows_a_device_says_when_it_is_back(opened: Open, double: BraketDouble) -> None:
    start = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=2)
    end = start + timedelta(hours=1)
    double.documents[FORTE]["capabilities"]["service"]["executionWindows"] = [
        {"executionDay": "Everyday", "windowStartHour": f"{start:%H:%M:%S}", "windowEndHour": f"{end:%H:%M:%S}"}
    ]
    availability = opened().get_availability(FORTE)
    assert availability is not None
    assert (availability.availability, availability.is_available) == ("OFFLINE", False)
    assert availability.next_available == start.isoformat()
    assert "execution windows" in (availability.status_msg or "")


def test_what_a_circuit_is_compiled_to(adapter: BraketAdapter) -> None:
    (device,) = adapter.list_devices()
    target = adapter.target(device, JobOptions())
    assert target is not None
    assert (target.dialect, target.num_qubits, target.coupling_map) == (Dialect.BRAKET, 36, None)
    assert target.basis_gates == (
        *("cx", "h", "rx", "rxx", "ry", "ryy", "rz", "rzz", "s", "sdg", "swap", "sx", "sxdg"),
        *("t", "tdg", "x", "y", "z"),
    )
    assert {target.can_reset, target.can_measure_mid_circuit, target.can_branch} == {False}


def test_what_a_device_can_never_run_is_said_before(opened: Open, double: BraketDouble) -> None:
    action = double.documents[FORTE]["capabilities"]["action"]["braket.ir.openqasm.program"]
    action["requiresAllQubitsMeasurement"] = True
    adapter = opened()
    (device,) = adapter.list_devices()
    adapter.check(ASYMMETRIC, device, SHOTS)
    for shots in (0, 5001):
        with pytest.raises(CannotRun, match="1 to 5000"):
            adapter.check(ASYMMETRIC, device, shots)
    with pytest.raises(CannotRun, match="all qubits"):
        adapter.check(ASYMMETRIC.model_copy(update={"measured": ((0, 2), (1, 0))}), device, SHOTS)
    with pytest.raises(Refused, match="no device"):
        adapter.check(ASYMMETRIC, device.model_copy(update={"device_id": "gone"}), SHOTS)
