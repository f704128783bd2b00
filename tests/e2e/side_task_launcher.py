"""Runs the real miner once for each case, with one of its side tasks broken, each time in a process of its own.

``python side_task_launcher.py CASES MINER-FLAGS…``: ``CASES`` is a JSON file with a list of `Case` documents.
Everything is imported once and each case is a fork of that, because importing takes longer than what is tested. What a
case came to is written to ``result.json`` in its folder: the exit code, and the names of the daemon's own side tasks.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from neurons import miner
from qcompute.ledger import migrations, sqlite
from qcompute.miner import app, switch
from qcompute.miner.duty import Shift
from qcompute.miner.providers import mock

LOADED_LATE: Final = (migrations, mock, sqlite)
"""What a daemon imports in the course of its start; here once for all of them."""

ORDERED: Final = "ordered by the test"
"""The text of the error that a broken side task raises."""

_Part = Callable[[], Awaitable[None]]
_LOOK_SECONDS: Final = 0.01


class Break(StrEnum):
    """How a side task comes to its end."""

    RAISES = "raises"
    ENDS = "ends"
    IS_CANCELLED = "is_cancelled"
    """Something within the part was cancelled, and nobody asked the part to end."""


@dataclass(frozen=True, slots=True)
class Case:
    """``task`` breaks once the daemon says that it serves."""

    task: str
    how: Break

    @property
    def name(self) -> str:
        """Of its folder, beside the file of the cases, for its data and its log."""
        return f"{self.task}-{self.how}"


def _break(case: Case, ready: Path, names_seen: list[str]) -> None:
    """Break the part of that name: the daemon's own, one of a duty's, or the work on an account."""
    daemons, shifts, must_run = app.Daemon._side_tasks, Shift.parts, switch.must_run

    def broken(tasks: list[tuple[str, _Part]]) -> list[tuple[str, _Part]]:
        names_seen.extend(name for name, _ in tasks)
        return [(name, _broken(part, case.how, ready) if name == case.task else part) for name, part in tasks]

    app.Daemon._side_tasks = lambda daemon: broken(daemons(daemon))  # pyright: ignore[reportAttributeAccessIssue]
    Shift.parts = lambda shift: broken(shifts(shift))  # pyright: ignore[reportAttributeAccessIssue]

    def work(name: str, part: _Part, stopping: asyncio.Event) -> Coroutine[Any, Any, None]:
        ((_, part),) = broken([(name, part)])
        return must_run(name, part, stopping)

    switch.must_run = work


def _broken(part: _Part, how: Break, ready: Path) -> _Part:
    async def run() -> None:
        real = asyncio.ensure_future(part())
        while not ready.exists():  # noqa: ASYNC110, ASYNC240 - a test's own part
            await asyncio.sleep(_LOOK_SECONDS)
        real.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await real
        match how:
            case Break.RAISES:
                raise RuntimeError(ORDERED)
            case Break.IS_CANCELLED:
                raise asyncio.CancelledError
            case Break.ENDS:
                return

    return run


def _run(case: Case, folder: Path, flags: list[str]) -> int:
    """The miner of one case; called in its process."""
    log = os.open(folder / "miner.log", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    names: list[str] = []
    _break(case, folder / "ready.json", names)
    more = ["--neuron.full_path", str(folder / "data"), "--neuron.ready_file", str(folder / "ready.json")]
    sys.argv = ["miner.py", *flags, *more]
    began = time.monotonic()
    code = miner.main()
    result: dict[str, Any] = {"code": code, "side_tasks": names, "seconds": time.monotonic() - began}
    (folder / "result.json").write_text(json.dumps(result))
    return code


def main() -> int:
    """Run all cases, one after the other; 0 when each came to an end."""
    file = Path(sys.argv[1])
    cases = [Case(one["task"], Break(one["how"])) for one in json.loads(file.read_text())]
    for case in cases:
        child = os.fork()
        if child == 0:
            code = 70
            try:
                code = _run(case, file.parent / case.name, sys.argv[2:])
            finally:
                os._exit(code)
        os.waitpid(child, 0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
