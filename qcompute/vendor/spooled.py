"""What adapters share that keep their jobs themselves: the names of jobs, and the times of a receipt."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from qcompute.errors import Refused
from qcompute.units import IdempotencyToken

_JOB_ID: Final = re.compile(r"[A-Za-z0-9-]{1,64}")


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
