"""A provider's own ``execute`` as an adapter: the contract, and what may never happen: a second run, a stand-in."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qcompute.cluster import AccountSetup, NodeProvider
from qcompute.connections.checks import is_usable, looked_at
from qcompute.errors import ConfigError
from qcompute.miner.providers.base import JobHandle, JobReceipt, ProviderAdapter, ProviderStatus
from qcompute.testing.provider_contract import ASYMMETRIC, ProviderContract
from qcompute.units import IdempotencyToken
from qcompute.vendor import spooled
from tests.providers.lab_nodes import LabMachine, LabSimulator, LabWithoutExecute

SOURCE = ASYMMETRIC.source
ENDED_SECONDS = 60.0


def opened(
    folder: Path, provider: NodeProvider | None = None, settings: dict[str, Any] | None = None, **arguments: Any
) -> ProviderAdapter:
    provider = provider or LabMachine()
    nodes = provider.build_nodes(**arguments)
    return provider.open_adapter(nodes, AccountSetup("lab", folder, arguments, settings or {}))


def submitted(adapter: ProviderAdapter, token: str, device_id: str = "lab-0") -> JobHandle:
    submit: Callable[..., JobHandle] = adapter.submit
    return submit(SOURCE, device_id, 10, token=IdempotencyToken(token))


def wait_for(adapter: ProviderAdapter, handle: JobHandle, *words: ProviderStatus) -> None:
    deadline = time.monotonic() + ENDED_SECONDS
    while adapter.poll(handle).status not in words:
        assert time.monotonic() < deadline, adapter.poll(handle)
        time.sleep(0.02)


def ended(adapter: ProviderAdapter, token: str) -> JobReceipt:
    handle = submitted(adapter, token)
    wait_for(adapter, handle, ProviderStatus.COMPLETED, ProviderStatus.FAILED, ProviderStatus.UNKNOWN)
    return adapter.get_job_receipt(handle)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProviderAdapter]:
    """One for all: starting its processes takes longer than any of the tests."""
    made = opened(tmp_path_factory.mktemp("lab"), LabSimulator(), {"prices": {"per_shot": "0.01"}})
    yield made
    made.close()


class TestNodeAdapter(ProviderContract):
    module = "qcompute.cluster.adapter"

    @pytest.fixture
    def adapter(self, lab: ProviderAdapter) -> ProviderAdapter:
        return lab


def test_each_node_is_a_device_and_runs_on_itself(tmp_path: Path) -> None:
    log = tmp_path / "log"
    adapter = opened(tmp_path, log=str(log), n_nodes=2)
    first, second = submitted(adapter, "one", "lab-0"), submitted(adapter, "two", "lab-1")
    wait_for(adapter, first, ProviderStatus.COMPLETED)
    wait_for(adapter, second, ProviderStatus.COMPLETED)
    adapter.close()
    assert sorted(log.read_text().split("\n")) == ["", "lab-0 10", "lab-1 10"]
    assert [device.device_id for device in adapter.list_devices()] == ["lab-0", "lab-1"]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ("nothing", "execute gave no counts (None) on 'lab-0', and nothing runs in its place"),
        ("not implemented", "cannot run circuits (NotImplementedError): it ran nothing"),
        ("raises", "raised RuntimeError"),
        ("no credit", "the lab's account is empty"),
        ("nonsense", "keys of different lengths"),
    ],
)
def test_what_gives_no_counts_fails_by_name_and_nothing_runs_in_its_place(
    tmp_path: Path, answer: str, told: str
) -> None:
    """The specification answers None and NotImplementedError with a simulator of its own, under the machine's name."""
    log = tmp_path / "log"
    adapter = opened(tmp_path, answer=answer, log=str(log))
    receipt = ended(adapter, "job")
    adapter.close()
    assert receipt.status == ProviderStatus.FAILED
    assert receipt.results is None
    message = (receipt.metadata or {})["message"]
    assert message.startswith("tests.providers.lab_nodes:LabMachine: ")
    assert told in message
    assert "hunter2" not in message
    assert log.read_text() == "lab-0 10\n"


