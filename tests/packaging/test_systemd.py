"""The unit file as systemd reads it, and what the daemon tells systemd. The service itself runs on no machine here."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import subprocess
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from qcompute.miner.app import EXIT_CONFIG
from qcompute.miner.limits import MinerSettings
from qcompute.miner.notify import SIGNS_IN_A_LIMIT, ServiceManager
from qcompute.miner.settings_load import catalogue, load_from
from tests.docs.pages import ROOT
from tests.scene import running_scene

UNIT: Final = ROOT / "deploy" / "qcompute-miner.service"
EXPOSURE: Final = 25
"""Of 100; systemd calls a service that protects itself as well as this one OK."""

WATCHDOG_SECONDS: Final = 0.6


def value(name: str) -> str:
    """The one value of a word of the unit."""
    (found,) = re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.MULTILINE)
    return found


def analyzed(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    assert program, "systemd-analyze is not installed: sudo make systemd"
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=False)  # noqa: S603


def test_systemd_reads_the_unit_without_a_word(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("ExecStart=/opt/qcompute/bin/", f"ExecStart={ROOT}/.venv/bin/"))
    done = analyzed("verify", "--man=no", str(unit))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_systemd_finds_a_mistake_in_a_unit(tmp_path: Path) -> None:
    """Or the test above could not fail."""
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("WatchdogSec=60", "WatchdogSecs=60"))
    assert "WatchdogSecs" in analyzed("verify", "--man=no", str(unit)).stderr


def test_the_unit_protects_the_machine() -> None:
    done = analyzed("security", "--offline=true", f"--threshold={EXPOSURE}", "--no-pager", str(UNIT))
    assert done.returncode == 0, done.stdout


def test_the_unit_gives_the_daemon_time_to_stop_and_leaves_wrong_settings_alone() -> None:
    assert int(value("TimeoutStopSec")) >= MinerSettings().shutdown_seconds + 10
    assert int(value("RestartPreventExitStatus")) == EXIT_CONFIG
    assert (value("Restart"), value("Type"), value("NotifyAccess")) == ("on-failure", "notify", "main")


def test_the_unit_leaves_the_sandbox_what_it_needs() -> None:
    assert {"user", "net"} <= set(value("RestrictNamespaces").split())
    calls = value("SystemCallFilter").split()
    assert "@system-service" in calls
    assert "unshare" in calls
    assert "~@resources" not in UNIT.read_text()


def test_the_unit_s_command_is_understood(tmp_path: Path) -> None:
    program, *arguments = value("ExecStart").split()
    assert Path(program).name == "qcompute-miner"
    config = tmp_path / "miner.toml"
    config.write_text('provider = "mock"\n')
    arguments[arguments.index("--config") + 1] = str(config)
    platform = {"JOB_SERVER_URL": "https://j.example", "TENSORAUTH_URL": "https://t.example"}
    assert load_from(arguments, platform, tmp_path).settings.neuron.full_path == Path("/var/lib/qcompute/miner")
    assert catalogue()


# ---- what the daemon says ----


@asynccontextmanager
async def systemd_s_socket(address: str) -> AsyncGenerator[asyncio.Queue[str]]:
    """What is sent to the address."""
    heard: asyncio.Queue[str] = asyncio.Queue()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind("\0" + address[1:] if address.startswith("@") else address)
        receiver.setblocking(False)
        loop = asyncio.get_running_loop()
        loop.add_reader(receiver, lambda: heard.put_nowait(receiver.recv(4096).decode()))
        try:
            yield heard
        finally:
            loop.remove_reader(receiver)


async def test_the_daemon_says_ready_alive_and_stopping(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    told: Mapping[str, str] = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": str(int(WATCHDOG_SECONDS * 1e6))}
    async with systemd_s_socket(address) as heard:
        async with running_scene(tmp_path, environment=told) as scene:
            async with asyncio.timeout(30):
                first, *signs = [await heard.get() for _ in range(4)]
            assert first.splitlines() == [
                "READY=1",
                f"STATUS=serving: axon on port {scene.miner.axon_port}, operator on port {scene.miner.operator_port}",
            ]
            assert signs == ["WATCHDOG=1"] * 3
            assert await scene.miner.stop() == 0
        rest = [heard.get_nowait() for _ in range(heard.qsize())]
        assert rest.count("STOPPING=1\nSTATUS=stopping") == 1


async def test_a_loop_that_hangs_gives_no_sign_of_life(tmp_path: Path) -> None:
    address = f"@qcompute-{tmp_path.name}-{json.dumps(id(tmp_path))}"
    async with systemd_s_socket(address) as heard:
        manager = ServiceManager.named_in({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "300000"}, 7)
        alive = asyncio.create_task(manager.keep_alive())
        async with asyncio.timeout(10):
            assert [await heard.get() for _ in range(SIGNS_IN_A_LIMIT)] == ["WATCHDOG=1"] * SIGNS_IN_A_LIMIT
        blocked = subprocess.run(["sleep", "1"], check=True)  # noqa: ASYNC221, S607 - blocking the loop is the point
        assert blocked.returncode == 0
        assert heard.qsize() == 0
        alive.cancel()


def test_a_watchdog_of_another_process_is_none_of_ours_and_children_inherit_nothing() -> None:
    environment = {"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "5000000", "WATCHDOG_PID": "8", "PATH": "/bin"}
    assert ServiceManager.named_in(environment, 7).watchdog_seconds is None
    assert environment == {"PATH": "/bin"}
    assert ServiceManager.named_in({"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "5000000"}, 7).watchdog_seconds == 5
    assert ServiceManager.named_in({"WATCHDOG_USEC": "5000000"}, 7).watchdog_seconds is None


def test_a_manager_that_does_not_listen_is_survived(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ServiceManager(str(tmp_path / "nobody"), None).ready("serving")
    assert "systemd could not be told 'READY=1'" in caplog.text
    ServiceManager(None, None).ready("serving")
