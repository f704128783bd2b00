"""A child process that computes for a double: one JSON line in, one JSON line out.

Simulators crash and eat memory, and qiskit must not be imported in a test's own threads; a child may do both. One child
of a kind serves a whole test run.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import subprocess
import sys
import threading
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


class Worker:
    """``python -m module``, started when first asked. Thread-safe; calls queue up."""

    def __init__(self, module: str, python: Path | None = None) -> None:
        self._command = [str(python or sys.executable), "-m", module]
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    def ask(self, request: Any) -> Any:
        """The child's answer; raises RuntimeError with the child's own text when it could not compute."""
        with self._lock:
            process = self._running()
            if process.stdin is None or process.stdout is None:
                raise RuntimeError("the worker has no pipes")
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._command[-1]} died")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["ok"]

    async def ask_soon(self, request: Any) -> Any:
        """The same from an event loop."""
        return await asyncio.to_thread(self.ask, request)

    def close(self) -> None:
        """End the child; a later call starts a new one."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter
                self._command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            atexit.register(self.close)
        return self._process


@cache
def shared(module: str, python: Path | None = None) -> Worker:
    """The one worker of its kind in this process."""
    return Worker(module, python)


def serve(answer: Any) -> None:
    """The child's loop: ``answer(request)`` gives what goes back. Ends when the parent does."""
    replies = sys.stdout
    sys.stdout = sys.stderr  # what libraries print must not mix with answers
    for line in sys.stdin:
        try:
            reply = {"ok": answer(json.loads(line))}
        except Exception as error:  # noqa: BLE001 - whatever went wrong is the answer
            reply = {"error": f"{type(error).__name__}: {error}"}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()
