"""Jobs and results as files: what was accepted outlives the daemon, and a token is the name of its job."""

from __future__ import annotations

import json
import logging
import os
import re
import threading
import time
from pathlib import Path
from typing import Any, Final

from qcompute.errors import Unavailable

_log = logging.getLogger(__name__)

JOB_ID: Final = re.compile(r"[A-Za-z0-9-]{1,64}")
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
                _write(file, job | {"created": time.time()})
            except OSError as error:
                raise Unavailable(f"the spool of dask cannot be written: {error.strerror}") from None
            return True

    def job(self, job_id: str) -> dict[str, Any] | None:
        """The job as it was added; None when there is none of that name."""
        return _read(self.folder / (job_id + _JOB)) if JOB_ID.fullmatch(job_id) else None

    def result(self, job_id: str) -> dict[str, Any] | None:
        """How it ended; None while it has not."""
        if (unsaved := self._unsaved.get(job_id)) is not None:
            return unsaved
        return _read(self.folder / (job_id + _RESULT)) if JOB_ID.fullmatch(job_id) else None

    def end(self, job_id: str, result: dict[str, Any]) -> None:
        """Keep how it ended; the first end of a job stays."""
        with self._lock:
            if self.result(job_id) is not None:
                return
            result = {"ended": time.time()} | result
            try:
                _write(self.folder / (job_id + _RESULT), result)
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


def _write(file: Path, document: dict[str, Any]) -> None:
    partial = file.with_suffix(".partial")
    with partial.open("w", encoding="utf-8") as stream:
        json.dump(document, stream)
        stream.flush()
        os.fsync(stream.fileno())  # a job we acknowledged must outlive a power cut too
    partial.replace(file)
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)  # and so must its name
    finally:
        os.close(folder)


def _read(file: Path) -> dict[str, Any] | None:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
