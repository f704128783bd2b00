"""A double of IonQ's REST API v0.4: jobs in OpenQASM 3 run on Aer, everything else is a table.

Shapes are held against IonQ's own OpenAPI description in tests/providers/ionq/test_double.py. What the description
leaves open is settled here by the worse case: jobs that have ended cannot be cancelled, ids of no job are 404, lists
come in pages.
"""

from __future__ import annotations

import re
import uuid
from collections import Counter
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web
from typing_extensions import override

from qcompute.miner.providers.base import Verb
from tests.doubles.kits import Kit
from tests.doubles.vendor import VendorDouble, VendorJob
from tests.doubles.worker import shared

KEY: Final = "ionq-key-1"
_QUBITS: Final = re.compile(r"qubit\[(\d+)\] (\w+);")
_TYPES: Final = ("ionq.circuit.v1", "ionq.qasm3.v1")
_PREFIX: Final = "ionq.result."
SIMULATED: Final = ("probabilities.json.v1",)
"""What the ideal simulator has: a distribution, and no shots."""
MEASURED: Final = ("shots.json.v2", "histogram.json.v2", "probabilities.json.v2")


class IonqDouble(VendorDouble):
    """IonQ. ``url`` below ``/v0.4`` is the API; ``key`` the only API key.

    Switches, all for jobs and calls that come later: ``formats`` (what results have, as `MEASURED`), ``cost``,
    ``estimated_cost`` (an amount, None leaves it out), ``characterized`` (whether backends have a calibration),
    ``fails_with`` (the message of every job's failure), ``page_size``, ``oldest_first`` (the order of lists).
    """

    def __init__(self, key: str = KEY, *, queue_seconds: float = 0.02, run_seconds: float = 0.02) -> None:
        super().__init__(queue_seconds=queue_seconds, run_seconds=run_seconds)
        self.key = key
        self.formats: tuple[str, ...] | None = None
        self.cost: dict[str, Any] | None = {"value": 24.83, "unit": "usd"}
        self.estimated_cost: dict[str, Any] | None = {"value": 25.5, "unit": "usd"}
        self.estimate_unit = "usd"
        self.characterized = True
        self.fails_with: str | None = None
        self.page_size = 100
        self.oldest_first = False
        self.questions: list[dict[str, str]] = []
        self.sessions: dict[str, dict[str, Any]] = {}
        self.backends = [_backend("simulator", 29, 0), _backend("qpu.forte-1", 36, 1_181_215)]
        self.backends += [_backend("qpu.aria-1", 25, 0) | {"status": "retired"}]

    @property
    def base(self) -> str:
        """What a client is told as the API's address."""
        return f"{self.url}/v0.4"

    @override
    def words(self) -> tuple[str, str, str, str, str]:
        return ("submitted", "started", "completed", "failed", "canceled")

    @override
    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v0.4/backends", self._list_backends),
            web.get("/v0.4/backends/{name}/characterizations", self._characterizations),
            web.post("/v0.4/jobs", self._create),
            web.get("/v0.4/jobs", self._list),
            web.get("/v0.4/jobs/estimate", self._estimate),
            web.get("/v0.4/jobs/{id}", self._get),
            web.get("/v0.4/jobs/{id}/cost", self._cost),
            web.get("/v0.4/jobs/{id}/results/probabilities", self._probabilities),
            web.get("/v0.4/jobs/{id}/artifacts/{artifact}", self._artifact),
            web.put("/v0.4/jobs/{id}/status/cancel", self._cancel),
            web.post("/v0.4/sessions", self._create_session),
            web.get("/v0.4/sessions/{id}", self._get_session),
        ]

    @override
    async def execute(self, job: VendorJob) -> dict[str, Any]:
        if self.fails_with is not None:
            raise RuntimeError(self.fails_with)
        text: str = job.request["input"]["data"]
        declared = _QUBITS.search(text)
        if not text.startswith("OPENQASM 3") or declared is None:
            raise ValueError("this is not OpenQASM 3")
        width, name = declared.groups()
        # IonQ adds a register of all qubits; with it every format can be made of the same shots.
        text += f"\nbit[{width}] output_all;\noutput_all = measure {name};\n"
        done = await shared("tests.doubles.aer_worker").ask_soon(
            {"language": "openqasm3", "text": text, "shots": job.shots}
        )
        names = [register for register, _ in done["registers"]]
        shots = [dict(zip(names, shot.split(" ")[::-1], strict=True)) for shot in done["memory"]]
        return _results(shots, self._formats_of(job))

    def _formats_of(self, job: VendorJob) -> tuple[str, ...]:
        ideal = job.device == "simulator" and "noise" not in job.request
        return self.formats if self.formats is not None else SIMULATED if ideal else MEASURED

    async def _list_backends(self, request: web.Request) -> web.Response:
        del request  # needs no key
        return web.json_response(self.backends)

    async def _characterizations(self, request: web.Request) -> web.Response:
        name = self._backend(request.match_info["name"])["backend"]
        return web.json_response({"characterizations": [_characterization(name)] if self.characterized else None})

    async def _create(self, request: web.Request) -> web.Response:
        self._authorize(request)
        body: dict[str, Any] = await request.json()
        if body.get("type") not in _TYPES:
            raise _error(web.HTTPBadRequest, '"type" was invalid.', keys=["type"])
        if "session_id" in body and not self.sessions[body["session_id"]]["active"]:
            raise _error(web.HTTPBadRequest, "Session has ended.")
        backend = self._backend(body.get("backend", ""))["backend"]
        queued, *_ = self.words()
        job = self.add(VendorJob(str(uuid.uuid4()), backend, body.get("shots", 100), body, queued))
        answer = {"id": job.job_id, "status": job.word, "session_id": body.get("session_id")}
        return web.json_response(answer, status=201)

    async def _list(self, request: web.Request) -> web.Response:
        self._authorize(request)
        wanted = set(request.query.getall("ids", []))
        jobs = [job for job in self.listed() if not wanted or job.job_id in wanted]
        if self.oldest_first:
            jobs.reverse()
        start = int(request.query.get("next", "0"))
        end = start + min(self.page_size, int(request.query.get("limit", "25")))
        shown = [_view(job) for job in jobs[start:end]]
        return web.json_response({"jobs": shown, "next": str(end) if end < len(jobs) else None})

    async def _get(self, request: web.Request) -> web.Response:
        return web.json_response(_view(self._job(request)) | {"child_job_ids": None})

    async def _cost(self, request: web.Request) -> web.Response:
        job = self._job(request)
        amounts = {"cost": self.cost, "estimated_cost": self.estimated_cost} if job.device != "simulator" else {}
        told = {name: amount for name, amount in amounts.items() if amount is not None}
        return web.json_response({"dry_run": False} | told)

    async def _probabilities(self, request: web.Request) -> web.Response:
        job = self._job(request)
        if job.result is None:
            raise _error(web.HTTPNotFound, "Job not found or not yet completed.")
        return web.json_response(job.result["probabilities"])

    async def _artifact(self, request: web.Request) -> web.Response:
        job, name = self._job(request), request.match_info["artifact"]
        if job.result is None or name not in job.result:
            raise _error(web.HTTPNotFound, "Job or artifact not found.")
        return web.json_response(job.result[name])

    async def _cancel(self, request: web.Request) -> web.Response:
        job = self._job(request)
        if not self.cancel_job(job):
            raise _error(web.HTTPConflict, f"A {job.word} job cannot be canceled.")
        return web.json_response({"id": job.job_id, "status": job.word})

    async def _estimate(self, request: web.Request) -> web.Response:
        self._authorize(request)
        asked = dict(request.query)
        self.questions.append(asked)
        shots = int(asked.get("shots", "1000"))
        gates = int(asked.get("1q_gates", "0")) * 0.0001645 + int(asked.get("2q_gates", "0")) * 0.0011213
        return web.json_response(
            {
                "estimate_context": {
                    "backend": self._backend(asked["backend"])["backend"],
                    "organization": None,
                    "project": None,
                    "shots": shots,
                },
                "estimated_at": _time(datetime.now(UTC).timestamp()),
                "estimated_unit": self.estimate_unit,
                "estimated_total_cost": max(97.5, shots * gates),
                "estimated_execution_time": 96250,
                "current_predicted_queue_time": 397577,
                "rate_card": {
                    "id": "card-1",
                    "rates": [{"sku": "forte", "unit": "gates", "cost_1q_gate": 0.0001645, "cost_2q_gate": 0.0011213}],
                },
            }
        )

    async def _create_session(self, request: web.Request) -> web.Response:
        self._authorize(request)
        body: dict[str, Any] = await request.json()
        session_id = str(uuid.uuid4())
        session: dict[str, Any] = {
            "id": session_id,
            "created_at": _time(datetime.now(UTC).timestamp()),
            "organization_id": "org.example",
            "backend": self._backend(body["backend"])["backend"],
            "project_id": None,
            "creator_id": None,
            "ended_at": None,
            "ender_id": None,
            "settings": body.get("settings", {}),
            "active": True,
            "status": "created",
            "started_at": None,
        }
        self.sessions[session_id] = session
        return web.json_response(session, status=201)

    async def _get_session(self, request: web.Request) -> web.Response:
        self._authorize(request)
        return web.json_response(self.sessions[request.match_info["id"]])

    def _authorize(self, request: web.Request) -> None:
        if request.headers.get("Authorization") != f"apiKey {self.key}":
            raise _error(web.HTTPUnauthorized, "Invalid key provided.")

    def _job(self, request: web.Request) -> VendorJob:
        self._authorize(request)
        job = self.jobs.get(request.match_info["id"])
        if job is None:
            raise _error(web.HTTPNotFound, "Resource not found.")
        return job

    def _backend(self, name: str) -> dict[str, Any]:
        for backend in self.backends:
            if backend["backend"] == name and backend["status"] != "retired":
                return backend
        raise _error(web.HTTPBadRequest, '"backend" was invalid.', keys=["backend"])


