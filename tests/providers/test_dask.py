"""A cluster of this machine's processes keeps the adapter contract, and no death along the way loses a job."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from qcompute.connections.checks import is_usable, looked_at
from qcompute.errors import CannotRun, ConfigError, Refused, Unavailable
from qcompute.local.demo_jobs import BELL
from qcompute.miner.providers.base import JobHandle, ProviderAdapter, ProviderStatus
from qcompute.miner.providers.dask import DaskAdapter
from qcompute.miner.providers.registry import open_adapter
from qcompute.testing.provider_contract import ASYMMETRIC, ProviderContract
from qcompute.vendor import spooled
from qcompute.vendor.aer.methods import OVERHEAD_BYTES, max_qubits
from qcompute.vendor.dask.programs import DEVICES, needed_bytes
from tests.providers.dask_scene import SLOW, certificates, end_of, in_time, submitted, wait_for

SMALL = {"memory_bytes": 2 << 30, "worker_memory_bytes": 2 << 30}


@contextmanager
def opened(spool: Path, **settings: Any) -> Generator[DaskAdapter]:
    adapter = open_adapter("dask", {"spool": spool, **SMALL, **settings})
    assert isinstance(adapter, DaskAdapter)
    try:
        yield adapter
    finally:
        adapter.close()


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskAdapter]:
    """One for all tests that leave it as it was: to start one takes seconds."""
    with opened(tmp_path_factory.mktemp("spool")) as made:
        yield made


class TestDaskLocal(ProviderContract):
    """One worker process on this machine."""


def test_whoever_looks_gets_no_driver_beside_another_process_and_no_jobs(tmp_path: Path) -> None:
    """`connections test` beside the daemon started a second driver and gave it all unfinished orders.

    Circuits ran twice, and of SLURM a second allocation could be asked for.
    """
    with opened(tmp_path) as first, opened(tmp_path) as second:
        first.begin()
        first._spool.add("waits", {"text": "nobody runs it"})
        findings = looked_at(second)
        assert is_usable(findings)
        assert findings[-1].fix == "ask that miner: qcompute devices"
        assert second.get_availability() is not None
        assert second._link._thread is None
        with pytest.raises(ConfigError, match="another process has it"):
            second.begin()
    with opened(tmp_path) as third:
        assert not list(third._orders())
        assert third._link._thread is None


def test_a_result_that_was_not_fetched_is_kept_and_one_that_was_goes_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start dropped what had ended by the age of its job, whether or not the daemon had its counts."""
    monkeypatch.setattr(spooled, "REMOVE_SECONDS", 0.0)
    with opened(tmp_path) as adapter:
        adapter.begin()
        handles = [JobHandle(provider_job_id=job_id, device_id="dask_automatic") for job_id in ("kept", "fetched")]
        for handle in handles:
            adapter._spool.add(handle.provider_job_id, {"shots": 1})
            adapter._spool.end(handle.provider_job_id, {"status": "COMPLETED", "counts": {"0": 1}})
        adapter.get_job_receipt(handles[1])
        for file in tmp_path.iterdir():
            os.utime(file, (1e9, time.time() - 7 * 86400))
        adapter._end("another", {"status": "COMPLETED"})
        assert [adapter.get_job_receipt(handle).results is None for handle in handles] == [False, True]


def words_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""


def gone(process: psutil.Process) -> bool:
    return not words_of(process)


def simulators(adapter: DaskAdapter) -> list[psutil.Process]:
    """The sandboxed children of all workers of the driver."""
    pid = adapter._link.driver_pid
    assert pid is not None
    return [p for p in psutil.Process(pid).children(recursive=True) if "sandbox_child" in words_of(p)]


def worker_of(simulator: psutil.Process) -> psutil.Process:
    worker = simulator.parent()
    assert worker is not None
    return worker


def test_a_worker_that_is_killed_loses_no_circuit(adapter: DaskAdapter) -> None:
    handle = submitted(adapter, SLOW)
    wait_for(adapter, handle, ProviderStatus.RUNNING)
    (simulator,) = in_time(lambda: simulators(adapter))
    worker_of(simulator).send_signal(signal.SIGKILL)
    (again,) = in_time(lambda: [p for p in simulators(adapter) if p.pid != simulator.pid])
    assert again.pid != simulator.pid
    adapter.cancel(handle)
    assert end_of(adapter, submitted(adapter, BELL)).status == ProviderStatus.COMPLETED


