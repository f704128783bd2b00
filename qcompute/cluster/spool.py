"""Jobs and their results as files, so that a daemon that dies forgets none.

``<id>.job.json`` is written before a job is acknowledged, ``<id>.started`` before it runs, ``<id>.result.json`` when it
has ended; each is whole and on disk before the call returns.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from qcompute.files import read_document, write_document
from qcompute.vendor.spooled import is_job_id

_log = logging.getLogger(__name__)


class Spool:
    """The files of one account in ``folder``; no two processes may share one. An id that cannot be is never there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.expanduser()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._unsaved: dict[str, dict[str, Any]] = {}

    def put_job(self, job_id: str, job: dict[str, Any]) -> None:
        """Raises OSError when it is not on disk."""
        write_document(self._folder / f"{job_id}.job.json", job)

    def job(self, job_id: str) -> dict[str, Any] | None:
        """The job; None when there is none."""
        return read_document(self._folder / f"{job_id}.job.json") if is_job_id(job_id) else None

    def mark_started(self, job_id: str) -> None:
        """From now on it may have run. Raises OSError when that is not on disk."""
        write_document(self._folder / f"{job_id}.started", {"at": time.time()})

    def is_started(self, job_id: str) -> bool:
        """Whether it may have run."""
        return (self._folder / f"{job_id}.started").exists()

    def put_result(self, job_id: str, result: dict[str, Any]) -> None:
        """Kept in memory, and said in the log, when the disk will not take it: this process goes on answering."""
        try:
            write_document(self._folder / f"{job_id}.result.json", result)
        except OSError as error:
            _log.error("a result cannot be written: %s", error.strerror, extra={"action": "node_result"})
            self._unsaved[job_id] = result

    def result(self, job_id: str) -> dict[str, Any] | None:
        """The result; None when it has not ended."""
        if (unsaved := self._unsaved.get(job_id)) is not None:
            return unsaved
        return read_document(self._folder / f"{job_id}.result.json") if is_job_id(job_id) else None

    def unfinished(self, keep_days: float) -> list[tuple[str, dict[str, Any]]]:
        """Jobs without a result, oldest first. Ended ones older than ``keep_days`` are removed."""
        found: list[tuple[float, str, dict[str, Any]]] = []
        too_old = time.time() - keep_days * 86400
        for file in self._folder.glob("*.job.json"):
            job_id = file.name.removesuffix(".job.json")
            job = self.job(job_id)
            if job is None or (self.result(job_id) is not None and job["created"] < too_old):
                for name in ("started", "result.json", "job.json"):
                    (self._folder / f"{job_id}.{name}").unlink(missing_ok=True)
            elif self.result(job_id) is None:
                found.append((job["created"], job_id, job))
        return [(job_id, job) for _, job_id, job in sorted(found, key=lambda one: one[:2])]
