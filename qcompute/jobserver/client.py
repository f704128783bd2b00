"""The job server's API over HTTP: one try a call. Trying again is the outbox's business.

A 401 is answered with a fresh token once; everything else that is not 2xx is an error. Presigned URLs go out on a
session of their own that knows no token.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import quote

import aiohttp
from yarl import URL

from qcompute.chain.contract import Signer
from qcompute.errors import DeliveryError, UploadRefused
from qcompute.jobserver.contract import BackendReport, UploadSlot
from qcompute.jobserver.settings import JobServerSettings
from qcompute.jobserver.token import TokenSource
from qcompute.jobserver.web import checked_base, failed, is_success, new_session, read_object, unreachable
from qcompute.units import Counts, ExecutionId

_log = logging.getLogger(__name__)

_UNAUTHORIZED: Final = 401
_UPLOAD_REFUSED: Final = frozenset({400, 401, 403, 404, 410})
"""Object stores answer an expired or wrong presigned URL with one of these."""
_NOT_WANTED: Final = frozenset({404, 409, 410})
"""The job server knows no such execution any more, or has it ended: nothing is left to tell."""


@dataclass(frozen=True, slots=True)
class _Call:
    """One call of the API. ``also_fine`` are the statuses besides 2xx that the caller deals with itself."""

    method: Literal["POST", "PATCH"]
    path: str
    what: str
    body: dict[str, Any]
    also_fine: frozenset[int] = frozenset()
    wants_answer: bool = False


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: dict[str, Any] | None = None


class HttpJobServer:
    """`qcompute.jobserver.contract.JobServer` over HTTP. Connections are made when first needed."""

    def __init__(self, settings: JobServerSettings, signer: Signer) -> None:
        self._settings = settings
        self._base = checked_base(settings.url, "JOB_SERVER_URL", settings) + f"/v{settings.api_version}"
        self.tokens = TokenSource(settings, signer)
        self._api: aiohttp.ClientSession | None = None
        self._store: aiohttp.ClientSession | None = None

    async def upload_slot(self) -> UploadSlot:
        """Ask where to put one result. Every call makes a new place: one whose answer was lost stays empty."""
        what = "POST executions/upload"
        answer = await self._ask(_Call("POST", "/executions/upload", what, {}, wants_answer=True))
        url, upload_id = (answer.body or {}).get("upload_url"), (answer.body or {}).get("id")
        if not isinstance(url, str) or not isinstance(upload_id, str) or not url or not upload_id:
            raise DeliveryError(f"{what} answered something that is not an upload", status=answer.status)
        return UploadSlot(upload_id, url)

    async def put_counts(self, slot: UploadSlot, counts: Counts) -> None:
        """Put the counts there; raises `UploadRefused` when the URL is refused or expired."""
        what = "PUT of the result"
        if self._store is None:
            self._store = self._session(self._settings.upload_timeout_seconds)
        try:
            # Encoded already: a signature over the URL breaks when anything in it is quoted once more.
            url = URL(slot.url, encoded=True)
            if url.scheme not in ("http", "https") or not url.host:
                raise UploadRefused(f"{what} has an upload URL that is not http(s)")
            data = json.dumps(counts).encode()
            headers = {"Content-Type": "application/json"}
            async with self._store.put(url, data=data, headers=headers, allow_redirects=False) as response:
                if response.status in _UPLOAD_REFUSED:
                    raise UploadRefused(f"{what} was refused with {response.status}", status=response.status)
                if not is_success(response):
                    raise failed(what, response)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise unreachable(what, error) from None

    async def report_failed(self, execution_id: ExecutionId, message: str) -> None:
        """Say that a job has really ended without a result; a job the server does not want counts as told."""
        path = f"/executions/{quote(execution_id, safe='')}"
        body = {"status": "Failed", "message": message}
        answer = await self._ask(_Call("PATCH", path, "PATCH executions/{id}", body, also_fine=_NOT_WANTED))
        if answer.status in _NOT_WANTED:
            _log.warning(
                "the job server does not want to hear of this job (%s)",
                answer.status,
                extra={"action": "deliver", "execution_id": execution_id},
            )

    async def report_backend(self, report: BackendReport) -> None:
        """Say what this miner can do now."""
        body = {
            "accepting_jobs": report.accepting_jobs,
            "status": report.status.value,
            "queue_depth": report.queue_depth,
            "metadata": report.metadata,
        }
        await self._ask(_Call("PATCH", "/backends", "PATCH backends", body))

    async def close(self) -> None:
        """Close all connections; safe to call twice."""
        await self.tokens.close()
        for session in (self._api, self._store):
            if session is not None:
                await session.close()
        self._api = self._store = None

    async def _ask(self, call: _Call) -> _Answer:
        token = await self.tokens.get()
        answer = await self._once(call, token)
        if answer.status == _UNAUTHORIZED:
            self.tokens.invalidate(token)
            answer = await self._once(call, await self.tokens.get())
            if answer.status == _UNAUTHORIZED:
                raise DeliveryError(f"{call.what} answered 401 to a fresh token", status=answer.status)
        return answer

    async def _once(self, call: _Call, token: str) -> _Answer:
        """The answer when it is 2xx, 401 or one the caller deals with; every other one raises.

        The status is what counts: bodies that nobody wants are not read, however they go on.
        """
        if self._api is None:
            self._api = self._session(self._settings.request_timeout_seconds)
        url = URL(self._base + call.path, encoded=True)
        headers = {"Authorization": f"Bearer {token}"}
        try:
            async with self._api.request(
                call.method, url, json=call.body, headers=headers, allow_redirects=False
            ) as response:
                if is_success(response):
                    return _Answer(
                        response.status, await read_object(response, call.what) if call.wants_answer else None
                    )
                if response.status == _UNAUTHORIZED or response.status in call.also_fine:
                    return _Answer(response.status)
                raise failed(call.what, response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise unreachable(call.what, error) from None

    def _session(self, total_seconds: float) -> aiohttp.ClientSession:
        return new_session(total_seconds=total_seconds, connect_seconds=self._settings.connect_timeout_seconds)
