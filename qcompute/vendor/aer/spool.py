"""The Aer adapter's jobs and their results, in one journal."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict, deque
from pathlib import Path
from typing import Any, Final

from qcompute.files import read_document
from qcompute.journal import Journal
from qcompute.vendor.spooled import is_job_id

_log = logging.getLogger(__name__)

_REMEMBERED: Final = 64
"""Results are asked for as soon as they are there; those of the last few need no look at the disk."""

MOST_ENDED: Final = 100_000
"""Jobs that ended are kept for ``keep_days`` and not more of them: where each lies is kept in memory."""


class Spool:
    """Jobs and results by id, in a folder of their own that no other process uses; thread-safe.

    A job outlasts the process after `add` and a power cut after `sync`. A result is not synced: one that a power cut
    takes with it is simulated again, because its job is still there. A result is behind its job in the journal, so
    there is none without it. Jobs that ended are forgotten ``keep_days`` later.

    Raises:
        BlockingIOError: another process uses the folder.
        OSError: it cannot be read or written.
    """

    def __init__(self, folder: Path, *, keep_days: float, most_ended: int = MOST_ENDED) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._journal = Journal(folder / "jobs.journal")
        self._keep_seconds = keep_days * 86400
        self._most_ended = most_ended
        self._lock = threading.Lock()
        self._recent: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._unsaved: dict[str, dict[str, Any]] = {}
        self._ended: deque[tuple[float, str]] = deque()
        self._unfinished: list[str] = []
        self._take_in(folder)
        self._sort_out()
        self._forget()
        self._compact()

    def has(self, job_id: str) -> bool:
        """Whether the job was ever added."""
        return is_job_id(job_id) and _job(job_id) in self._journal

    def add(self, job_id: str, job: dict[str, Any]) -> None:
        """Keep a job with the time it was ``created``. Raises OSError when it could not be written; it is not there."""
        self._journal.append(_job(job_id), job, job["created"])

    def sync(self) -> None:
        """Wait until the jobs added are on the disk. Raises OSError when they may not be."""
        self._journal.sync()
        self._forget()
        self._compact()

    def job(self, job_id: str) -> dict[str, Any] | None:
        """The job as it was added; None when there is none."""
        return self._journal.read(_job(job_id)) if is_job_id(job_id) else None

    def end(self, job_id: str, result: dict[str, Any]) -> None:
        """Keep how a job ended, and when it `ended`.

        When it cannot be written, it is kept in memory, and the next process simulates again.
        """
        try:
            self._journal.append(_result(job_id), result, result["ended"])
        except OSError as error:
            _log.error("a result cannot be written: %s", error.strerror, extra={"action": "aer_result"})
            self._unsaved[job_id] = result
        with self._lock:
            self._ended.append((result["ended"], job_id))
            self._recent[job_id] = result
            while len(self._recent) > _REMEMBERED:
                self._recent.popitem(last=False)

    def result(self, job_id: str) -> dict[str, Any] | None:
        """How a job ended; None while it has not."""
        with self._lock:
            known = self._recent.get(job_id) or self._unsaved.get(job_id)
        if known is not None:
            return known
        return self._journal.read(_result(job_id)) if is_job_id(job_id) else None

    def unfinished(self) -> list[str]:
        """Ids of the jobs that had no result when the folder was opened, oldest first."""
        return self._unfinished

    def close(self) -> None:
        """Let another process have the folder; what ends later is simulated again."""
        self._journal.close()

    def _take_in(self, folder: Path) -> None:
        """Move the files of releases that kept one for each job and each result."""
        moved: list[Path] = []
        for file in folder.glob("*.job.json"):
            job_id = file.name.removesuffix(".job.json")
            result_file = file.with_name(f"{job_id}.result.json")
            job, result = read_document(file), read_document(result_file)  # what a power cut has torn is none
            if job is not None and is_job_id(job_id) and not self.has(job_id):
                self._journal.append(_job(job_id), job, job.get("created", 0.0))
            if job is not None and result is not None and _result(job_id) not in self._journal:
                self._journal.append(_result(job_id), result, job.get("created", 0.0))
            moved += [file, result_file]
        self._journal.sync()
        for file in moved:
            file.unlink(missing_ok=True)

    def _sort_out(self) -> None:
        """Find what has ended and what has not."""
        names = self._journal.names()
        ended = {name.removesuffix(".result"): at for at, name in names if name.endswith(".result")}
        self._ended.extend(sorted((at, job_id) for job_id, at in ended.items()))
        jobs = sorted((at, name.removesuffix(".job")) for at, name in names if name.endswith(".job"))
        self._unfinished = [job_id for _, job_id in jobs if job_id not in ended]

    def _forget(self) -> None:
        """Ended jobs that are old or too many."""
        too_old = time.time() - self._keep_seconds
        with self._lock:
            while self._ended and (self._ended[0][0] < too_old or len(self._ended) > self._most_ended):
                _, job_id = self._ended.popleft()
                self._recent.pop(job_id, None)
                self._unsaved.pop(job_id, None)
                self._journal.drop(_job(job_id))
                self._journal.drop(_result(job_id))

    def _compact(self) -> None:
        if not self._journal.is_wasteful:
            return
        try:
            self._journal.compact()
        except OSError as error:  # it stays as long as it is
            _log.warning("the journal cannot be shortened: %s", error.strerror, extra={"action": "aer_compact"})


def _job(job_id: str) -> str:
    return f"{job_id}.job"


def _result(job_id: str) -> str:
    return f"{job_id}.result"
