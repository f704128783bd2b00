"""Jobs and results as files: what was accepted outlives the daemon, and a token is the name of its job."""

from __future__ import annotations

import time
from typing import Any

from qcompute.errors import Unavailable
from qcompute.files import write_document
from qcompute.vendor.spooled import JOB, SpoolFolder


class Spool(SpoolFolder):
    """The files of one folder; see `SpoolFolder`."""

    def add(self, job_id: str, job: dict[str, Any]) -> bool:
        """Keep a job; whether it is new. Raises `Unavailable` when it cannot be written; then nothing was kept."""
        file = self.path(job_id, JOB)
        with self._lock:
            if file.exists():
                return False
            try:
                write_document(file, job | {"created": time.time()})
            except OSError as error:
                raise Unavailable(f"the spool of dask cannot be written: {error.strerror}") from None
            return True

    def end(self, job_id: str, result: dict[str, Any]) -> None:
        """Keep how it ended; the first end of a job stays. One that cannot be written is simulated again next time."""
        with self._lock:
            if self.result(job_id) is None:
                self.keep_result(job_id, {"ended": time.time()} | result, action="dask_result")
