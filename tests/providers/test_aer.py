"""Aer's answers are Aer's own, and a job of a daemon that died runs again."""

# qiskit ships no types
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qcompute.circuits.compiler import CircuitCompiler
from qcompute.circuits.program import JobOptions
from qcompute.circuits.settings import CircuitSettings
from qcompute.errors import CannotRun
from qcompute.local.demo_jobs import ASYMMETRIC, BELL, GHZ
from qcompute.miner.providers.base import JobHandle, ProviderAdapter, ProviderStatus
from qcompute.miner.providers.registry import open_adapter
from qcompute.units import IdempotencyToken

T_GATE = 'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[2];\ncreg c[2];\nh q[0];\nt q[0];\nh q[0];\nmeasure q -> c;\n'
SLOW = (
    'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[23];\ncreg c[23];\n'
    "h q;\n"
    + "".join(f"cu1(0.{n}1) q[{n}], q[{n + 1}];\nrx(0.3) q[{n}];\n" for n in range(22)) * 8
    + "measure q -> c;\n"
)


@pytest.fixture(scope="module")
def compiler() -> Iterator[CircuitCompiler]:
    made = CircuitCompiler(CircuitSettings())
    yield made
    made.close()


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProviderAdapter]:
    made = open_adapter("aer", {"spool": tmp_path_factory.mktemp("spool"), "noise_backends": ["fake_manila"]})
    yield made
    made.close()


def run(
    adapter: ProviderAdapter, compiler: CircuitCompiler, source: str, device_id: str, token: str, **options: Any
) -> dict[str, Any]:
    """Counts and metadata of one run of 1,000 shots."""
    device = next(device for device in adapter.list_devices() if device.device_id == device_id)
    circuit = compiler.compile(source)
    adapter.check(circuit, device, 1000)
    prepared = adapter.prepare(circuit, device, 1000, JobOptions(**options))
    submit: Callable[..., JobHandle] = adapter.submit
    handle = submit(prepared.payload, device_id, 1000, token=IdempotencyToken(token))
    deadline = time.monotonic() + 60
    while not ProviderStatus.of(adapter.poll(handle).status).is_terminal:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    receipt = adapter.get_job_receipt(handle)
    assert receipt.status == ProviderStatus.COMPLETED, receipt.metadata
    return {"counts": (receipt.results or {})["measurementCounts"], **(receipt.metadata or {})}


def directly(source: str, method: str, seed: int) -> dict[str, int]:
    """The same with AerSimulator in this process."""
    from qiskit import qasm2, transpile  # noqa: PLC0415 - the adapter must not import it here
    from qiskit_aer import AerSimulator  # noqa: PLC0415

    circuit = qasm2.loads(source, custom_instructions=qasm2.LEGACY_CUSTOM_INSTRUCTIONS, include_path=())
    simulator = AerSimulator(method=method)
    compiled = transpile(circuit, simulator, optimization_level=0, seed_transpiler=seed)
    counts = simulator.run(compiled, shots=1000, seed_simulator=seed).result().get_counts()
    return {key.replace(" ", ""): value for key, value in counts.items()}


@pytest.mark.parametrize(
    ("device", "method"),
    [
        ("aer_automatic", "automatic"),
        ("aer_statevector", "statevector"),
        ("aer_mps", "matrix_product_state"),
        ("aer_stabilizer", "stabilizer"),
    ],
)
@pytest.mark.parametrize("source", [BELL, ASYMMETRIC], ids=["bell", "asymmetric"])
def test_counts_are_those_of_aer_used_directly(
    adapter: ProviderAdapter, compiler: CircuitCompiler, device: str, method: str, source: str
) -> None:
    token = f"same-{device}-{len(source)}".replace("_", "-")
    assert run(adapter, compiler, source, device, token, seed=42)["counts"] == directly(source, method, 42)