def test_a_process_that_dies_may_have_run_and_is_never_started_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    arguments: dict[str, Any] = {"answer": "dies", "log": str(log)}
    adapter = opened(tmp_path, **arguments)
    receipt = ended(adapter, "job")
    assert receipt.status == ProviderStatus.UNKNOWN
    assert "may have run" in (receipt.metadata or {})["message"]
    adapter.close()
    again = opened(tmp_path, **arguments)
    assert again.poll(submitted(again, "job")).status == ProviderStatus.UNKNOWN
    again.close()
    assert log.read_text() == "lab-0 10\n"


def test_one_that_may_be_repeated_fails_instead(tmp_path: Path) -> None:
    adapter = opened(tmp_path, LabSimulator(), answer="dies")
    receipt = ended(adapter, "job")
    adapter.close()
    assert receipt.status == ProviderStatus.FAILED


def test_a_run_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    adapter = opened(tmp_path, LabMachine(), {"wall_seconds": 3.0}, answer="never ends")
    receipt = ended(adapter, "job")
    adapter.close()
    assert receipt.status == ProviderStatus.UNKNOWN
    assert "more than 3 s" in (receipt.metadata or {})["message"]


def test_a_run_can_be_cancelled_and_so_can_one_that_waits_for_its_node(tmp_path: Path) -> None:
    log = tmp_path / "log"
    adapter = opened(tmp_path, answer="never ends", log=str(log))
    running, waiting = submitted(adapter, "running"), submitted(adapter, "waiting")
    deadline = time.monotonic() + ENDED_SECONDS
    while not log.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert adapter.poll(running).status == ProviderStatus.RUNNING
    assert adapter.poll(waiting).status == ProviderStatus.QUEUED
    adapter.cancel(waiting)
    assert adapter.poll(waiting).status == ProviderStatus.CANCELLED
    adapter.cancel(running)
    wait_for(adapter, running, ProviderStatus.CANCELLED)
    adapter.close()
    assert log.read_text() == "lab-0 10\n"


def test_a_child_has_the_secrets_its_nodes_name_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QCOMPUTE_SECRET_LAB_KEY", "a-lab-key")
    monkeypatch.setenv("QCOMPUTE_SECRET_OTHER", "somebody-else")
    adapter = opened(tmp_path, answer="environment", credentials={"key": "lab_key"})
    receipt = ended(adapter, "job")
    adapter.close()
    assert receipt.results == {"measurementCounts": {"001": 10}}


def test_a_secret_that_is_not_set_is_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="QCOMPUTE_SECRET_LAB_KEY"):
        opened(tmp_path, credentials={"key": "lab_key"})


KILLED = """
import sys, time
from pathlib import Path
from qcompute.cluster import AccountSetup
from tests.providers import lab_nodes
provider = getattr(lab_nodes, sys.argv[1])()
arguments = {"answer": "never ends", "log": sys.argv[3]}
nodes = provider.build_nodes(**arguments)
adapter = provider.open_adapter(nodes, AccountSetup("lab", Path(sys.argv[2]), arguments))
adapter.submit(sys.argv[4], "lab-0", 10, token="running")
adapter.submit(sys.argv[4], "lab-0", 10, token="queued")
while not Path(sys.argv[3]).exists(): time.sleep(0.02)
print("running", flush=True)
time.sleep(600)
"""