def test_a_circuit_that_kills_every_worker_fails_and_says_so(tmp_path: Path) -> None:
    with opened(tmp_path, worker_losses=1) as adapter:
        handle = submitted(adapter, SLOW)
        wait_for(adapter, handle, ProviderStatus.RUNNING)
        worker_of(in_time(lambda: simulators(adapter))[0]).send_signal(signal.SIGKILL)
        receipt = end_of(adapter, handle)
        assert receipt.status == ProviderStatus.FAILED
        assert "providers.dask.worker_losses" in (receipt.metadata or {})["message"]


def test_a_driver_that_is_killed_is_replaced_and_told_everything_again(adapter: DaskAdapter) -> None:
    slow, quick = submitted(adapter, SLOW), submitted(adapter, BELL)
    wait_for(adapter, slow, ProviderStatus.RUNNING)
    first = adapter._link.driver_pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    wait_for(adapter, slow, ProviderStatus.RUNNING)
    in_time(lambda: adapter._link.driver_pid not in (None, first))
    adapter.cancel(slow)
    assert end_of(adapter, quick).status == ProviderStatus.COMPLETED
    assert adapter.poll(slow).status == ProviderStatus.CANCELLED


def test_a_circuit_under_way_is_stopped_on_its_worker(adapter: DaskAdapter) -> None:
    """Dask cannot stop a running function: its worker was busy with a cancelled circuit until that ended."""
    handle = submitted(adapter, SLOW)
    wait_for(adapter, handle, ProviderStatus.RUNNING)
    (simulator,) = in_time(lambda: simulators(adapter))
    adapter.cancel(handle)
    assert adapter.poll(handle).status == ProviderStatus.CANCELLED
    in_time(lambda: gone(simulator))
    assert end_of(adapter, submitted(adapter, BELL)).status == ProviderStatus.COMPLETED


def test_a_circuit_that_takes_too_long_fails_and_names_the_limit(tmp_path: Path) -> None:
    with opened(tmp_path, wall_seconds=8) as adapter:
        receipt = end_of(adapter, submitted(adapter, SLOW))
        assert receipt.status == ProviderStatus.FAILED
        assert (receipt.metadata or {})["message"] == "took more than 8 s to simulate"


def test_a_job_of_a_daemon_that_was_killed_runs_again_under_the_same_id(tmp_path: Path) -> None:
    script = (
        "import sys, time\nfrom qcompute.miner.providers.registry import open_adapter\n"
        "adapter = open_adapter('dask', {'spool': sys.argv[1]})\n"
        "handle = adapter.submit(sys.argv[2], 'dask_statevector', 100, token='lost-job')\n"
        "while adapter.poll(handle).status != 'RUNNING': time.sleep(0.02)\n"
        "print(adapter._link.driver_pid, flush=True)\ntime.sleep(600)\n"
    )
    daemon = subprocess.Popen(  # noqa: S603 - our own words
        [sys.executable, "-c", script, str(tmp_path), SLOW], stdout=subprocess.PIPE, text=True
    )
    assert daemon.stdout is not None
    driver = psutil.Process(int(daemon.stdout.readline()))
    os.kill(daemon.pid, signal.SIGKILL)
    daemon.wait()
    daemon.stdout.close()
    in_time(lambda: gone(driver))
    with opened(tmp_path) as adapter:
        lost = JobHandle(provider_job_id="lost-job", device_id="dask_statevector")
        wait_for(adapter, lost, ProviderStatus.RUNNING)
        again = submitted(adapter, SLOW, token="lost-job")
        assert again.provider_job_id == "lost-job"
        assert len(list(tmp_path.glob("*.job.json"))) == 1
        adapter.cancel(lost)


