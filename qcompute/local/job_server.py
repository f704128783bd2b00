"""The platform's job server: hands jobs to validators, upload URLs to miners, and hears from both how they went."""

from __future__ import annotations

import secrets
import uuid
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from qcompute.local.circuit_host import CircuitHost
from qcompute.local.object_store import ObjectStore
from qcompute.local.service import LocalService
from qcompute.local.token_service import TokenService
from qcompute.units import Counts, ExecutionId, Hotkey


@dataclass(slots=True)
class Execution:
    """One job as the platform knows it. ``history`` holds every status it was told, in order, and by whom."""

    execution_id: ExecutionId
    input_data_url: str
    shots: int
    configuration_data: dict[str, Any]
    status: str = "Created"
    message: str | None = None
    upload_id: str | None = None
    execution_data: dict[str, Any] | None = None
    history: list[tuple[Hotkey, str]] = field(default_factory=list[tuple[Hotkey, str]])


class JobServer(LocalService):
    """``miner_hotkey`` None serves every miner; else others are "not onboarded" (404)."""

    def __init__(self, tokens: TokenService, store: ObjectStore, circuits: CircuitHost) -> None:
        super().__init__()
        self.miner_hotkey: Hotkey | None = None
        self.executions: dict[ExecutionId, Execution] = {}
        self.backend_reports: list[dict[str, Any]] = []
        self.uploads: list[str] = []
        self._queue: deque[ExecutionId] = deque()
        self._tokens = tokens
        self._store = store
        self._circuits = circuits

    def routes(self) -> list[web.RouteDef]:
        """The calls of validators and miners (wire document, section 3), and two for people."""
        return [
            web.get("/v1/executions", self._next),
            web.post("/v1/executions/upload", self._upload),
            web.patch("/v1/executions/{execution_id}", self._patch),
            web.get("/v1/executions/{execution_id}/cost", self._cost),
            web.patch("/v1/backends", self._backends),
            web.get("/v1/backends/hotkeys", self._hotkeys),
            web.post("/v1/jobs", self._post_job),
            web.get("/v1/jobs/{execution_id}", self._get_job),
        ]

    def add_job(self, qasm: str, shots: int, configuration_data: dict[str, Any] | None = None) -> ExecutionId:
        """Queue a circuit for the next validator that asks."""
        execution_id = ExecutionId(str(uuid.uuid4()))
        url = self._circuits.add(execution_id, qasm)
        self.executions[execution_id] = Execution(execution_id, url, shots, configuration_data or {})
        self._queue.append(execution_id)
        return execution_id

    def counts_of(self, execution_id: ExecutionId) -> Counts | None:
        """The counts of a job that a validator reported as completed."""
        upload_id = self.executions[execution_id].upload_id
        return self._store.objects.get(upload_id) if upload_id else None

    async def _next(self, request: web.Request) -> web.Response:
        self._tokens.caller(request)
        if self.miner_hotkey is not None and request.query.get("miner_hotkey") != self.miner_hotkey:
            raise web.HTTPNotFound
        if not self._queue:
            return web.Response(status=204)
        job = self.executions[self._queue.popleft()]
        return web.json_response(
            {
                "execution_id": job.execution_id,
                "input_data_url": job.input_data_url,
                "shots": job.shots,
                "configuration_data": job.configuration_data,
            }
        )

    async def _upload(self, request: web.Request) -> web.Response:
        self._tokens.caller(request)
        upload_id = f"up-{secrets.token_hex(6)}"
        self.uploads.append(upload_id)
        return web.json_response({"upload_url": self._store.presigned(upload_id), "id": upload_id}, status=201)

    async def _patch(self, request: web.Request) -> web.Response:
        caller = self._tokens.caller(request)
        job = self.executions.get(ExecutionId(request.match_info["execution_id"]))
        body: Any = await request.json()
        if job is None:
            raise web.HTTPNotFound
        status = body.get("status")
        if status not in ("Pending", "Queued", "Running", "Completed", "Failed"):
            raise web.HTTPUnprocessableEntity
        job.history.append((caller, status))
        if job.status not in ("Completed", "Failed"):
            job.status = status
            job.message = body.get("message", job.message)
            job.upload_id = body.get("upload_id", job.upload_id)
            job.execution_data = body.get("execution_data", job.execution_data)
        return web.json_response({})

    async def _cost(self, request: web.Request) -> web.Response:
        self._tokens.caller(request)
        job = self.executions.get(ExecutionId(request.match_info["execution_id"]))
        if job is None:
            raise web.HTTPNotFound
        return web.json_response({"cost": 0.0}) if job.status == "Completed" else web.Response(status=202)

    async def _backends(self, request: web.Request) -> web.Response:
        caller = self._tokens.caller(request)
        body: Any = await request.json()
        if not {"accepting_jobs", "status", "queue_depth", "metadata"} <= body.keys():
            raise web.HTTPUnprocessableEntity
        self.backend_reports.append(body | {"hotkey": caller})
        return web.json_response({})

    async def _hotkeys(self, request: web.Request) -> web.Response:
        self._tokens.caller(request)
        return web.json_response(sorted({report["hotkey"] for report in self.backend_reports}))

    async def _post_job(self, request: web.Request) -> web.Response:
        try:
            body: Any = await request.json()
            execution_id = self.add_job(str(body["qasm"]), int(body["shots"]), dict(body.get("configuration_data", {})))
        except (ValueError, KeyError, TypeError):
            return web.json_response({"error": 'send {"qasm": "OPENQASM 2.0; ...", "shots": 1000}'}, status=400)
        return web.json_response({"execution_id": execution_id}, status=201)

    async def _get_job(self, request: web.Request) -> web.Response:
        job = self.executions.get(ExecutionId(request.match_info["execution_id"]))
        if job is None:
            return web.json_response({"error": "no such job"}, status=404)
        document = {"execution_id": job.execution_id, "status": job.status, "message": job.message}
        return web.json_response(document | {"counts": self.counts_of(job.execution_id)})