def test_a_seed_repeats_and_none_does_not_have_to(adapter: ProviderAdapter, compiler: CircuitCompiler) -> None:
    one = run(adapter, compiler, GHZ, "aer_mps", "seed-1", seed=5)
    two = run(adapter, compiler, GHZ, "aer_mps", "seed-2", seed=5)
    assert one["counts"] == two["counts"]
    assert (one["seed"], one["method"]) == (5, "matrix_product_state")
    assert set(one["counts"]) == {"0" * 20, "1" * 20}


def test_a_fake_backend_brings_its_noise(adapter: ProviderAdapter, compiler: CircuitCompiler) -> None:
    seen = run(adapter, compiler, ASYMMETRIC, "aer_fake_manila", "noise-1", seed=1, optimization_level=3)
    assert seen["noise_backend"] == "fake_manila"
    assert len(seen["counts"]) > 1
    assert max(seen["counts"], key=lambda key: seen["counts"][key]) == "010"
    capability = adapter.get_capability("aer_fake_manila")
    assert capability is not None
    assert capability.num_qubits == 5
    assert capability.extras is not None
    assert len(capability.extras["t1_seconds"]) == 5


def test_what_a_method_cannot_do_is_refused_by_name(adapter: ProviderAdapter, compiler: CircuitCompiler) -> None:
    devices = {device.device_id: device for device in adapter.list_devices()}
    with pytest.raises(CannotRun, match="Clifford gates only, the circuit has t"):
        adapter.check(compiler.compile(T_GATE), devices["aer_stabilizer"], 10)
    wide = compiler.compile(BELL).model_copy(update={"num_qubits": 40})
    with pytest.raises(CannotRun, match="40 qubits and aer_statevector has 27"):
        adapter.check(wide, devices["aer_statevector"], 10)


def test_a_simulation_that_takes_too_long_fails_and_names_the_limit(tmp_path: Path) -> None:
    adapter = open_adapter("aer", {"spool": tmp_path, "wall_seconds": 4})
    handle = adapter.submit(SLOW, "aer_statevector", 100)
    deadline = time.monotonic() + 60
    while not ProviderStatus.of(adapter.poll(handle).status).is_terminal:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert (adapter.poll(handle).status, adapter.poll(handle).message) == ("FAILED", "took more than 4 s to simulate")
    adapter.close()


def test_a_job_of_a_daemon_that_was_killed_runs_again_under_the_same_id(tmp_path: Path) -> None:
    script = (
        "import sys, time\nfrom qcompute.miner.providers.registry import open_adapter\n"
        "adapter = open_adapter('aer', {'spool': sys.argv[1]})\n"
        "adapter.submit(sys.argv[2], 'aer_statevector', 100, token='lost-job')\n"
        "adapter.submit(sys.argv[3], 'aer_automatic', 100, token='queued-job')\n"
        "while adapter.poll(type('H', (), {'provider_job_id': 'lost-job'})).status != 'RUNNING': time.sleep(0.02)\n"
        "print('running', flush=True)\ntime.sleep(600)\n"
    )
    daemon = subprocess.Popen(  # noqa: S603 - our own words
        [sys.executable, "-c", script, str(tmp_path), SLOW, BELL], stdout=subprocess.PIPE, text=True
    )
    assert daemon.stdout is not None
    assert daemon.stdout.readline() == "running\n"
    os.kill(daemon.pid, signal.SIGKILL)
    daemon.wait()
    daemon.stdout.close()
    adapter = open_adapter("aer", {"spool": tmp_path})
    assert len(list(tmp_path.glob("*.job.json"))) == 2
    lost = JobHandle(provider_job_id="lost-job", device_id="aer_statevector")
    assert adapter.poll(lost).status in (ProviderStatus.QUEUED, ProviderStatus.RUNNING)
    adapter.cancel(lost)
    queued = JobHandle(provider_job_id="queued-job", device_id="aer_automatic")
    deadline = time.monotonic() + 60
    while not ProviderStatus.of(adapter.poll(queued).status).is_terminal:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert adapter.poll(queued).status == ProviderStatus.COMPLETED
    assert adapter.poll(lost).status == ProviderStatus.CANCELLED
    adapter.close()