def test_a_driver_that_hangs_stops_nobody(adapter: DaskAdapter) -> None:
    """Orders are written by a thread of their own: a megabyte for a stopped process blocks no caller."""
    assert end_of(adapter, submitted(adapter, BELL)).status == ProviderStatus.COMPLETED
    pid = adapter._link.driver_pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    done = threading.Event()

    def submit_many() -> None:
        for _ in range(5):
            submitted(adapter, BELL + "// " + "x" * 300_000 + "\n")
        done.set()

    threading.Thread(target=submit_many, daemon=True).start()
    assert done.wait(20)
    os.kill(pid, signal.SIGKILL)
    handles = [JobHandle(provider_job_id=job_id, device_id="") for job_id, _ in adapter._spool.unfinished()]
    assert len(handles) == 5
    assert {end_of(adapter, handle).status for handle in handles} == {ProviderStatus.COMPLETED}


@pytest.mark.parametrize(
    "message",
    [
        "no json",
        "[]",
        '{"is": "cluster", "report": {}}',
        '{"is": "ended"}',
        '{"is": "ended", "job_id": "x", "answer": 1}',
    ],
)
def test_a_driver_that_speaks_nonsense_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, message: str
) -> None:
    """It reads what a cluster sends: nothing it says may end the thread that listens to it."""
    starts = tmp_path / "starts"
    program = f"import time; open({str(starts)!r}, 'a').write('x'); print({message!r}, flush=True); time.sleep(600)"
    monkeypatch.setattr("qcompute.vendor.dask.link._START", program)
    with opened(tmp_path / "spool") as adapter:
        availability = adapter.get_availability()
        assert availability is not None
        assert (availability.availability, availability.status_msg) == (
            "OFFLINE",
            "the driver said what cannot be understood",
        )
        in_time(lambda: len(starts.read_text()) > 1)


def test_a_driver_that_cannot_open_its_cluster_is_said(tmp_path: Path) -> None:
    settings = {"mode": "scheduler", "scheduler": "tcp://127.0.0.1:9", "connect_seconds": 1}
    with opened(tmp_path, **settings) as adapter:
        availability = adapter.get_availability()
        assert availability is not None
        assert availability.availability == "OFFLINE"
        assert "127.0.0.1:9" in (availability.status_msg or "")
        with pytest.raises(Unavailable, match="cluster is not available"):
            submitted(adapter, BELL)
        assert list(tmp_path.glob("*.job.json")) == []


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"mode": "scheduler"}, "providers.dask.scheduler"),
        ({"mode": "scheduler", "scheduler": "tcp://10.0.0.7:8786"}, "providers.dask.tls_ca_file"),
        ({"mode": "scheduler", "scheduler": "tls://10.0.0.7:8786"}, "providers.dask.tls_ca_file"),
        ({"mode": "scheduler", "scheduler": "http://x"}, "providers.dask.scheduler"),
        ({"mode": "ssh"}, "providers.dask.hosts"),
        ({"mode": "ssh", "hosts": ["a"]}, "providers.dask.tls_ca_file"),
        ({"mode": "ssh", "hosts": ["a"], "tls_ca_file": "/nowhere"}, "providers.dask.tls_ca_file"),
        ({"mode": "slurm"}, "providers.dask.tls_ca_file"),
        ({"profile": "lumi"}, "providers.dask.account"),
    ],
)
def test_a_cluster_that_would_be_open_to_others_is_refused_with_the_setting(
    tmp_path: Path, settings: dict[str, Any], named: str
) -> None:
    with pytest.raises(ConfigError, match=named.replace(".", r"\.")):
        open_adapter("dask", {"spool": tmp_path, **settings})


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"walltime": "an hour"}, "providers.dask.walltime"),
        ({"walltime": "00:10:00", "wall_seconds": 600}, "providers.dask.wall_seconds"),
        ({"jobs_min": 3, "jobs_max": 2}, "providers.dask.jobs_min"),
    ],
)
def test_allocations_that_cannot_work_are_refused(tmp_path: Path, settings: dict[str, Any], named: str) -> None:
    file = tmp_path / "pem"
    file.touch()
    tls = {"tls_ca_file": file, "tls_cert_file": file, "tls_key_file": file}
    with pytest.raises(ConfigError, match=named.replace(".", r"\.")):
        open_adapter("dask", {"spool": tmp_path, "mode": "slurm", **tls, **settings})


