"""What ``qcompute`` ends with; scripts may rely on it, and the reference page is written from it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import ClassVar, Final

from qcompute.errors import QComputeError


class ExitCode(IntEnum):
    """How a command ended."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NO_DAEMON = 3
    INTERRUPTED = 130


MEANINGS: Final[Mapping[ExitCode, str]] = {
    ExitCode.DONE: "done",
    ExitCode.FAILED: (
        "it was tried and something is wrong: a problem was found, there is no such job, it is in another state, the "
        "database failed"
    ),
    ExitCode.USAGE: "it cannot be done as asked: an argument, a setting or a file is wrong, or a daemon has the ledger",
    ExitCode.NO_DAEMON: "only a running daemon can do it, and none answers",
    ExitCode.INTERRUPTED: "interrupted (Ctrl-C); nothing was left half done",
}
"""For people."""


class NoDaemon(QComputeError):
    """Only a running daemon can do this, and none answers."""

    code: ClassVar[str] = "no_daemon"
