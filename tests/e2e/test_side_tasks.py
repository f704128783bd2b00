"""Every side task, ending in every way it can: the daemon stops, with a code and one line that says why."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from qcompute.chain.keys import signer_from_uri
from qcompute.local.miner_process import MinerProcess
from qcompute.local.platform import LocalPlatform
from tests.e2e import side_task_launcher
from tests.e2e.side_task_launcher import ORDERED, Break, Case
from tests.scene import VALIDATOR_URI

SIDE_TASKS: Final = (
    "stage accepted",
    "stage ready",
    "stage submitting of mock",
    "stage waiting of mock",
    "stage waiting of @split",
    "work on @road",
    "work on mock",
    "budgets",
    "account health",
    "strays",
    "stage held",
    "stage settled",
    "axon",
    "shared rates",
    "operator port",
    "operator commands",
    "heartbeat",
    "telemetry",
    "metagraph",
    "axon publisher",
    "service manager",
    "purge",
)
WORDS: Final = {
    Break.RAISES: f"died: RuntimeError: {ORDERED}",
    Break.ENDS: "ended by itself",
    Break.IS_CANCELLED: "was cancelled from within",
}
CASES: Final = [
    *((task, how) for task in SIDE_TASKS for how in (Break.RAISES, Break.ENDS)),
    ("stage waiting of mock", Break.IS_CANCELLED),
    ("heartbeat", Break.IS_CANCELLED),
]
_ALL_SECONDS: Final = 110


@dataclass(frozen=True, slots=True)
class Death:
    """How a daemon ended: its exit code, its log lines as documents, and what it said its side tasks are."""

    code: int
    lines: list[dict[str, Any]]
    side_tasks: list[str]


Deaths = Callable[[Break], dict[str, Death]]


@pytest.fixture(scope="module")
def deaths(tmp_path_factory: pytest.TempPathFactory) -> Deaths:
    """The cases of one kind of end, run when they are first asked for: all of them would be too long for one test."""
    run: dict[Break, dict[str, Death]] = {}

    def of(how: Break) -> dict[str, Death]:
        if how not in run:
            folder = tmp_path_factory.mktemp(f"side_tasks-{how}")
            cases = [Case(task, how, str(folder / task)) for task, way in CASES if way is how]
            asyncio.run(_run(cases, folder))
            run[how] = {case.task: _death(Path(case.folder)) for case in cases}
        return run[how]

    return of


async def _run(cases: list[Case], folder: Path) -> None:
    for case in cases:
        Path(case.folder).mkdir()  # noqa: ASYNC240 - nothing else runs here
    platform = LocalPlatform()
    await platform.start()
    miner = MinerProcess(
        folder,
        validators=[signer_from_uri(VALIDATOR_URI).hotkey],
        provider="mock",
        environment=platform.miner_environment() | {"QCOMPUTE_LOGGING__FORMAT": "json"},
    )
    try:
        async with asyncio.timeout(_ALL_SECONDS):
            # Two at a time: each waits for the network and for its own end half of the time.
            await asyncio.gather(*(_launch(cases[part::2], miner, folder / f"cases-{part}.json") for part in range(2)))
    finally:
        await platform.stop()


async def _launch(cases: list[Case], miner: MinerProcess, file: Path) -> None:
    file.write_text(json.dumps([asdict(case) for case in cases]))  # noqa: ASYNC240 - nothing else runs here
    _, _, *flags = miner.command()
    launcher = await asyncio.create_subprocess_exec(
        sys.executable, side_task_launcher.__file__, str(file), *flags, env=miner.full_environment()
    )
    try:
        assert await launcher.wait() == 0
    finally:
        if launcher.returncode is None:
            launcher.kill()
            await launcher.wait()


def _death(folder: Path) -> Death:
    log = (folder / "miner.log").read_text()
    assert (folder / "result.json").exists(), log
    result = json.loads((folder / "result.json").read_text())
    return Death(result["code"], [json.loads(line) for line in log.splitlines()], result["side_tasks"])


@pytest.mark.parametrize(("task", "how"), CASES)
def test_the_daemon_stops_and_says_which_and_why(deaths: Deaths, task: str, how: Break) -> None:
    """One critical line, and no other above a warning: whoever reads the log finds the cause at once.

    An error used to be told twice, and a side task that was cancelled from within, not at all: a task group takes
    that for an orderly end, and the daemon served on without it.
    """
    death = deaths(how)[task]
    assert death.code == 1
    loud = [line for line in death.lines if line["level"] in {"error", "critical"}]
    assert [line["message"] for line in loud] == [f"the daemon stops: side task {task} {WORDS[how]}"]
    assert loud[0]["level"] == "critical"
    assert loud[0]["action"] == "fatal"
    if how is Break.RAISES:
        assert "side_task_launcher.py" in loud[0]["traceback"], "it must say where"


def test_no_side_task_is_left_out(deaths: Deaths) -> None:
    """Of all daemons together: one that dies early does not come to work on its account."""
    seen = {name for how in Break for death in deaths(how).values() for name in death.side_tasks}
    assert seen == set(SIDE_TASKS)
