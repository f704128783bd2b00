"""A real terminal with a process in it: what a person would see, and what they type when they are asked."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

ROOT: Final = Path(__file__).resolve().parents[1]
PATIENCE_SECONDS: Final = 60.0

_IN_IT: Final = (
    "import os, signal, sys\n"
    "signal.signal(signal.SIGINT, signal.SIG_DFL)\n"  # tests that run in the background have it ignored, for all below
    "os.close(os.open(os.ttyname(0), os.O_RDWR))\n"  # a session's leader gets the terminal that it opens first
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])\n"
)
"""getpass asks at /dev/tty, which must be this terminal and not that of whoever runs the tests. Ctrl-C must reach it:
in CI that was started with ``&`` an interrupted command went on waiting."""

_CONTROL: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """``python ARGUMENTS`` in a terminal so wide that no line is broken. Leaving it kills what still runs."""

    def __init__(self, *arguments: str, environ: Mapping[str, str], columns: int = 300) -> None:
        self._ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (40, columns))
        command: Sequence[str] = [sys.executable, "-c", _IN_IT, *arguments]
        surroundings = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TERM": "xterm", **environ}
        self._process = subprocess.Popen(  # noqa: S603 - ours
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=surroundings, start_new_session=True
        )
        os.close(theirs)
        self._raw = b""
        self._seen = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(PATIENCE_SECONDS)
        os.close(self._ours)

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    @property
    def screen(self) -> str:
        """All that was ever shown, without colours and moves of the cursor."""
        return _CONTROL.sub("", self._raw.decode(errors="replace")).replace("\r\n", "\n")

    def shows(self, text: str) -> None:
        """Wait until ``text`` is shown after what was waited for before."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (found := self.screen.find(text, self._seen)) < 0:
            assert self._reads(deadline), f"{text!r} was not shown:\n{self.screen}"
        self._seen = found + len(text)

    def types(self, line: str) -> None:
        """Type a line and Enter."""
        os.write(self._ours, f"{line}\n".encode())

    def interrupts(self) -> None:
        """Press Ctrl-C."""
        os.write(self._ours, b"\x03")

    def ends(self) -> int:
        """Wait for the end; the exit code."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self._reads(deadline):
            pass
        return self._process.wait(max(0.0, deadline - time.monotonic()))

    def _reads(self, deadline: float) -> bool:
        """Read what comes next; False at the end, or at the deadline."""
        ready, _, _ = select.select([self._ours], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return False
        try:
            piece = os.read(self._ours, 65536)
        except OSError:  # nobody has the other end any more
            return False
        self._raw += piece
        return bool(piece)
