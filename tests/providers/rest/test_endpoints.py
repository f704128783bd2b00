"""Plain REST: several endpoints, and limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompute.circuits.program import JobOptions
from qcompute.circuits.target import Dialect, Target
from qcompute.errors import (
    BadReply,
    CannotRun,
)
from qcompute.miner.providers.base import (
    ProviderStatus,
)
from qcompute.miner.providers.rest import _BYTES_PER_COUNT, size_of
from qcompute.testing.provider_contract import ASYMMETRIC
from tests.providers.rest.scene import Make, Told, X


def test_a_job_stays_with_its_address(told: Told, make: Make) -> None:
    """Numbers move when an endpoint is taken out; jobs do not."""
    with Told() as gone:
        both = make(base_urls=[gone.url, told.url])
        told.answers["POST"] = gone.answers["POST"] = (202, {"job_id": "j"})
        told.answers["GET"] = (200, {"status": "running"})
        first, second = both.submit(X, "rest_1", 1), both.submit(X, "rest_2", 1)
        alone = make()
        gone.requests.clear()
        assert alone.poll(second).status == ProviderStatus.RUNNING
        assert alone.poll(first).status == ProviderStatus.UNKNOWN
        with pytest.raises(BadReply):
            alone.get_job_receipt(first)
        alone.cancel(first)
        assert gone.requests == []


def test_what_holds_for_one_endpoint(told: Told, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QCOMPUTE_SECRET_LUMI", "lumi-token")
    lumi = {
        "url": f"{told.url}/lumi",
        "token": "lumi",
        "num_qubits": 5,
        "device_type": "QPU",
        "basis_gates": ["cz", "rz", "sx"],
        "coupling_map": [[0, 1]],
        "prices": {"per_task": 2},
    }
    adapter = make(nodes={"lumi": lumi}, max_shots=500, can_branch=True, optimization_level=2)
    assert [(device.device_id, device.device_type) for device in adapter.list_devices()] == [
        ("rest_1", "SIMULATOR"),
        ("lumi", "QPU"),
    ]
    one, other = adapter.list_capabilities()
    assert (one.num_qubits, one.basis_gates, other.num_qubits, other.basis_gates) == (30, None, 5, ["cz", "rz", "sx"])
    assert other.extras == {
        "native_gates": None,
        "coupling_map": ((0, 1),),
        "max_shots": 500,
        "can_measure_mid_circuit": False,
        "can_branch": True,
    }
    assert adapter.get_capability("nobody") is None
    assert adapter.get_pricing() is None
    assert adapter.get_pricing("lumi") == {"perTask": 2.0, "perShot": 0.0, "perMinute": 0.0}
    assert adapter.target(adapter.list_devices()[1], JobOptions()) == Target(
        dialect=Dialect.OPENQASM_3,
        num_qubits=5,
        basis_gates=("cz", "rz", "sx"),
        coupling_map=((0, 1),),
        can_branch=True,
        optimization_level=2,
    )
    told.answers["POST"] = (202, {"job_id": "j"})
    adapter.submit(X, "lumi", 1)
    line, headers, _ = told.requests[-1]
    assert (line, headers["Authorization"]) == ("POST /lumi/run-circuit", "Bearer lumi-token")


def test_limits(make: Make) -> None:
    limits = make(max_running_jobs=4, poll_interval_seconds=0.5).limits()
    assert (limits.max_running_jobs, limits.poll_interval_seconds, limits.max_pack) == (4, 0.5, 1)


@pytest.mark.parametrize(
    ("settings", "shots", "clbits", "reason"),
    [
        ({}, 100_000, 30, None),
        ({}, 1_000_000, 3, None),
        ({}, 1_000_000, 30, "too_many_shots"),
        ({}, 10_000, 4096, "too_many_shots"),
        ({"keeps_jobs": True}, 1_000_000, 4096, None),
        ({"max_shots": 1000}, 1000, 3, None),
        ({"max_shots": 1000}, 1001, 3, "too_many_shots"),
        ({"num_qubits": 2}, 1, 3, "too_wide"),
    ],
)
def test_what_can_never_be_run_is_refused_unpaid(
    make: Make, settings: dict[str, object], shots: int, clbits: int, reason: str | None
) -> None:
    adapter = make(**settings)
    circuit = ASYMMETRIC.model_copy(update={"num_clbits": clbits})
    if reason is None:
        adapter.check(circuit, adapter.list_devices()[0], shots)
        return
    with pytest.raises(CannotRun) as caught:
        adapter.check(circuit, adapter.list_devices()[0], shots)
    assert caught.value.reason == reason


@given(st.dictionaries(st.text("01", min_size=30, max_size=30), st.integers(0, 10**6), max_size=50))
def test_the_bound_holds_for_what_is_kept(counts: dict[str, int]) -> None:
    """What passes the check fits into the handle, however the shots fall."""
    assert size_of(counts) <= len(counts) * (30 + 1 + _BYTES_PER_COUNT) + 2