def _error(kind: type[web.HTTPException], message: str, *, keys: list[str] | None = None) -> web.HTTPException:
    status = kind.status_code
    body: dict[str, Any] = {"statusCode": status, "error": kind().reason, "message": message}
    if keys:
        body["validation"] = {"source": "payload", "keys": keys}
    return kind(text=web.json_response(body).text, content_type="application/json")


def _backend(name: str, qubits: int, queue_ms: int) -> dict[str, Any]:
    backend: dict[str, Any] = {
        "backend": name,
        "status": "available",
        "degraded": False,
        "qubits": qubits,
        "average_queue_time": queue_ms,
        "last_updated": _time(datetime.now(UTC).timestamp()),
        "supported_gates": ["x", "y", "z", "rx", "ry", "rz", "h", "cnot", "s", "si", "t", "ti", "v", "vi", "swap"],
        "supported_native_gates": [] if name == "simulator" else ["gpi", "gpi2", "zz"],
        "supported_error_mitigations": [] if name == "simulator" else ["debiasing"],
    }
    return backend if name == "simulator" else backend | {"characterization_id": str(uuid.uuid4()), "kw": 1.5}


def _characterization(name: str) -> dict[str, Any]:
    return {
        "id": "0b1ba2a9-1a8b-4d43-8f4f-0ad3f0ae8d18",
        "backend": name,
        "date": "2026-06-16T00:00:00Z",
        "qubits": 36,
        "connectivity": [[0, 1], [0, 2], [10, 9]],
        "fidelity": {"spam": {"median": 0.9962}, "1q": {"median": 0.9998}, "2q": {"median": 0.994}},
        "timing": {"1q": 0.00013, "2q": 0.00095, "t1": 100, "t2": 1, "readout": 0.00015, "reset": 0.00005},
    }


