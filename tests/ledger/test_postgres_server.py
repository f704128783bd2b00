"""The server that the tests of Postgres start for themselves."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ledger import postgres_server
from tests.ledger.postgres_server import PASSWORD, NoPostgres, programs, shared_server
from tests.scene import until_true


def test_without_a_server_the_tests_fail_and_name_what_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_server, "_DEBIAN", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoPostgres, match="make postgres"):
        programs.__wrapped__()


def test_it_runs_as_an_ordinary_user_on_loopback_alone() -> None:
    server = shared_server()
    assert server.folder.joinpath("data").stat().st_uid != 0
    assert server.run_sql("postgres", "SHOW listen_addresses") == [("127.0.0.1",)]
    with pytest.raises(postgres_server.psycopg.OperationalError, match="password"):
        postgres_server.psycopg.connect(host="127.0.0.1", port=server.port, dbname="postgres", user="miner").close()
    assert len(set(PASSWORD) & set("@:/?#[]%&=+ ")) == 12


async def test_it_ends_when_its_tests_are_killed() -> None:
    """So that a run that was cut off leaves no server behind."""
    program = (
        "import sys, time; from tests.ledger.postgres_server import shared_server\n"
        "server = shared_server(); print(server._process.pid, server.folder, flush=True); time.sleep(600)"
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", program], cwd=root, stdout=subprocess.PIPE, text=True) as tests:  # noqa: ASYNC220, S603
        assert tests.stdout is not None
        pid, folder = tests.stdout.readline().split()
        server = int(pid)
        os.kill(server, 0)
        tests.send_signal(signal.SIGKILL)
    await until_true(lambda: not Path(f"/proc/{server}/fd").exists(), what="the end of the server")
    shutil.rmtree(folder)
