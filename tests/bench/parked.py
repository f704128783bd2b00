"""A vendor whose jobs never end, and that is asked for many at once. ``PROVIDER=tests.bench.parked:Parked``.

It keeps its jobs in a file of its own, outside the daemon, in the folder that `FOLDER` names. There it also writes down
how it was polled, one line a call: the monotonic time, the handles in the call, and how many different jobs this
process has asked for so far, where `DISTINCT` is set.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import ClassVar, Final

from typing_extensions import override

from qcompute.miner.providers.base import (
    Absent,
    BaseExecutionStatus,
    CannotTell,
    Found,
    Idempotency,
    ImmediateAdapter,
    JobHandle,
    Limits,
    ProviderStatus,
)
from qcompute.units import Counts, IdempotencyToken

PROVIDER: Final = "tests.bench.parked:Parked"
FOLDER: Final = "BENCH_PARKED"
INTERVAL: Final = "BENCH_PARKED_SECONDS"
DISTINCT: Final = "BENCH_PARKED_DISTINCT"
DEVICE: Final = "parked"
BATCH: Final = 1000

_RUNNING: Final = BaseExecutionStatus(status=ProviderStatus.RUNNING)


def cloud(folder: Path) -> sqlite3.Connection:
    """The vendor's own table: every submit that reached it is a row."""
    connection = sqlite3.connect(folder / "parked.sqlite3", isolation_level=None, check_same_thread=False, timeout=30)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("CREATE TABLE IF NOT EXISTS submits (job_id INTEGER PRIMARY KEY, token TEXT)")
    connection.execute("CREATE INDEX IF NOT EXISTS by_token ON submits (token)")
    return connection


def poll_lines(folder: Path) -> list[tuple[float, int, int]]:
    """What was written down of polls."""
    file = folder / "polls"
    lines = file.read_text(encoding="ascii").splitlines() if file.exists() else []
    return [(float(at), int(handles), int(distinct)) for at, handles, distinct in (line.split() for line in lines)]


class Parked(ImmediateAdapter):
    """See the module's text."""

    idempotency: ClassVar[Idempotency] = Idempotency.TOKEN
    device_id: ClassVar[str] = DEVICE
    num_qubits: ClassVar[int | None] = 2

    def __init__(self) -> None:
        folder = Path(os.environ[FOLDER])
        self._cloud = cloud(folder)
        self._lock = threading.Lock()
        self._polls = (folder / "polls").open("a", encoding="ascii", buffering=1)
        self._seen: set[str] | None = set() if os.environ.get(DISTINCT) else None

    @override
    def run(self, circuit_data: str, shots: int) -> Counts:
        raise NotImplementedError("jobs are parked here, not run")

    @override
    def submit(
        self,
        circuit_data: str,
        device_id: str | None = None,
        shots: int | None = None,
        *,
        token: IdempotencyToken | None = None,
    ) -> JobHandle:
        with self._lock:
            job_id = self._cloud.execute("INSERT INTO submits (token) VALUES (?)", (token,)).lastrowid
        return JobHandle(provider_job_id=f"parked-{job_id}", device_id=DEVICE)

    @override
    def find(self, token: IdempotencyToken, since: datetime) -> Found | Absent | CannotTell:
        with self._lock:
            rows = self._cloud.execute("SELECT job_id FROM submits WHERE token = ?", (token,)).fetchall()
        handles = [JobHandle(provider_job_id=f"parked-{job_id}", device_id=DEVICE) for (job_id,) in rows]
        return Found(handles=handles) if handles else Absent()

    @override
    def poll(self, handle: JobHandle) -> BaseExecutionStatus:
        return self.poll_many([handle])[0]

    @override
    def poll_many(self, handles: Sequence[JobHandle]) -> list[BaseExecutionStatus]:
        with self._lock:
            if self._seen is not None:
                self._seen.update(handle.provider_job_id for handle in handles)
            self._polls.write(f"{time.monotonic()} {len(handles)} {len(self._seen or ())}\n")
        return [_RUNNING] * len(handles)

    @override
    def limits(self) -> Limits:
        return Limits(max_poll_batch=BATCH, poll_interval_seconds=float(os.environ.get(INTERVAL, "60")))

    @override
    def close(self) -> None:
        self._polls.close()
        self._cloud.close()
