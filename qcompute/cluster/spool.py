"""Jobs and their results as files, so that a daemon that dies forgets none.

A job is on disk before it is acknowledged, ``<id>.started`` before it runs, and its result when it has ended; each is
whole and on disk before the call returns.
"""

from __future__ import annotations

import time
from typing import Any

from qcompute.files import write_document
from qcompute.vendor.spooled import JOB, STARTED, SpoolFolder


class Spool(SpoolFolder):
    """The files of one account; see `SpoolFolder`."""

    def put_job(self, job_id: str, job: dict[str, Any]) -> None:
        """Raises OSError when it is not on disk."""
        write_document(self.path(job_id, JOB), job)

    def mark_started(self, job_id: str) -> None:
        """From now on it may have run. Raises OSError when that is not on disk."""
        write_document(self.path(job_id, STARTED), {"at": time.time()})

    def is_started(self, job_id: str) -> bool:
        """Whether it may have run."""
        return self.path(job_id, STARTED).exists()

    def put_result(self, job_id: str, result: dict[str, Any]) -> None:
        """See `keep_result`."""
        self.keep_result(job_id, result, action="node_result")
