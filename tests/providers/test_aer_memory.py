"""What does not fit beside what runs waits, what never fits is refused, what was underestimated fails in words."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from qcompute.circuits.compiler import CircuitCompiler
from qcompute.circuits.program import CompiledCircuit, JobOptions
from qcompute.circuits.settings import CircuitSettings
from qcompute.errors import CannotRun, ConfigError
from qcompute.local.demo_jobs import BELL
from qcompute.miner.providers.base import Device, JobHandle, ProviderAdapter, ProviderStatus
from qcompute.miner.providers.registry import open_adapter
from qcompute.vendor.aer.memory import MACHINE
from tests.bench.simulate import ghz
from tests.providers.test_aer import SLOW, wait_for

GIB = 1 << 30


def compiled(source: str) -> CompiledCircuit:
    compiler = CircuitCompiler(CircuitSettings())
    try:
        return compiler.compile(source)
    finally:
        compiler.close()


def device(adapter: ProviderAdapter, device_id: str) -> Device:
    return next(each for each in adapter.list_devices() if each.device_id == device_id)


def submitted(adapter: ProviderAdapter, circuit: CompiledCircuit, device_id: str, shots: int = 100) -> JobHandle:
    on = device(adapter, device_id)
    adapter.check(circuit, on, shots)
    return adapter.submit(adapter.prepare(circuit, on, shots, JobOptions()).payload, device_id, shots)


def test_a_job_that_does_not_fit_beside_the_one_that_runs_waits_for_it(tmp_path: Path) -> None:
    """Two processes of 4 GiB each on a machine of 4 GiB: both ran, and the machine began to swap."""
    adapter = open_adapter("aer", {"spool": tmp_path, "processes": 2, "memory_total_bytes": 2 * GIB})
    first, second = (adapter.submit(SLOW, "aer_statevector", 100) for _ in range(2))
    wait_for(adapter, first, ProviderStatus.RUNNING)
    assert adapter.poll(second).status == ProviderStatus.QUEUED
    deadline = time.monotonic() + 10
    while adapter.poll(second).message != "waits for 2 GiB of memory":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert MACHINE.used == 2 * GIB
    adapter.cancel(first)
    wait_for(adapter, second, ProviderStatus.RUNNING)
    assert adapter.poll(first).status == ProviderStatus.CANCELLED
    adapter.cancel(second)
    wait_for(adapter, second, ProviderStatus.CANCELLED)
    adapter.close()


def test_a_job_that_waits_for_memory_is_cancelled_at_once(tmp_path: Path) -> None:
    adapter = open_adapter("aer", {"spool": tmp_path, "processes": 2, "memory_total_bytes": 2 * GIB})
    first, second = (adapter.submit(SLOW, "aer_statevector", 100) for _ in range(2))
    wait_for(adapter, first, ProviderStatus.RUNNING)
    adapter.cancel(second)
    assert adapter.poll(second).status == ProviderStatus.CANCELLED
    adapter.cancel(first)
    wait_for(adapter, first, ProviderStatus.CANCELLED)
    adapter.close()


def test_small_jobs_run_side_by_side(tmp_path: Path) -> None:
    """One thread each, on as many processes as there are."""
    adapter = open_adapter("aer", {"spool": tmp_path, "processes": 2, "memory_total_bytes": 2 * GIB})
    circuit = compiled(SLOW)
    both = [submitted(adapter, circuit, "aer_statevector") for _ in range(2)]
    for handle in both:
        wait_for(adapter, handle, ProviderStatus.RUNNING)
    assert {adapter.poll(handle).status for handle in both} == {"RUNNING"}
    for handle in both:
        adapter.cancel(handle)
        wait_for(adapter, handle, ProviderStatus.CANCELLED)
    adapter.close()


@pytest.mark.parametrize(
    ("config", "circuit", "words"),
    [
        (
            {"memory_bytes": GIB},
            (40, "aer_mps", 50_000_000),
            r"17\.9 GiB .* 0\.316 GiB \(.*aer\.memory_bytes\)",
        ),
        ({"memory_total_bytes": GIB}, (26, "aer_statevector", 10), r"has 25 in 0\.75 GiB .*aer\.memory_total_bytes\)"),
    ],
    ids=["shots", "qubits"],
)
def test_what_can_never_fit_is_refused_with_the_setting(
    tmp_path: Path, config: dict[str, Any], circuit: tuple[int, str, int], words: str
) -> None:
    adapter = open_adapter("aer", {"spool": tmp_path} | config)
    qubits, on, shots = circuit
    with pytest.raises(CannotRun, match=words):
        adapter.check(compiled(ghz(qubits)), device(adapter, on), shots)
    adapter.close()


def test_a_simulation_that_outgrows_its_process_fails_and_names_the_setting(tmp_path: Path) -> None:
    """A plain text is not estimated: only the process's limit ends this one."""
    adapter = open_adapter("aer", {"spool": tmp_path, "memory_bytes": 1 << 30})
    handle = adapter.submit(ghz(26), "aer_statevector", 10)
    deadline = time.monotonic() + 90
    while not ProviderStatus.of((status := adapter.poll(handle)).status).is_terminal:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert (status.status, status.message) == (
        "FAILED",
        "needs more than 1024 MiB of memory to simulate (providers.aer.memory_bytes)",
    )
    again = adapter.submit(BELL, "aer_mps", 10)
    wait_for(adapter, again, ProviderStatus.COMPLETED)
    adapter.close()


def test_a_matrix_product_state_of_200_qubits_is_simulated(tmp_path: Path) -> None:
    """The device said 256, and every circuit above 63 failed: `transpile` checks a width that Aer itself does not."""
    adapter = open_adapter("aer", {"spool": tmp_path})
    handle = submitted(adapter, compiled(ghz(200)), "aer_mps")
    wait_for(adapter, handle, ProviderStatus.COMPLETED)
    counts = (adapter.get_job_receipt(handle).results or {})["measurementCounts"]
    assert set(counts) == {"0" * 200, "1" * 200}
    adapter.close()


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"methods": ["tensor_network"]}, "runs on a GPU only"),
        ({"custatevec": True}, "custatevec is for a GPU"),
        ({"device": "GPU", "noise_backends": ["fake_manila"]}, "simulated on a CPU"),
        ({"methods": ["warp"]}, r"providers\.aer\.methods\.0"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(tmp_path: Path, config: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        open_adapter("aer", {"spool": tmp_path} | config)


def test_methods_are_chosen_by_the_operator(tmp_path: Path) -> None:
    adapter = open_adapter("aer", {"spool": tmp_path, "methods": ["density_matrix", "stabilizer"]})
    assert [each.device_id for each in adapter.list_devices()] == ["aer_density_matrix", "aer_stabilizer"]
    assert [each.num_qubits for each in adapter.list_capabilities()] == [13, 4096]
    adapter.close()
