"""A double of IBM Quantum's REST API: log-in, devices, jobs of the executor program, results, metrics, tags.

IBM's own unchanged client works against it (tests/providers/ibm); nothing else says that it is like IBM.
"""

from __future__ import annotations

import json
import secrets
import time
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Self

import jwt
from aiohttp import web
from typing_extensions import override

from qcompute.miner.providers.base import Verb
from tests.doubles.kits import Kit
from tests.doubles.vendor import VendorDouble, VendorJob
from tests.doubles.worker import shared

CRN = "crn:v1:bluemix:public:quantum-computing:us-east:a/0123:4567::"
API_KEY = "an-ibm-api-key"
QUANTUM_SECONDS = 6.0
WORKER = "tests.doubles.ibm_worker"


class IbmDouble(VendorDouble):
    """One instance with two devices. What a test may set is public.

    ``usage_status`` and ``quantum_seconds`` are what metrics say; ``limit_reached`` what the instance's usage says;
    ``bodies`` and ``headers`` are what jobs and all authorised requests came with.
    """

    def __init__(self) -> None:
        super().__init__()
        self.devices = {"ibm_manila": ("online", "available"), "ibm_fez": ("online", "available")}
        self.configurations: dict[str, dict[str, Any]] = {}
        self.properties: dict[str, dict[str, Any] | None] = {}
        self.quantum_seconds: float | None = QUANTUM_SECONDS
        self.usage_status = "complete"
        self.limit_reached = False
        self.page_limit = 200
        self.token_seconds = 3600
        self.reason_codes: dict[str, int] = {}
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self._tokens: set[str] = set()

    @override
    def __enter__(self) -> Self:
        """Reads the devices first: IBM's package takes seconds to import, and IBM's server does not."""
        for name in self.devices:
            self.configurations[name] = shared(WORKER).ask({"task": "configuration", "backend": name})
            self.properties[name] = shared(WORKER).ask({"task": "properties", "backend": name})
        return super().__enter__()

    def words(self) -> tuple[str, str, str, str, str]:
        return ("Queued", "Running", "Completed", "Failed", "Cancelled")

    def revoke(self) -> None:
        """Every access token is refused from now on."""
        self._tokens.clear()

    def end(self, job: VendorJob, word: str, reason: str | None = None, reason_code: int | None = None) -> None:
        """Give a job a status word, as it comes from IBM."""
        job.word, job.failure, job.ended = word, reason, time.time()
        if reason_code is not None:
            self.reason_codes[job.job_id] = reason_code

    async def execute(self, job: VendorJob) -> Any:
        request = {"task": "run", "params": job.request["params"]}
        return await shared(WORKER).ask_soon(request)

    def routes(self) -> list[web.RouteDef]:
        v1 = "/api/v1"
        return [
            web.post("/identity/token", self._log_in),
            web.get(f"{v1}/backends", self._get_backends),
            web.get(f"{v1}/backends/{{name}}/configuration", self._get_configuration),
            web.get(f"{v1}/backends/{{name}}/properties", self._get_properties),
            web.get(f"{v1}/backends/{{name}}/status", self._get_backend_status),
            web.get(f"{v1}/instances/usage", self._get_usage),
            web.post(f"{v1}/jobs", self._post_job),
            web.get(f"{v1}/jobs", self._get_jobs),
            web.get(f"{v1}/jobs/{{job}}", self._get_job),
            web.get(f"{v1}/jobs/{{job}}/results", self._get_results),
            web.get(f"{v1}/jobs/{{job}}/metrics", self._get_metrics),
            web.post(f"{v1}/jobs/{{job}}/cancel", self._cancel),
            web.put(f"{v1}/jobs/{{job}}/tags", self._put_tags),
        ]

    async def _log_in(self, request: web.Request) -> web.Response:
        form = await request.post()
        if form.get("apikey") != API_KEY or form.get("grant_type") != "urn:ibm:params:oauth:grant-type:apikey":
            words = {"errorCode": "BXNIM0415E", "errorMessage": "Provided API key could not be found."}
            return web.json_response(words, status=HTTPStatus.BAD_REQUEST)
        now = int(time.time())
        claims = {"iat": now, "exp": now + self.token_seconds, "jti": secrets.token_hex(8)}
        token = jwt.encode(claims, "k" * 32, algorithm="HS256")
        self._tokens.add(token)
        return web.json_response({"access_token": token, "expires_in": self.token_seconds, "token_type": "Bearer"})

    def _authorised(self, request: web.Request) -> None:
        self.headers.append(dict(request.headers))
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if request.headers.get("Service-CRN") != CRN or token not in self._tokens:
            raise _refusal(HTTPStatus.UNAUTHORIZED, 1218, "Unable to authenticate the provided token.")

    async def _get_backends(self, request: web.Request) -> web.Response:
        self._authorised(request)
        return web.json_response({"devices": [self._listed(name) for name in self.devices]})

    def _listed(self, name: str) -> dict[str, Any]:
        word, reason = self.devices[name]
        waiting = [job for job in self.jobs.values() if job.device == name and job.ended is None]
        return {
            "name": name,
            "status": {"name": word, "reason": reason},
            "is_simulator": False,
            "qubits": 5,
            "queue_length": len(waiting),
            "processor_type": {"family": "Heron", "revision": "2"},
            "class": "mock" if name.startswith("mock_") else "qpu",
        }

    async def _get_configuration(self, request: web.Request) -> web.Response:
        self._authorised(request)
        name = self._device(request)
        if name not in self.configurations:
            self.configurations[name] = await shared(WORKER).ask_soon({"task": "configuration", "backend": name})
        return web.json_response(self.configurations[name])

    async def _get_properties(self, request: web.Request) -> web.Response:
        self._authorised(request)
        name = self._device(request)
        if name not in self.properties:
            self.properties[name] = await shared(WORKER).ask_soon({"task": "properties", "backend": name})
        readings = self.properties[name]
        if readings is None:
            raise _refusal(HTTPStatus.NOT_FOUND, 1216, "Properties not found.")
        return web.json_response(readings)

    async def _get_backend_status(self, request: web.Request) -> web.Response:
        self._authorised(request)
        self._device(request)
        answer = {"state": True, "status": "active", "message": "", "length_queue": 0, "backend_version": "2.0.0"}
        return web.json_response(answer)

    async def _get_usage(self, request: web.Request) -> web.Response:
        self._authorised(request)
        period = {"start_time": _when(0.0), "end_time": _when(time.time())}
        answer = {"instance_id": CRN, "usage_limit_reached": self.limit_reached, "usage_period": period}
        return web.json_response(answer | {"usage_consumed_seconds": 1, "usage_limit_seconds": 600})

    async def _post_job(self, request: web.Request) -> web.Response:
        self._authorised(request)
        body = await request.json()
        if body["backend"] not in self.devices or len(body.get("tags", [])) > 8:
            raise _refusal(HTTPStatus.BAD_REQUEST, 8054, "Invalid job.")
        self.bodies.append(body)
        shots = body["params"]["quantum_program"]["shots"]
        job = VendorJob(f"d{secrets.token_hex(10)}", body["backend"], shots, body, self.words()[0])
        self.add(job)
        return web.json_response({"id": job.job_id, "backend": job.device, "private": False})

    async def _get_jobs(self, request: web.Request) -> web.Response:
        self._authorised(request)
        query = request.query
        jobs = [job for job in self.listed() if set(query.getall("tags", [])) <= set(job.request["tags"])]
        if "pending" in query:
            jobs = [job for job in jobs if (job.word in self.words()[:2]) == (query["pending"] == "true")]
        if query.get("sort") == "ASC":
            jobs.reverse()
        offset, limit = int(query.get("offset", 0)), min(int(query.get("limit", 200)), self.page_limit)
        page = [self._shown(job) for job in jobs[offset : offset + limit]]
        return web.json_response({"jobs": page, "count": len(jobs), "limit": limit, "offset": offset})

    async def _get_job(self, request: web.Request) -> web.Response:
        return web.json_response(self._shown(self._asked_job(request)))

    async def _get_results(self, request: web.Request) -> web.Response:
        job = self._asked_job(request)
        if job.result is None:
            return web.Response(status=HTTPStatus.NO_CONTENT)
        return web.Response(text=json.dumps(job.result), content_type="text/plain")

    async def _get_metrics(self, request: web.Request) -> web.Response:
        job = self._asked_job(request)
        seconds = self.quantum_seconds if job.started else 0.0
        usage = {"qpu_charge_time_seconds": seconds, "status": self.usage_status}
        moments = {"created": _when(job.created), "running": _when(job.started), "finished": _when(job.ended)}
        return web.json_response({"timestamps": moments, "usage": usage, "position_in_queue": None})

    async def _cancel(self, request: web.Request) -> web.Response:
        if not self.cancel_job(self._asked_job(request)):
            raise _refusal(HTTPStatus.CONFLICT, 1309, "Job is in a final state.")
        return web.Response(status=HTTPStatus.NO_CONTENT)

    async def _put_tags(self, request: web.Request) -> web.Response:
        self._asked_job(request).request["tags"] = (await request.json())["tags"]
        return web.Response(status=HTTPStatus.NO_CONTENT)

    def _device(self, request: web.Request) -> str:
        name = request.match_info["name"]
        if name not in self.devices:
            raise _refusal(HTTPStatus.NOT_FOUND, 1216, "Backend not found.")
        return name

    def _asked_job(self, request: web.Request) -> VendorJob:
        self._authorised(request)
        job = self.jobs.get(request.match_info["job"])
        if job is None:
            raise _refusal(HTTPStatus.NOT_FOUND, 1291, "Job not found.")
        return job

    def _shown(self, job: VendorJob) -> dict[str, Any]:
        state: dict[str, Any] = {"status": job.word}
        if job.failure is not None:
            state |= {"reason": job.failure, "reason_code": self.reason_codes.get(job.job_id, 1517)}
        elif job.job_id in self.reason_codes:
            state["reason_code"] = self.reason_codes[job.job_id]
        return {
            "id": job.job_id,
            "backend": job.device,
            "state": state,
            "status": job.word,
            "program": {"id": job.request["program_id"]},
            "created": _when(job.created),
            "ended": _when(job.ended),
            "cost": job.request.get("cost"),
            "tags": job.request["tags"],
            "private": False,
            "estimated_running_time_seconds": 3.5,
        }


