"""Azure Quantum: which targets there are, and what each can do."""

from __future__ import annotations

import json
import time

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
    ProviderAdapter,
)
from qcompute.testing.provider_contract import ASYMMETRIC, SHOTS
from tests.doubles.azure import AzureDouble
from tests.providers.azure.scene import (
    EMULATOR,
    QVM,
    SIMULATOR,
    STATUS,
    counts,
    device,
    ended,
    only_job,
    opened,
    prepared,
    submit,
)


def test_only_targets_that_run_circuits_are_offered(double: AzureDouble, adapter: ProviderAdapter) -> None:
    names = [one.device_id for one in adapter.list_devices()]
    assert names == [SIMULATOR, "ionq.qpu.forte-1", EMULATOR, "quantinuum.qpu.h2-1", "quantinuum.qpu.helios-1", QVM]
    kinds = {one.device_id: (one.vendor, one.device_type) for one in adapter.list_devices()}
    assert kinds[SIMULATOR] == ("ionq", "SIMULATOR")
    assert kinds["quantinuum.qpu.h2-1"] == ("quantinuum", "QPU")
    del double.targets[SIMULATOR]
    time.sleep(0.25)
    assert adapter.get_availability(SIMULATOR) is not None
    assert [one.device_id for one in adapter.list_devices()] == names


def test_an_empty_workspace_has_nothing(double: AzureDouble) -> None:
    double.targets.clear()
    with opened(double) as adapter:
        assert adapter.list_devices() == []
        assert adapter.get_capability() is None
        assert adapter.get_availability() is None
        assert adapter.get_pricing() is None
        with pytest.raises(Refused):
            adapter.submit("x")


def test_the_targets_are_asked_for_once_in_a_while(double: AzureDouble) -> None:
    with opened(double, status_seconds=60) as adapter:
        for one in adapter.list_devices():
            adapter.get_availability(one.device_id)
            adapter.get_capability(one.device_id)
            adapter.target(one, JobOptions())
        assert double.asked_for(STATUS) == 1
    with opened(double, status_seconds=1e-9) as adapter:
        adapter.list_capabilities()
        assert double.asked_for(STATUS) == 2
        adapter.get_availability()
        assert double.asked_for(STATUS) == 3
        double.fault(STATUS, FaultKind.STATUS, status=503, times=None)
        with pytest.raises(Unavailable):
            adapter.get_availability()
        assert adapter.get_capability(EMULATOR) is not None


@pytest.mark.parametrize(
    ("word", "availability", "available"),
    [
        ("Available", "ONLINE", True),
        ("Degraded", "DEGRADED", True),
        ("Unavailable", "OFFLINE", False),
        ("Resting", None, False),
    ],
)
def test_availability_has_azures_words(
    double: AzureDouble, adapter: ProviderAdapter, word: str, availability: str | None, available: object
) -> None:
    double.targets[EMULATOR] = {"currentAvailability": word, "averageQueueTime": 61}
    answer = adapter.get_availability(EMULATOR)
    assert answer is not None
    assert (answer.availability, answer.is_available) == (availability, available)
    assert (answer.status_msg, answer.queue_seconds) == (f"{word}, about 61 s in the queue", 61)


def test_a_queue_nobody_measured_is_not_guessed(double: AzureDouble, adapter: ProviderAdapter) -> None:
    double.targets[EMULATOR] = {"averageQueueTime": None}
    answer = adapter.get_availability(EMULATOR)
    assert answer is not None
    assert (answer.status_msg, answer.queue_seconds) == ("Available", None)
    with double.hold():
        assert adapter.poll(submit(adapter)).eta_seconds is None


def test_a_device_that_is_not_in_the_workspace_is_offline(double: AzureDouble) -> None:
    with opened(double, "iqm.garnet") as adapter:
        answer = adapter.get_availability("iqm.garnet")
        assert answer is not None
        assert (answer.availability, answer.is_available) == ("OFFLINE", False)
        capability = adapter.get_capability("iqm.garnet")
        assert capability is not None
        assert capability.num_qubits is None
        assert (capability.extras or {})["max_shots"] is None
        assert (capability.extras or {})["coupling_map"] is None
        with pytest.raises(Refused, match="InvalidTarget"):
            submit(adapter, name="iqm.garnet")
        assert adapter.get_capability(EMULATOR) is None


