"""Child processes for everything that reads foreign OpenQASM: bounded in memory, CPU, time, files and replies.

A parser that hangs with the GIL held, aborts, or eats all memory takes a child with it and nothing else. Children are
started when first needed, used again, replaced after a crash and ended when idle.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from qcompute.errors import CannotRun, QComputeError, SandboxUnavailable

START_SECONDS: Final = 60.0
"""A cold start imports qiskit: about a second, much more on a machine under load."""

CANCEL_LOOK_SECONDS: Final = 0.1

TOGETHER_SECONDS: Final = 5.0
"""What requests that share an exchange may take together, of CPU time. The child answers long before, what it has done
by then, unless one of them takes so long."""

_BUSY_MACHINE: Final = 3.0
"""So many times that may pass in all where others use the machine."""

_CHUNK: Final = 65536
_ROOT: Final = str(Path(__file__).resolve().parents[2])
_START: Final = f"import sys; sys.path.append({_ROOT!r}); from qcompute.circuits.sandbox_child import main; main()"


class SandboxCancelled(QComputeError):
    """The call was cancelled and its child ended."""

    code = "sandbox_cancelled"


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """What one child may use. ``cpu_seconds`` and ``wall_seconds`` are per call, the others for its life.

    ``trusted`` is for an entry that runs the operator's own code: it may use the network and write files.
    ``counts_address_space``: memory is all that is mapped; otherwise what is mapped for writing alone, for libraries
    that reserve far more than they use, as CUDA does.
    """

    memory_bytes: int = 2 << 30
    cpu_seconds: float = 20.0
    wall_seconds: float = 30.0
    max_reply_bytes: int = 8 << 20
    open_files: int = 64
    trusted: bool = False
    counts_address_space: bool = True


class _Died(Exception):
    """The child ended; ``code`` is its exit code, negative for a signal."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(f"exit code {code}")


@dataclass(frozen=True, slots=True)
class _Exchange:
    """Requests for one child, and how long it may take with them. ``shared`` is a part of each."""

    requests: Sequence[dict[str, Any]]
    cpu_seconds: float
    wall_seconds: float
    cancel: threading.Event | None = None
    shared: Mapping[str, Any] = field(default_factory=dict[str, Any])


