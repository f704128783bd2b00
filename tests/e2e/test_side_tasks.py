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
    "connections",
    "budgets",
    "account health",
    "strays",
    "stage held",
    "stage settled",
    "axon",
    "shared rates",
    "operator port",
    "metrics",
    "dashboard",
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
    *(Case(task, how) for task in SIDE_TASKS for how in (Break.RAISES, Break.ENDS)),
    Case("stage waiting of mock", Break.IS_CANCELLED),
    Case("heartbeat", Break.IS_CANCELLED),
]
GROUP: Final = 11
_ALL_SECONDS: Final = 110


@dataclass(frozen=True, slots=True)
class Death:
    """How a daemon ended: its exit code, its log lines as documents, and what it said its side tasks are."""

    code: int
    lines: list[dict[str, Any]]
    side_tasks: list[str]


Deaths = Callable[[Case], Death]


@pytest.fixture(scope="module")
def deaths(tmp_path_factory: pytest.TempPathFactory) -> Deaths:
    """The cases in groups, each run when one of it is first asked for: all of them would be too long for one test.

    What became of a group is kept when that is a failure too: on a machine too busy for the limit, each test of the
    group used to run all of it again.
    """
    run: dict[int, dict[Case, Death] | Exception] = {}

    def of(case: Case) -> Death:
        number = CASES.index(case) // GROUP
        if number not in run:
            group = CASES[number * GROUP : (number + 1) * GROUP]
            run[number] = _ends_of(group, tmp_path_factory.mktemp(f"side_tasks-{number}"))
        ends = run[number]
        if isinstance(ends, Exception):
            raise ends
        return ends[case]

    return of


def _ends_of(group: list[Case], folder: Path) -> dict[Case, Death] | Exception:
    try:
        asyncio.run(_run(group, folder))
        return {case: _death(folder / case.name) for case in group}
    except (AssertionError, TimeoutError) as error:
        return error


async def _run(cases: list[Case], folder: Path) -> None:
    for case in cases:
        (folder / case.name).mkdir()
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


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_daemon_stops_and_says_which_and_why(deaths: Deaths, case: Case) -> None:
    """One critical line, and no other above a warning: whoever reads the log finds the cause at once.

    An error used to be told twice, and a side task that was cancelled from within, not at all: a task group takes
    that for an orderly end, and the daemon served on without it.
    """
    death = deaths(case)
    assert death.code == 1
    loud = [line for line in death.lines if line["level"] in {"error", "critical"}]
    assert [line["message"] for line in loud] == [f"the daemon stops: side task {case.task} {WORDS[case.how]}"]
    assert loud[0]["level"] == "critical"
    assert loud[0]["action"] == "fatal"
    if case.how is Break.RAISES:
        assert "side_task_launcher.py" in loud[0]["traceback"], "it must say where"


def test_no_side_task_is_left_out(deaths: Deaths) -> None:
    """Of all daemons together: one that dies early does not come to work on its account."""
    seen = {name for case in CASES for name in deaths(case).side_tasks}
    assert seen == set(SIDE_TASKS)