def _when(moment: float | None) -> str | None:
    return None if moment is None else datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z")


def _refusal(status: HTTPStatus, code: int, message: str) -> web.HTTPException:
    """IBM's form of an error."""
    kinds = {
        HTTPStatus.BAD_REQUEST: web.HTTPBadRequest,
        HTTPStatus.UNAUTHORIZED: web.HTTPUnauthorized,
        HTTPStatus.NOT_FOUND: web.HTTPNotFound,
        HTTPStatus.CONFLICT: web.HTTPConflict,
    }
    body = {"errors": [{"code": code, "message": message, "solution": "", "more_info": ""}], "trace": "t"}
    return kinds[status](text=json.dumps(body), content_type="application/json")


KIT = Kit(
    key="ibm",
    double=IbmDouble,
    table=lambda double: {
        "token": "ibm",
        "instance": CRN,
        "url": f"{double.url}/api/v1",
        "iam_url": double.url,
        "timeout_seconds": 1.5,
        "submit_timeout_seconds": 1.5,
    },
    secrets={"ibm": API_KEY},
    calls={
        Verb.SUBMIT: r"POST /api/v1/jobs$",
        Verb.FIND: r"GET /api/v1/jobs$",
        Verb.POLL: r"GET /api/v1/jobs(/[^/]+)?$",
        Verb.RECEIPT: r"GET /api/v1/jobs/[^/]+/results$",
        Verb.CANCEL: r"POST /api/v1/jobs/[^/]+/cancel$",
        Verb.DESCRIBE: r"GET /api/v1/backends",
    },
    device="ibm_fez",
)
