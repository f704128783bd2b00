"""One endpoint that runs circuits over HTTP: its calls, and what its answers say, in whichever usual shape they come.

Facts about one job are read leniently, because every endpoint is somebody's own: only the id, the status word and the
counts matter, and whatever else cannot be read is left out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, cast
from urllib.parse import quote

from pydantic import BaseModel

from qcompute.connections.credentials import Secret
from qcompute.errors import BadReply, Refused, SubmitUnknown, VendorError
from qcompute.vendor.http import Timeouts, VendorHttp, usual_words

_JOB_ID: Final = re.compile(r"(?!\.{1,2}$)[\x21-\x7e]{1,200}")
_KEY_OF_COUNTS: Final = re.compile(r"[01][01 ]*|0x[0-9a-fA-F]+")
_MAX_WORD: Final = 64
_CONFLICT: Final = 409
_NO_SUCH_JOB: Final = (404, 410)
_NOT_OFFERED: Final = (404, 405, 501)
_TOO_LATE: Final = (404, 405, 409, 410, 501)
_LAST_SECOND: Final = 4_102_444_800
"""The end of 2099: a larger number of seconds is one of milliseconds, and is left out."""


@dataclass(frozen=True, slots=True)
class Paths:
    """Where an endpoint has what, below its base URL. ``health`` may be empty: it is never asked."""

    run: str = "/run-circuit"
    jobs: str = "/jobs"
    health: str = "/health"
    counts: str = "counts"
    """Where an answer has its counts, at the top or below ``result``; dots lead further down."""


@dataclass(frozen=True, slots=True)
class Health:
    """What an endpoint says of itself: its word, jobs that wait, a text for people; not ``reached``: it is down."""

    reached: bool
    word: str
    message: str
    pending_jobs: int | None = None


class Answer(BaseModel):
    """What an endpoint says of one job. ``word`` is its status word, ``counts`` is as it came."""

    job_id: str | None = None
    word: str | None = None
    counts: Any = None
    shots: int | None = None
    cost: float | None = None
    currency: str | None = None
    message: str | None = None
    created_at: str | None = None
    started_at: str | None = None
    ended_at: str | None = None
    execution_seconds: float | None = None
    queue_position: int | None = None
    eta_seconds: int | None = None


class RestEndpoint:
    """One base URL. ``name`` is what errors call it. Thread-safe."""

    def __init__(self, name: str, base_url: str, *, token: Secret | None, paths: Paths, timeouts: Timeouts) -> None:
        self.name = name
        self._paths = paths
        self._http = VendorHttp(
            name,
            base_url,
            headers={"Authorization": f"Bearer {token.reveal()}"} if token else {},
            secrets=[token] if token else [],
            timeouts=timeouts,
            words=words,
        )

    def run(self, body: Mapping[str, Any], token: str | None) -> Answer:
        """Post one circuit: the one call that costs money.

        Raises:
            SubmitUnknown: it may run; also when the answer cannot be read, and at 409, which says that there is a job
                with this token already. Others as `VendorHttp.call`.
        """
        headers = {"Idempotency-Key": token} if token else {}
        reply = self._http.call("POST", self._paths.run, paid=True, body=body, headers=headers, accept=(_CONFLICT,))
        if reply.status == _CONFLICT:
            raise SubmitUnknown(f"{self.name} answered 409: it has a job with this token, or is making it")
        try:
            return self.read(reply.json)
        except BadReply as error:
            raise SubmitUnknown(error.message) from None

    def job(self, job_id: str) -> Answer | None:
        """The job as the endpoint has it now; None when it knows none."""
        reply = self._http.get(self._path_of(job_id), accept=_NO_SUCH_JOB)
        return None if reply.status in _NO_SUCH_JOB else self.read(reply.json)

    def cancel(self, job_id: str) -> None:
        """Ask it to stop; nothing happens where the job has ended or cancelling is not offered."""
        self._http.call("DELETE", self._path_of(job_id), accept=_TOO_LATE)

    def jobs_of(self, token: str) -> list[Answer] | None:
        """Jobs that say they were made with ``token``; an empty list only if the endpoint says there are none.

        None when it cannot tell: it lists no jobs, or jobs without their token, or does not look for the token.
        """
        reply = self._http.get(self._paths.jobs, params={"token": token}, accept=_NOT_OFFERED)
        if reply.status in _NOT_OFFERED:
            return None
        body: Any = reply.json
        listed = cast("dict[str, Any]", body).get("jobs") if isinstance(body, dict) else body
        if not isinstance(listed, list):
            raise BadReply(f"{self.name}: the list of jobs is no list", field="jobs")
        jobs = [cast("dict[str, Any]", job) for job in cast("list[object]", listed) if isinstance(job, dict)]
        ours = [self.read(job) for job in jobs if job.get("token") == token]
        return None if listed and not ours else ours

    def health(self) -> Health:
        """How it is, by its own word. Any 2xx will do, with JSON or without."""
        if not self._paths.health:
            return Health(reached=True, word="up", message="not asked")
        try:
            body = self._http.get(self._paths.health).json
        except BadReply:
            body = None  # a plain "OK"
        except VendorError as error:
            hint = "; is health_path right?" if isinstance(error, Refused) else ""
            return Health(reached=False, word="offline", message=error.message + hint)
        said = cast("dict[str, Any]", body) if isinstance(body, dict) else {}
        word = self._short(said.get("status")) or "up"
        return Health(True, word, self._short(said.get("message")) or word, _whole(said.get("pending_jobs")))

    def reach(self) -> str:
        """How it is, in words, for whoever set it up; raises what `health` takes for an answer."""
        if not self._paths.health:
            return "not asked: it has no health_path"
        with suppress(BadReply):  # a plain "OK"
            self._http.get(self._paths.health)
        return "it answers, and lets us in"

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def read(self, body: object) -> Answer:
        """An answer about one job; a bare mapping of bit strings is its counts. Raises `BadReply` for no object."""
        if not isinstance(body, dict):
            raise BadReply(f"{self.name}: the answer is no JSON object", field="body")
        said = cast("dict[str, Any]", body)
        if said and all(_KEY_OF_COUNTS.fullmatch(key) for key in said):
            return Answer(counts=said)
        job_id = str(said.get("job_id") or said.get("id") or "")
        currency = said.get("currency")
        return Answer(
            job_id=job_id if _JOB_ID.fullmatch(job_id) else None,
            word=self._short(said.get("status")),
            counts=_at(said, self._paths.counts),
            shots=_whole(said.get("shots")),
            cost=_amount(said.get("cost")),
            currency=currency if isinstance(currency, str) and re.fullmatch("[A-Z]{3}", currency) else None,
            message=self._message(said),
            created_at=_moment(said.get("created_at")),
            started_at=_moment(said.get("started_at")),
            ended_at=_moment(said.get("ended_at") or said.get("completed_at")),
            execution_seconds=_amount(said.get("execution_seconds") or said.get("execution_time_seconds")),
            queue_position=_whole(said.get("queue_position")),
            eta_seconds=_whole(said.get("eta_seconds")),
        )

    def _path_of(self, job_id: str) -> str:
        return f"{self._paths.jobs}/{quote(job_id, safe='')}"

    def _short(self, word: object) -> str | None:
        return (self._http.scrubbed(word)[:_MAX_WORD] or None) if isinstance(word, str) else None

    def _message(self, said: Mapping[str, Any]) -> str | None:
        _, message = words(said)
        return (self._http.scrubbed(message) or None) if message else None


def words(body: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """`usual_words`, and FastAPI's ``detail``: a text, or a list of what is wrong with the request."""
    code, message = usual_words(body)
    detail = body.get("detail")
    if isinstance(detail, list) and detail and isinstance(detail[0], dict):
        detail = cast("dict[str, Any]", detail[0]).get("msg")
    return code, message or (detail if isinstance(detail, str) else None)


def _at(said: Mapping[str, Any], path: str) -> Any:  # noqa: ANN401 - JSON
    for start in (said, said.get("result")):
        found: Any = start
        for step in path.split("."):
            found = cast("dict[str, Any]", found).get(step) if isinstance(found, dict) else None
        if found is not None:
            return found
    return None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _amount(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        return None
    return float(value)


def _moment(value: object) -> str | None:
    """RFC 3339 of a text in ISO 8601 or of seconds since 1970; UTC where no zone is said."""
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return None
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()
    seconds = _amount(value)
    return datetime.fromtimestamp(seconds, UTC).isoformat() if seconds and seconds < _LAST_SECOND else None
