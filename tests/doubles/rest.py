"""An endpoint with ``POST /run-circuit``: answers at once or with a job id, with or without keys, lists and order."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from qcompute.miner.providers.base import Verb
from tests.doubles.kits import Kit, Table
from tests.doubles.vendor import VendorDouble, VendorJob
from tests.doubles.worker import shared

TOKEN = "rest-double-secret"


class RestDouble(VendorDouble):
    """One endpoint.

    ``asynchronous`` answers 202 and a job id; otherwise the result comes with the answer. ``honours_keys``: a second
    ``Idempotency-Key`` is the first one's job. ``has_jobs``: ``/jobs`` is there at all. ``gives_ids``: a result that
    comes at once has an id. ``big``: keys are written the other way round. ``extra`` is added to every answer.
    """

    def __init__(
        self, *, asynchronous: bool = False, honours_keys: bool = True, has_jobs: bool = True, token: str | None = TOKEN
    ) -> None:
        super().__init__(queue_seconds=0.01, run_seconds=0.0)
        self.asynchronous = asynchronous
        self.honours_keys = honours_keys
        self.has_jobs = has_jobs
        self.token = token
        self.gives_ids = True
        self.big = False
        self.extra: dict[str, Any] = {}
        self.health: Any = {"status": "ok", "pending_jobs": 0}
        self.keys: dict[str, str] = {}
        self.bodies: list[dict[str, Any]] = []
        self.requested: list[web.Request] = []
        self._ends: dict[str, asyncio.Event] = {}

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/run-circuit", self._run_circuit),
            web.get("/jobs", self._list),
            web.get("/jobs/{id}", self._get),
            web.delete("/jobs/{id}", self._delete),
            web.get("/health", self._health),
        ]

    async def execute(self, job: VendorJob) -> Any:
        text = job.request["qasm"]
        language = "openqasm3" if "OPENQASM 3" in text else "openqasm2"
        done = await shared("tests.doubles.aer_worker").ask_soon(
            {"language": language, "text": text, "shots": job.shots}
        )
        return Counter(shot[::-1] if self.big else shot for shot in done["memory"])

    async def _run(self, job: VendorJob) -> None:
        await super()._run(job)
        self._ends[job.job_id].set()

    async def _run_circuit(self, request: web.Request) -> web.Response:
        self._let_in(request)
        body = await request.json()
        self.bodies.append(body)
        if not isinstance(body.get("qasm"), str) or not isinstance(body.get("shots"), int):
            return web.json_response({"detail": [{"loc": ["body"], "msg": "qasm and shots are required"}]}, status=422)
        key = request.headers.get("Idempotency-Key")
        job = self.jobs.get(self.keys.get(key or "", "")) if self.honours_keys else None
        if job is None:
            job = self.add(VendorJob(uuid.uuid4().hex, "rest", body["shots"], body, "queued"))
            self._ends[job.job_id] = asyncio.Event()
            if key:
                self.keys[key] = job.job_id
        if self.asynchronous:
            return web.json_response({"job_id": job.job_id, "status": job.word} | self.extra, status=202)
        await self._ends[job.job_id].wait()
        answer = self._told(job)
        if not self.gives_ids:
            del answer["job_id"]
        return web.json_response(answer)

    async def _list(self, request: web.Request) -> web.Response:
        self._let_in(request, jobs=True)
        wanted = request.query.get("token")
        tokens = {job_id: key for key, job_id in self.keys.items()}
        listed = [self._told(job) | {"token": tokens.get(job.job_id)} for job in self.listed()]
        return web.json_response({"jobs": [job for job in listed if wanted is None or job["token"] == wanted]})

    async def _get(self, request: web.Request) -> web.Response:
        return web.json_response(self._told(self._job(request)))

    async def _delete(self, request: web.Request) -> web.Response:
        job = self._job(request)
        return web.json_response(self._told(job), status=200 if self.cancel_job(job) else 409)

    async def _health(self, request: web.Request) -> web.Response:
        self._let_in(request)
        if isinstance(self.health, str):
            return web.Response(text=self.health)
        return web.json_response(self.health)

    def _job(self, request: web.Request) -> VendorJob:
        self._let_in(request, jobs=True)
        job = self.jobs.get(request.match_info["id"])
        if job is None:
            raise web.HTTPNotFound(text='{"error": "no such job"}', content_type="application/json")
        return job

    def _let_in(self, request: web.Request, *, jobs: bool = False) -> None:
        self.requested.append(request)
        if self.token is not None and request.headers.get("Authorization") != f"Bearer {self.token}":
            raise web.HTTPUnauthorized(text='{"error": "no"}', content_type="application/json")
        if jobs and not self.has_jobs:
            raise web.HTTPNotFound(text='{"error": "not here"}', content_type="application/json")

    def _told(self, job: VendorJob) -> dict[str, Any]:
        """What the endpoint says of a job."""
        said: dict[str, Any] = {
            "job_id": job.job_id,
            "status": job.word,
            "shots": job.shots,
            "created_at": job.created_at.isoformat(),
            "started_at": job.started and datetime.fromtimestamp(job.started, UTC).isoformat(),
            "ended_at": job.ended and datetime.fromtimestamp(job.ended, UTC).isoformat(),
            "error": job.failure,
        }
        if job.result is not None and job.word == self.words()[2]:
            said["counts"] = dict(job.result)
            said["execution_seconds"] = round((job.ended or time.time()) - (job.started or job.created), 6)
        return said | self.extra


def table(double: RestDouble) -> Table:
    """An endpoint that keeps its jobs."""
    return {
        "base_urls": [double.url],
        "token": "rest",
        "idempotency": "token",
        "keeps_jobs": True,
        "can_reset": True,
        "can_measure_mid_circuit": True,
        "can_branch": True,
        "read_seconds": 1.0,
        "submit_seconds": 1.0,
        "poll_interval_seconds": 0.05,
    }


KIT = Kit(
    key="rest",
    double=lambda: RestDouble(asynchronous=True),
    table=table,
    secrets={"rest": TOKEN},
    calls={
        Verb.SUBMIT: r"POST /run-circuit$",
        Verb.FIND: r"GET /jobs$",
        Verb.POLL: r"GET /jobs/[^/]+$",
        Verb.RECEIPT: r"GET /jobs/[^/]+$",
        Verb.CANCEL: r"DELETE /jobs/[^/]+$",
        Verb.DESCRIBE: r"GET /health$",
    },
)