def killed_while_running(provider: type[NodeProvider], folder: Path, log: Path) -> None:
    """Another process runs one job and has one waiting, and is killed."""
    daemon = subprocess.Popen(  # noqa: S603 - our own words
        [sys.executable, "-c", KILLED, provider.__name__, str(folder), str(log), SOURCE],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert daemon.stdout is not None
    assert daemon.stdout.readline() == "running\n"
    os.kill(daemon.pid, signal.SIGKILL)
    daemon.wait()
    daemon.stdout.close()


def test_after_a_kill_what_ran_is_unknown_and_what_waited_runs(tmp_path: Path) -> None:
    log = tmp_path / "log"
    killed_while_running(LabMachine, tmp_path, log)
    adapter = opened(tmp_path, log=str(log))
    running = JobHandle(provider_job_id="running", device_id="lab-0")
    queued = JobHandle(provider_job_id="queued", device_id="lab-0")
    assert adapter.poll(running).status == ProviderStatus.UNKNOWN
    assert "the miner stopped while it ran" in (adapter.poll(running).message or "")
    wait_for(adapter, queued, ProviderStatus.COMPLETED)
    adapter.close()
    assert log.read_text() == "lab-0 10\nlab-0 10\n"


def test_after_a_kill_what_may_be_repeated_runs_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    killed_while_running(LabSimulator, tmp_path, log)
    adapter = opened(tmp_path, LabSimulator(), log=str(log))
    wait_for(adapter, JobHandle(provider_job_id="running", device_id="lab-0"), ProviderStatus.COMPLETED)
    wait_for(adapter, JobHandle(provider_job_id="queued", device_id="lab-0"), ProviderStatus.COMPLETED)
    adapter.close()


def files_of(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in (folder / "nodes").iterdir()}


def test_whoever_only_looks_touches_no_job(tmp_path: Path) -> None:
    """`devices` between stop and start, and `connections test` at any time, recovered the spool.

    They wrote "the miner stopped while it ran" of the job that was running, and started the next one.
    """
    killed_while_running(LabMachine, tmp_path, tmp_path / "log")
    before = files_of(tmp_path)
    adapter = opened(tmp_path, log=str(tmp_path / "log"))
    assert is_usable(looked_at(adapter))
    adapter.close()
    assert files_of(tmp_path) == before
    assert (tmp_path / "log").read_text() == "lab-0 10\n"


def test_two_never_have_one_spool(tmp_path: Path) -> None:
    """With two adapters on it a job that may run once ran twice: each found it unfinished, or took it from a queue."""
    arguments: dict[str, Any] = {"answer": "never ends", "log": str(tmp_path / "log")}
    first = opened(tmp_path, **arguments)
    running, queued = submitted(first, "running"), submitted(first, "queued")
    wait_for(first, running, ProviderStatus.RUNNING)
    second = opened(tmp_path, **arguments)
    with pytest.raises(ConfigError, match=r"the spool .* cannot be used \(setting spool\): another process has it"):
        second.begin()
    with pytest.raises(ConfigError, match="another process has it"):
        submitted(second, "queued")
    second.close()
    assert [first.poll(one).status for one in (running, queued)] == [ProviderStatus.RUNNING, ProviderStatus.QUEUED]
    first.close()
    third = opened(tmp_path, **arguments)
    third.begin()
    third.close()


def test_new_credentials_are_for_the_next_job_and_the_one_that_runs_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`connections rotate` put a second adapter in the place of this one.

    It ran the waiting jobs too, and closing the first killed the job that ran, which was then held.
    """
    monkeypatch.setenv("QCOMPUTE_SECRET_LAB_KEY", "an-old-key")
    go_on = tmp_path / "go-on"
    more: dict[str, Any] = {"answer": "environment", "credentials": {"key": "lab_key"}, "waits_for": str(go_on)}
    adapter = opened(tmp_path, log=str(tmp_path / "log"), **more)
    running = submitted(adapter, "running")
    deadline = time.monotonic() + ENDED_SECONDS
    while not (tmp_path / "log").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    monkeypatch.setenv("QCOMPUTE_SECRET_LAB_KEY", "a-lab-key")
    fresh = opened(tmp_path, **more)
    assert adapter.renewed_by(fresh) is adapter
    fresh.close()
    assert adapter.poll(running).status == ProviderStatus.RUNNING
    go_on.touch()
    wait_for(adapter, running, ProviderStatus.COMPLETED)
    assert adapter.get_job_receipt(running).results == {"measurementCounts": {"000": 10}}
    assert ended(adapter, "next").results == {"measurementCounts": {"001": 10}}
    adapter.close()


def test_a_result_that_was_not_fetched_outlives_a_long_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was dropped at the start, three days after its job was made.

    A paid run was held without its counts, and a job whose submit had not been heard of was run again.
    """
    adapter = opened(tmp_path)
    handle = submitted(adapter, "job")
    wait_for(adapter, handle, ProviderStatus.COMPLETED)
    adapter.close()
    week_ago = time.time() - 7 * 86400
    job_file = tmp_path / "nodes" / "job.job.json"
    job_file.write_text(json.dumps(json.loads(job_file.read_text()) | {"created": week_ago}))
    for file in (tmp_path / "nodes").iterdir():
        os.utime(file, (week_ago, week_ago))
    monkeypatch.setattr(spooled, "REMOVE_SECONDS", 0.0)
    adapter = opened(tmp_path)
    ended(adapter, "another")
    assert adapter.get_job_receipt(handle).results
    adapter.close()


def test_a_fetched_result_goes_after_keep_days_also_while_the_daemon_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a start removed anything: a daemon that ran for months kept three files of every job."""
    monkeypatch.setattr(spooled, "REMOVE_SECONDS", 0.0)
    adapter = opened(tmp_path)
    ended(adapter, "old")
    week_ago = time.time() - 7 * 86400
    os.utime(tmp_path / "nodes" / "old.fetched", (week_ago, week_ago))
    ended(adapter, "next")
    adapter.close()
    names = sorted(file.name for file in (tmp_path / "nodes").iterdir())
    assert names == ["lock", "next.fetched", "next.job.json", "next.result.json", "next.started"]


def test_a_job_of_a_node_that_is_gone_is_not_given_to_another(tmp_path: Path) -> None:
    killed_while_running(LabMachine, tmp_path, tmp_path / "log")
    _, other = LabMachine().build_nodes(n_nodes=2)
    adapter = LabMachine().open_adapter([other], AccountSetup("lab", tmp_path, {"n_nodes": 2}))
    running = adapter.poll(JobHandle(provider_job_id="running", device_id="lab-0"))
    queued = adapter.poll(JobHandle(provider_job_id="queued", device_id="lab-0"))
    adapter.close()
    assert running.status == ProviderStatus.UNKNOWN
    assert queued.status == ProviderStatus.FAILED
    assert "no node 'lab-0' any more" in (queued.message or "")


def test_a_provider_without_execute_is_refused_when_it_is_opened(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="LabWithoutExecute has no execute"):
        opened(tmp_path, LabWithoutExecute())


def test_a_class_that_a_child_cannot_import_is_refused(tmp_path: Path) -> None:
    class Inside(LabMachine):
        pass

    with pytest.raises(ConfigError, match="at the top of a module"):
        opened(tmp_path, Inside())


def test_arguments_a_child_cannot_be_given_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="texts, numbers, lists and tables"):
        opened(tmp_path, client=object())


def test_wrong_settings_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cluster account 'lab': settings\.keep_days: this is no switch"):
        opened(tmp_path, settings={"keep_days": True})
    with pytest.raises(ConfigError, match=r"cluster account 'lab': settings\.wall_second: Extra"):
        opened(tmp_path, settings={"wall_second": 3})


def test_a_spool_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """The daemon ended with a line of Python's own ``pathlib``, and left out which folder and which setting it was."""
    (tmp_path / "taken").write_text("")
    adapter = opened(tmp_path, settings={"spool": str(tmp_path / "taken")})
    with pytest.raises(ConfigError, match=r"^the spool \S+/taken cannot be used \(setting spool\): File ex"):
        adapter.begin()
    adapter.close()
