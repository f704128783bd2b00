"""Against a real SLURM of two nodes: allocations are pilots, and no end of one loses a circuit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from qcompute.errors import Unavailable
from qcompute.local.demo_jobs import BELL
from qcompute.miner.providers.base import ProviderStatus
from qcompute.miner.providers.dask import DaskAdapter
from qcompute.miner.providers.registry import open_adapter
from tests.providers.dask_scene import SLOW, busy, certificates, end_of, in_time, submitted, wait_for
from tests.providers.slurm_cluster import SlurmCluster
from tests.providers.ssh_server import SshServer

pytestmark = pytest.mark.timeout(240)

SECONDS_LONG = busy(22)


@pytest.fixture(scope="module")
def slurm() -> Iterator[SlurmCluster]:
    cluster = SlurmCluster()
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.remove()


def settings_of(folder: Path, slurm: SlurmCluster) -> dict[str, Any]:
    return {
        "mode": "slurm",
        "spool": folder / "spool",
        "partition": "simulators",
        "python": sys.executable,
        "memory_bytes": 2 << 30,
        "worker_memory_bytes": 2 << 30,
        "environment": slurm.environment(),
        **certificates(folder),
    }


@contextmanager
def opened(folder: Path, slurm: SlurmCluster, **settings: Any) -> Generator[DaskAdapter]:
    adapter = open_adapter("dask", settings_of(folder, slurm) | settings)
    assert isinstance(adapter, DaskAdapter)
    try:
        yield adapter
    finally:
        adapter.close()


@pytest.fixture(scope="module")
def adapter(slurm: SlurmCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskAdapter]:
    """One allocation at a time, given back after five seconds without work."""
    with opened(tmp_path_factory.mktemp("slurm"), slurm, idle_seconds=5) as made:
        yield made


def workers(adapter: DaskAdapter) -> set[str]:
    report = adapter._link.report()
    return {worker.name for worker in report.workers} if report is not None else set()


def worker_process(name: str) -> psutil.Process:
    """The process of a worker on its node."""
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        if "distributed.cli.dask_worker" in words and name in words:
            return process
    raise AssertionError(f"no worker {name}")


def test_an_allocation_comes_with_work_and_goes_without(slurm: SlurmCluster, adapter: DaskAdapter) -> None:
    availability = adapter.get_availability()
    assert availability is not None
    assert (availability.availability, slurm.jobs()) == ("ONLINE", {})
    receipts = [end_of(adapter, handle) for handle in [submitted(adapter, BELL) for _ in range(20)]]
    assert {receipt.status for receipt in receipts} == {ProviderStatus.COMPLETED}
    in_time(lambda: slurm.jobs() == {})


def test_a_worker_killed_on_its_node_loses_no_circuit(slurm: SlurmCluster, adapter: DaskAdapter) -> None:
    handle = submitted(adapter, SECONDS_LONG)
    wait_for(adapter, handle, ProviderStatus.RUNNING)
    (name,) = in_time(lambda: workers(adapter))
    (allocation,) = slurm.jobs()
    worker_process(name).send_signal(signal.SIGKILL)
    assert end_of(adapter, handle).status == ProviderStatus.COMPLETED
    assert allocation not in slurm.jobs()


def test_a_node_that_dies_is_replaced_by_the_other(slurm: SlurmCluster, adapter: DaskAdapter) -> None:
    """And what was cancelled keeps no allocation: its order stayed with the driver, which so was never idle."""
    handle = submitted(adapter, SLOW)
    wait_for(adapter, handle, ProviderStatus.RUNNING)
    (name,) = in_time(lambda: workers(adapter))
    ((_, node),) = slurm.jobs().values()
    slurm.kill_node(node)
    in_time(lambda: workers(adapter) - {name})
    assert {other for _, other in slurm.jobs().values()} == {"n1", "n2"} - {node}
    assert adapter.poll(handle).status == ProviderStatus.RUNNING
    adapter.cancel(handle)
    slurm.start_node(node)
    in_time(lambda: slurm.jobs() == {})
    in_time(lambda: slurm.states()[node] == "idle")


def test_what_runs_at_the_walltime_runs_again(slurm: SlurmCluster, adapter: DaskAdapter) -> None:
    handle = submitted(adapter, SLOW)
    wait_for(adapter, handle, ProviderStatus.RUNNING)
    (name,) = in_time(lambda: workers(adapter))
    (allocation,) = slurm.jobs()
    slurm.end_at_walltime(allocation)
    in_time(lambda: workers(adapter) - {name})
    assert allocation not in slurm.jobs()
    adapter.cancel(handle)
    assert end_of(adapter, submitted(adapter, BELL)).status == ProviderStatus.COMPLETED


def test_a_cancelled_circuit_leaves_its_allocation_to_the_next(slurm: SlurmCluster, adapter: DaskAdapter) -> None:
    handle = submitted(adapter, SLOW)
    wait_for(adapter, handle, ProviderStatus.RUNNING)
    (name,) = in_time(lambda: workers(adapter))
    adapter.cancel(handle)
    began = time.monotonic()
    assert end_of(adapter, submitted(adapter, BELL)).status == ProviderStatus.COMPLETED
    assert time.monotonic() - began < 60
    assert workers(adapter) == {name}
    assert len(slurm.jobs()) == 1


def test_what_sbatch_refuses_is_said_and_refuses_jobs(slurm: SlurmCluster, tmp_path: Path) -> None:
    with opened(tmp_path, slurm, partition="no-such", jobs_min=1) as adapter:
        in_time(lambda: "Invalid partition" in status(adapter))
        with pytest.raises(Unavailable, match="Invalid partition"):
            submitted(adapter, BELL)


def test_a_python_without_dask_is_said(slurm: SlurmCluster, tmp_path: Path) -> None:
    with opened(tmp_path, slurm, python="/bin/false", jobs_min=1) as adapter:
        in_time(lambda: "before its worker had called" in status(adapter))
    in_time(lambda: slurm.jobs() == {})


def test_a_driver_that_is_killed_leaves_no_allocation_behind(slurm: SlurmCluster, adapter: DaskAdapter) -> None:
    """Its worker misses its scheduler and ends; the next driver asks for another."""
    handle = submitted(adapter, SLOW)
    wait_for(adapter, handle, ProviderStatus.RUNNING)
    in_time(lambda: workers(adapter))
    (allocation,) = slurm.jobs()
    driver = adapter._link.driver_pid
    assert driver is not None
    os.kill(driver, signal.SIGKILL)
    in_time(lambda: workers(adapter) and adapter._link.driver_pid != driver)
    in_time(lambda: allocation not in slurm.jobs())
    adapter.cancel(handle)
    assert end_of(adapter, submitted(adapter, BELL)).status == ProviderStatus.COMPLETED
    in_time(lambda: slurm.jobs() == {})


def test_a_daemon_that_is_killed_leaves_no_allocation_behind(slurm: SlurmCluster, tmp_path: Path) -> None:
    """Its driver hears the pipe close and gives back what it had."""
    script = (
        "import json, sys, time\nfrom qcompute.miner.providers.registry import open_adapter\n"
        "adapter = open_adapter('dask', json.loads(sys.argv[1]))\n"
        "while 'OFFLINE' in adapter.get_availability().availability: time.sleep(0.1)\n"
        "print('up', flush=True)\ntime.sleep(600)\n"
    )
    settings = json.dumps(settings_of(tmp_path, slurm) | {"jobs_min": 1}, default=str)
    daemon = subprocess.Popen(  # noqa: S603 - our own words
        [sys.executable, "-c", script, settings], stdout=subprocess.PIPE, text=True
    )
    assert daemon.stdout is not None
    assert daemon.stdout.readline() == "up\n"
    in_time(lambda: [state for state, _ in slurm.jobs().values()] == ["RUNNING"])
    daemon.kill()
    daemon.wait()
    daemon.stdout.close()
    in_time(lambda: slurm.jobs() == {})


def test_sbatch_on_another_host_is_reached_by_ssh(slurm: SlurmCluster, tmp_path: Path) -> None:
    server = SshServer("login", environment=slurm.environment())
    server.start()
    output = tmp_path / "output"
    remote: dict[str, Any] = {"submit_host": "login", "ssh_config": server.client, "environment": {}}
    try:
        with opened(tmp_path, slurm, job_extra=[f"--output={output}"], **remote) as adapter:
            assert end_of(adapter, submitted(adapter, BELL)).status == ProviderStatus.COMPLETED
            assert len(slurm.jobs()) == 1
        in_time(lambda: slurm.jobs() == {})
        assert output.exists()
    finally:
        server.remove()


def status(adapter: DaskAdapter) -> str:
    availability = adapter.get_availability()
    assert availability is not None
    return availability.status_msg or ""
