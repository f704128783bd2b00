"""Clusters of others: a running scheduler behind TLS, hosts reached through a real sshd."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from qcompute.errors import Unavailable
from qcompute.local.demo_jobs import BELL
from qcompute.miner.providers.base import JobHandle, ProviderStatus
from qcompute.miner.providers.dask import DaskAdapter
from qcompute.miner.providers.registry import open_adapter
from qcompute.vendor.dask.programs import job_of
from tests.ledger.postgres_server import free_port
from tests.providers.dask_scene import SLOW, certificates, end_of, in_time, submitted, wait_for
from tests.providers.ssh_server import SshServer

pytestmark = pytest.mark.timeout(240)
SMALL = {"memory_bytes": 2 << 30, "worker_memory_bytes": 2 << 30}


@contextmanager
def opened(spool: Path, **settings: Any) -> Generator[DaskAdapter]:
    adapter = open_adapter("dask", {"spool": spool, **SMALL, **settings})
    assert isinstance(adapter, DaskAdapter)
    try:
        yield adapter
    finally:
        adapter.close()


class Operators:
    """A scheduler and a worker as an operator would start them."""

    def __init__(self, folder: Path, tls: dict[str, Path]) -> None:
        self.folder = folder
        self.address = f"tls://127.0.0.1:{free_port()}"
        self._tls = ["--tls-ca-file", str(tls["tls_ca_file"]), "--tls-cert", str(tls["tls_cert_file"])]
        self._tls += ["--tls-key", str(tls["tls_key_file"])]
        self._processes: list[subprocess.Popen[bytes]] = []

    def scheduler(self) -> subprocess.Popen[bytes]:
        port = self.address.rpartition(":")[2]
        places = ["--host", "127.0.0.1", "--port", port, "--dashboard-address", "127.0.0.1:0"]
        return self._run("distributed.cli.dask_scheduler", "--protocol", "tls", *places)

    def worker(self, *options: str) -> subprocess.Popen[bytes]:
        places = ["--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0", "--no-nanny", "--nthreads", "2"]
        return self._run("distributed.cli.dask_worker", self.address, *places, *options)

    def end(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()

    def _run(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.folder / "operators.log").open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - our own words
                [sys.executable, "-m", module, *arguments, *self._tls], cwd=self.folder, stdout=log, stderr=log
            )
        self._processes.append(process)
        return process


@pytest.fixture
def tls(tmp_path: Path) -> dict[str, Path]:
    return certificates(tmp_path)


@pytest.fixture
def operators(tmp_path: Path, tls: dict[str, Path]) -> Iterator[Operators]:
    made = Operators(tmp_path, tls)
    yield made
    made.end()


def note(adapter: DaskAdapter) -> str:
    availability = adapter.get_availability()
    assert availability is not None
    return f"{availability.availability}: {availability.status_msg}"


def test_a_scheduler_that_is_lost_is_found_again(tmp_path: Path, tls: dict[str, Path], operators: Operators) -> None:
    """What was accepted waits and says so, what is new is put off, and all of it runs when the scheduler is back."""
    first = operators.scheduler()
    settings: dict[str, Any] = {"mode": "scheduler", "scheduler": operators.address, "connect_seconds": 15, **tls}
    with opened(tmp_path / "spool", **settings) as adapter:
        in_time(lambda: "OFFLINE" in note(adapter) and "--resources MEMORY=" in note(adapter))
        worker = operators.worker("--resources", f"MEMORY={2 << 30}")
        in_time(lambda: note(adapter) == "ONLINE: 1 workers")
        capability = adapter.get_capability("dask_statevector")
        assert capability is not None
        assert (capability.num_qubits, (capability.extras or {})["circuits_at_once"]) == (26, 2)

        slow = submitted(adapter, SLOW)
        wait_for(adapter, slow, ProviderStatus.RUNNING)
        first.kill()
        first.wait()
        in_time(lambda: "waits for the cluster" in (adapter.poll(slow).message or ""))
        with pytest.raises(Unavailable):
            submitted(adapter, BELL)
        worker.wait(timeout=60)
        operators.scheduler()
        operators.worker("--resources", f"MEMORY={2 << 30}")
        wait_for(adapter, slow, ProviderStatus.RUNNING)
        adapter.cancel(slow)
        assert end_of(adapter, submitted(adapter, BELL)).status == ProviderStatus.COMPLETED


def test_circuits_wait_for_memory_where_a_core_is_free(
    tmp_path: Path, tls: dict[str, Path], operators: Operators
) -> None:
    operators.scheduler()
    operators.worker("--resources", f"MEMORY={3 << 30}")
    settings: dict[str, Any] = {"mode": "scheduler", "scheduler": operators.address, **tls}
    with opened(tmp_path / "spool", **settings) as adapter:
        in_time(lambda: note(adapter) == "ONLINE: 1 workers")
        first = submitted(adapter, SLOW)  # plain text: its width is not known, so it keeps all it may take, 2 GiB
        wait_for(adapter, first, ProviderStatus.RUNNING)
        # Before those that wait: whoever comes after them waits behind them. (It was submitted last once, and overtook
        # them only where Dask had heard of all three within a tenth of a second.)
        narrow = submitted_narrow(adapter)
        second, third = submitted(adapter, SLOW), submitted(adapter, BELL)
        assert end_of(adapter, narrow).status == ProviderStatus.COMPLETED
        assert {adapter.poll(handle).status for handle in (second, third)} == {ProviderStatus.QUEUED}
        adapter.cancel(second)
        adapter.cancel(first)
        assert end_of(adapter, third).status == ProviderStatus.COMPLETED


def submitted_narrow(adapter: DaskAdapter) -> JobHandle:
    """A circuit of two qubits as the daemon submits it, with its width."""
    job = job_of(BELL, "dask_statevector") | {"num_qubits": 2}
    return submitted(adapter, json.dumps({"dask": job}))


def test_a_stranger_without_a_certificate_is_not_spoken_to(
    tmp_path: Path, tls: dict[str, Path], operators: Operators
) -> None:
    operators.scheduler()
    operators.worker("--resources", f"MEMORY={2 << 30}")
    (tmp_path / "other").mkdir()
    strangers = certificates(tmp_path / "other")
    settings: dict[str, Any] = {"mode": "scheduler", "scheduler": operators.address, "connect_seconds": 3}
    with opened(tmp_path / "ours", **settings, **tls) as adapter:
        in_time(lambda: note(adapter) == "ONLINE: 1 workers")
    with opened(tmp_path / "theirs", **settings, **strangers) as adapter:
        assert note(adapter).startswith("OFFLINE: the cluster cannot be used")


def test_hosts_are_reached_by_ssh_and_a_worker_that_dies_is_started_again(tmp_path: Path, tls: dict[str, Path]) -> None:
    server = SshServer("left", "right")
    server.start()
    settings: dict[str, Any] = {
        "mode": "ssh",
        "hosts": ["left", "right"],
        "ssh_config": server.client,
        "python": sys.executable,
        **tls,
    }
    try:
        with opened(tmp_path / "spool", **settings) as adapter:
            in_time(lambda: note(adapter).startswith("ONLINE: 2 workers"))
            handle = submitted(adapter, SLOW)
            wait_for(adapter, handle, ProviderStatus.RUNNING)
            before = remote_workers(tls)
            assert len(before) == 2
            for process in before.values():
                process.send_signal(signal.SIGKILL)
            in_time(lambda: len(remote_workers(tls).keys() - before.keys()) == 2)
            wait_for(adapter, handle, ProviderStatus.RUNNING)
            adapter.cancel(handle)
            assert end_of(adapter, submitted(adapter, BELL)).status == ProviderStatus.COMPLETED
        in_time(lambda: remote_workers(tls) == {})
    finally:
        server.remove()


def remote_workers(tls: dict[str, Path]) -> dict[str, psutil.Process]:
    """Workers on the hosts by their names, those left behind too: known by their certificate."""
    found: dict[str, psutil.Process] = {}
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        if "distributed.cli.dask_worker" in words and str(tls["tls_cert_file"]) in words:
            found[words[words.index("--name") + 1]] = process
    return found


def test_a_host_that_cannot_be_reached_is_said(tmp_path: Path, tls: dict[str, Path]) -> None:
    server = SshServer("nobody")
    settings: dict[str, Any] = {"mode": "ssh", "hosts": ["nobody"], "ssh_config": server.client, **tls}
    try:
        with opened(tmp_path / "spool", **settings) as adapter:
            in_time(lambda: "refused" in note(adapter))
            assert note(adapter).startswith("OFFLINE: nobody: ")
    finally:
        server.remove()
