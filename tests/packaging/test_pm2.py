"""pm2 itself, with the settings of ``ecosystem.config.js``: start, jobs, reload, kill, logs, stop, wrong settings."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from qcompute.local.miner_process import MinerProcess
from qcompute.miner.app import EXIT_CONFIG
from tests.crash.surroundings_judge import damage
from tests.docs.pages import ROOT
from tests.scene import running_scene, until_true

PM2: Final = ROOT / "build" / "pm2" / "node_modules" / ".bin" / "pm2"
CONFIG: Final = ROOT / "ecosystem.config.js"

OURS: Final = """
const { apps } = require(%(config)s);
module.exports = { apps: [{ ...apps[0], ...%(changed)s, env: { ...apps[0].env, ...%(env)s } }] };
"""
"""The first application of the repository's file; only what belongs to a test of its own is changed."""


class App(NamedTuple):
    """The application as ``pm2 jlist`` has it."""

    status: str
    pid: int
    restarts: int
    exit_code: int | None


class Pm2:
    """A pm2 with a home, and so a background process, of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        names = ("PATH", "LANG")
        self._environment = {name: os.environ[name] for name in names if name in os.environ} | {
            "HOME": str(home),
            "PM2_HOME": str(home / ".pm2"),
            "PM2_DISABLE_VERSION_CHECK": "true",
        }

    async def __call__(self, *arguments: str) -> str:
        """What a command prints; it must succeed."""
        process = await asyncio.create_subprocess_exec(
            *(str(PM2), *arguments),
            cwd=self.home,
            env=self._environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(60):
            output, _ = await process.communicate()
        assert process.returncode == 0, f"pm2 {' '.join(arguments)}: {output.decode()}"
        return output.decode()

    async def app(self) -> App:
        """The one application."""
        # What it prints at the first call of all stands before the document.
        printed = await self("jlist", "--silent")
        (document,) = json.loads(printed[printed.index("[{") :].splitlines()[0])
        details: dict[str, Any] = document["pm2_env"]
        return App(details["status"], document["pid"], details["restart_time"], details.get("exit_code"))

    def said(self) -> str:
        """pm2's own log."""
        return (self.home / ".pm2" / "pm2.log").read_text()


class UnderPm2(MinerProcess):
    """The miner as pm2 runs it. What a scene asks of a miner is asked of pm2."""

    pm2: Pm2

    async def start(self, **environment: str) -> None:
        file = self.folder / "ecosystem.config.js"
        interpreter, script, *arguments = self.command()
        changed = {
            "cwd": str(self.folder),
            "interpreter": interpreter,
            "script": script,
            "args": arguments,
            "min_uptime": "1s",
        }
        values = {"config": str(CONFIG), "changed": changed, "env": self.full_environment() | environment}
        file.write_text(OURS % {name: json.dumps(value) for name, value in values.items()})
        self.pm2 = Pm2(self.folder)
        await self.pm2("start", str(file))
        await self.serves()

    async def serves(self) -> None:
        """Wait until it says that it serves, and learn its ports; the file is removed for the next time."""
        ready = self.folder / "ready.json"
        await until_true(ready.exists, what=f"the miner serves: {self.last_lines()}")
        facts = json.loads(ready.read_text())
        ready.unlink()
        self.axon_port, self.operator_port = facts["axon_port"], facts["operator_port"]

    def last_lines(self, count: int = 15) -> str:
        texts = [file.read_text() for file in sorted((self.folder / "logs").glob("*.log"))]
        return "\n".join("\n".join(texts).splitlines()[-count:])

    async def stop(self, limit_seconds: float = 40.0) -> int:
        """End pm2 with all that it runs."""
        del limit_seconds
        await self.pm2("kill")
        return 0


@asynccontextmanager
async def pm2_at_home(folder: Path) -> AsyncGenerator[Pm2]:
    pm2 = Pm2(folder)
    try:
        yield pm2
    finally:
        await pm2("kill")


async def test_pm2_starts_reloads_and_stops_the_daemon_and_nothing_is_lost(tmp_path: Path) -> None:
    settings = {"QCOMPUTE_PROVIDERS__MOCK__RUN_SECONDS": "2", "QCOMPUTE_MINER__SHUTDOWN_SECONDS": "5"}
    async with running_scene(tmp_path, environment=settings, miner_process=UnderPm2) as scene:
        miner = scene.miner
        assert isinstance(miner, UnderPm2)
        pm2 = miner.pm2

        async def serves_again() -> App:
            await miner.serves()
            scene.validator.miner_port = miner.axon_port
            return await pm2.app()

        first = await pm2.app()
        assert first.status == "online"

        scene.add_jobs(9)
        await scene.hand_over(3)
        await pm2("reload", "qcompute-miner")
        second = await serves_again()
        assert (second.status, second.restarts) == ("online", 1)
        assert "exited with code [0]" in pm2.said()
        assert ("Offline", False) in [(r["status"], r["accepting_jobs"]) for r in scene.platform.jobs.backend_reports]

        await scene.hand_over(3)
        os.kill(second.pid, signal.SIGKILL)
        third = await serves_again()
        assert (third.status, third.restarts) == ("online", 2)
        assert third.pid not in {first.pid, second.pid}

        await scene.hand_over(3)
        await scene.collected(9)
        tokens = [token for token, _ in scene.vendor_submits()]
        assert len(tokens) == len(set(tokens)) == 9
        assert damage(miner.ledger_path) == []

        logs = await pm2("logs", "qcompute-miner", "--nostream", "--lines", "1000")
        assert "SIGINT: stopping" in logs
        assert "serving: axon on port" in logs

        await pm2("stop", "qcompute-miner")
        fourth = await pm2.app()
        assert (fourth.status, fourth.restarts) == ("stopped", 2)
        assert f"pid={third.pid} msg=process tree killed (1 pids)" in pm2.said(), "a signal to its children too"
        assert "still alive after" not in pm2.said(), "it was killed, and did not end by itself"
        with pytest.raises(ProcessLookupError):
            os.kill(third.pid, 0)


async def test_a_wrong_setting_is_not_tried_again_and_a_failure_is(tmp_path: Path) -> None:
    """pm2 shows `waiting restart` for both, and means it for the second alone."""
    fails = tmp_path / "fails.py"
    fails.write_text("raise SystemExit(1)\n")
    changed = {"cwd": str(tmp_path), "script": str(ROOT / "neurons" / "miner.py"), "args": ["--axon.prot=8091"]}
    peer = changed | {"name": "peer", "script": str(fails), "args": []}
    for name, settings in {"wrong": changed, "fails": peer}.items():
        values = {"config": str(CONFIG), "changed": settings, "env": {}}
        (tmp_path / f"{name}.config.js").write_text(OURS % {key: json.dumps(value) for key, value in values.items()})
    async with pm2_at_home(tmp_path) as pm2:
        await pm2("start", "wrong.config.js")
        await until_true(lambda: f"exited with code [{EXIT_CONFIG}]" in pm2.said(), what="the daemon has ended")
        await pm2("start", "fails.config.js")
        await until_true(lambda: pm2.said().count("App [peer:1] starting") == 3, what="a failure is tried again twice")
        assert pm2.said().count("App [qcompute-miner:0] starting") == 1
        assert "did you mean --axon.port" in await pm2("logs", "qcompute-miner", "--nostream", "--lines", "50")