class _Child:
    """One process and its two pipes."""

    def __init__(self, entry: str, limits: SandboxLimits, folder: str, environment: Mapping[str, str]) -> None:
        names = ("memory_bytes", "open_files", "trusted", "counts_address_space")
        facts = json.dumps({name: getattr(limits, name) for name in names})
        self._limits = limits
        self.idle_since = time.monotonic()
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and our own words
            [sys.executable, "-I", "-c", _START, entry, facts, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**_environment(folder), **environment},
            cwd=folder,
            close_fds=True,
            start_new_session=True,  # a Ctrl-C in the operator's terminal is for the daemon alone
        )
        if self._process.stdin is None or self._process.stdout is None:
            raise SandboxUnavailable("the sandbox has no pipes")
        self._to, self._from = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._to, False)
        os.set_blocking(self._from, False)
        self._unsent = memoryview(b"")
        self._deadline = time.monotonic() + START_SECONDS

    def wait_until_ready(self, cancel: threading.Event | None) -> None:
        """Raises `SandboxUnavailable` when the child does not come up, `SandboxCancelled` when nobody needs it."""
        try:
            self.answer(cancel)
        except (_Died, TimeoutError, CannotRun):
            self.kill()
            raise SandboxUnavailable("a sandboxed process did not start; is qiskit installed?") from None

    def tell(self, what: _Exchange) -> None:
        """Hand it requests, as far as they fit into the pipe at once, as most do; `answer` hands it the rest."""
        message = {"requests": what.requests, "shared": what.shared, "cpu_seconds": what.cpu_seconds}
        self._unsent = memoryview(json.dumps(message).encode() + b"\n")
        self._deadline = time.monotonic() + what.wall_seconds
        with contextlib.suppress(_Died):  # `answer` finds it dead
            self._write()

    def answer(self, cancel: threading.Event | None) -> dict[str, Any]:
        """What it says to what it was told.

        Raises:
            _Died: it ended.
            TimeoutError: it took too long.
            SandboxCancelled: ``cancel`` was set.
            CannotRun: the answer is too large.
        """
        got = bytearray()
        ready = select.poll()  # which needs no descriptor of its own, to be made and closed for every circuit
        ready.register(self._from, select.POLLIN)
        if self._unsent:
            ready.register(self._to, select.POLLOUT)
        while True:
            # What is there already is not too late, however late it is asked for.
            for descriptor, _ in ready.poll(0) or ready.poll(self._patience(cancel) * 1000):
                if descriptor == self._to:
                    self._write()
                    if not self._unsent:
                        ready.unregister(self._to)
                elif self._read(got):
                    return json.loads(got)

    def end(self) -> None:
        """Kill the process and leave its pipes alone: a thread that waits for it sees them end, and calls `kill`."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    def kill(self) -> None:
        """End it, now, and free what it holds; safe to call twice, but not while another thread waits for it."""
        self._exit_code()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _exit_code(self) -> int:
        """How it ended. One that only hung up is killed; one that is ending keeps the code it ended with."""
        self.end()
        return self._process.wait()

    def _patience(self, cancel: threading.Event | None) -> float:
        if cancel is not None and cancel.is_set():
            raise SandboxCancelled
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left if cancel is None else min(left, CANCEL_LOOK_SECONDS)

    def _write(self) -> None:
        try:
            self._unsent = self._unsent[os.write(self._to, self._unsent[:_CHUNK]) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            raise _Died(self._exit_code()) from None

    def _read(self, got: bytearray) -> bool:
        """Whether ``got`` now holds a whole line."""
        chunk = os.read(self._from, _CHUNK)
        if not chunk:
            raise _Died(self._exit_code())
        got += chunk
        if len(got) > self._limits.max_reply_bytes:
            raise CannotRun("its result is too large", reason="sandbox_reply")
        return got.endswith(b"\n")


class SandboxPool:
    """Up to ``size`` children that run ``entry`` (``"package.module:function"``, a dict in, a dict out).

    Thread-safe; `call` blocks. ``name`` stands in error texts ("compile", "simulate"). ``environment`` is added to the
    children's, which holds nothing of ours.
    """

    def __init__(
        self,
        entry: str,
        *,
        limits: SandboxLimits,
        size: int,
        idle_seconds: float = 120.0,
        name: str = "compile",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._entry = entry
        self._environment = dict(environment or {})
        self._limits = limits
        self._idle_seconds = idle_seconds
        self._name = name
        self._free = threading.BoundedSemaphore(size)
        self._lock = threading.Lock()
        self._idle: list[_Child] = []
        self._busy: set[_Child] = set()
        self._closed = False
        self._folder = tempfile.TemporaryDirectory(prefix="qcompute-sandbox-")
        # A child is killed when the *thread* that started it ends (PR_SET_PDEATHSIG), so one thread starts them all.
        self._orders: queue.SimpleQueue[queue.SimpleQueue[_Child | OSError] | None] = queue.SimpleQueue()
        self._starter = threading.Thread(target=self._start_children, name=f"sandbox-{name}", daemon=True)
        self._starter.start()
        self._reaper: threading.Timer | None = None

    def call(
        self,
        request: dict[str, Any],
        *,
        wall_seconds: float | None = None,
        cpu_seconds: float | None = None,
        cancel: threading.Event | None = None,
    ) -> dict[str, Any]:
        """Run the entry on ``request`` in a child and return its answer; waits for a free child first.

        Raises:
            CannotRun: the entry refused, or a limit was hit; the limit is named.
            SandboxCancelled: ``cancel`` was set; the child is gone.
            SandboxUnavailable: no child could be started; nothing is known about the request.
        """
        return self.begin(request, wall_seconds=wall_seconds, cpu_seconds=cpu_seconds, cancel=cancel)()

    def begin(
        self,
        request: dict[str, Any],
        *,
        wall_seconds: float | None = None,
        cpu_seconds: float | None = None,
        cancel: threading.Event | None = None,
    ) -> Callable[[], dict[str, Any]]:
        """Hand ``request`` to a child, once one is free, and return what waits for its answer: call that, once.

        The child works meanwhile. Both raise what `call` raises.
        """
        wall = self._limits.wall_seconds if wall_seconds is None else wall_seconds
        cpu = self._limits.cpu_seconds if cpu_seconds is None else cpu_seconds
        what = _Exchange([request], cpu, wall, cancel)
        child = self._told(what)

        def answer() -> dict[str, Any]:
            [told] = self._heard(child, what)
            return self._understood(told)

        return answer

    def call_many(
        self, requests: Sequence[dict[str, Any]], *, shared: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any] | CannotRun]:
        """Answers or refusals of the first of these requests, in order; ``shared`` is a part of each request.

        Small requests share an exchange: a process that is asked and answers a thousand times spends more on that than
        on its work. All are answered where nothing happens; fewer when they take long or the child has to be replaced,
        and none when one of several broke it: ask for each alone then. One alone is always answered, as by `call`.

        Raises:
            SandboxUnavailable: no child could be started; nothing is known about any request.
        """
        return self.begin_many(requests, shared=shared)()

    def begin_many(
        self, requests: Sequence[dict[str, Any]], *, shared: Mapping[str, Any] | None = None
    ) -> Callable[[], list[dict[str, Any] | CannotRun]]:
        """`call_many` in two, as `begin` is `call` in two."""
        shared = dict(shared or {})
        if len(requests) == 1:
            answer = self.begin({**shared, **requests[0]})
            return lambda: [_or_refusal(answer)]
        cpu = min(self._limits.cpu_seconds, TOGETHER_SECONDS)
        wall = min(self._limits.wall_seconds, TOGETHER_SECONDS * _BUSY_MACHINE)
        what = _Exchange(requests, cpu, wall, shared=shared)
        child = self._told(what)

        def answers() -> list[dict[str, Any] | CannotRun]:
            try:
                told = self._heard(child, what)
            except CannotRun:
                return []
            return [_or_refusal(partial(self._understood, one)) for one in told]

        return answers

    def _told(self, what: _Exchange) -> _Child:
        """The child that has the requests; whoever gets it calls `_heard`."""
        self._free.acquire()
        try:
            child = self._take(what.cancel)
        except BaseException:
            self._free.release()
            raise
        try:
            child.tell(what)
        except BaseException:
            self._drop(child)
            self._free.release()
            raise
        return child

    def _heard(self, child: _Child, what: _Exchange) -> list[dict[str, Any]]:
        try:
            reply = child.answer(what.cancel)
        except _Died as death:
            self._drop(child)
            raise self._death(death.code, what.cpu_seconds) from None
        except TimeoutError:
            self._drop(child)
            text = f"took more than {what.wall_seconds:g} s to {self._name}"
            raise CannotRun(text, reason="sandbox_timeout") from None
        except BaseException:
            self._drop(child)
            raise
        else:
            self._give_back(child, worn=reply["worn"])
            return reply["answers"]
        finally:
            self._free.release()

    def close(self) -> None:
        """End all children, also those at work, whose calls then raise. Safe to call twice."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            busy = list(self._busy)
            if self._reaper is not None:
                self._reaper.cancel()
        for child in busy:
            child.end()
        for child in idle:
            child.kill()
        self._orders.put(None)
        self._folder.cleanup()

    @property
    def has_idle(self) -> bool:
        """Whether a child waits for work: a new one takes a second and more to start."""
        return bool(self._idle)

    @property
    def children(self) -> int:
        """How many child processes there are now."""
        with self._lock:
            return len(self._idle) + len(self._busy)

    def _take(self, cancel: threading.Event | None) -> _Child:
        with self._lock:
            if self._closed:
                raise SandboxUnavailable("the sandbox is closed")
            child = self._idle.pop() if self._idle else None
            if child is not None:
                self._busy.add(child)
                return child
            # Ordered under the lock: what is ordered after the last order, `close`'s, is never answered.
            answer: queue.SimpleQueue[_Child | OSError] = queue.SimpleQueue()
            self._orders.put(answer)
        started = answer.get()
        if isinstance(started, OSError):
            raise SandboxUnavailable(f"no process could be started: {started.strerror}")
        with self._lock:
            closed = self._closed
            self._busy.add(started)
        if closed:
            self._drop(started)
            raise SandboxUnavailable("the sandbox is closed")
        try:
            started.wait_until_ready(cancel)
        except (SandboxUnavailable, SandboxCancelled):
            self._drop(started)
            raise
        return started

    def _start_children(self) -> None:
        while (answer := self._orders.get()) is not None:
            try:
                answer.put(_Child(self._entry, self._limits, self._folder.name, self._environment))
            except OSError as error:
                answer.put(error)

    def _give_back(self, child: _Child, *, worn: bool) -> None:
        if worn:
            self._drop(child)
            return
        child.idle_since = time.monotonic()
        with self._lock:
            self._busy.discard(child)
            closed = self._closed
            if not closed:
                self._idle.append(child)
                if self._reaper is None:
                    self._arm_reaper(self._idle_seconds)
        if closed:
            child.kill()

    def _drop(self, child: _Child) -> None:
        with self._lock:
            self._busy.discard(child)
        child.kill()

    def _arm_reaper(self, seconds: float) -> None:
        self._reaper = threading.Timer(seconds, self._reap)
        self._reaper.daemon = True
        self._reaper.start()

    def _reap(self) -> None:
        with self._lock:
            self._reaper = None
            if self._closed:
                return
            long_ago = time.monotonic() - self._idle_seconds
            old = [child for child in self._idle if child.idle_since <= long_ago]
            self._idle = [child for child in self._idle if child.idle_since > long_ago]
            if self._idle:
                next_at = min(child.idle_since for child in self._idle) + self._idle_seconds
                self._arm_reaper(max(next_at - time.monotonic(), 0.05))
        for child in old:
            child.kill()

    def _death(self, code: int, cpu_seconds: float) -> QComputeError:
        if self._closed:
            return SandboxUnavailable("the sandbox was closed")
        if code == -signal.SIGXCPU:
            return CannotRun(f"took more than {cpu_seconds:g} s of CPU time to {self._name}", reason="sandbox_cpu")
        if code == -signal.SIGKILL:
            return CannotRun(f"used too much memory or time to {self._name}", reason="sandbox_memory")
        return CannotRun(f"made the process that had to {self._name} it crash", reason="sandbox_crash")

    def _understood(self, answer: dict[str, Any]) -> dict[str, Any]:
        refusal = answer.get("refusal")
        if refusal is None:
            return answer["reply"]
        reason, message, line = refusal["reason"], refusal["message"], refusal["line"]
        if reason == "sandbox_memory":
            message = f"needs more than {self._limits.memory_bytes >> 20} MiB of memory to {self._name}"
        elif reason == "sandbox_error":
            message = f"could not be processed ({message})"
        raise CannotRun(message, reason=reason, line=line)


def _or_refusal(answer: Callable[[], dict[str, Any]]) -> dict[str, Any] | CannotRun:
    try:
        return answer()
    except CannotRun as refusal:
        return refusal


def _environment(folder: str) -> dict[str, str]:
    """All that a child finds in its environment: nothing of ours."""
    return {
        "HOME": folder,
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "QISKIT_PARALLEL": "FALSE",
        "RAYON_NUM_THREADS": "1",
    }