def _view(job: VendorJob) -> dict[str, Any]:
    """A job as lists show it. The ideal simulator has no shots."""
    body = job.request
    view: dict[str, Any] = {
        "id": job.job_id,
        "status": job.word,
        "type": body["type"],
        "backend": job.device,
        "dry_run": False,
        "submitter_id": "64b03577072d45001c85e9c4",
        "project_id": None,
        "parent_job_id": None,
        "session_id": body.get("session_id"),
        "metadata": body.get("metadata"),
        "name": body.get("name"),
        "submitted_at": _time(job.created),
        "started_at": _time(job.started),
        "completed_at": _time(job.ended),
        "predicted_wait_time_ms": 1500 if job.started is None else None,
        "predicted_execution_duration_ms": 100,
        "execution_duration_ms": 4200 if job.result is not None else None,
        "failure": None if job.failure is None else _failure(job.failure),
        "settings": body.get("settings", {}),
        "stats": {},
        "output": {},
        "results": None,
    }
    if job.device != "simulator" or "noise" in body:
        view["shots"] = job.shots
    if job.result is not None:
        counted = {"qubits": 3, "circuits": 1, "gate_counts": {"1q": 1, "2q": 0}}
        view["stats"] = counted | {"billed_quantum_compute_time_us": 5200}
        view["results"] = {form: _descriptor(form) for form in job.result}
    return view


