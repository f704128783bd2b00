"""What adapters share that keep their jobs themselves: names and files of jobs, and the times of a receipt.

``<id>.job.json`` is there once a job is accepted, ``<id>.result.json`` once it has ended, ``<id>.fetched`` once its
receipt was read; its time is that of the last reading.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import threading
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from qcompute.errors import ConfigError, Refused
from qcompute.files import hold, is_held, read_document, write_document
from qcompute.units import IdempotencyToken

_log = logging.getLogger(__name__)

_JOB_ID: Final = re.compile(r"[A-Za-z0-9-]{1,64}")

JOB: Final = ".job.json"
STARTED: Final = ".started"
_RESULT: Final = ".result.json"
_FETCHED: Final = ".fetched"
_LOCK: Final = "lock"

REMOVE_SECONDS: Final = 3600.0
"""Between two looks for what is old. The first is so long after the start: until then the daemon has asked for all that
ended before, so nothing is removed that it does not know."""

UNFETCHED_DAYS: Final = 90.0
"""A result that nobody fetched is kept so long: longer than any job waits, and not for ever, since its job may have
been ended by hand."""


def is_job_id(text: str) -> bool:
    """Whether it can be a job's id: 1 to 64 letters, digits and hyphens, which no file system minds."""
    return _JOB_ID.fullmatch(text) is not None


def job_id_of(token: IdempotencyToken | None) -> str:
    """The id of a job to be submitted: its token, or a fresh one.

    Raises:
        Refused: the token can be none.
    """
    job_id = token or str(uuid.uuid4())
    if not is_job_id(job_id):
        raise Refused("a token must be 1 to 64 characters of A-Z a-z 0-9 -")
    return job_id


def timestamps(job: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    """The times of a receipt, RFC 3339 in UTC, and the duration in seconds, of what is known of them.

    ``created`` of the job, and ``started`` and ``ended`` of its result, are seconds since 1970.
    """
    moments = {"createdAt": job.get("created"), "startedAt": result.get("started"), "endedAt": result.get("ended")}
    times: dict[str, Any] = {
        name: datetime.fromtimestamp(moment, UTC).isoformat() for name, moment in moments.items() if moment
    }
    if result.get("started") and result.get("ended"):
        times["executionDuration"] = round(result["ended"] - result["started"], 6)
    return times


def unusable(folder: Path, error: OSError) -> ConfigError:
    """What is wrong with a spool that cannot be had, in words for the operator."""
    why = "another process has it" if isinstance(error, BlockingIOError) else error.strerror
    return ConfigError(f"the spool {folder} cannot be used (setting spool): {why}")


class SpoolFolder:
    """The files of an account's jobs in ``folder``; thread-safe. An id that cannot be is never there.

    Nothing is made, written or removed before `take`: until then it may be another process's.
    """

    def __init__(self, folder: Path, keep_days: float) -> None:
        self.folder = folder.expanduser()
        self._keep_seconds = keep_days * 86400
        self._lock = threading.Lock()
        self._held: int | None = None
        self._remove_at = 0.0
        self._unsaved: dict[str, dict[str, Any]] = {}

    def take(self) -> None:
        """Have the folder until `release`, or until this process ends.

        Raises:
            ConfigError: another adapter or process has it, or it cannot be made.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._held = hold(self.folder / _LOCK)
        except OSError as error:
            raise unusable(self.folder, error) from None
        self._remove_at = time.monotonic() + REMOVE_SECONDS

    def release(self) -> None:
        """Let another have it. Nothing may be written afterwards; a second call does nothing."""
        held, self._held = self._held, None
        if held is not None:
            os.close(held)

    def is_elsewhere(self) -> bool:
        """Whether another has it now."""
        return self._held is None and is_held(self.folder / _LOCK)

    def job(self, job_id: str) -> dict[str, Any] | None:
        """The job as it was kept; None when there is none."""
        return read_document(self.path(job_id, JOB)) if is_job_id(job_id) else None

    def result(self, job_id: str) -> dict[str, Any] | None:
        """How it ended; None while it has not."""
        if (unsaved := self._unsaved.get(job_id)) is not None:
            return unsaved
        return read_document(self.path(job_id, _RESULT)) if is_job_id(job_id) else None

    def keep_result(self, job_id: str, result: dict[str, Any], *, action: str) -> None:
        """Kept in memory, and said in the log, when the disk will not take it: this process goes on answering."""
        try:
            write_document(self.path(job_id, _RESULT), result)
        except OSError as error:
            _log.error("a result cannot be written: %s", error.strerror, extra={"action": action})
            self._unsaved[job_id] = result

    def unfinished(self) -> list[tuple[str, dict[str, Any]]]:
        """Jobs without a result, the oldest first. A file that is no job is removed."""
        found: list[tuple[float, str, dict[str, Any]]] = []
        for file in self.folder.glob(f"*{JOB}"):
            job_id = file.name.removesuffix(JOB)
            job = self.job(job_id)
            if job is None:
                self.remove(job_id)
            elif self.result(job_id) is None:
                found.append((job["created"], job_id, job))
        return [(job_id, job) for _, job_id, job in sorted(found, key=lambda one: one[:2])]

    def mark_fetched(self, job_id: str) -> None:
        """Its result was read by whoever stores it: from now on it is kept for ``keep_days``."""
        with contextlib.suppress(OSError):  # then it is kept longer
            self.path(job_id, _FETCHED).touch()

    def remove_old(self) -> None:
        """Remove jobs whose results were fetched ``keep_days`` ago; at most once in `REMOVE_SECONDS`."""
        with self._lock:
            now = time.monotonic()
            if now < self._remove_at:
                return
            self._remove_at = now + REMOVE_SECONDS
        for file in self.folder.glob(f"*{_RESULT}"):
            job_id = file.name.removesuffix(_RESULT)
            if self._is_old(job_id):
                self.remove(job_id)

    def remove(self, job_id: str) -> None:
        """Forget a job: itself first, since one without its result would run again."""
        for suffix in (JOB, STARTED, _FETCHED, _RESULT):
            self.path(job_id, suffix).unlink(missing_ok=True)

    def path(self, job_id: str, suffix: str) -> Path:
        """The file of a job."""
        return self.folder / f"{job_id}{suffix}"

    def _is_old(self, job_id: str) -> bool:
        fetched = _changed_at(self.path(job_id, _FETCHED))
        if fetched is not None:
            return time.time() - fetched > self._keep_seconds
        ended = _changed_at(self.path(job_id, _RESULT))
        return ended is not None and time.time() - ended > max(self._keep_seconds, UNFETCHED_DAYS * 86400)


def _changed_at(file: Path) -> float | None:
    """When it was written, in seconds since 1970; None when it is not there."""
    try:
        return file.stat().st_mtime
    except FileNotFoundError:
        return None