def test_what_a_target_can_do_is_said_as_far_as_it_is_known(double: AzureDouble, adapter: ProviderAdapter) -> None:
    double.targets["ionq.qpu.forte-1"] = {"numQubits": 0}
    double.targets["quantinuum.qpu.h2-1"] = {"numQubits": 55, "targetProfile": "Adaptive_RI"}
    told, known = adapter.get_capability("quantinuum.qpu.h2-1"), adapter.get_capability("ionq.qpu.forte-1")
    assert told is not None
    assert known is not None
    assert (told.num_qubits, known.num_qubits) == (55, 35)
    assert told.extras == {
        "native_gates": None,
        "coupling_map": NOT_APPLICABLE,
        "t1_seconds": None,
        "t2_seconds": None,
        "readout_error": None,
        "one_qubit_error": None,
        "two_qubit_error": None,
        "max_shots": 10_000,
        "calibrated_at": None,
        "can_measure_mid_circuit": True,
        "can_branch": True,
        "target_profile": "Adaptive_RI",
        "input_format": "honeywell.openqasm.v1",
    }
    assert (known.extras or {})["can_measure_mid_circuit"] is False
    assert "cnot" in (known.basis_gates or [])


@pytest.mark.parametrize(
    ("name", "dialect"),
    [
        ("quantinuum.qpu.h2-1", Dialect.OPENQASM_2),
        ("quantinuum.qpu.helios-1", Dialect.QIR),
        ("ionq.qpu.forte-1", Dialect.IONQ_JSON),
        (QVM, Dialect.QIR),
        ("iqm.garnet", Dialect.QIR),
    ],
)
def test_a_target_s_name_says_what_it_takes(adapter: ProviderAdapter, name: str, dialect: Dialect) -> None:
    target = adapter.target(device(name), JobOptions())
    assert target is not None
    assert target.dialect is dialect
    takes_all = dialect is Dialect.OPENQASM_2
    assert (target.can_reset, target.can_measure_mid_circuit, target.can_branch) == (takes_all,) * 3


def test_an_operator_may_say_what_a_target_takes(double: AzureDouble) -> None:
    with opened(double, EMULATOR, dialects={EMULATOR: "qir"}) as adapter:
        assert counts(ended(adapter, submit(adapter))) == {"010": SHOTS}
        assert only_job(double).request["inputDataFormat"] == "qir.v1"


def test_limits_are_held_before_anything_is_paid(adapter: ProviderAdapter) -> None:
    adapter.check(ASYMMETRIC, device("ionq.qpu.forte-1"), 10_000)
    adapter.check(ASYMMETRIC, device(EMULATOR), 1_000_000)
    with pytest.raises(CannotRun, match="at most 10000 shots") as raised:
        adapter.check(ASYMMETRIC, device("ionq.qpu.forte-1"), 10_001)
    assert raised.value.reason == "too_many_shots"


def test_a_circuit_that_was_not_translated_goes_nowhere(adapter: ProviderAdapter) -> None:
    assert json.loads(adapter.prepare(ASYMMETRIC, device(EMULATOR), 1, JobOptions()).payload)["azure"]["text"]
    for name in (SIMULATOR, QVM):
        with pytest.raises(CannotRun, match="not translated") as raised:
            adapter.prepare(ASYMMETRIC, device(name), 1, JobOptions())
        assert raised.value.reason == "untranslated"


def test_prices_are_the_operators_and_in_one_currency(double: AzureDouble, adapter: ProviderAdapter) -> None:
    assert adapter.get_pricing(EMULATOR) is None
    assert adapter.price_currency() == "USD"
    prices = {EMULATOR: {"per_task": "1", "per_shot": "0.5", "currency": "EUR"}}
    with opened(double, EMULATOR, SIMULATOR, prices=prices) as priced:
        assert priced.get_pricing() == {"perTask": 1.0, "perShot": 0.5, "perMinute": 0.0}
        assert priced.get_pricing(SIMULATOR) is None
        estimate = priced.estimate(prepared(priced), device(EMULATOR), 10)
        assert estimate is not None
        assert (estimate.amount, estimate.currency) == (6, "EUR")
