"""Aer's answers are Aer's own, and a job of a daemon that died runs again."""

# qiskit ships no types
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from qcompute import journal
from qcompute.circuits.compiler import CircuitCompiler
from qcompute.circuits.program import JobOptions
from qcompute.circuits.settings import CircuitSettings
from qcompute.connections.checks import is_usable, looked_at
from qcompute.errors import CannotRun, ConfigError, Refused, Unavailable
from qcompute.local.demo_jobs import ASYMMETRIC, BELL, GHZ
from qcompute.miner.providers.base import Found, JobHandle, ProviderAdapter, ProviderStatus
from qcompute.miner.providers.registry import open_adapter
from qcompute.units import IdempotencyToken

T_GATE = 'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[2];\ncreg c[2];\nh q[0];\nt q[0];\nh q[0];\nmeasure q -> c;\n'


def work(qubits: int) -> str:
    """A circuit that keeps a simulator busy, twice as long for each further qubit."""
    layer = "".join(f"cu1(0.{n}1) q[{n}], q[{n + 1}];\nrx(0.3) q[{n}];\n" for n in range(qubits - 1))
    head = f'OPENQASM 2.0;\ninclude "qelib1.inc";\nqreg q[{qubits}];\ncreg c[{qubits}];\nh q;\n'
    return head + layer * 8 + "measure q -> c;\n"


SLOW = work(23)
MEDIUM = work(19)


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


def wait_for(adapter: ProviderAdapter, handle: JobHandle, wanted: ProviderStatus) -> None:
    deadline = time.monotonic() + 60
    while (word := ProviderStatus.of(adapter.poll(handle).status)) is not wanted:
        assert not word.is_terminal, adapter.poll(handle)
        assert time.monotonic() < deadline, f"still {word}"
        time.sleep(0.02)


def killed_while_running(spool: Path, first: str, *more: str) -> None:
    """Another process submits ``first`` as ``lost-job`` and the rest as ``queued-job``, and is killed at work."""
    script = (
        "import sys, time\nfrom qcompute.miner.providers.registry import open_adapter\n"
        "adapter = open_adapter('aer', {'spool': sys.argv[1]})\n"
        "handle = adapter.submit(sys.argv[2], 'aer_statevector', 100, token='lost-job')\n"
        "for text in sys.argv[3:]: adapter.submit(text, 'aer_automatic', 100, token='queued-job')\n"
        "while adapter.poll(handle).status != 'RUNNING': time.sleep(0.02)\n"
        "print('running', flush=True)\ntime.sleep(600)\n"
    )
    daemon = subprocess.Popen(  # noqa: S603 - our own words
        [sys.executable, "-c", script, str(spool), first, *more], stdout=subprocess.PIPE, text=True
    )
    assert daemon.stdout is not None
    assert daemon.stdout.readline() == "running\n"
    os.kill(daemon.pid, signal.SIGKILL)
    daemon.wait()
    daemon.stdout.close()


def directly(source: str, method: str | None, seed: int, level: int = 0) -> dict[str, int]:
    """The same with AerSimulator in this process; without a method, with the noise of a five-qubit machine."""
    from qiskit import qasm2, transpile  # noqa: PLC0415 - the adapter must not import it here
    from qiskit_aer import AerSimulator  # noqa: PLC0415
    from qiskit_ibm_runtime.fake_provider import FakeManilaV2  # noqa: PLC0415

    circuit = qasm2.loads(source, custom_instructions=qasm2.LEGACY_CUSTOM_INSTRUCTIONS, include_path=())
    simulator = AerSimulator(method=method) if method else AerSimulator.from_backend(FakeManilaV2())
    compiled = transpile(circuit, simulator, optimization_level=level, seed_transpiler=seed)
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


def test_the_optimization_level_is_the_transpilers(adapter: ProviderAdapter, compiler: CircuitCompiler) -> None:
    """Eighty gates that cancel out are eighty chances for noise, unless they are optimized away."""
    source = ASYMMETRIC.replace("measure", "x q[1]; x q[1];\n" * 40 + "measure", 1)
    seen = [
        run(adapter, compiler, source, "aer_fake_manila", f"level-{level}", seed=3, optimization_level=level)["counts"]
        for level in (0, 3)
    ]
    assert seen == [directly(source, None, 3, level) for level in (0, 3)]
    assert seen[0] != seen[1]


