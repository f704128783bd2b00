"""IBM: devices, their calibration and their limits."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from qcompute.circuits.program import JobOptions
from qcompute.circuits.target import Dialect
from qcompute.errors import (
    BadReply,
    Unavailable,
)
from qcompute.local.service import FaultKind
from qcompute.testing.provider_contract import ASYMMETRIC
from qcompute.vendor.kept import Kept
from tests.doubles.ibm import IbmDouble
from tests.providers.ibm.scene import Account


def test_devices_come_from_one_request(opened: Callable[..., Account], double: IbmDouble) -> None:
    double.devices["mock_manila"] = ("online", "available")
    account = opened(devices=())
    assert [device.device_id for device in account.adapter.list_devices()] == ["ibm_fez", "ibm_manila"]
    assert account.adapter.list_devices()[0].device_type == "QPU"
    account.adapter.get_availability("ibm_fez")
    account.adapter.get_availability("ibm_manila")
    assert double.asked_for("GET /api/v1/backends") == 1


def test_only_devices_that_are_named_are_offered(
    opened: Callable[..., Account], caplog: pytest.LogCaptureFixture
) -> None:
    adapter = opened(devices=("ibm_fez", "ibm_typo")).adapter
    assert [device.device_id for device in adapter.list_devices()] == ["ibm_fez"]
    assert "ibm_typo" in caplog.text
    assert adapter.get_capability("ibm_manila") is None
    assert adapter.get_availability("ibm_manila") is None


def test_an_account_without_devices_has_nothing_to_say(opened: Callable[..., Account]) -> None:
    adapter = opened(devices=("ibm_typo",)).adapter
    assert (adapter.list_devices(), adapter.list_capabilities()) == ([], [])
    assert (adapter.get_capability(), adapter.get_availability()) == (None, None)


@pytest.mark.parametrize(
    ("status", "internal", "expected"),
    [
        (("online", "available"), False, ("ONLINE", True)),
        (("online", ""), False, ("ONLINE", True)),
        (("online", "internal"), False, ("MAINTENANCE", False)),
        (("online", "internal"), True, ("ONLINE", True)),
        (("internal", ""), False, ("MAINTENANCE", False)),
        (("internal", ""), True, ("ONLINE", True)),
        (("paused", "calibration"), False, ("MAINTENANCE", False)),
        (("maintenance", ""), False, ("MAINTENANCE", False)),
        (("offline", ""), False, ("OFFLINE", False)),
        (("dreaming", ""), False, (None, False)),
    ],
)
def test_each_state_of_a_device(
    opened: Callable[..., Account],
    double: IbmDouble,
    status: tuple[str, str],
    internal: bool,  # noqa: FBT001
    expected: tuple[str | None, bool],
) -> None:
    word, reason = status
    double.devices["ibm_manila"] = status
    told = opened(include_internal=internal).adapter.get_availability("ibm_manila")
    assert told is not None
    assert (told.availability, told.is_available) == expected
    assert told.status_msg == (f"{word}: {reason}" if reason else word)
    assert told.pending_jobs == 0


def test_an_instance_at_its_limit_is_offline(opened: Callable[..., Account], double: IbmDouble) -> None:
    double.limit_reached = True
    told = opened().adapter.get_availability()
    assert told is not None
    assert (told.availability, told.is_available) == ("OFFLINE", False)
    assert "usage limit" in (told.status_msg or "")


def test_a_key_without_the_right_to_see_the_usage_is_enough(opened: Callable[..., Account], double: IbmDouble) -> None:
    double.fault("GET /api/v1/instances/usage", FaultKind.STATUS, status=403)
    told = opened().adapter.get_availability()
    assert told is not None
    assert told.is_available


def test_capabilities_are_the_last_calibration(account: Account) -> None:
    capability = account.adapter.get_capability("ibm_fez")
    assert capability is not None
    extras = capability.extras or {}
    assert capability.num_qubits == 156
    assert capability.basis_gates == ["cz", "id", "rz", "sx", "x"]
    assert len(extras["t1_seconds"]) == len(extras["t2_seconds"]) == 156
    assert 1e-6 < extras["t1_seconds"][0] < 1e-2
    assert 0 < extras["one_qubit_error"] < extras["two_qubit_error"] < 0.5
    assert 0 < extras["readout_error"] < 0.5
    assert 1e-9 < extras["one_qubit_seconds"] < extras["two_qubit_seconds"] < 1e-5
    assert extras["max_shots"] == 100_000
    assert extras["calibrated_at"].startswith("2025")
    assert (extras["can_measure_mid_circuit"], extras["can_branch"], extras["can_reset"]) == (True, True, True)
    assert (1, 2) in extras["coupling_map"]
    assert (0, 1) not in extras["coupling_map"]  # this one has an error of 1
    assert extras["faulty_qubits"] == []


def test_what_is_broken_is_not_compiled_to(opened: Callable[..., Account], double: IbmDouble) -> None:
    account = opened()
    account.adapter.get_capability("ibm_manila")
    good = double.properties["ibm_manila"]
    assert good is not None
    broken = json.loads(json.dumps(good))
    broken["qubits"][4].append({"name": "operational", "unit": "", "value": 0, "date": "2026-01-01"})
    for gate in broken["gates"]:
        if gate["gate"] == "sx" and gate["qubits"] == [0]:
            gate["parameters"].append({"name": "operational", "unit": "", "value": 0})
        if gate["gate"] == "cx" and set(gate["qubits"]) == {1, 2}:
            gate["parameters"] = [{"name": "gate_error", "unit": "", "value": 1}]
    double.properties["ibm_manila"] = broken
    try:
        target = opened().adapter.target(account.device(), JobOptions())
    finally:
        double.properties["ibm_manila"] = good
    assert target is not None
    assert target.dialect is Dialect.QPY
    assert target.faulty_qubits == (0, 4)
    assert (1, 2) not in (target.coupling_map or ())
    assert (2, 3) in (target.coupling_map or ())
    assert (target.num_qubits, target.can_reset, target.can_branch) == (5, True, True)


def test_a_device_that_says_little_has_little(opened: Callable[..., Account], double: IbmDouble) -> None:
    double.devices["ibm_plain"] = ("online", "")
    double.configurations["ibm_plain"] = {"n_qubits": 3, "basis_gates": ["cx", "u"]}
    answers: list[dict[str, Any] | None] = [None, {}]
    for properties in answers:
        double.properties["ibm_plain"] = properties
        account = opened(devices=("ibm_plain",))
        capability = account.adapter.get_capability()
        assert capability is not None
        unknown = {name for name, value in (capability.extras or {}).items() if value is None}
        assert {"coupling_map", "t1_seconds", "two_qubit_error", "max_shots", "calibrated_at"} <= unknown
        target = account.adapter.target(account.device("ibm_plain"), JobOptions())
        assert target is not None
        assert (target.coupling_map, target.can_branch, target.can_measure_mid_circuit) == (None, False, False)
        account.adapter.check(ASYMMETRIC, account.device("ibm_plain"), 10**9)


def test_what_was_known_is_used_when_ibm_does_not_answer(
    opened: Callable[..., Account], double: IbmDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = opened()
    devices, capability = account.adapter.list_devices(), account.adapter.get_capability("ibm_manila")
    now = time.monotonic()
    monkeypatch.setattr("qcompute.vendor.kept.time.monotonic", lambda: now + 7200)
    double.fault("GET /api/v1/backends", FaultKind.STATUS, status=503, times=None)
    assert account.adapter.list_devices() == devices
    assert account.adapter.get_capability("ibm_manila") == capability
    with pytest.raises(Unavailable):
        account.adapter.get_availability("ibm_manila")


def test_calibrations_are_read_again_after_an_hour(
    opened: Callable[..., Account], double: IbmDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = opened()
    for _ in range(3):
        account.adapter.get_capability("ibm_manila")
    assert double.asked_for("/backends/ibm_manila/") == 2
    now = time.monotonic()
    monkeypatch.setattr("qcompute.vendor.kept.time.monotonic", lambda: now + 3601)
    account.adapter.get_capability("ibm_manila")
    assert double.asked_for("/backends/ibm_manila/") == 4


def test_nothing_is_kept_of_what_failed() -> None:
    answers = iter([BadReply("no"), 5])

    def fetch() -> int:
        answer = next(answers)
        if isinstance(answer, BadReply):
            raise answer
        return answer

    kept = Kept(fetch, 60.0)
    with pytest.raises(BadReply):
        kept.get(or_old=True)
    assert (kept.get(), kept.get()) == (5, 5)
