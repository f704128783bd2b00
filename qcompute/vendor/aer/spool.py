"""The Aer adapter's files: one for each job it was given, one for each that ended."""

from __future__ import annotations

import json
import logging
import os
import re
import threading
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any, Final

_log = logging.getLogger(__name__)

_JOB_ID: Final = re.compile(r"[A-Za-z0-9-]{1,64}")
_REMEMBERED: Final = 64
"""Results are asked for as soon as they are there; those of the last few need no look at the disk."""


def is_job_id(text: str) -> bool:
    """Whether it can be a job's id, and so the name of a file here and nowhere else."""
    return _JOB_ID.fullmatch(text) is not None


class Spool:
    """Jobs and results by id, in a folder of their own; thread-safe.

    A job outlasts the process after `add` and a power cut after `sync`. A result is not synced: one that a power cut
    takes with it is simulated again, because its job is still there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._recent: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._unsaved: dict[str, dict[str, Any]] = {}

    def has(self, job_id: str) -> bool:
        """Whether the job was ever added."""
        return is_job_id(job_id) and self._job_file(job_id).exists()

    def add(self, job_id: str, job: dict[str, Any]) -> None:
        """Keep a job. Raises OSError when it could not be written, and then it is not there."""
        write_atomically(self._job_file(job_id), job)

    def sync(self, job_id: str) -> None:
        """Wait until an added job is on the disk. Raises OSError when it may not be."""
        _sync(self._job_file(job_id), os.O_RDONLY)
        _sync(self._folder, os.O_RDONLY | os.O_DIRECTORY)

    def job(self, job_id: str) -> dict[str, Any] | None:
        """The job as it was added; None when there is none."""
        return _read(self._job_file(job_id)) if is_job_id(job_id) else None

    def end(self, job_id: str, result: dict[str, Any]) -> None:
        """Keep how a job ended; when it cannot be written, in memory, and the next process simulates again."""
        try:
            write_atomically(self._result_file(job_id), result)
        except OSError as error:
            _log.error("a result cannot be written: %s", error.strerror, extra={"action": "aer_result"})
            self._unsaved[job_id] = result
        with self._lock:
            self._recent[job_id] = result
            while len(self._recent) > _REMEMBERED:
                self._recent.popitem(last=False)

    def result(self, job_id: str) -> dict[str, Any] | None:
        """How a job ended; None while it has not."""
        with self._lock:
            known = self._recent.get(job_id) or self._unsaved.get(job_id)
        if known is not None:
            return known
        return _read(self._result_file(job_id)) if is_job_id(job_id) else None

    def unfinished(self, *, keep_days: float) -> list[str]:
        """Ids of the jobs without a result, oldest first; what is older than ``keep_days`` or broken is removed."""
        too_old = time.time() - keep_days * 86400
        found: list[tuple[float, str]] = []
        for file in self._folder.glob("*.job.json"):
            job_id = file.name.removesuffix(".job.json")
            # A result torn by a power cut is none.
            job, done = self.job(job_id), _read(self._result_file(job_id)) is not None
            if job is None or (done and job["created"] < too_old):
                file.unlink(missing_ok=True)
                self._result_file(job_id).unlink(missing_ok=True)
            elif not done:
                found.append((job["created"], job_id))
        return [job_id for _, job_id in sorted(found)]

    def _job_file(self, job_id: str) -> Path:
        return self._folder / f"{job_id}.job.json"

    def _result_file(self, job_id: str) -> Path:
        return self._folder / f"{job_id}.result.json"


def write_atomically(file: Path, document: dict[str, Any]) -> None:
    """Write the file whole or not at all, as far as the death of this process goes."""
    partial = file.with_suffix(".partial")
    try:
        partial.write_text(json.dumps(document), encoding="utf-8")  # `json.dump` writes it in thousands of pieces
        partial.replace(file)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(file: Path) -> dict[str, Any] | None:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
