"""Jobs and results as files: what was accepted outlives the daemon, and a token is the name of its job."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import Any

from qcompute.errors import Unavailable
from qcompute.files import read_document, write_document
from qcompute.vendor.spooled import is_job_id

_log = logging.getLogger(__name__)

_JOB, _RESULT = ".job.json", ".result.json"


class Spool:
    """The files of one folder. Thread-safe."""

    def __init__(self, folder: Path, keep_days: float) -> None:
        self.folder = folder.expanduser()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._unsaved: dict[str, dict[str, Any]] = {}
        self._remove_old(time.time() - keep_days * 86400)

    def add(self, job_id: str, job: dict[str, Any]) -> bool:
        """Keep a job; whether it is new. Raises `Unavailable` when it cannot be written; then nothing was kept."""
        file = self.folder / (job_id + _JOB)
        with self._lock:
            if file.exists():
                return False
            try:
                write_document(file, job | {"created": time.time()})
            except OSError as error:
                raise Unavailable(f"the spool of dask cannot be written: {error.strerror}") from None
            return True

    def job(self, job_id: str) -> dict[str, Any] | None:
        """The job as it was added; None when there is none of that name."""
        return read_document(self.folder / (job_id + _JOB)) if is_job_id(job_id) else None

    def result(self, job_id: str) -> dict[str, Any] | None:
        """How it ended; None while it has not."""
        if (unsaved := self._unsaved.get(job_id)) is not None:
            return unsaved
        return read_document(self.folder / (job_id + _RESULT)) if is_job_id(job_id) else None

    def end(self, job_id: str, result: dict[str, Any]) -> None:
        """Keep how it ended; the first end of a job stays."""
        with self._lock:
            if self.result(job_id) is not None:
                return
            result = {"ended": time.time()} | result
            try:
                write_document(self.folder / (job_id + _RESULT), result)
            except OSError as error:
                # Answered from memory while this process lives; the next one simulates again.
                _log.error("a result cannot be written: %s", error.strerror, extra={"action": "dask_result"})
                self._unsaved[job_id] = result

    def unfinished(self) -> list[str]:
        """Jobs without an end, the oldest first."""
        found: list[tuple[float, str]] = []
        for file in self.folder.glob("*" + _JOB):
            job_id = file.name.removesuffix(_JOB)
            job = self.job(job_id)
            if job is not None and self.result(job_id) is None:
                found.append((job["created"], job_id))
        return [job_id for _, job_id in sorted(found)]

    def _remove_old(self, before: float) -> None:
        for file in self.folder.glob("*" + _JOB):
            job_id = file.name.removesuffix(_JOB)
            job, result = self.job(job_id), self.folder / (job_id + _RESULT)
            if job is None or (result.exists() and job["created"] < before):
                file.unlink(missing_ok=True)
                result.unlink(missing_ok=True)
