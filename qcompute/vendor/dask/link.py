"""The daemon's end of the driver: a process of its own that holds Dask, spoken to in lines of JSON.

A driver that dies, hangs or says nothing for a minute is replaced, and is given every unfinished job again. Nothing
here blocks on the driver: what is sent is written by a thread of its own.

The daemon says ``{"do": "open", "settings": …}`` first, then ``run`` (``job_id``, ``request``, ``limits``,
``memory_bytes``) and ``cancel`` (``job_id``). The driver says ``{"is": "cluster", …}`` (a `ClusterReport`) at least
every few seconds, ``started`` (``job_id``) and ``ended`` (``job_id``, ``answer``). A closed pipe ends the driver.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pwd
import queue
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from qcompute.vendor.dask.settings import DaskConfig

_log = logging.getLogger(__name__)

CLOSE_SECONDS: Final = 20.0
"""What a driver is given to hand its allocations back."""
SILENCE_SECONDS: Final = 60.0
"""A driver speaks every few seconds; one that has not for so long hangs. The first word waits for Dask's import."""
_FIRST_PAUSE_SECONDS: Final = 1.0
_LONGEST_PAUSE_SECONDS: Final = 30.0
_CHUNK: Final = 1 << 16
_ROOT: Final = str(Path(__file__).resolve().parents[3])
_START: Final = f"import sys; sys.path.append({_ROOT!r}); from qcompute.vendor.dask.driver import main; main()"

Message = dict[str, Any]


class WorkerReport(BaseModel):
    """A worker that is alive. ``memory_bytes`` is what its simulations may use together."""

    model_config = ConfigDict(frozen=True)

    name: str
    cores: int
    memory_bytes: int


class ClusterReport(BaseModel):
    """The cluster as the driver sees it. ``note`` says, for people, what is up or why it is not."""

    model_config = ConfigDict(frozen=True)

    up: bool
    note: str
    workers: tuple[WorkerReport, ...] = ()


