"""The operator's token in its file, whatever happens while it is made."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

from qcompute.console.operator_token import kept_token

_STEPS: Final = ("fdopen", "fsync", "link", "unlink")
"""The calls of `os` on the way, in order; before each of them a process is killed."""

_KILLED: Final = """
import os, signal, sys
from pathlib import Path
from qcompute.console.operator_token import kept_token

for step in sys.argv[2:]:
    child = os.fork()
    if child == 0:
        setattr(os, step, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
        kept_token(Path(sys.argv[1]) / step)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL, step
"""


def test_a_kill_while_the_token_is_made_keeps_no_daemon_from_its_next_start(tmp_path: Path) -> None:
    """The file was made first and filled then: a kill in between left it empty, and every later start refused it."""
    command = [sys.executable, "-c", _KILLED, str(tmp_path), *_STEPS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603 - ours
    assert (done.returncode, done.stderr) == (0, "")
    for step in _STEPS:
        was_there = (tmp_path / step).exists()
        assert was_there is (step == "unlink"), step
        token = kept_token(tmp_path / step)
        assert len(token) >= 43, step
        assert kept_token(tmp_path / step) == token