def test_a_fake_backend_that_does_not_exist_is_answered_with_those_that_do(tmp_path: Path) -> None:
    """At the start: it was told when the device was first described, and the daemon went on without it."""
    with pytest.raises(ConfigError, match=r"providers\.aer\.noise_backends: there is no fake .* known are fake_"):
        open_adapter("aer", {"spool": tmp_path, "noise_backends": ["fake_manilla"]})


def test_what_a_method_cannot_do_is_refused_by_name(adapter: ProviderAdapter, compiler: CircuitCompiler) -> None:
    devices = {device.device_id: device for device in adapter.list_devices()}
    with pytest.raises(CannotRun, match="Clifford gates only, the circuit has t"):
        adapter.check(compiler.compile(T_GATE), devices["aer_stabilizer"], 10)
    told = {name: adapter.get_capability(name) for name in ("aer_stabilizer", "aer_statevector")}
    gates = {name: set(capability.basis_gates or ()) for name, capability in told.items() if capability is not None}
    assert gates["aer_statevector"] - gates["aer_stabilizer"] == {"rx", "ry", "rz", "t", "tdg", "u"}
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


def test_a_simulation_under_way_is_cancelled_at_once(tmp_path: Path) -> None:
    adapter = open_adapter("aer", {"spool": tmp_path})
    handle = adapter.submit(SLOW, "aer_statevector", 100)
    wait_for(adapter, handle, ProviderStatus.RUNNING)
    began = time.monotonic()
    adapter.cancel(handle)
    wait_for(adapter, handle, ProviderStatus.CANCELLED)
    assert time.monotonic() - began < 5
    assert adapter.get_job_receipt(handle).results is None
    adapter.close()


def test_a_full_disk_refuses_jobs_and_loses_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = open_adapter("aer", {"spool": tmp_path})
    append = journal.Journal.append

    def full(self: journal.Journal, name: str, document: dict[str, Any], at: float) -> None:
        if name.endswith(refused):
            raise OSError(errno.ENOSPC, "No space left on device")
        append(self, name, document, at)

    monkeypatch.setattr(journal.Journal, "append", full)
    refused = ".job"
    with pytest.raises(Unavailable, match="cannot be written: No space left"):
        adapter.submit(BELL, "aer_automatic", 100)
    refused = ".result"
    handles = [adapter.submit(BELL, "aer_automatic", 100) for _ in range(2)]
    for handle in handles:
        wait_for(adapter, handle, ProviderStatus.COMPLETED)
        results = adapter.get_job_receipt(handle).results or {}
        assert sum(results["measurementCounts"].values()) == 100
    adapter.close()


def test_jobs_of_a_release_that_kept_files_are_taken_over(tmp_path: Path) -> None:
    """What was not finished runs, what ended is still there, what is old or torn goes."""
    for name, age in (("old", 5), ("young", 1)):
        created = time.time() - age * 86400
        (tmp_path / f"{name}.job.json").write_text(json.dumps({"created": created, "device_id": "aer_automatic"}))
        (tmp_path / f"{name}.result.json").write_text(json.dumps({"status": "COMPLETED", "counts": {"0": 1}}))
    (tmp_path / "torn.job.json").write_text('{"created": 17')
    unfinished = {"source": BELL, "method": "automatic", "noise_backend": None, "device": "CPU", "shots": 100}
    unfinished |= {"custatevec": False, "seed": None, "optimization_level": None}
    (tmp_path / "waits.job.json").write_text(
        json.dumps(unfinished | {"created": time.time() - 9 * 86400, "device_id": "aer_automatic"})
    )
    (tmp_path / "waits.result.json").write_text("")
    for _ in range(2):
        adapter = open_adapter("aer", {"spool": tmp_path})
        wait_for(adapter, JobHandle(provider_job_id="waits", device_id=""), ProviderStatus.COMPLETED)
        handles = [JobHandle(provider_job_id=name, device_id="") for name in ("old", "young", "torn")]
        assert [adapter.poll(handle).status for handle in handles] == ["UNKNOWN", "COMPLETED", "UNKNOWN"]
        assert (adapter.get_job_receipt(handles[1]).results or {})["measurementCounts"] == {"0": 1}
        adapter.close()
        assert [file.name for file in tmp_path.iterdir()] == ["jobs.journal"]