def test_the_profile_of_lumi_asks_for_an_eighth_of_a_node(tmp_path: Path) -> None:
    """And what the operator sets goes before it."""
    script = (
        "import json, sys\nfrom qcompute.vendor.dask.settings import DaskConfig, settled\n"
        "from qcompute.vendor.dask.clusters import security_of\nfrom qcompute.vendor.dask.slurm import script_of\n"
        "config = settled(DaskConfig(**json.loads(sys.argv[1])))\n"
        "print(config.submit_host, script_of(config, 'pilot', 'tls://miner:8786', security_of(config)))\n"
    )
    settings = {
        "profile": "lumi",
        "account": "project_465000000",
        "container": "/project/image one.sif",
        "walltime": "1-00:00:00",
        "prologue": ["module load LUMI"],
        "job_extra": ["--constraint=x"],
        **{name: str(file) for name, file in certificates(tmp_path).items()},
    }
    done = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-c", script, json.dumps(settings)], capture_output=True, text=True, check=True, timeout=100
    )
    host, *lines = done.stdout.splitlines()
    assert host.startswith("lumi ")
    for line in (
        "#SBATCH -p small-g",
        "#SBATCH -A project_465000000",
        "#SBATCH --cpus-per-task=7",
        "#SBATCH --mem=57G",
        "#SBATCH -t 1-00:00:00",
        "#SBATCH --gpus-per-node=1",
        "#SBATCH --no-requeue",
        "#SBATCH --constraint=x",
        "module load LUMI",
    ):
        assert line in lines
    command = next(line for line in lines if "dask_worker" in line)
    assert command.startswith("singularity exec --rocm '/project/image one.sif' python3 -m distributed.cli.dask_worker")
    for option in (
        "tls://miner:8786",
        "--name pilot",
        "--nthreads 7",
        f"MEMORY={56 << 30}",
        "--lifetime 86340s",
        "--preload qcompute.vendor.dask.ending",
    ):
        assert option in command
    assert str(tmp_path / "tls_key_file.pem") in command


def test_a_worker_that_does_not_end_after_closing_is_ended() -> None:
    """One waited for ever for a task of its own, with nobody left to talk to, and would have kept its allocation."""
    script = (
        "import threading\nfrom qcompute.vendor.dask import ending\n"
        "ending.GRACE_SECONDS = 0.2\nending.dask_teardown(None)\nthreading.Event().wait()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, timeout=60)  # noqa: S603 - our own words
    assert done.returncode == 0


def test_a_wide_circuit_reserves_its_state_and_another_method_all_it_may_take() -> None:
    job = {"method": "statevector", "num_qubits": 20}
    assert needed_bytes(job, 4 << 30) == (700 << 20) + (16 << 20)
    assert needed_bytes(job | {"num_qubits": 30}, 4 << 30) == 4 << 30
    assert needed_bytes(job | {"num_qubits": None}, 4 << 30) == 4 << 30
    assert needed_bytes(job | {"method": "stabilizer"}, 4 << 30) == 4 << 30
    assert [max_qubits(method, (4 << 30) - OVERHEAD_BYTES) for method in DEVICES.values()] == [27, 27, 256, 4096]


def test_a_token_that_is_no_name_of_a_file_is_refused(adapter: ProviderAdapter) -> None:
    submit: Callable[..., JobHandle] = adapter.submit
    for token in ("../x", "a/b", "x" * 65):
        with pytest.raises(Refused):
            submit(BELL, "dask_automatic", 1, token=token)


def test_clifford_gates_only_on_the_stabilizer(adapter: ProviderAdapter) -> None:
    device = next(device for device in adapter.list_devices() if device.device_id == "dask_stabilizer")
    circuit = ASYMMETRIC.model_copy(update={"gate_counts": {"t": 1}})
    with pytest.raises(CannotRun, match="Clifford gates only, the circuit has t"):
        adapter.check(circuit, device, 1)


def test_the_daemon_s_process_imports_no_dask_and_no_numpy(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom qcompute.miner.providers.registry import open_adapter\n"
        "adapter = open_adapter('dask', {'spool': sys.argv[1]})\n"
        "adapter.get_availability()\nadapter.close()\n"
        "print([m for m in ('distributed', 'dask', 'numpy', 'qiskit', 'tornado') if m in sys.modules])\n"
    )
    done = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True, timeout=100
    )
    assert done.stdout == "[]\n"