class DriverLink:
    """Keeps one driver alive from `start` to `close`. Thread-safe.

    ``unfinished`` gives the orders that a new driver needs; ``hear`` is called with each ``started`` and ``ended``, on
    the link's thread.
    """

    def __init__(
        self,
        config: DaskConfig,
        folder: Path,
        unfinished: Callable[[], Iterator[Message]],
        hear: Callable[[Message], None],
    ) -> None:
        self._config = config
        self._folder = folder
        self._unfinished = unfinished
        self._hear = hear
        self._changed = threading.Condition()
        self._report: ClusterReport | None = None
        self._orders: queue.SimpleQueue[Message | None] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the driver; a second call does nothing."""
        with self._changed:
            if self._thread is None and not self._closing.is_set():
                self._thread = threading.Thread(target=self._keep_alive, name="dask-driver", daemon=True)
                self._thread.start()

    def send(self, order: Message) -> None:
        """Pass an order on; without a driver it is dropped, since the next one asks for what is unfinished."""
        with self._changed:
            if self._orders is not None:
                self._orders.put(order)

    def report(self, patience_seconds: float = 0.0) -> ClusterReport | None:
        """The last report; waits so long for a first one. None when there is none yet."""
        with self._changed:
            self._changed.wait_for(lambda: self._report is not None or self._closing.is_set(), patience_seconds)
            return self._report

    @property
    def driver_pid(self) -> int | None:
        """The process that holds Dask now."""
        process = self._process
        return process.pid if process is not None else None

    def close(self) -> None:
        """End the driver and what it started; waits for it. Safe to call twice."""
        self._closing.set()
        with self._changed:
            self._changed.notify_all()
            if self._orders is not None:
                self._orders.put(None)
        if self._thread is not None:
            self._thread.join(CLOSE_SECONDS + 5)

    def _keep_alive(self) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while not self._closing.is_set():
            began = time.monotonic()
            note = self._one_life()
            if self._closing.is_set():
                return
            self._set_report(ClusterReport(up=False, note=note))
            _log.warning("the driver of Dask ended: %s", note, extra={"action": "dask_driver_ended"})
            if time.monotonic() - began > SILENCE_SECONDS:
                pause = _FIRST_PAUSE_SECONDS
            self._closing.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _one_life(self) -> str:
        """Start a driver and listen to it until it is gone; why it is."""
        try:
            process = self._started()
        except OSError as error:
            return f"no process could be started for the driver: {error.strerror}"
        orders: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        orders.put({"do": "open", "settings": self._config.model_dump(mode="json")})
        writer = threading.Thread(target=_write_orders, args=(process, orders), name="dask-orders", daemon=True)
        writer.start()
        with self._changed:
            self._process, self._orders = process, orders
            if self._closing.is_set():
                orders.put(None)
        for order in self._unfinished():
            orders.put(order)
        last_words = self._listen(process)
        with self._changed:
            self._process = self._orders = None
        orders.put(None)
        process.kill()
        code = process.wait()
        writer.join()
        if process.stdout is not None:
            process.stdout.close()
        return last_words or f"the driver ended with code {code}; its log is {self._folder / 'driver.log'}"

    def _started(self) -> subprocess.Popen[bytes]:
        with (self._folder / "driver.log").open("wb") as log:
            return subprocess.Popen(  # noqa: S603 - our own interpreter and our own words
                [sys.executable, "-I", "-c", _START],
                bufsize=0,  # what lies in a buffer would be written once more when the pipe is closed
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_environment() | self._config.environment,
                cwd=self._folder,
                start_new_session=True,  # a Ctrl-C in the operator's terminal is for the daemon alone
            )

    def _listen(self, process: subprocess.Popen[bytes]) -> str:
        """Take what it says until it hangs up or hangs; its own words about why, if any."""
        last_words = ""
        try:
            for message in self._messages(process):
                if message["is"] == "cluster":
                    report = ClusterReport.model_validate(message["report"])
                    self._set_report(report)
                    last_words = "" if report.up else report.note
                else:
                    self._hear(message)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            # It reads what a cluster sends, so it may have been made to say anything.
            _log.error("the driver of Dask spoke nonsense: %s", type(error).__name__, extra={"action": "dask_nonsense"})
            return "the driver said what cannot be understood"
        return last_words

    def _messages(self, process: subprocess.Popen[bytes]) -> Iterator[Message]:
        if process.stdout is None:
            return
        descriptor, rest = process.stdout.fileno(), bytearray()
        with selectors.DefaultSelector() as ready:
            ready.register(descriptor, selectors.EVENT_READ)
            while ready.select(CLOSE_SECONDS if self._closing.is_set() else SILENCE_SECONDS):
                chunk = os.read(descriptor, _CHUNK)
                if not chunk:
                    return
                rest += chunk
                if b"\n" in chunk:  # not looked for in what came before: a result may be 64 MiB
                    *lines, rest = rest.split(b"\n")
                    for line in lines:
                        yield json.loads(line)

    def _set_report(self, report: ClusterReport) -> None:
        with self._changed:
            self._report = report
            self._changed.notify_all()


def _write_orders(process: subprocess.Popen[bytes], orders: queue.SimpleQueue[Message | None]) -> None:
    """Write until told to stop, then hang up, which ends the driver."""
    if process.stdin is None:
        return
    with contextlib.suppress(OSError), process.stdin as pipe:  # it is gone, and the listening thread has seen it
        while (order := orders.get()) is not None:
            line = memoryview(json.dumps(order, separators=(",", ":")).encode() + b"\n")
            while line:
                line = line[os.write(pipe.fileno(), line) :]


def _environment() -> dict[str, str]:
    """All that the driver finds in its environment: nothing of the miner's, where secrets may be."""
    user = pwd.getpwuid(os.getuid())
    return {
        "DASK_LOGGING__DISTRIBUTED": "warning",
        "HOME": user.pw_dir,
        "LANG": "C.UTF-8",
        "LOGNAME": user.pw_name,
        "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
        "USER": user.pw_name,
    }