def test_a_spool_that_another_daemon_uses_is_an_error_that_names_the_setting(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom qcompute.miner.providers.registry import open_adapter\n"
        "adapter = open_adapter('aer', {'spool': sys.argv[1]})\nadapter.begin()\n"
        "print('open', flush=True)\nsys.stdin.read()\n"
    )
    with subprocess.Popen(  # noqa: S603 - our own words
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        adapter = open_adapter("aer", {"spool": tmp_path})
        with pytest.raises(ConfigError, match=r"the spool .* cannot be used \(setting spool\): another process has it"):
            adapter.begin()
        assert is_usable(looked_at(adapter)), "a well account is not ill because the daemon has its jobs"
        other.kill()
    adapter.begin()
    adapter.close()


@pytest.mark.parametrize("job_id", ["../../etc/passwd", "", "a/b", "x" * 65, "nul\0"])
def test_ids_that_are_not_names_of_files_lead_nowhere(adapter: ProviderAdapter, job_id: str) -> None:
    handle = JobHandle(provider_job_id=job_id, device_id="aer_automatic")
    assert adapter.poll(handle).status == ProviderStatus.UNKNOWN
    submit: Callable[..., JobHandle] = adapter.submit
    if job_id:
        with pytest.raises(Refused):
            submit(BELL, "aer_automatic", 1, token=job_id)


def test_a_simulation_cut_short_is_done_by_the_next_daemon(tmp_path: Path, compiler: CircuitCompiler) -> None:
    """With the seed it was given: the answer is the one that was lost."""
    adapter = open_adapter("aer", {"spool": tmp_path / "unused"})
    device = next(device for device in adapter.list_devices() if device.device_id == "aer_statevector")
    payload = adapter.prepare(compiler.compile(MEDIUM), device, 100, JobOptions(seed=11)).payload
    adapter.close()
    killed_while_running(tmp_path, payload)
    adapter = open_adapter("aer", {"spool": tmp_path})
    handle = JobHandle(provider_job_id="lost-job", device_id="aer_statevector")
    wait_for(adapter, handle, ProviderStatus.COMPLETED)
    assert isinstance(adapter.find(IdempotencyToken("lost-job"), datetime.now(UTC)), Found)
    lost = (adapter.get_job_receipt(handle).results or {})["measurementCounts"]
    submit: Callable[..., JobHandle] = adapter.submit
    again = submit(payload, "aer_statevector", 100, token="again")
    wait_for(adapter, again, ProviderStatus.COMPLETED)
    assert (adapter.get_job_receipt(again).results or {})["measurementCounts"] == lost
    adapter.close()


def test_a_job_of_a_daemon_that_was_killed_runs_again_under_the_same_id(tmp_path: Path) -> None:
    killed_while_running(tmp_path, SLOW, BELL)
    adapter = open_adapter("aer", {"spool": tmp_path})
    for token in ("lost-job", "queued-job"):
        found = adapter.find(IdempotencyToken(token), datetime.now(UTC))
        assert isinstance(found, Found)
        assert [handle.provider_job_id for handle in found.handles] == [token]
    lost = JobHandle(provider_job_id="lost-job", device_id="aer_statevector")
    assert adapter.poll(lost).status in (ProviderStatus.QUEUED, ProviderStatus.RUNNING)
    adapter.cancel(lost)
    wait_for(adapter, JobHandle(provider_job_id="queued-job", device_id="aer_automatic"), ProviderStatus.COMPLETED)
    assert adapter.poll(lost).status == ProviderStatus.CANCELLED
    adapter.close()