def _failure(text: str) -> dict[str, str]:
    kind, _, message = text.partition(": ")
    return {"code": "QuantumComputerError" if kind == "RuntimeError" else "InvalidInput", "message": message}


def _descriptor(form: str) -> dict[str, str]:
    return {"id": form, "format": form, "media_type": "application/json"}


def _results(shots: list[dict[str, str]], formats: tuple[str, ...]) -> dict[str, Any]:
    """Results by format, all of the same shots; a shot is Qiskit's string for each register."""
    registers = list(shots[0])
    states = Counter(str(int(shot["output_all"], 2)) for shot in shots)
    by_register = {name: dict(Counter(shot[name] for shot in shots)) for name in registers}
    shares = {name: {key: n / len(shots) for key, n in one.items()} for name, one in by_register.items()}
    rows = [{"registers": {name: [int(bit) for bit in shot[name][::-1]] for name in registers}} for shot in shots]
    forms: dict[str, Any] = {
        "shots.json.v2": {"shots": rows},
        "histogram.json.v2": {"histogram": {"registers": by_register}},
        "probabilities.json.v2": {"probabilities": {"registers": shares}},
        "shots.json.v1": [str(int(shot["output_all"], 2)) for shot in shots],
        "histogram.json.v1": dict(states),
        "probabilities.json.v1": {state: n / len(shots) for state, n in states.items()},
        "probabilities": {state: n / len(shots) for state, n in states.items()},
    }
    return {form if form == "probabilities" else _PREFIX + form: forms[form] for form in formats}


def _time(moment: float | None) -> str | None:
    if moment is None:
        return None
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


KIT: Final = Kit(
    key="ionq",
    double=IonqDouble,
    table=lambda double: {
        "api_key": "ionq",
        "url": double.base,
        "poll_seconds": 0.1,
        "timeout_seconds": 1.5,
        "submit_timeout_seconds": 1.5,
    },
    secrets={"ionq": KEY},
    calls={
        Verb.SUBMIT: r"POST /v0\.4/jobs$",
        Verb.FIND: r"GET /v0\.4/jobs$",
        Verb.POLL: r"GET /v0\.4/jobs(/[^/]+)?$",
        Verb.RECEIPT: r"GET /v0\.4/jobs/[^/]+/artifacts/.+$",
        Verb.CANCEL: r"PUT /v0\.4/jobs/[^/]+/status/cancel$",
        Verb.DESCRIBE: r"GET /v0\.4/backends",
    },
    device="qpu.forte-1",
)
